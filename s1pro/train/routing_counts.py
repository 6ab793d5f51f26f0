"""Which experts read what: rows of every expert, apart by source and by modality.

    source     the source of the sample that a row belongs to; every row of a sample counts for it
    modality   what stands in the row itself: text, or the placeholder of an image, a video or a signal

Counted at the steps at which router statistics are due, over the real rows of a step, and written as whole numbers:
`{"source": {name: [[count of expert 0, 1, ...] of layer 0, ...]}, "modality": {...}}`. What had no rows is left out,
and so is a division with a single part, which would repeat the load of the whole. `s1pro report` draws the counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s1pro.data.batch import PackedBatch
from s1pro.model.config import ModelConfig
from s1pro.model.router import RouterOutput
from s1pro.parallel.mesh import Ranks

MODALITIES = ("text", "image", "video", "signal")

Counts = dict[str, dict[str, list[list[int]]]]
"""Division, part, layer, expert."""


class RoutingCounts:
    """Adds up micro-batches; `report` reads the result (one transfer from the device)."""

    def __init__(self, config: ModelConfig) -> None:
        self._placeholders = (config.image_token_id, config.video_token_id, config.ts_token_id)
        self._sources: tuple[str, ...] = ()
        self._counts_PLE: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, routers: Sequence[RouterOutput], batch: PackedBatch) -> None:
        """Rows of samples only; the masked tail is left out."""
        if not routers:
            return
        self._sources = batch.source_names
        rows = batch.num_real_rows
        ids_T = batch.input_ids_T[:rows]
        modality_T = torch.zeros_like(ids_T)
        for number, token in enumerate(self._placeholders, start=1):
            modality_T[ids_T == token] = number
        self._add("source", routers, batch.source_ids_T()[:rows], len(self._sources))
        self._add("modality", routers, modality_T, len(MODALITIES))

    def _add(self, name: str, routers: Sequence[RouterOutput], parts_T: Tensor, num_parts: int) -> None:
        counts_LPE = torch.stack([_counts_PE(router, parts_T, num_parts) for router in routers])
        counts_PLE = counts_LPE.transpose(0, 1)
        self._counts_PLE[name] = counts_PLE + self._counts_PLE.get(name, torch.zeros_like(counts_PLE))

    def report(self, ranks: Ranks) -> Counts:
        """The sums over all ranks; empty without routers or with nothing to tell apart."""
        names = {"source": self._sources, "modality": MODALITIES}
        found: Counts = {}
        for division, counts_PLE in self._counts_PLE.items():
            summed = torch.tensor(ranks.add(counts_PLE.flatten().tolist())).view(counts_PLE.shape).round().long()
            parts = {name: table for name, table in zip(names[division], summed, strict=True) if table.any()}
            if len(parts) > 1:
                found[division] = {name: table.tolist() for name, table in parts.items()}
        return found


def _counts_PE(router: RouterOutput, parts_T: Tensor, num_parts: int) -> Tensor:
    """`[num_parts, E]`"""
    num_experts = router.logits_TE.shape[1]
    ids_TK = router.topk_ids_TK[: len(parts_T)]
    cells_TK = ids_TK + num_experts * parts_T.to(ids_TK.device)[:, None]
    return torch.bincount(cells_TK.flatten(), minlength=num_parts * num_experts).view(num_parts, num_experts)
