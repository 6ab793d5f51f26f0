"""Padded batches of transformers to packed rows and back.

The network knows no padding. Of a batch `[B, S]` only the valid tokens are packed, row after row; results are spread
over `[B, S]` again, with a filler where the mask is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the N valid tokens of a batch lie.

    Attributes:
        index_N: their places in the flattened batch.
        lengths: valid tokens per row of the batch.
        position_ids_N: position of each token in its own sequence.
        shape: (B, S).
    """

    index_N: Tensor
    lengths: tuple[int, ...]
    position_ids_N: Tensor
    shape: tuple[int, int]

    @classmethod
    def from_mask(cls, mask: Tensor | None, position_ids: Tensor | None, shape: tuple[int, int], past: int) -> Packing:
        """Reads a transformers batch.

        Args:
            mask: `[B, past + S]`, 0 is padding; None means that all tokens are valid.
            position_ids: `[B or 1, S]`; None counts the valid tokens of each row from 0.
            shape: of the new tokens.
            past: columns that the cache has seen.
        """
        batch, columns = shape
        mask = torch.ones(batch, past + columns, dtype=torch.long) if mask is None else mask
        if mask.shape != (batch, past + columns):
            raise ValueError(f"attention_mask has shape {list(mask.shape)}, expected {[batch, past + columns]}")
        valid_BS = mask.bool()
        new_BS = valid_BS[:, past:]
        if position_ids is None:
            position_ids = (valid_BS.long().cumsum(dim=1) - 1)[:, past:]
        elif position_ids.shape[-1] != columns or position_ids.dim() != 2:
            raise ValueError(f"position_ids has shape {list(position_ids.shape)}, expected {[batch, columns]}")
        index_N = new_BS.reshape(-1).nonzero()[:, 0]
        positions_N = position_ids.expand(batch, columns).reshape(-1)[index_N.to(position_ids.device)]
        return cls(index_N, tuple(new_BS.sum(dim=1).tolist()), positions_N, shape)

    def pack(self, values: Tensor) -> Tensor:
        """`[B, S, ...]` to `[N, ...]`."""
        return values.flatten(0, 1)[self.index_N.to(values.device)]

    def unpack(self, values: Tensor, filler: float = 0) -> Tensor:
        """`[N, ...]` to `[B, S, ...]`."""
        batch, columns = self.shape
        if values.shape[0] == batch * columns:
            return values.view(batch, columns, *values.shape[1:])
        spread = values.new_full((batch * columns, *values.shape[1:]), filler)
        spread = spread.index_copy(0, self.index_N.to(values.device), values)
        return spread.view(batch, columns, *values.shape[1:])

    def last_columns(self, count: int) -> Tensor | None:
        """Which of the N tokens lie in the last `count` columns; None for all columns."""
        if count == 0 or count >= self.shape[1]:
            return None
        return (self.index_N % self.shape[1] >= self.shape[1] - count).nonzero()[:, 0]

    def restricted(self, count: int) -> Packing:
        """The last `count` columns alone."""
        kept = self.last_columns(count)
        if kept is None:
            return self
        batch, columns = self.shape
        rows, column = self.index_N[kept] // columns, self.index_N[kept] % columns - (columns - count)
        return Packing(rows * count + column, (), self.position_ids_N[kept], (batch, count))
