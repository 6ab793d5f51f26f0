"""Which policy gradient is followed: one loss, and the public methods as settings of it (paper, section on RL).

For response i of a group, token t, with the policy pi that is trained, the weights pi_old it had when the step began,
and mu, the engine that sampled:

    gradient of  - sum_it  w_it * sg( M(rho_it) * g(r_it, A_i) ) * A_i * log pi(y_it)  /  W

| symbol | what | settings |
|---|---|---|
| rho = pi_old / mu | gap between trainer and engine, same weights | `mismatch`: level, low, high, form, veto |
| r = pi / pi_old | drift since the step began | `ratio`: "none", "token", "sequence" (geometric mean) |
| g(r, A) | what is done to r | `clip`: "none"; "ppo": 0 where the clipped objective is flat; "truncate": r clipped |
| A | reward against the others of the group | `baseline`, `scale` |
| w / W | how tokens become a mean | `normalization`: "sequence", "token", "constant" |

The paper's own loss (section 7 of the specification) is the default. `sg` stops the gradient, so what is followed is
always a weighted sum of log-probabilities, and a new method is a new line in `PRESETS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RatioLevel = Literal["token", "sequence", "geometric"]


@dataclass(frozen=True, kw_only=True)
class MismatchConfig:
    """M(rho): what is done about the gap between trainer and engine.

    Attributes:
        form: "mask" drops what lies outside (low, high), "truncate" cuts rho at `high`, "off" ignores the gap.
        level: rho of every token, the product over a response, or its geometric mean.
        veto: a response with a token whose rho is above `veto` or below 1 / `veto` is dropped whole; None for never.
    """

    form: Literal["mask", "truncate", "off"] = "mask"
    level: RatioLevel = "token"
    low: float = 0.5
    high: float = 5.0
    veto: float | None = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(f"mismatch: 0 <= low < high, got low={self.low}, high={self.high}")
        if self.veto is not None and self.veto <= 1:
            raise ValueError(f"mismatch.veto must be above 1, got {self.veto}")
        others = (self.level, self.low, self.high, self.veto)
        if self.form == "off" and others != ("token", 0.5, 5.0, 20.0):
            raise ValueError("mismatch settings have no effect with mismatch.form=off")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """See the module docstring.

    Attributes:
        clip_low, clip_high: r is held in [1 - clip_low, 1 + clip_high].
        baseline: "leave_one_out": mean reward of the others; "group_mean"; "none".
        scale: "std" divides by the standard deviation of the group.
        normalization: "sequence": mean over the tokens of a response, then over the group, then over prompts;
            "token": mean over all tokens of the step; "constant": sum over tokens / `max_length`, mean over responses.
        max_length: tokens of the longest response, for "constant".
        kl: coefficient of the k3 estimate of KL(pi || reference); 0 needs no reference.
    """

    mismatch: MismatchConfig = field(default_factory=MismatchConfig)
    ratio: Literal["none", "token", "sequence"] = "token"
    clip: Literal["none", "ppo", "truncate"] = "none"
    clip_low: float = 0.2
    clip_high: float = 0.2
    baseline: Literal["leave_one_out", "group_mean", "none"] = "leave_one_out"
    scale: Literal["none", "std"] = "none"
    normalization: Literal["sequence", "token", "constant"] = "sequence"
    max_length: int | None = None
    kl: float = 0.0

    def __post_init__(self) -> None:
        if self.clip == "none" and (self.clip_low, self.clip_high) != (0.2, 0.2):
            raise ValueError("objective.clip_low and clip_high have no effect with objective.clip=none")
        if self.clip != "none" and self.ratio == "none":
            raise ValueError(f"objective.clip={self.clip!r} has no effect with objective.ratio=none")
        if not (0 <= self.clip_low <= 1 and self.clip_high >= 0):
            raise ValueError(f"objective: clip_low in [0, 1], clip_high >= 0; got {self.clip_low}, {self.clip_high}")
        if (self.normalization == "constant") != (self.max_length is not None):
            raise ValueError("objective.max_length goes with objective.normalization=constant, and only with it")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"objective.max_length must be at least 1, got {self.max_length}")
        if self.kl < 0:
            raise ValueError(f"objective.kl must not be negative, got {self.kl}")


def preset(name: str, *, max_length: int = 1024) -> ObjectiveConfig:
    """A public method by name. Raises `ValueError` for an unknown one.

    Args:
        max_length: for those that divide by a constant length.
    """
    if name == "dr-grpo":
        return ObjectiveConfig(
            clip="ppo", baseline="group_mean", normalization="constant", max_length=max_length, mismatch=_OFF
        )
    if name not in PRESETS:
        raise ValueError(f"unknown objective {name!r}; there are {', '.join([*PRESETS, 'dr-grpo'])}")
    return PRESETS[name]


_OFF = MismatchConfig(form="off")
PRESETS: Mapping[str, ObjectiveConfig] = {
    "intern-s1-pro": ObjectiveConfig(),
    "grpo": ObjectiveConfig(clip="ppo", baseline="group_mean", scale="std", mismatch=_OFF),
    "gspo": ObjectiveConfig(
        ratio="sequence", clip="ppo", clip_low=3e-4, clip_high=4e-4, baseline="group_mean", scale="std", mismatch=_OFF
    ),
    "cispo": ObjectiveConfig(
        clip="truncate", clip_low=1.0, clip_high=0.28, baseline="group_mean", scale="std", normalization="token",
        mismatch=_OFF,
    ),
    "rloo": ObjectiveConfig(ratio="none", baseline="leave_one_out", normalization="token", mismatch=_OFF),
}  # fmt: skip
"""Public methods; "dr-grpo" needs a length, see `preset`."""
