"""Steps of fine-tuning between those of reinforcement learning: each kind of batch has its own loss.

A policy that learns from rewards alone may forget what no reward asks for. So every `sft_every`-th step can be one of
supervised fine-tuning: same optimizer, same schedule, other data. Batches of answers have advantages, others have not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s1pro.data.batch import PackedBatch
from s1pro.model.network import Network
from s1pro.train.losses import LossFunction, LossOutput, StepTotals
from s1pro.train.router_statistics import RouterStatistics

Loss = LossFunction[Network, PackedBatch]


class InterleavedLoss:
    """A `train.losses.LossFunction` that is one of two.

    Args:
        policy: of batches with advantages.
        text: of the others.
    """

    def __init__(self, policy: Loss, text: Loss) -> None:
        self._policy, self._text = policy, text

    def totals(self, batches: Sequence[PackedBatch]) -> StepTotals:
        return self._of(batches[0]).totals(batches)

    def __call__(self, model: Network, batch: PackedBatch, totals: StepTotals) -> LossOutput:
        return self._of(batch)(model, batch, totals)

    def validate(self, model: Network, batches: Sequence[PackedBatch]) -> dict[str, Any]:
        return self._policy.validate(model, batches)

    def flops(self, model: Network, batch: PackedBatch) -> float:
        return self._of(batch).flops(model, batch)

    def router_statistics(self, model: Network) -> RouterStatistics | None:
        return self._policy.router_statistics(model)

    def _of(self, batch: PackedBatch) -> Loss:
        return self._policy if batch.advantages_T is not None else self._text
