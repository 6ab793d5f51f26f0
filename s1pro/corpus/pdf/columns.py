"""The columns of running text on a page.

Lines much narrower than the text leave gutters that hardly any of them crosses. Captions beside figures and lines of
listings are narrow as well, so every column must hold some lines of the size of the body; a first column of justified
lines with one width is enough, the other is its mirror image then. Pages full of figures have the columns of the pages
before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.view import View

Columns = list[tuple[float, float]]


@dataclass
class Style:
    """What earlier pages of the document have shown; grows page by page.

    Attributes:
        sizes, fonts: characters of running text by size and by font.
        columns: lines by number of columns; `gutters` are the columns of the last page with more than one.
        heads: text and place of what stood at the top and foot of pages.
        above, below: how often a region was found there, per kind.
        last_table: page, label, caption and horizontal range of the last table, which the next page may continue.
    """

    sizes: Counter[float] = field(default_factory=Counter)
    fonts: Counter[str] = field(default_factory=Counter)
    columns: Counter[int] = field(default_factory=Counter)
    heads: set[str] = field(default_factory=set)
    gutters: list[tuple[float, float]] = field(default_factory=list)
    last_table: tuple[int, str, str, tuple[float, float] | None] | None = None
    above: Counter[str] = field(default_factory=Counter)
    below: Counter[str] = field(default_factory=Counter)


def find_columns(view: View, long: NDArray[np.bool_], body_sizes: tuple[float, ...], style: Style) -> Columns:
    """Left and right end of every column, from left to right; `long` marks lines of several words."""
    if not long.any():
        margin = 0.08 * view.width
        return [(margin, view.width - margin)]
    boxes, sizes = view.boxes[long], view.sizes[long]
    left, right = float(np.quantile(boxes[:, 0], 0.03)), float(np.quantile(boxes[:, 2], 0.97))
    slim = boxes[:, 2] - boxes[:, 0] < 0.62 * max(1.0, right - left)
    body = np.min([np.abs(sizes / size - 1.0) for size in body_sizes if size > 0.97 * body_sizes[0]], axis=0) < 0.06
    narrow = boxes[slim]
    known = style.columns.most_common(1)[0][0] if style.columns else 0
    share = len(narrow) / len(boxes)
    columns = [(left, right)]
    if len(narrow) >= 6 and share > (0.25 if known > 1 else 0.4):
        columns = _supported(_gutters(narrow, left, right), boxes[slim & body], left, right)
    if len(columns) > 1:
        style.gutters = columns
    elif known > 1 and style.gutters and share > 0.6:
        starts, stops = np.array(style.gutters).T
        fits = (narrow[:, :1] > starts - 6) & (narrow[:, 2:3] < stops + 6)
        if fits.any(axis=1).mean() > 0.9:
            return style.gutters
    if len(boxes) >= 12:
        style.columns[len(columns)] += len(boxes)
    return columns


def _supported(columns: Columns, body: Array, left: float, right: float) -> Columns:
    """Columns that lines of the body vouch for."""
    held = [((body[:, 0] > a - 4) & (body[:, 2] < b + 4)).sum() for a, b in columns]
    if len(columns) > 1 and min(held) >= 3:
        return columns
    if len(body) < 5:
        return [(left, right)]
    ends = Counter((round(x0 / 3), round(x1 / 3)) for x0, x1 in body[:, [0, 2]].tolist())
    (low, high), count = ends.most_common(1)[0]
    width, span = 3.0 * (high - low), right - left
    at_edge = abs(3 * low - left) < 6 or abs(3 * high - right) < 6
    if count >= 5 and at_edge and 0.4 < width / span < 0.5:
        return [(left, left + width), (right - width, right)]
    return [(left, right)]


def _gutters(narrow: Array, left: float, right: float) -> list[tuple[float, float]]:
    """Splits the text range at stretches of at least 5 points that nearly no line covers."""
    bins = int(right - left) + 2
    change = np.zeros(bins + 1)
    starts = np.clip(np.round(narrow[:, 0] - left).astype(int), 0, bins)
    stops = np.clip(np.round(narrow[:, 2] - left).astype(int), 0, bins)
    np.add.at(change, starts, 1.0)
    np.add.at(change, stops, -1.0)
    cover = np.cumsum(change)[:bins]
    empty = cover <= max(1.0, 0.08 * len(narrow)) if len(narrow) > 12 else cover <= 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], empty.astype(int), [0]])))
    columns, start = [], left
    for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        width = right - left
        if b - a < 5 or a < 0.15 * width or b > 0.85 * width:
            continue
        middle = left + (a + b) / 2
        before = int(((narrow[:, 2] <= middle + 3) & (narrow[:, 0] >= start - 5)).sum())
        if before >= 3 and int((narrow[:, 0] >= middle - 3).sum()) >= 3:
            columns.append((start, left + a))
            start = left + b
    columns.append((start, right))
    widths = [b - a for a, b in columns]
    return columns if min(widths) > 0.4 * max(widths) else [(left, right)]
