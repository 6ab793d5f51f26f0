"""Losses of language-model training, normalised exactly.

The loss of an optimizer step is one mean over *all* its tokens, however they are cut into micro-batches, packed or
spread over ranks:

    L = sum_b sum_t w_t * nll_t / W,      W = sum_b sum_t w_t      (W is known before the first forward pass)

so each micro-batch contributes its *sum* divided by the W of the whole step, and gradients simply add up. Dividing each
micro-batch by its own weight instead would favour short ones.

The router terms are means over tokens inside one micro-batch (a product of two means in the case of balance); they
enter with the share of real tokens that the micro-batch has in the step. Masked tails count nowhere.

A loss is any function with the signature of `LossFunction`; reinforcement learning brings its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.model.network import Network
from s1pro.model.router import RouterOutput, balance_loss, released_balance_loss, z_loss


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Coefficients.

    Attributes:
        balance: of the load-balancing loss (1 at uniform routing), z: of the router z-loss; 0 switches off.
        balance_form: "grouped" counts the selection that is used, "released" the ungrouped one of the release.
        chunk: rows per slice of the fused head and cross-entropy.
    """

    balance: float = 1e-3
    z: float = 0.0
    balance_form: Literal["grouped", "released"] = "grouped"
    chunk: int = 1024

    def __post_init__(self) -> None:
        if self.balance < 0 or self.z < 0:
            raise ValueError(f"loss coefficients must not be negative, got balance={self.balance}, z={self.z}")
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """Over all micro-batches of a step (and all ranks): sum of loss weights, number of real rows."""

    weight: float
    rows: int

    @staticmethod
    def of(batches: Sequence[PackedBatch]) -> StepTotals:
        weight = sum(float(batch.loss_weights_T.sum(dtype=torch.float64)) for batch in batches)
        return StepTotals(weight=weight, rows=sum(batch.num_real_rows for batch in batches))


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """One micro-batch.

    Attributes:
        loss: its contribution to the step's loss; call `backward` on it.
        values: detached scalars, already weighted so that the sum over micro-batches is the value of the step.
        source_nll: float64, sum of weighted nll per source.
        routers: for statistics.
    """

    loss: Tensor
    values: dict[str, Tensor] = field(default_factory=dict)
    source_nll: Tensor | None = None
    routers: tuple[RouterOutput, ...] = ()


class LossFunction(Protocol):
    """Loss of one micro-batch; `batch` is on the device of the network."""

    def __call__(self, network: Network, batch: PackedBatch, totals: StepTotals) -> LossOutput: ...


class LanguageModelLoss:
    """Next-token cross-entropy with the router terms of `LossConfig`."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def __call__(self, network: Network, batch: PackedBatch, totals: StepTotals) -> LossOutput:
        output = network(
            batch.input_ids_T,
            batch.position_ids_T,
            PackedContext(cu_seqlens=batch.cu_seqlens),
            media=batch.media,
            routed_experts_LTK=batch.routed_experts_LTK,
            compute_logits=False,
        )
        nll, logprobs_T = linear_cross_entropy(
            output.hidden_TD, network.lm_head.weight, batch.targets_T, batch.loss_weights_T, chunk=self.config.chunk
        )
        loss = nll / (totals.weight or 1.0)
        values = {"loss": loss.detach()}
        for name, coefficient, term in self._router_terms(output.routers, batch):
            share = term * (batch.num_real_rows / max(totals.rows, 1))
            values[name] = share.detach()
            loss = loss + coefficient * share
        return LossOutput(loss=loss, values=values, source_nll=_by_source(logprobs_T, batch), routers=output.routers)

    def _router_terms(self, routers: tuple[RouterOutput, ...], batch: PackedBatch) -> list[tuple[str, float, Tensor]]:
        """Name, coefficient and value of the terms that are switched on."""
        if not routers or batch.num_real_rows == 0:
            return []
        valid_T = None if batch.num_real_rows == batch.num_rows else batch.valid_T()
        terms = []
        if self.config.balance:
            form = balance_loss if self.config.balance_form == "grouped" else released_balance_loss
            terms.append(("balance_loss", self.config.balance, form(routers, valid_T)))
        if self.config.z:
            terms.append(("z_loss", self.config.z, z_loss(routers, valid_T)))
        return terms


def source_weights(batches: Sequence[PackedBatch]) -> Tensor:
    """float64 `[num_sources]`: sum of loss weights per source over `batches`."""
    totals = torch.zeros(len(batches[0].source_names), dtype=torch.float64)
    for batch in batches:
        _add_by_source(totals, batch.loss_weights_T.double(), batch)
    return totals


def _by_source(logprobs_T: Tensor, batch: PackedBatch) -> Tensor:
    nll_T = -(logprobs_T.detach().double() * batch.loss_weights_T)
    totals = torch.zeros(len(batch.source_names), dtype=torch.float64, device=nll_T.device)
    return _add_by_source(totals, nll_T, batch)


def _add_by_source(totals: Tensor, values_T: Tensor, batch: PackedBatch) -> Tensor:
    """Adds `values_T` to the total of each row's source; tail rows carry 0 and are added to the first source."""
    return totals.index_add_(0, batch.source_ids_T().clamp(min=0), values_T)
