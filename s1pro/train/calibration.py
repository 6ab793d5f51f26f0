"""Watching a network route text: the numbers that expert expansion needs (`checkpoint.calibration`).

Only rows that belong to samples count. Rank counts cover all of them; the sample takes the first tokens up to a limit,
and packed batches mix their sources already.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s1pro.checkpoint.calibration import MAX_RANKS, Calibration
from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.router import RouterOutput

MAX_TOKENS = 8192


class CalibrationRecorder:
    """Adds up batches; `result()` gives the calibration."""

    def __init__(self, top_k: int, *, max_tokens: int = MAX_TOKENS) -> None:
        self.top_k, self.max_tokens = top_k, max_tokens
        self._sample: list[tuple[Tensor, Tensor, Tensor]] = []
        self._counts_LEX: Tensor | None = None
        self._tokens = self._sampled = 0

    @torch.no_grad()
    def add(self, routers: Sequence[RouterOutput], num_real_rows: int) -> None:
        """`num_real_rows` leading rows count; the rest is the masked tail."""
        if not routers or num_real_rows == 0:
            return
        layers = [_ranked(router, num_real_rows) for router in routers]
        counts_LEX = torch.stack([_rank_counts(ids_TE) for ids_TE, _, _ in layers])
        self._counts_LEX = counts_LEX if self._counts_LEX is None else self._counts_LEX + counts_LEX
        self._tokens += num_real_rows
        rows = min(num_real_rows, self.max_tokens - self._sampled)
        if rows > 0:
            ids, probs, weights = (
                torch.stack([layer[part][:rows, :MAX_RANKS] for layer in layers]) for part in range(3)
            )
            self._sample.append((ids.cpu(), probs.cpu(), weights.cpu()))
            self._sampled += rows

    def result(self) -> Calibration:
        """What was seen.

        Raises:
            ValueError: nothing was.
        """
        if self._counts_LEX is None:
            raise ValueError("calibration saw no tokens, or a network without experts")
        ids, probs, weights = (torch.cat([part[index] for part in self._sample], dim=1) for index in range(3))
        return Calibration(
            top_k=self.top_k,
            num_tokens=self._tokens,
            ids_LTX=ids.to(torch.int32).numpy(),
            probs_LTX=probs.numpy(),
            weights_LTX=weights.numpy(),
            rank_counts_LEX=self._counts_LEX.cpu().numpy(),
        )


@torch.no_grad()
def calibrate(network: Network, batches: Sequence[PackedBatch], *, max_tokens: int = MAX_TOKENS) -> Calibration:
    """Runs the network over the batches and records its routing."""
    recorder = CalibrationRecorder(network.config.text.router.top_k, max_tokens=max_tokens)
    device = network.lm_head.weight.device
    for batch in batches:
        moved = batch.to(device)
        context = PackedContext(cu_seqlens=moved.cu_seqlens)
        output = network(moved.input_ids_T, moved.position_ids_T, context, media=moved.media, compute_logits=False)
        recorder.add(output.routers, batch.num_real_rows)
    return recorder.result()


def _ranked(router: RouterOutput, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Experts, probabilities and shares in the mixture of every token, the most probable first, `[T, E]` each."""
    probs_TE = router.logits_TE[:rows].float().softmax(dim=-1)
    weights_TK = router.topk_weights_TK[:rows].float()
    shares_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    shares_TE = torch.zeros_like(probs_TE).scatter_(1, router.topk_ids_TK[:rows], shares_TK)
    ordered = probs_TE.sort(dim=-1, descending=True, stable=True)
    return ordered.indices, ordered.values, shares_TE.gather(1, ordered.indices)


def _rank_counts(ids_TE: Tensor) -> Tensor:
    """How often expert e has rank r, `[E, E]`."""
    experts = ids_TE.shape[1]
    cells_TE = ids_TE * experts + torch.arange(experts, device=ids_TE.device)
    return torch.bincount(cells_TE.flatten(), minlength=experts * experts).view(experts, experts)
