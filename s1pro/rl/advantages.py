"""How good a response is, compared with the others to the same prompt.

    leave one out   A_i = R_i - mean of R_j, j != i      (unbiased; the paper's choice)
    group mean      A_i = R_i - mean of R
    scale "std"     divided by the standard deviation of the group (population form) + 1e-6

A group whose rewards are all equal teaches nothing: every advantage is 0. `informative` finds such groups, and
the loop drops them before the trainer spends time on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from s1pro.rl.objective import ObjectiveConfig

Rewards = Sequence[float] | npt.NDArray[np.floating]
STD_FLOOR = 1e-6


def advantages(rewards: Rewards, config: ObjectiveConfig) -> npt.NDArray[np.float64]:
    """Advantage of every response of one group.

    Raises:
        ValueError: a reward that is not finite, or one response alone where the baseline needs others.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"rewards of one group are a list of numbers, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"rewards must be finite, got {values.tolist()}")
    if config.baseline == "leave_one_out":
        if len(values) < 2:
            raise ValueError("leave-one-out needs at least two responses per prompt; raise group_size")
        centred = values - (values.sum() - values) / (len(values) - 1)
    elif config.baseline == "group_mean":
        centred = values - values.mean()
    else:
        centred = values.copy()
    if config.scale == "std":
        centred /= values.std() + STD_FLOOR
    return centred


def informative(rewards: Rewards) -> bool:
    """Whether the group has responses of different worth."""
    values = np.asarray(rewards, dtype=np.float64)
    return bool(np.ptp(values) > 0)


def token_weight(length: int, group_size: int, config: ObjectiveConfig) -> float:
    """w of every token of a response with `length` tokens that learn, in a group of `group_size`."""
    if config.normalization == "sequence":
        return 1.0 / (length * group_size)
    if config.normalization == "constant":
        assert config.max_length is not None
        return 1.0 / config.max_length
    return 1.0
