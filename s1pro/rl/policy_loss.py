"""The loss of `rl.objective` on packed batches, in the form that the one training loop takes.

Rows of a batch carry, aligned with their targets: the advantage, the log-probability that the engine sampled with
(`rollout_logprobs_T`), the one that the trainer had when the step began (`old_logprobs_T`; without it the step has a
single update, and r = 1), and that of the reference (`reference_logprobs_T`, for the KL term). A row learns if its
loss weight is not 0; the weight is w of the objective. Sequence-level ratios are over the rows of a segment that learn.

Log-ratios are held within +-20 before they are exponentiated: e^20 is as good as infinite, and not infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import token_logprobs
from s1pro.model.network import Network
from s1pro.rl.objective import MismatchConfig, ObjectiveConfig, RatioLevel
from s1pro.train.losses import LossOutput, StepTotals
from s1pro.train.router_statistics import RouterStatistics
from s1pro.train.routing_counts import RoutingCounts
from s1pro.train.throughput import training_flops

MAX_LOG_RATIO = 20.0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows learn and which belong together: bool `[T]`, and the number of the segment of each row."""

    learns_T: Tensor
    segments_T: Tensor
    num_segments: int

    @staticmethod
    def of(batch: PackedBatch) -> Rows:
        device = batch.input_ids_T.device
        lengths = torch.tensor(batch.cu_seqlens).diff()
        segments_T = torch.arange(len(lengths)).repeat_interleave(lengths, output_size=batch.num_rows).to(device)
        return Rows(learns_T=batch.loss_weights_T != 0, segments_T=segments_T, num_segments=len(lengths))

    def sums(self, values_T: Tensor) -> Tensor:
        """Sum over the learning rows of each segment."""
        zeros = values_T.new_zeros(self.num_segments)
        return zeros.index_add_(0, self.segments_T, values_T.where(self.learns_T, values_T.new_zeros(())))

    def means_T(self, values_T: Tensor) -> Tensor:
        """Mean over the learning rows of the own segment, for every row."""
        counts = self.sums(torch.ones_like(values_T)).clamp(min=1)
        return (self.sums(values_T) / counts).index_select(0, self.segments_T)


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """What multiplies `log pi` in each row, without gradient, and what happened on the way (bool or float `[T]`)."""

    value_T: Tensor
    mismatch_T: Tensor
    ratio_T: Tensor
    masked_T: Tensor
    vetoed_T: Tensor
    clipped_T: Tensor


def coefficients(
    logprobs_T: Tensor,
    old_T: Tensor,
    rollout_T: Tensor,
    advantages_T: Tensor,
    rows: Rows,
    config: ObjectiveConfig,
) -> Coefficients:
    """`sg(M(rho) g(r, A)) A` in every row that learns, 0 elsewhere; see `rl.objective`.

    Args:
        logprobs_T: of the policy now; all four `[T]`, float32 or float64, no gradient is taken.
    """
    logprobs_T, old_T = logprobs_T.detach(), old_T.detach()
    gap_T = old_T - rollout_T
    weight_T, masked_T, vetoed_T = _mismatch_weight(gap_T, rows, config.mismatch)
    if config.ratio == "none":
        ratio_T = torch.ones_like(logprobs_T)
    else:
        level: RatioLevel = "token" if config.ratio == "token" else "geometric"
        ratio_T = _ratio(logprobs_T - old_T, rows, level)
    used_T, clipped_T = _clipped(ratio_T, advantages_T, config)
    value_T = (weight_T * used_T * advantages_T).where(rows.learns_T, advantages_T.new_zeros(()))
    return Coefficients(
        value_T=value_T,
        mismatch_T=_ratio(gap_T, rows, "token"),
        ratio_T=ratio_T,
        masked_T=masked_T,
        vetoed_T=vetoed_T,
        clipped_T=clipped_T,
    )


def _ratio(differences_T: Tensor, rows: Rows, level: RatioLevel) -> Tensor:
    if level == "sequence":
        differences_T = rows.sums(differences_T).index_select(0, rows.segments_T)
    elif level == "geometric":
        differences_T = rows.means_T(differences_T)
    return differences_T.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def _mismatch_weight(gap_T: Tensor, rows: Rows, config: MismatchConfig) -> tuple[Tensor, Tensor, Tensor]:
    """M(rho), and which rows it dropped or cut, and which were dropped with their response."""
    nothing_T = torch.zeros_like(rows.learns_T)
    if config.form == "off":
        return torch.ones_like(gap_T), nothing_T, nothing_T
    rho_T = _ratio(gap_T, rows, config.level)
    if config.form == "mask":
        masked_T = (rho_T <= config.low) | (rho_T >= config.high)
        weight_T = rho_T.masked_fill(masked_T, 0.0)
    else:
        masked_T = rho_T > config.high
        weight_T = rho_T.clamp(max=config.high)
    if config.veto is None:
        return weight_T, masked_T, nothing_T
    bad_T = _ratio(gap_T.abs(), rows, "token") > config.veto
    vetoed_T = rows.sums(bad_T.to(gap_T.dtype)).index_select(0, rows.segments_T) > 0
    return weight_T.masked_fill(vetoed_T, 0.0), masked_T, vetoed_T


def _clipped(ratio_T: Tensor, advantages_T: Tensor, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """g(r, A), and where it differs from r."""
    low, high = 1 - config.clip_low, 1 + config.clip_high
    if config.clip == "truncate":
        return ratio_T.clamp(low, high), (ratio_T < low) | (ratio_T > high)
    if config.clip == "ppo":
        flat_T = ((ratio_T > high) & (advantages_T > 0)) | ((ratio_T < low) & (advantages_T < 0))
        return ratio_T.masked_fill(flat_T, 0.0), flat_T
    return ratio_T, torch.zeros_like(ratio_T, dtype=torch.bool)


class PolicyLoss:
    """A `train.losses.LossFunction`. Values are means in the measure of the loss, w / W.

    Args:
        chunk: rows per slice of the head.
    """

    def __init__(self, config: ObjectiveConfig, *, chunk: int = 1024) -> None:
        self.config, self.chunk = config, chunk

    def totals(self, batches: Sequence[PackedBatch]) -> StepTotals:
        totals = StepTotals.of(batches)
        if self.config.normalization != "constant":
            return totals
        responses = sum(batch.num_real_segments for batch in batches)
        return StepTotals(weight=float(responses), rows=totals.rows, sources=totals.sources)

    def __call__(self, model: Network, batch: PackedBatch, totals: StepTotals) -> LossOutput:
        if batch.advantages_T is None or batch.rollout_logprobs_T is None:
            raise ValueError("a batch for reinforcement learning has advantages and the log-probs of its rollouts")
        output = model(
            batch.input_ids_T,
            batch.position_ids_T,
            PackedContext(cu_seqlens=batch.cu_seqlens),
            media=batch.media,
            routed_experts_LTK=batch.routed_experts_LTK,
            compute_logits=False,
        )
        logprobs_T = token_logprobs(
            output.hidden_TD, model.lm_head.weight, batch.targets_T, chunk=self.chunk, exact=model.exact
        )
        old_T = logprobs_T.detach() if batch.old_logprobs_T is None else batch.old_logprobs_T
        rows = Rows.of(batch)
        found = coefficients(logprobs_T, old_T, batch.rollout_logprobs_T, batch.advantages_T, rows, self.config)
        share_T = batch.loss_weights_T / (totals.weight or 1.0)
        loss = -(share_T * found.value_T * logprobs_T).sum()
        values = _values(found, logprobs_T.detach(), old_T - batch.rollout_logprobs_T, share_T)
        if self.config.kl:
            kl = (share_T * self._divergence_T(logprobs_T, batch)).sum()
            values["reference_kl"] = kl.detach()
            loss = loss + self.config.kl * kl
        return LossOutput(loss=loss, values={"loss": loss.detach(), **values}, routers=output.routers)

    def _divergence_T(self, logprobs_T: Tensor, batch: PackedBatch) -> Tensor:
        if batch.reference_logprobs_T is None:
            raise ValueError(f"objective.kl={self.config.kl} needs the log-probs of a reference")
        learns_T = batch.loss_weights_T != 0
        difference_T = (batch.reference_logprobs_T - logprobs_T).where(learns_T, logprobs_T.new_zeros(()))
        difference_T = difference_T.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        return difference_T.exp() - difference_T - 1

    def validate(self, model: Network, batches: Sequence[PackedBatch]) -> dict[str, Any]:
        raise NotImplementedError("a policy is validated by answering questions, not by a loss")

    def flops(self, model: Network, batch: PackedBatch) -> float:
        return training_flops(model.config, batch)

    def router_statistics(self, model: Network) -> RouterStatistics | None:
        return RouterStatistics(model.config.text.router.num_groups, RoutingCounts(model.config))


def _values(found: Coefficients, logprobs_T: Tensor, gap_T: Tensor, share_T: Tensor) -> dict[str, Tensor]:
    """Names are the same whatever happened, so that ranks and steps can be compared."""
    ratio_minus_one = gap_T.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    measured = {
        "surprisal": -logprobs_T,
        "mismatch_k1": -gap_T,
        "mismatch_k3": ratio_minus_one.exp() - 1 - ratio_minus_one,
        "masked": found.masked_T,
        "vetoed": found.vetoed_T,
        "clipped": found.clipped_T,
        "ratio": found.ratio_T,
    }
    return {name: (share_T * value_T).sum() for name, value_T in measured.items()}
