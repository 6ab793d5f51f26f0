"""Guards against bad updates: a step that would do harm is skipped, reported, and too many in a row stop the run.

A step is skipped when

* loss or gradient norm is not finite,
* the loss lies more than `loss_spike` nats above what is usual, or
* the gradient norm exceeds `norm_spike` times the median of the last `window` accepted steps.

What is usual depends on what a step is made of: a rare source of long, hard texts is no spike among short answers. So
medians are kept by source, over the last `window` accepted steps that had it, and weighted as the step weighs them:

    excess = sum over sources of share * (loss - usual loss)

over the sources that `min_history` accepted steps have had; the others are not judged yet. A loss that does not tell
its sources is one source.

The last check is off by default: clipping bounds the update already, and when a model suddenly understands its task,
the gradient norm grows a hundredfold for a while. It too is judged after `min_history` accepted steps. A skipped
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


WHOLE = ""
"""Name of the one source of a loss that does not tell its sources."""


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
        self._losses: dict[str, deque[float]] = {}
        self._norms: deque[float] = deque(maxlen=config.window)

    def check(
        self, loss: float, grad_norm: float, sources: Mapping[str, tuple[float, float]] | None = None
    ) -> str | None:
        """Why this step must be skipped, or None to go on.

        Args:
            sources: mean loss and weight of each source in the step; None if the loss does not tell them.

        Raises:
            TrainingStoppedError: this is one skip too many in a row.
        """
        sources = sources or {WHOLE: (loss, 1.0)}
        reason = self._reason(loss, grad_norm, sources)
        if reason is None:
            self.skipped_in_a_row = 0
            for name, (source_loss, _) in sources.items():
                self._losses.setdefault(name, deque(maxlen=self.config.window)).append(source_loss)
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
            "losses": {name: list(losses) for name, losses in self._losses.items()},
            "norms": list(self._norms),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self._losses = {name: deque(values, maxlen=self.config.window) for name, values in state["losses"].items()}
        self._norms = deque(state["norms"], maxlen=self.config.window)

    def _reason(self, loss: float, grad_norm: float, sources: Mapping[str, tuple[float, float]]) -> str | None:
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            return f"loss {loss} or gradient norm {grad_norm} is not finite"
        if self.config.loss_spike is not None and (excess := self._excess(sources)) > self.config.loss_spike:
            return f"loss {loss:.3f} lies far above the {loss - excess:.3f} that recent steps make usual"
        if self.config.norm_spike is not None and len(self._norms) >= self.config.min_history:
            usual_norm = statistics.median(self._norms)
            if grad_norm > usual_norm * self.config.norm_spike:
                return f"gradient norm {grad_norm:.3g} lies far above the recent median {usual_norm:.3g}"
        return None

    def _excess(self, sources: Mapping[str, tuple[float, float]]) -> float:
        """See the module docstring."""
        weights = sum(weight for _, weight in sources.values())
        excess = 0.0
        for name, (loss, weight) in sources.items():
            if len(known := self._losses.get(name, ())) >= self.config.min_history:
                excess += weight / weights * (loss - statistics.median(known))
        return excess
