"""One optimizer step: the part of training that pre-training, fine-tuning and reinforcement learning share.

1. Sum the loss weights of all micro-batches; they normalise the step (`train.losses`).
2. Forward and backward of each micro-batch; gradients add up.
3. Gradient norm. Everything that the host must know is read from the device in one transfer.
4. The guard decides: skip, or clip and update.

On several ranks the sums of 1 and 3 run over all of them, so every rank sees the same numbers and decides alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor

from s1pro.parallel.mesh import Ranks
from s1pro.train.fp8_statistics import fp8_statistics
from s1pro.train.guards import Guard
from s1pro.train.losses import Batch, LossFunction, LossOutput, Model, StepTotals
from s1pro.train.optim import Optimizer, gradient_norm, scale_gradients
from s1pro.train.router_statistics import RouterStatistics


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did.

    Attributes:
        values: loss and further terms by name, means over the step.
        source_loss, source_weight: mean loss and sum of loss weights by source, sources without weight left out.
        skipped: why no update was made, or None.
        routers, fp8: statistics per layer, empty unless asked for.
        routing: rows of every expert by source and modality (`train.routing_counts`), under the same condition.
    """

    values: dict[str, float]
    grad_norm: float
    rows: int
    source_loss: dict[str, float]
    source_weight: dict[str, float]
    skipped: str | None = None
    routers: dict[str, Any] = field(default_factory=dict)
    fp8: dict[str, Any] = field(default_factory=dict)
    routing: dict[str, Any] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        return self.values["loss"]


class Stepper(Generic[Model, Batch]):
    """Network, optimizer, guard and loss, ready to take steps."""

    def __init__(
        self,
        network: Model,
        optimizer: Optimizer,
        guard: Guard,
        loss: LossFunction[Model, Batch],
        ranks: Ranks | None = None,
    ) -> None:
        self.network, self.optimizer, self.guard, self.loss = network, optimizer, guard, loss
        self.ranks = ranks or Ranks()

    def step(self, batches: Sequence[Batch], lr_scale: float, *, router_statistics: bool = False) -> StepReport:
        """Takes one step over the micro-batches, with `lr_scale` times the configured learning rate.

        Args:
            router_statistics: reports what routers did, and what rounding to FP8 did.

        Raises:
            TrainingStoppedError: too many skipped steps in a row.
        """
        totals = self._totals(batches)
        routers = self.loss.router_statistics(self.network) if router_statistics else None
        with fp8_statistics(self.network, router_statistics, self.ranks) as fp8:
            outputs = [self._backward(batch, totals, routers) for batch in batches]
        self.optimizer.share_gradients()
        values, grad_norm, source_nll = self._read(outputs)
        gradients, weights = self.optimizer.gradients, totals.sources
        source_loss = {n: nll / weights[n] for n, nll in zip(weights, source_nll, strict=False) if weights[n]}
        try:
            skipped = self._decide(values["loss"], grad_norm, gradients, totals, source_loss)
            if skipped is None:
                self.optimizer.step(lr_scale)
        finally:
            self.optimizer.zero_grad()
        return StepReport(
            values=values,
            grad_norm=grad_norm,
            rows=totals.rows,
            source_loss=source_loss,
            source_weight={name: weight for name, weight in weights.items() if weight},
            skipped=skipped,
            routers=routers.report(self.ranks) if routers else {},
            fp8=fp8,
            routing=dict(routers.report_counts(self.ranks)) if routers else {},
        )

    def _totals(self, batches: Sequence[Batch]) -> StepTotals:
        own = self.loss.totals(batches)
        weight, rows, *weights = self.ranks.add([own.weight, own.rows, *own.sources.values()])
        return StepTotals(weight=weight, rows=round(rows), sources=dict(zip(own.sources, weights, strict=True)))

    def _backward(self, batch: Batch, totals: StepTotals, statistics: RouterStatistics | None) -> LossOutput:
        device = next(self.network.parameters()).device
        output = self.loss(self.network, batch.to(device), totals)
        output.loss.backward()
        self.optimizer.collect_gradients()
        if statistics is not None:
            statistics.add_batch(output.routers, batch)
        return LossOutput(loss=output.loss.detach(), values=output.values, source_nll=output.source_nll)

    def _decide(
        self,
        loss: float,
        grad_norm: float,
        gradients: list[Tensor],
        totals: StepTotals,
        source_loss: Mapping[str, float],
    ) -> str | None:
        """Skips, or clips."""
        if totals.weight == 0:
            return "nothing in this step has a loss weight"
        sources = {name: (value, totals.sources[name]) for name, value in source_loss.items()}
        reason = self.guard.check(loss, grad_norm, sources)
        limit = self.guard.config.max_grad_norm
        if reason is None and limit is not None and grad_norm > limit:
            scale_gradients(gradients, limit / grad_norm)
        return reason

    def _read(self, outputs: Sequence[LossOutput]) -> tuple[dict[str, float], float, list[float]]:
        """Sums over micro-batches (and ranks) and the gradient norm, in one transfer from the device."""
        names = list(dict.fromkeys(name for output in outputs for name in output.values))
        sums = [torch.stack([o.values[n].double() for o in outputs if n in o.values]).sum() for n in names]
        per_source = [output.source_nll for output in outputs if output.source_nll is not None]
        sources = torch.stack(per_source).sum(dim=0) if per_source else torch.zeros(0, device=sums[0].device)
        norm = gradient_norm(self.optimizer.primary_gradients).double().to(sums[0].device)
        numbers = torch.cat([torch.stack([*sums, norm]), sources.double()]).tolist()
        if self.ranks.is_distributed:
            numbers[len(names)] **= 2
            numbers = self.ranks.add(numbers)
            numbers[len(names)] **= 0.5
        return dict(zip(names, numbers, strict=False)), numbers[len(names)], numbers[len(names) + 1 :]
