"""`S1ProCache`: the cache object of transformers' `generate`, around the paged cache of the engine.

Every row of the batch owns one block as long as the longest sequence so far, so its slots are contiguous. Padding is
never stored: a row knows how many tokens it has (`lengths`), the cache how many columns went by (`get_seq_length`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from s1pro.kernels.attention import PagedContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.config import TextConfig

GROWTH = 256
"""Slots per row are a multiple of this."""


class S1ProCache(Cache):
    """Keys and values of a batch; created by the model on the first forward pass with `use_cache`.

    Args:
        text: the architecture of the decoder.
        batch_size: rows.
    """

    def __init__(self, text: TextConfig, batch_size: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(layers=[])
        self._text, self._dtype, self._device = text, dtype, device
        self.lengths = [0] * batch_size
        self.paged = self._allocate(batch_size, GROWTH)
        self._columns = 0

    def extend(self, new_lengths: Sequence[int], columns: int) -> PagedContext:
        """Makes room for new tokens per row (of `columns` padded columns) and returns their attention context."""
        if len(new_lengths) != len(self.lengths):
            raise ValueError(f"past_key_values holds {len(self.lengths)} rows, the inputs have {len(new_lengths)}")
        old = self.lengths
        self.lengths = [a + b for a, b in zip(old, new_lengths, strict=True)]
        self._columns += columns
        self._reserve(max(self.lengths))
        busy = [row for row, new in enumerate(new_lengths) if new]
        size = self.paged.block_size
        slots = [torch.arange(row * size + old[row], row * size + self.lengths[row]) for row in busy]
        bounds = [0]
        for row in busy:
            bounds.append(bounds[-1] + new_lengths[row])
        return PagedContext(
            cache=self.paged,
            cu_seqlens_q=tuple(bounds),
            block_table_BM=torch.tensor(busy, device=self._device)[:, None],
            context_lens=tuple(self.lengths[row] for row in busy),
            slot_mapping_T=torch.cat(slots).to(self._device),
            first_slots=tuple(row * size for row in busy),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns that went by, padding included."""
        return self._columns

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        return -1

    def __len__(self) -> int:
        return self._text.num_hidden_layers

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row `beam_idx[i]` was (beam search)."""
        self._select(beam_idx.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._select([row for row in range(len(self.lengths)) for _ in range(repeats)])

    def batch_select_indices(self, indices: Tensor) -> None:
        self._select(indices.tolist())

    def crop(self, max_length: int) -> None:
        """Forgets the newest columns; negative numbers count from the end. None of them may be padding."""
        keep = max_length if max_length >= 0 else self._columns + max_length
        forget = max(self._columns - keep, 0)
        self._columns -= forget
        self.lengths = [max(length - forget, 0) for length in self.lengths]

    def reset(self) -> None:
        self._columns = 0
        self.lengths = [0] * len(self.lengths)

    @property
    def is_compileable(self) -> bool:
        return False

    @property
    def is_initialized(self) -> bool:
        return self._columns > 0

    def _select(self, rows: list[int]) -> None:
        old = self.paged
        self.paged = self._allocate(len(rows), old.block_size)
        index = torch.tensor(rows, device=self._device)
        self._copy(old, index, old.block_size)
        self.lengths = [self.lengths[row] for row in rows]

    def _reserve(self, length: int) -> None:
        old = self.paged
        if length <= old.block_size:
            return
        size = max(2 * old.block_size, -(-length // GROWTH) * GROWTH)
        self.paged = self._allocate(old.num_blocks, size)
        self._copy(old, torch.arange(old.num_blocks, device=self._device), old.block_size)

    def _copy(self, source: PagedKVCache, rows: Tensor, size: int) -> None:
        pairs = (*zip(self.paged.key, source.key, strict=True), *zip(self.paged.value, source.value, strict=True))
        for new, old in pairs:
            new[:, :size] = old[rows]

    def _allocate(self, rows: int, size: int) -> PagedKVCache:
        text = self._text
        return PagedKVCache(
            num_layers=text.num_hidden_layers,
            num_blocks=rows,
            block_size=size,
            num_kv_heads=text.num_key_value_heads,
            head_dim=text.head_dim,
            dtype=self._dtype,
            device=self._device,
        )
