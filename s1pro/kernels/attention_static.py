"""Attention of a decoding step whose work is known before its numbers are: for steps that are recorded and replayed.

A recorded step (a CUDA graph) repeats the same operations on the same memory. So no size may depend on what the tensors
hold, and nobody may read a number of the device in between. `StaticContext` therefore knows no lengths, only tensors:

    positions_B       where the new token of each sequence stands; it sees positions + 1 tokens
    block_table_BM    the blocks of each sequence; M is a choice of the caller, at least what the longest one needs

and from these follow, on the device, the slot of each new token and which cached tokens it sees. The blocks of all
sequences are gathered up to M, and what lies behind the end of a sequence is masked. That costs time for tokens that
nobody sees, so the caller keeps recordings for several M and takes the smallest that fits (`serve.decode_graphs`).

A row that is there only to fill the batch has position 0 and a block that nobody else reads.

Left out: reading the blocks where they lie. torch's paged kernel for that (`torch.nn.attention.varlen`) asks for blocks
of 256 tokens, and has none for a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from s1pro.kernels.paged_cache import PagedKVCache


@dataclass(frozen=True)
class StaticContext:
    """One new token of each of B sequences. See the module docstring.

    Attributes:
        cache: of all layers.
        block_table_BM: int64; behind the end of a sequence any block that exists.
        positions_B: int64.
    """

    cache: PagedKVCache
    block_table_BM: Tensor
    positions_B: Tensor

    @cached_property
    def slots_B(self) -> Tensor:
        """Of the new tokens."""
        size = self.cache.block_size
        block_B1 = self.block_table_BM.gather(1, self.positions_B.div(size, rounding_mode="floor")[:, None])
        return block_B1[:, 0] * size + self.positions_B.remainder(size)

    @cached_property
    def blocks_R(self) -> Tensor:
        """All blocks, sequence by sequence."""
        return self.block_table_BM.flatten()

    @cached_property
    def bias_B11S(self) -> Tensor:
        """0 where a sequence has a token, minus infinity behind its end."""
        slots = self.cache.key_slots[0]
        places_S = torch.arange(self.block_table_BM.shape[1] * self.cache.block_size, device=slots.device)
        beyond_BS = places_S > self.positions_B[:, None]
        bias_BS = torch.zeros(beyond_BS.shape, dtype=slots.dtype, device=slots.device)
        return bias_BS.masked_fill_(beyond_BS, -torch.inf)[:, None, None]


def attend(q_BHC: Tensor, k_BJC: Tensor, v_BJC: Tensor, context: StaticContext, *, layer: int, scale: float) -> Tensor:
    """As `kernels.attention.attention`: stores the new keys and values, then attends, `[B, H, C]`."""
    cache, size = context.cache, context.cache.block_size
    cache.write(layer, k_BJC, v_BJC, context.slots_B)
    blocks = cache.slots[layer].unflatten(0, (-1, size)).index_select(0, context.blocks_R)
    kv_BS2JC = blocks.view(q_BHC.shape[0], -1, *blocks.shape[2:])
    k_BJSC, v_BJSC = kv_BS2JC.transpose(1, 3).unbind(2)
    q_BJGC = q_BHC.unflatten(1, (k_BJSC.shape[1], -1))
    out = scaled_dot_product_attention(q_BJGC, k_BJSC, v_BJSC, attn_mask=context.bias_B11S, scale=scale)
    return out.reshape(q_BHC.shape)
