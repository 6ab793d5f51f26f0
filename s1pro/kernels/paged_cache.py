"""The paged key/value cache: one for the engine and for the Hugging Face wrapper.

Memory is cut into blocks of `block_size` token slots; slot s lies in block s // block_size. A sequence owns a list of
blocks (its row of the block table), handed out by whoever owns the cache, so sequences of any length share one
allocation without copying. The cache stores keys after the rotary turn; positions are absolute, so it can be shared
between sequences with an equal prefix but never moved to other positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


class PagedKVCache:
    """Keys and values of all layers, zero at first.

    Args:
        num_layers: attention layers of the network.
        num_blocks, block_size: the cache holds `num_blocks * block_size` tokens.
        num_kv_heads, head_dim: J and C.

    Attributes:
        key, value: `[num_blocks, block_size, J, C]` per layer. Keys and values of a token lie side by side.
        key_slots, value_slots: the same memory as `[slots, J, C]`.
        slots: the same memory as `[slots, 2, J, C]`, keys before values.
    """

    def __init__(
        self,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        sizes = (num_layers, num_blocks, block_size, num_kv_heads, head_dim)
        if min(sizes) < 1:
            raise ValueError(f"layers, blocks, block size, heads and head_dim must be positive, got {sizes}")
        self.num_blocks = num_blocks
        self.block_size = block_size
        shape = (num_blocks * block_size, 2, num_kv_heads, head_dim)
        self.slots = tuple(torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers))
        self.key_slots, self.value_slots = zip(*(slots.unbind(1) for slots in self.slots), strict=True)
        self.key, self.value = (
            tuple(slots.unflatten(0, (num_blocks, block_size)) for slots in kind)
            for kind in (self.key_slots, self.value_slots)
        )

    @property
    def num_slots(self) -> int:
        return self.num_blocks * self.block_size

    @property
    def num_bytes(self) -> int:
        return 2 * len(self.key) * self.key[0].nbytes

    def write(self, layer: int, k_TJC: Tensor, v_TJC: Tensor, slot_mapping_T: Tensor) -> None:
        """Stores the keys and values of T tokens of `layer` in their slots."""
        self.key_slots[layer].index_copy_(0, slot_mapping_T, k_TJC)
        self.value_slots[layer].index_copy_(0, slot_mapping_T, v_TJC)

    def write_both(self, layer: int, kv_T2JC: Tensor, slot_mapping_T: Tensor) -> None:
        """The same for keys and values in one tensor."""
        self.slots[layer].index_copy_(0, slot_mapping_T, kv_T2JC)
