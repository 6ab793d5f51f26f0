"""Which scale fits numbers that stand at positions: linear, logarithmic, or another one.

Both fits are least squares, and a fit is good if its largest miss is below `GOOD_FIT` of the range. Numbers over less
than half a power of two fit both; then the scale is linear, unless all of them are printed as powers of ten.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from s1pro.corpus.describe.numbers import normalise

GOOD_FIT = 0.012
Scale = Literal["linear", "log", "category", "other"]
_POWER = re.compile(r"(?:10\^|1[eE])[-+]?\d+")


def fit_scale(
    positions: Sequence[float], values: Sequence[float], texts: Sequence[str]
) -> tuple[Scale, tuple[float, float]]:
    """The scale of numbers at positions. Two numbers fit both; then powers of ten mean a logarithm."""
    p, v = np.array(positions, dtype=np.float64), np.array(values, dtype=np.float64)
    linear, linear_miss = _line_through(p, v)
    if (v <= 0).any():
        return ("linear", linear) if linear_miss < GOOD_FIT else ("other", linear)
    log, log_miss = _line_through(p, np.log10(v))
    powers = all(_POWER.fullmatch(normalise(text)) for text in texts)
    if len(p) == 2:
        return ("log", log) if powers else ("linear", linear)
    clear = log_miss < 0.25 * linear_miss and float(v.max() / v.min()) > 1.5
    if log_miss < GOOD_FIT and (powers or clear):
        return "log", log
    return ("linear", linear) if linear_miss < GOOD_FIT else ("other", linear)


def without_strays(positions: Sequence[float], values: Sequence[float]) -> list[int]:
    """The ticks that agree with the median slope, if these are most of them."""
    p, v = np.array(positions), np.array(values)
    i, j = np.triu_indices(len(p), 1)
    apart = np.abs(p[j] - p[i]) > 0.01
    if not apart.any():
        return list(range(len(p)))
    slope = float(np.median((v[j] - v[i])[apart] / (p[j] - p[i])[apart]))
    rest = v - slope * p
    agree = np.abs(rest - np.median(rest)) < GOOD_FIT * abs(slope) * float(np.ptp(p))
    return np.flatnonzero(agree).tolist() if agree.mean() >= 0.75 else list(range(len(p)))


def _line_through(p: np.ndarray, v: np.ndarray) -> tuple[tuple[float, float], float]:
    """Least squares, and the largest miss relative to the range."""
    slope, intercept = np.polyfit(p, v, 1)
    spread = float(np.ptp(v)) or 1.0
    return (float(slope), float(intercept)), float(np.abs(slope * p + intercept - v).max()) / spread
