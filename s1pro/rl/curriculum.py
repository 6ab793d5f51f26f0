"""Which tasks are asked more often: those that the policy sometimes gets right.

A group whose answers are all right or all wrong teaches nothing, and the chance that two answers differ is 2p(1 - p)
for a task with pass rate p. So the share of task k is

    share_k  ~  weight_k * max(floor, 4 p_k (1 - p_k))

with p_k followed from round to round, p <- decay * p + (1 - decay) * mean value of its answers in this round; the first
observation counts whole, and a task that was never asked has the factor 1. The floor keeps mastered tasks in sight, so
that forgetting is seen, and hopeless ones too, so that the first success is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """See the module docstring.

    Attributes:
        decay: weight of the past; 0 looks at the last round only.
        floor: least factor of a task.
    """

    decay: float = 0.8
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"curriculum.decay must lie in [0, 1), got {self.decay}")
        if not 0 < self.floor <= 1:
            raise ValueError(f"curriculum.floor must lie in (0, 1], got {self.floor}")


class Curriculum:
    """Shares of tasks from their pass rates.

    Args:
        weights: of the tasks, as configured.
        config: None keeps the shares as they are.
    """

    def __init__(self, weights: Sequence[float], config: CurriculumConfig | None) -> None:
        self.config = config
        self._weights = tuple(weights)
        self.rates: list[float | None] = [None] * len(weights)

    def shares(self) -> list[float]:
        """They add up to 1."""
        weights = [weight * self._factor(rate) for weight, rate in zip(self._weights, self.rates, strict=True)]
        total = sum(weights)
        return [weight / total for weight in weights]

    def observe(self, values: Mapping[int, Sequence[float]]) -> bool:
        """What the answers of a round were worth, by number of the task. Whether the shares may differ now."""
        if self.config is None:
            return False
        for task, some in values.items():
            if some:
                mean, before = sum(some) / len(some), self.rates[task]
                decay = self.config.decay
                self.rates[task] = mean if before is None else decay * before + (1 - decay) * mean
        return True

    def _factor(self, rate: float | None) -> float:
        if self.config is None or rate is None:
            return 1.0
        return max(self.config.floor, 4 * rate * (1 - rate))

    def state_dict(self) -> dict[str, Any]:
        return {"rates": list(self.rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rates = [None if rate is None else float(rate) for rate in state["rates"]]
