"""How a series goes: up, down, over a peak, and so on, read from its points as they stand on the page.

What a reader sees is the picture, so a trend is judged there: on a logarithmic axis by the logarithm, and against the
direction of an inverted axis. Heights are in units of the frame.

1. A line whose heights span less than `FLAT` of the frame is flat.
2. Turning points are counted with a threshold of `SWING` of its own span, so noise is none.
3. None: rising or falling. One: a peak or a valley. More: rising or falling if the ranks of x and y agree, else
   oscillating (four or more similar swings) or irregular.

Clouds of points: positive or negative if the rank correlation is beyond 0.5, none if it is within 0.3, else nothing is
said.
"""

from __future__ import annotations

import numpy as np

from s1pro.corpus.describe.facts import Trend
from s1pro.corpus.pdf.content import Array

FLAT = 0.05
SWING = 0.2
AGREEING = 0.85


def line_trend(x: Array, y: Array) -> Trend:
    """Of points in order of x; y in units of the frame, growing upwards."""
    if len(y) < 2:
        return ""
    span = float(np.ptp(y))
    if span < FLAT:
        return "flat"
    turns = turning_points(y, SWING * span)
    if len(turns) == 2:
        return "rising" if y[-1] > y[0] else "falling"
    agreement = rank_correlation(x, y)
    if abs(agreement) > AGREEING:
        return "rising" if agreement > 0 else "falling"
    if len(turns) == 3:
        return "peak" if turns[1] > max(turns[0], turns[2]) else "valley"
    swings = np.abs(np.diff(turns))
    return "oscillating" if len(swings) >= 4 and np.median(swings) > 0.35 * swings.max() else "irregular"


def turning_points(y: Array, threshold: float) -> list[float]:
    """The first height, every extreme after which the line goes back by more than the threshold, and the last one."""
    turns = [float(y[0])]
    low = high = float(y[0])
    direction = 0
    for value in y[1:].tolist():
        low, high = min(low, value), max(high, value)
        if direction >= 0 and high - value > threshold:
            if direction > 0 or high - turns[0] > threshold:
                turns.append(high)
            direction, low, high = -1, value, value
        elif direction <= 0 and value - low > threshold:
            if direction < 0 or turns[0] - low > threshold:
                turns.append(low)
            direction, low, high = 1, value, value
    turns.append(float(y[-1]))
    return turns


def rank_correlation(x: Array, y: Array) -> float:
    """Spearman's coefficient, 0 if one of them is constant."""
    a, b = _ranks(x), _ranks(y)
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Array) -> Array:
    """Mean ranks of ties."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((2 * ends - counts - 1) / 2)[inverse]


def cloud_trend(x: Array, y: Array) -> Trend:
    """Of a scatter plot."""
    if len(x) < 5:
        return ""
    rho = rank_correlation(x, y)
    if abs(rho) >= 0.5:
        return "positive" if rho > 0 else "negative"
    return "none" if abs(rho) <= 0.3 else ""


def bar_trend(heights: Array) -> Trend:
    """Of bars in order: rising or falling if all of them go one way, else nothing."""
    if len(heights) < 3:
        return ""
    steps = np.diff(heights)
    if (steps > 0).all() or (steps < 0).all():
        return "rising" if steps[0] > 0 else "falling"
    return ""
