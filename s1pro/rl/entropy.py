"""Keeping a policy from becoming certain too early, or from never becoming certain.

The entropy of a policy is the mean surprisal of what it samples, and its gradient is a policy gradient too:

    H = E[-log pi(y)],    grad H = E[-log pi(y) grad log pi(y)]        (because E[grad log pi] = 0)

So a bonus `weight * H` is an addition to the advantage of every token, `A_it + weight * (-log mu(y_it))`, and the
objective stays what it is: a weighted sum of log-probabilities. mu is the engine that sampled, at temperature 1.

With a target, the weight follows what was measured, after every round of answers:

    weight <- clip(weight + gain * (target - H measured), 0, max_weight)

which is the whole state. Groups that are left out because all their answers are worth the same add no bonus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class EntropyConfig:
    """See the module docstring.

    Attributes:
        weight: of the entropy, in rewards per nat; at the beginning if there is a target.
        target: nats per token that are aimed at; None keeps the weight.
        gain: how much the weight moves per nat and round.
    """

    weight: float = 0.0
    target: float | None = None
    gain: float = 0.01
    max_weight: float = 0.1

    def __post_init__(self) -> None:
        for name in ("weight", "gain", "max_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"entropy.{name} must be finite and not negative, got {value}")
        if self.target is None:
            if (self.gain, self.max_weight) != (0.01, 0.1):
                raise ValueError("entropy.gain and entropy.max_weight have no effect without entropy.target")
        elif not (math.isfinite(self.target) and self.target > 0 and self.gain > 0 and self.weight <= self.max_weight):
            raise ValueError(
                "entropy: with a target, target > 0, gain > 0 and weight <= max_weight; got "
                f"target={self.target}, gain={self.gain}, weight={self.weight}, max_weight={self.max_weight}"
            )

    @property
    def is_on(self) -> bool:
        return self.weight > 0 or self.target is not None


class EntropyControl:
    """The weight of the entropy, round by round."""

    def __init__(self, config: EntropyConfig) -> None:
        self.config, self.weight = config, config.weight

    def observe(self, entropy: float) -> None:
        """What a round measured, in nats per token."""
        if self.config.target is not None:
            moved = self.weight + self.config.gain * (self.config.target - entropy)
            self.weight = min(max(moved, 0.0), self.config.max_weight)

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight = float(state["weight"])


def mean_surprisal(logprobs: Sequence[Sequence[float]]) -> float:
    """Nats per token over all answers, of the tokens that were sampled; 0 without any."""
    count = sum(len(row) for row in logprobs)
    return -math.fsum(value for row in logprobs for value in row) / count if count else 0.0
