"""Boxes of other programs, in points of the page as shown with the origin at the top left.

| convention | who | numbers |
|---|---|---|
| `points` | MinerU `middle.json` | PDF points, top left, whole numbers cut off |
| `thousandths` | MinerU `content_list.json`, v1 and v2 | 0 to 1000 of width and height, top left, cut off |
| `shares` | `sub_images` of MinerU, of their parent's box | 0 to 1, top left |
| `exact` | Docling, origin `TOPLEFT` | PDF points, top left |
| `bottom_left` | Docling, origin `BOTTOMLEFT` | PDF points, y grows upwards: `(left, top, right, bottom)` |

A coordinate that was cut off to a whole number lies half a unit low on average. The missing half is added, except at
the edges of the page: the error of a thousandth is then at most 0.43 points on A4 instead of 0.84.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from s1pro.corpus.records import Box

Convention = Literal["points", "thousandths", "shares", "bottom_left", "exact"]
_OUTSIDE = 0.02  # boxes may leave the page by this share of its size: they are cut off at its edge


def to_page(numbers: Sequence[float], convention: Convention, size: tuple[float, float]) -> Box:
    """The box in points of a page of `size` (width, height), cut off at the edges of the page.

    Raises:
        ValueError: not four finite numbers, an empty box, or one that leaves the page by more than 2 % of its size.
    """
    if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"a box is four finite numbers, not {list(numbers)!r}")
    width, height = size
    x0, y0, x1, y1 = numbers
    if convention == "bottom_left":
        y0, y1 = height - y0, height - y1
    elif convention == "thousandths":
        x0, x1 = (_whole(x, 1000) / 1000 * width for x in (x0, x1))
        y0, y1 = (_whole(y, 1000) / 1000 * height for y in (y0, y1))
    elif convention == "shares":
        x0, y0, x1, y1 = x0 * width, y0 * height, x1 * width, y1 * height
    elif convention == "points":
        x0, x1 = _whole(x0, width), _whole(x1, width)
        y0, y1 = _whole(y0, height), _whole(y1, height)
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"the box {list(numbers)!r} is empty as {convention}")
    over_x, over_y = _OUTSIDE * width, _OUTSIDE * height
    if x0 < -over_x or y0 < -over_y or x1 > width + over_x or y1 > height + over_y:
        raise ValueError(f"the box {list(numbers)!r} as {convention} leaves the page of {width:g} x {height:g} points")
    return max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)


def inside(shares: Sequence[float], parent: Box) -> Box:
    """A box given in shares of its parent. Raises `ValueError` as `to_page` does."""
    x0, y0, x1, y1 = parent
    box = to_page(shares, "shares", (x1 - x0, y1 - y0))
    return box[0] + x0, box[1] + y0, box[2] + x0, box[3] + y0


def _whole(value: float, end: float) -> float:
    """The middle of what was cut off to a whole number; fractions and the ends stay."""
    return value + 0.5 if float(value).is_integer() and 0 < value < math.floor(end) else value
