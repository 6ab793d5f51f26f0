"""Losses of language-model training, normalised exactly.

The loss of an optimizer step is one mean over *all* its tokens, however they are cut into micro-batches, packed or
spread over ranks:

    L = sum_b sum_t w_t * nll_t / W,      W = sum_b sum_t w_t      (W is known before the first forward pass)

so each micro-batch contributes its *sum* divided by the W of the whole step, and gradients simply add up. Dividing each
micro-batch by its own weight instead would favour short ones.

The router terms are means over tokens inside one micro-batch (a product of two means in the case of balance); they
enter with the share of real tokens that the micro-batch has in the step. Masked tails count nowhere.

A loss is an object with the methods of `LossFunction`: it alone knows what a batch and a model are, and the loop around
it is the same for all. Reinforcement learning and contrastive training bring their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.model.network import Network
from s1pro.model.router import RouterOutput, balance_loss, released_balance_loss, z_loss
from s1pro.parallel.mesh import Ranks
from s1pro.train.router_statistics import RouterStatistics
from s1pro.train.routing_counts import RoutingCounts
from s1pro.train.throughput import training_flops

Model = TypeVar("Model", bound=nn.Module)
ModelIn = TypeVar("ModelIn", bound=nn.Module, contravariant=True)
"""What is trained."""


class AnyBatch(Protocol):
    """What the loop does with a batch itself."""

    @property
    def num_real_rows(self) -> int: ...

    def to(self, device: torch.device | str) -> Any: ...


Batch = TypeVar("Batch", bound=AnyBatch)
BatchIn = TypeVar("BatchIn", bound=AnyBatch, contravariant=True)
"""What it is trained on."""


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
    """Over all micro-batches of a step (and all ranks).

    Attributes:
        weight: sum of loss weights.
        rows: that went through the network and belong to samples.
        sources: sum of loss weights by source.
    """

    weight: float
    rows: int
    sources: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(batches: Sequence[PackedBatch]) -> StepTotals:
        weight = sum(float(batch.loss_weights_T.sum(dtype=torch.float64)) for batch in batches)
        sources = dict(zip(batches[0].source_names, source_weights(batches).tolist(), strict=True)) if batches else {}
        return StepTotals(weight=weight, rows=sum(batch.num_real_rows for batch in batches), sources=sources)


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """One micro-batch.

    Attributes:
        loss: its contribution to the step's loss; call `backward` on it.
        values: detached scalars, already weighted so that the sum over micro-batches is the value of the step; the
            same names on all ranks.
        source_nll: float64, sum of weighted nll per source, in the order of `StepTotals.sources`.
        routers: for statistics.
    """

    loss: Tensor
    values: dict[str, Tensor] = field(default_factory=dict)
    source_nll: Tensor | None = None
    routers: tuple[RouterOutput, ...] = ()


class LossFunction(Protocol[ModelIn, BatchIn]):
    """What a stage learns, and how that is counted."""

    def totals(self, batches: Sequence[BatchIn]) -> StepTotals:
        """What the micro-batches of a step hold, before the first of them is computed."""
        ...

    def __call__(self, model: ModelIn, batch: BatchIn, totals: StepTotals) -> LossOutput:
        """Loss of one micro-batch, which is on the device of the model."""
        ...

    def validate(self, model: ModelIn, batches: Sequence[BatchIn]) -> dict[str, Any]:
        """The validation record; called without gradients, on several ranks by all of them with the same batches."""
        ...

    def flops(self, model: ModelIn, batch: BatchIn) -> float:
        """Floating-point operations of forward and backward that the model needs for a batch."""
        ...

    def router_statistics(self, model: ModelIn) -> RouterStatistics | None:
        """An empty collector; None for models without routers."""
        ...


class LanguageModelLoss:
    """Next-token cross-entropy with the router terms of `LossConfig`."""

    def __init__(self, config: LossConfig, ranks: Ranks | None = None) -> None:
        self.config, self.ranks = config, ranks or Ranks()

    def totals(self, batches: Sequence[PackedBatch]) -> StepTotals:
        return StepTotals.of(batches)

    def validate(self, model: Network, batches: Sequence[PackedBatch]) -> dict[str, Any]:
        return validation_loss(model, batches, chunk=self.config.chunk, ranks=self.ranks)

    def flops(self, model: Network, batch: PackedBatch) -> float:
        return training_flops(model.config, batch)

    def router_statistics(self, model: Network) -> RouterStatistics | None:
        return RouterStatistics(model.config.text.router.num_groups, RoutingCounts(model.config))

    def __call__(self, model: Network, batch: PackedBatch, totals: StepTotals) -> LossOutput:
        output = model(
            batch.input_ids_T,
            batch.position_ids_T,
            PackedContext(cu_seqlens=batch.cu_seqlens),
            media=batch.media,
            routed_experts_LTK=batch.routed_experts_LTK,
            compute_logits=False,
        )
        nll, logprobs_T = linear_cross_entropy(
            output.hidden_TD,
            model.lm_head.weight,
            batch.targets_T,
            batch.loss_weights_T,
            chunk=self.config.chunk,
            exact=model.exact,
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
        if not routers:
            return []
        valid_T = None if batch.num_real_rows == batch.num_rows else batch.valid_T()
        terms = []
        if self.config.balance:
            form = balance_loss if self.config.balance_form == "grouped" else released_balance_loss
            terms.append(("balance_loss", self.config.balance, form(routers, valid_T)))
        if self.config.z:
            terms.append(("z_loss", self.config.z, z_loss(routers, valid_T)))
        return terms


@torch.no_grad()
def validation_loss(
    network: Network, batches: Sequence[PackedBatch], *, chunk: int = 1024, ranks: Ranks | None = None
) -> dict[str, Any]:
    """`{"loss": mean, "source_loss": {name: mean}, "tokens": sum of weights}`, over all batches and per source.

    Every rank has all batches and computes its share. When the shares are unequal, ranks without a batch in the last
    round compute one that does not count: all must take part in every exchange.

    Raises:
        ValueError: no batches, or no token with a loss weight.
    """
    if not batches or StepTotals.of(batches).weight == 0:
        raise ValueError("validation needs at least one token with a loss weight")
    loss = LanguageModelLoss(LossConfig(balance=0.0, z=0.0, chunk=chunk))
    totals = StepTotals.of(batches)
    device = network.lm_head.weight.device
    nll = torch.zeros(len(batches[0].source_names), dtype=torch.float64)
    ranks = ranks or Ranks()
    for start in range(0, len(batches), ranks.size):
        index = start + ranks.rank
        output = loss(network, batches[min(index, len(batches) - 1)].to(device), totals)
        assert output.source_nll is not None
        if index < len(batches):
            nll += output.source_nll.cpu()
    nll = torch.tensor(ranks.add(nll.tolist()), dtype=torch.float64)
    weights = source_weights(batches)
    rows = zip(batches[0].source_names, nll.tolist(), weights.tolist(), strict=True)
    return {
        "loss": float(nll.sum() / weights.sum()),
        "source_loss": {name: nll / weight for name, nll, weight in rows if weight},
        "tokens": float(weights.sum()),
    }


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
