"""What an answer is worth to the learner: correctness, graded parts, form and length, each a term of its own.

    reward = correctness * value + sum over parts (weight * part) + form * valid - length * overrun

    value     how right the task finds the answer, 0 to 1
    part      of what the task grades beside it (`Score.parts`), by name: the right group, whatever the number of atoms;
              0 for an answer without such a part
    valid     1 if there was an answer of the right form at all, right or wrong
    overrun   0 up to `free_tokens`, 1 from `full_tokens` on, a straight line between

The task alone judges what is right (`tasks.task.Score`), the same for evaluation and learning; how much the others
matter is a choice of the run. Pass rates and validation never see them. Where right answers are rare, parts say which
of the wrong ones are nearer, so that more groups have something to teach. A slope instead of a cliff, so that answers
of different length that are all too long still differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from s1pro.base.errors import InputError
from s1pro.tasks.task import Score


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Weights of the terms; see the module docstring.

    Attributes:
        free_tokens, full_tokens: where the penalty for length begins and where it is complete, in tokens that the model
            wrote; they go with `length`.
    """

    correctness: float = 1.0
    form: float = 0.0
    length: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    free_tokens: int | None = None
    full_tokens: int | None = None

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in ("correctness", "form", "length")}
        weights |= {f"parts.{name}": weight for name, weight in self.parts.items()}
        for name, value in weights.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"reward.{name} must be finite and not negative, got {value}")
        if not any(weights.values()):
            raise ValueError("reward: every weight is 0, so no answer is better than another")
        bounds = (self.free_tokens, self.full_tokens)
        if self.length and None in bounds:
            raise ValueError("reward.length needs reward.free_tokens and reward.full_tokens")
        if not self.length and bounds != (None, None):
            raise ValueError("reward.free_tokens and full_tokens have no effect with reward.length=0")
        if self.length and not 0 <= (self.free_tokens or 0) < (self.full_tokens or 0):
            raise ValueError(f"reward: 0 <= free_tokens < full_tokens, got {self.free_tokens}, {self.full_tokens}")


@dataclass(frozen=True, kw_only=True)
class RewardTerms:
    """The weighted terms of one answer; `length` is 0 or negative."""

    correctness: float
    form: float = 0.0
    length: float = 0.0
    parts: float = 0.0

    @property
    def total(self) -> float:
        return self.correctness + self.parts + self.form + self.length


def reward_terms(score: Score, num_tokens: int, config: RewardConfig) -> RewardTerms:
    """The terms of an answer with `num_tokens` tokens of the model's own."""
    return RewardTerms(
        correctness=config.correctness * score.value,
        form=config.form * float(score.valid),
        length=-config.length * _overrun(num_tokens, config),
        parts=sum(weight * score.parts.get(name, 0.0) for name, weight in config.parts.items()),
    )


def check_parts(scores: Iterable[Score], config: RewardConfig) -> None:
    """Raises `InputError` for a part that none of the answers has: its weight would have no effect."""
    known = {name for score in scores for name in score.parts}
    if unknown := sorted(set(config.parts) - known):
        raise InputError(
            f"reward.parts.{unknown[0]}: no answer has such a part; there are {', '.join(sorted(known)) or 'none'}"
        )


def _overrun(num_tokens: int, config: RewardConfig) -> float:
    if config.free_tokens is None or config.full_tokens is None:
        return 0.0
    return min(max((num_tokens - config.free_tokens) / (config.full_tokens - config.free_tokens), 0.0), 1.0)
