"""How evenly the router uses its experts: per layer, over the real rows of a step.

load            share of the assignments that each expert received, sums to 1
group_load      the same per router group; exactly 1 / G by construction when K / G experts are taken in each
entropy         of the load, divided by log E: 1 is uniform, 0 is a single expert
max_violation   largest load times E, minus 1: 0 is uniform (the busiest expert has so much more than its share)
unused          experts without a single row
confidence      mean over rows of the largest probability of the softmax

`train.routing_counts` tells apart what the rows were; a collector that is made with it counts that as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from s1pro.model.router import RouterOutput
from s1pro.parallel.mesh import Ranks
from s1pro.train.routing_counts import Counts, RoutingCounts


class RouterStatistics:
    """Adds up micro-batches; `report()` reads the result (one transfer from the device)."""

    def __init__(self, num_groups: int, counts: RoutingCounts | None = None) -> None:
        self.num_groups = num_groups
        self.counts = counts
        self._counts_LE: Tensor | None = None
        self._confidence_L: Tensor | None = None
        self._rows = 0

    def add_batch(self, routers: Sequence[RouterOutput], batch: Any) -> None:
        """A micro-batch with what its rows are."""
        self.add(routers, batch.num_real_rows)
        if self.counts is not None:
            self.counts.add(routers, batch)

    @torch.no_grad()
    def add(self, routers: Sequence[RouterOutput], num_real_rows: int) -> None:
        """`num_real_rows` leading rows count; the rest is the masked tail."""
        if not routers:
            return
        counts_LE = torch.stack([_counts(router, num_real_rows) for router in routers])
        confidence_L = torch.stack([_confidence(router, num_real_rows) for router in routers])
        self._counts_LE = counts_LE if self._counts_LE is None else self._counts_LE + counts_LE
        self._confidence_L = confidence_L if self._confidence_L is None else self._confidence_L + confidence_L
        self._rows += num_real_rows

    def report(self, ranks: Ranks | None = None) -> dict[str, dict[str, Any]]:
        """Statistics per MoE layer over all ranks, keyed by its number; empty when nothing was added."""
        if self._counts_LE is None or self._confidence_L is None:
            return {}
        numbers = [*self._counts_LE.flatten().tolist(), *self._confidence_L.double().tolist(), self._rows]
        *sums, rows = (ranks or Ranks()).add(numbers)
        if not rows:
            return {}
        table = torch.tensor(sums, dtype=torch.float64)
        size = self._counts_LE.numel()
        counts_LE, confidence_L = table[:size].view(self._counts_LE.shape), table[size:] / rows
        return {str(i): self._layer(counts_LE[i], float(confidence_L[i])) for i in range(len(counts_LE))}

    def report_counts(self, ranks: Ranks) -> Counts:
        """Rows of experts by source and modality, where they are counted."""
        return {} if self.counts is None else self.counts.report(ranks)

    def _layer(self, counts_E: Tensor, confidence: float) -> dict[str, Any]:
        load_E = counts_E / counts_E.sum()
        num_experts = len(load_E)
        entropy = -torch.special.xlogy(load_E, load_E).sum() / max(torch.tensor(num_experts).log(), torch.tensor(1e-12))
        return {
            "entropy": round(float(entropy), 6),
            "max_violation": round(float(load_E.max()) * num_experts - 1, 6),
            "unused": int((counts_E == 0).sum()),
            "confidence": round(confidence, 6),
            "group_load": [round(x, 6) for x in load_E.view(self.num_groups, -1).sum(dim=1).tolist()],
            "load": [round(x, 6) for x in load_E.tolist()],
        }


def _counts(router: RouterOutput, rows: int) -> Tensor:
    return torch.bincount(router.topk_ids_TK[:rows].flatten(), minlength=router.logits_TE.shape[1])


def _confidence(router: RouterOutput, rows: int) -> Tensor:
    return router.logits_TE[:rows].float().softmax(dim=-1).amax(dim=-1).sum()
