"""Small plots as pixels: axes with ticks and labels, a line or points, drawn with Pillow in two milliseconds.

    y label [unit]
    60 |        .
    40 |     .
    20 |  .
       +-----------
       300   350   x label [unit]

matplotlib takes 50 ms for a plot, and its result depends on fonts of the system; this is fast and the same everywhere
(for one version of Pillow, whose built-in font is used). Ticks are round numbers: 1, 2 or 5 times a power of ten.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError, MissingExtraError

Style = Literal["line", "points"]
SMALLEST, LARGEST = 64, 2048
_INK, _GRID, _PAPER = (20, 20, 20), (205, 205, 205), (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """From `low` to `high` with round `ticks` in between; the label holds the unit."""

    low: float
    high: float
    ticks: tuple[float, ...]
    label: str


def round_axis(values: npt.ArrayLike, label: str, *, most_ticks: int = 4) -> Axis:
    """An axis that holds all values and begins and ends at a tick."""
    data = np.asarray(values, dtype=np.float64)
    low, high = float(data.min()), float(data.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"an axis needs finite values, got {low} to {high}")
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    power = math.floor(math.log10((high - low) / most_ticks)) - 1
    # the smallest round step with which few enough ticks cover the values
    for step in (factor * 10.0**exponent for exponent in range(power, power + 4) for factor in (1, 2, 5)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first + 1 <= most_ticks:
            ticks = tuple(round(k * step, 12) for k in range(first, last + 1))
            return Axis(low=ticks[0], high=ticks[-1], ticks=ticks, label=label)
    raise AssertionError((low, high))


def tick_text(value: float) -> str:
    """A tick as text, without float noise."""
    return f"{value:.6g}"


def draw_plot(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    x_axis: Axis,
    y_axis: Axis,
    *,
    width: int,
    height: int,
    style: Style = "line",
) -> npt.NDArray[np.uint8]:
    """The plot as uint8 `[height, width, 3]`.

    Raises:
        InputError: a size outside the limits.
        MissingExtraError: Pillow is not installed.
    """
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise InputError(f"plots have {SMALLEST} to {LARGEST} pixels on a side, got {width} x {height}")
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("pillow", "science") from error
    picture = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(picture), _font()
    texts = [tick_text(tick) for tick in y_axis.ticks]
    left = 5 + max(math.ceil(draw.textlength(text, font=font)) for text in texts)
    last_tick = draw.textlength(tick_text(x_axis.ticks[-1]), font=font)
    right, top, bottom = width - 2 - math.ceil(last_tick / 2), 16, height - 27

    def column(value: float) -> float:
        return left + (value - x_axis.low) / (x_axis.high - x_axis.low) * (right - left)

    def row(value: float) -> float:
        return bottom - (value - y_axis.low) / (y_axis.high - y_axis.low) * (bottom - top)

    for tick, text in zip(y_axis.ticks, texts, strict=True):
        draw.line([(left, row(tick)), (right, row(tick))], fill=_GRID)
        draw.text((left - 3, row(tick)), text, fill=_INK, font=font, anchor="rm")
    for tick in x_axis.ticks:
        draw.line([(column(tick), top), (column(tick), bottom)], fill=_GRID)
        draw.text((column(tick), bottom + 3), tick_text(tick), fill=_INK, font=font, anchor="mt")
    draw.line([(left, top), (left, bottom), (right, bottom)], fill=_INK)
    draw.text((2, 2), y_axis.label, fill=_INK, font=font)
    draw.text((width - 2, height - 2), x_axis.label, fill=_INK, font=font, anchor="rb")
    places = [(column(a), row(b)) for a, b in zip(np.asarray(x), np.asarray(y), strict=True)]
    _draw_data(draw, places, style)
    return np.array(picture, dtype=np.uint8)


def _draw_data(draw: Any, places: Sequence[tuple[float, float]], style: Style) -> None:
    if style == "line":
        draw.line(places, fill=_INK, width=2, joint="curve")
        return
    for x, y in places:
        draw.ellipse([x - 2.5, y - 2.5, x + 2.5, y + 2.5], fill=_INK)


@functools.cache
def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=10)
