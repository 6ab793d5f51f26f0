"""Guards against bad updates: a step that would do harm is skipped, reported, and too many in a row stop the run.

A step is skipped when

* loss or gradient norm is not finite,
* the loss lies more than `loss_spike` nats above the median of the last `window` accepted steps, or
* the gradient norm exceeds `norm_spike` times the median of the same steps.

The last check is off by default: clipping bounds the update already, and when a model suddenly understands its task,
the gradient norm grows a hundredfold for a while. Spikes are judged after `min_history` accepted steps. A skipped
step consumes its data and its place in the schedule, but changes neither weights nor optimizer state. Ordinary
clipping to `max_grad_norm` is no skip.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class TrainingStoppedError(RuntimeError):
    """Too many steps in a row had to be skipped; the message says why and which checkpoint is good."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """See the module docstring. None switches a check off."""

    max_grad_norm: float | None = 1.0
    loss_spike: float | None = 2.0
    norm_spike: float | None = None
    window: int = 64
    min_history: int = 32
    max_skips_in_a_row: int = 10

    def __post_init__(self) -> None:
        for name in ("max_grad_norm", "loss_spike", "norm_spike"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive or none, got {value}")
        if not 1 <= self.min_history <= self.window:
            raise ValueError(f"min_history={self.min_history} must lie in 1 .. window={self.window}")
        if self.max_skips_in_a_row < 1:
            raise ValueError(f"max_skips_in_a_row must be at least 1, got {self.max_skips_in_a_row}")


class Guard:
    """Remembers the last accepted steps and judges the next one."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.skipped = 0
        self.skipped_in_a_row = 0
        self._losses: deque[float] = deque(maxlen=config.window)
        self._norms: deque[float] = deque(maxlen=config.window)

    def check(self, loss: float, grad_norm: float) -> str | None:
        """Why this step must be skipped, or None to go on.

        Raises:
            TrainingStoppedError: this is one skip too many in a row.
        """
        reason = self._reason(loss, grad_norm)
        if reason is None:
            self.skipped_in_a_row = 0
            self._losses.append(loss)
            self._norms.append(grad_norm)
            return None
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.config.max_skips_in_a_row:
            raise TrainingStoppedError(
                f"{self.skipped_in_a_row} steps in a row were skipped, the last one because {reason}; "
                "lower the learning rate or look at the data of these steps, then resume from the last checkpoint"
            )
        return reason

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "losses": list(self._losses),
            "norms": list(self._norms),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self._losses = deque(state["losses"], maxlen=self.config.window)
        self._norms = deque(state["norms"], maxlen=self.config.window)

    def _reason(self, loss: float, grad_norm: float) -> str | None:
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            return f"loss {loss} or gradient norm {grad_norm} is not finite"
        if len(self._losses) < self.config.min_history:
            return None
        usual_loss, usual_norm = statistics.median(self._losses), statistics.median(self._norms)
        if self.config.loss_spike is not None and loss > usual_loss + self.config.loss_spike:
            return f"loss {loss:.3f} lies far above the recent median {usual_loss:.3f}"
        if self.config.norm_spike is not None and grad_norm > usual_norm * self.config.norm_spike:
            return f"gradient norm {grad_norm:.3g} lies far above the recent median {usual_norm:.3g}"
        return None
