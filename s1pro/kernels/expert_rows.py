"""Which row belongs to which expert: (token, expert) pairs sorted by expert.

A *row* is one token at one of its experts, R = T * K. Sorted stably, the rows of an expert form a run and keep the
order of their tokens, so that results do not depend on anything but the ids. Two views of the same fact serve the two
engines: `runs` are Python numbers for a loop on the CPU, `ends_E` is a tensor that never leaves the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

Run = tuple[int, int, int]
"""Expert, its first row, and the row behind its last."""

FEW_ROWS = 256
"""Up to here a Python loop finds the runs faster than tensor operations."""


@dataclass(frozen=True, kw_only=True)
class ExpertRows:
    """R rows sorted by expert.

    Attributes:
        top_k: rows per token.
        tokens_R: token of each row; None if row r is token r.
        order_R: index of each row in the flat `[T * K]` ids; None if `tokens_R` is.
        sorted_ids_R: expert of each row, or None if the counts are known instead.
        counts_E: rows of each expert, or None if the ids are known instead.
    """

    num_experts: int
    num_rows: int
    top_k: int = 1
    tokens_R: Tensor | None = None
    order_R: Tensor | None = None
    sorted_ids_R: Tensor | None = None
    counts_E: Tensor | None = None

    @classmethod
    def from_ids(cls, topk_ids_TK: Tensor, num_experts: int) -> ExpertRows:
        """Sorts the (token, expert) pairs."""
        sorted_ids_R, order_R = topk_ids_TK.reshape(-1).sort(stable=True)
        tokens_R = order_R.div(topk_ids_TK.shape[1], rounding_mode="floor")
        return cls(
            num_experts=num_experts,
            num_rows=order_R.shape[0],
            top_k=topk_ids_TK.shape[1],
            tokens_R=tokens_R,
            order_R=order_R,
            sorted_ids_R=sorted_ids_R,
        )

    @classmethod
    def from_counts(cls, counts_E: Tensor, num_rows: int) -> ExpertRows:
        """Rows that are sorted already."""
        return cls(num_experts=counts_E.shape[0], num_rows=num_rows, counts_E=counts_E)

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of the experts that have rows."""
        if self.sorted_ids_R is None:
            assert self.counts_E is not None
            counts: Iterable[tuple[int, int]] = enumerate(self.counts_E.tolist())
        elif self.num_rows <= FEW_ROWS:
            counts = ((expert, len(list(rows))) for expert, rows in groupby(self.sorted_ids_R.tolist()))
        else:
            experts, sizes = torch.unique_consecutive(self.sorted_ids_R, return_counts=True)
            counts = zip(experts.tolist(), sizes.tolist(), strict=True)
        runs, stop = [], 0
        for expert, size in counts:
            if size < 0:
                raise ValueError(f"counts of rows must not be negative; expert {expert} has {size}")
            start, stop = stop, stop + size
            if size:
                runs.append((expert, start, stop))
        if stop != self.num_rows:
            raise ValueError(f"the counts of the experts add up to {stop}, but there are {self.num_rows} rows")
        if runs and not 0 <= runs[0][0] <= runs[-1][0] < self.num_experts:
            raise ValueError(f"expert ids must lie in [0, {self.num_experts}), got {runs[0][0]} to {runs[-1][0]}")
        return runs

    def batches(self, limit: int) -> Iterator[tuple[int, int, list[Run]]]:
        """Consecutive runs together, up to `limit` rows unless a single run is longer: first row, stop, runs.

        The runs are relative to the first row of their batch.
        """
        batch: list[Run] = []
        first = 0
        for expert, start, stop in self.runs:
            if batch and stop - first > limit:
                yield first, start, batch
                batch, first = [], start
            batch.append((expert, start - first, stop - first))
        if batch:
            yield first, self.num_rows, batch

    @cached_property
    def ends_E(self) -> Tensor:
        """int32, the row behind the last one of each expert. Computed on the device, without a wait."""
        if self.counts_E is not None:
            return self.counts_E.cumsum(0, dtype=torch.int32)
        assert self.sorted_ids_R is not None
        experts_E = torch.arange(self.num_experts, device=self.sorted_ids_R.device)
        return torch.searchsorted(self.sorted_ids_R, experts_E, right=True, out_int32=True)
