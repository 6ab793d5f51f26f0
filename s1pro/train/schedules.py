"""Learning-rate schedules as one pure function of progress in [0, 1].

    warm-up              linear from 0 over the first `warmup` share
    wsd                  then constant, then linear to `min_ratio` over the last `decay` share (warm-up, stable, decay)
    cosine               then half a cosine to `min_ratio`
    linear               then a straight line to `min_ratio`
    constant             then constant

Progress of step s out of S is (s + 1/2) / S, the middle of the step, so neither the first nor the last step is wasted
on a rate of zero. With `follow_time` progress is the larger of the step share and the time share of `max_seconds`: a
slow machine then finishes its decay within the budget. Runs are only reproducible when the step share leads
throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """See the module docstring. `warmup` and `decay` are shares of the run."""

    kind: Literal["wsd", "cosine", "linear", "constant"] = "wsd"
    warmup: float = 0.02
    decay: float = 0.2
    min_ratio: float = 0.0
    follow_time: bool = False

    def __post_init__(self) -> None:
        for name in ("warmup", "decay", "min_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.kind == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup={self.warmup} and decay={self.decay} together exceed the run")


def lr_scale(config: ScheduleConfig, progress: float) -> float:
    """The factor on every learning rate at `progress` (0 start, 1 end)."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < config.warmup:
        return progress / config.warmup
    if config.kind == "constant":
        return 1.0
    if config.kind == "wsd":
        left = (1 - progress) / config.decay if config.decay else 1.0
        return config.min_ratio + (1 - config.min_ratio) * min(left, 1.0)
    done = (progress - config.warmup) / (1 - config.warmup) if config.warmup < 1 else 1.0
    shape = (1 + math.cos(math.pi * done)) / 2 if config.kind == "cosine" else 1 - done
    return config.min_ratio + (1 - config.min_ratio) * shape


def step_progress(step: int, steps: int) -> float:
    """Progress in the middle of step `step`, counted from 0."""
    return (step + 0.5) / steps
