"""How many tokens a signal becomes: *the* count function, used by processor, model and planner alike (spec 1.8).

    stride   = floor(160 / (1 + exp(-rate / 100)) ** 6)          points between patches, 2 … 160
    patches  = max(ceil((length - 2 * stride) / stride) + 1, 2)  patches of two strides, half overlapping
    frames   = patches // 2                                      two neighbours are concatenated; an odd one is dropped
    tokens   = (frames + 1) // 2                                 the encoder's second convolution has stride 2

Everything is integer or float64 arithmetic in one place. Upstream computes the stride in float64 on one side and in
float32 on the other, and loses signals below five points; here two patches are the least, so that every signal
from one point upwards has at least one token. Elsewhere the numbers are those of upstream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LONGEST_STRIDE = 160
_SCALE_HZ = 100.0
_POWER = 6


@dataclass(frozen=True, kw_only=True)
class SignalLayout:
    """How the points of a signal are cut.

    Attributes:
        stride, patch: in points; a patch is two strides long.
        patches: of one channel, the last one padded with zeros where the signal ends.
        frames: pairs of patches.
        tokens: rows that the encoder gives, placeholders in the prompt.
    """

    stride: int
    patches: int
    frames: int
    tokens: int

    @property
    def patch(self) -> int:
        return 2 * self.stride

    @property
    def padded_length(self) -> int:
        """Points that the patches cover."""
        return (self.patches - 1) * self.stride + self.patch


def signal_stride(sampling_rate: float) -> int:
    """Points between two patches at `sampling_rate` Hz.

    Raises:
        ValueError: the rate is not positive and finite.
    """
    rate = float(sampling_rate)
    if not 0 < rate < math.inf:
        raise ValueError(f"the sampling rate must be positive and finite (Hz), got {sampling_rate}")
    return math.floor(LONGEST_STRIDE / (1.0 + math.exp(-rate / _SCALE_HZ)) ** _POWER)


def signal_layout(length: int, sampling_rate: float) -> SignalLayout:
    """How a signal of `length` points per channel at `sampling_rate` Hz is cut.

    Raises:
        ValueError: no points, or an impossible rate.
    """
    if length < 1:
        raise ValueError(f"a signal needs at least one point, got {length}")
    stride = signal_stride(sampling_rate)
    patches = max(-((2 * stride - length) // stride) + 1, 2)
    frames = patches // 2
    return SignalLayout(stride=stride, patches=patches, frames=frames, tokens=(frames + 1) // 2)


def assumed_sampling_rate(length: int) -> float:
    """The released rule for signals without a known rate: max(length / 4, 1) Hz."""
    return max(length / 4, 1.0)
