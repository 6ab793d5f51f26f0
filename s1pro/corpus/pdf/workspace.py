"""The state of the search on one page, and what all its parts measure: what is free, what holds, how far, how usual."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.columns import Style
from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.layout import BODY, CAPTION, CODE, FORMULA, FREE, FURNITURE, HEADING, Layout
from s1pro.corpus.pdf.view import HORIZONTAL, Index, View, clusters
from s1pro.corpus.records import Box

WALLS = (BODY, HEADING, FORMULA, CODE)


@dataclass
class Region:
    """A candidate: its box, what it holds, and points; `side` is where it lies as seen from the caption."""

    side: str
    box: Box
    items: Index
    lines: Index
    score: float


@dataclass
class Page:
    """The working state of the search on one view.

    `hulls` are the boxes of the drawing that each item is part of; `ruled` those between rules with drawn sides, once
    somebody has asked for them.
    """

    view: View
    layout: Layout
    style: Style
    free_items: NDArray[np.bool_]
    free_lines: NDArray[np.bool_]
    hulls: Array
    taken: list[Box] = field(default_factory=list)
    ruled: Array | None = None


def open_page(view: View, layout: Layout, style: Style) -> Page:
    """Marks what may belong to a figure or table: art that is no furniture, and free lines."""
    free_items = np.ones(len(view.art), dtype=bool)
    walls = np.isin(layout.roles, WALLS)
    text = view.boxes[walls | (layout.roles == CAPTION)]
    for i in np.flatnonzero(view.kind == HORIZONTAL).tolist():
        x0, y0, x1, _ = view.art[i].tolist()
        over = (text[:, 3] > y0 - 4.5) & (text[:, 1] < y0 - 1) & (text[:, 0] < x1) & (text[:, 2] > x0)
        wide = over & (text[:, 2] - text[:, 0] > 0.9 * (x1 - x0)) & (text[:, 3] > y0 - 1.5)
        if wide.any() or _is_page_rule(view, layout, y0):
            free_items[i] = False
    inside = _inside_text(view.art, text)
    free_items &= ~inside
    hulls = view.art.copy()
    free = np.flatnonzero(free_items)
    for group in clusters(view.art[free], gap=12.0):
        for part in _at_gutters(view.art[free[group]], layout):
            hulls[free[group[part]]] = box_of(view.art[free[group[part]]])
    return Page(view, layout, style, free_items, np.isin(layout.roles, (FREE, CODE)), hulls)


def _at_gutters(art: Array, layout: Layout) -> list[Index]:
    """A group of art, divided at a gutter that nothing of it is drawn across."""
    parts = [np.arange(len(art))]
    for before, after in pairwise(layout.columns):
        middle = (before[1] + after[0]) / 2
        if ((art[:, 0] < middle - 1) & (art[:, 2] > middle + 1)).any():
            continue
        left = art[:, 2] <= middle + 1
        parts = [piece for part in parts for piece in (part[left[part]], part[~left[part]]) if len(piece)]
    return parts


def _is_page_rule(view: View, layout: Layout, y: float) -> bool:
    """A rule under the running head or over the notes: beyond it there is only furniture."""
    furniture = view.boxes[layout.roles == FURNITURE]
    if not len(furniture):
        return False
    rest = view.boxes[layout.roles != FURNITURE]
    above, below = rest[rest[:, 3] < y + 1], rest[rest[:, 1] > y - 1]
    near_top = y < 0.12 * view.height and not len(above) and bool((abs(furniture[:, 3] - y) < 14).any())
    near_foot = y > 0.6 * view.height and not len(below) and bool((furniture[:, 1] > y - 3).any())
    return near_top or near_foot


def _inside_text(art: Array, text: Array) -> NDArray[np.bool_]:
    """Small art within a line of running text: highlights, underlines, links, inline icons."""
    result = np.zeros(len(art), dtype=bool)
    small = np.flatnonzero((art[:, 3] - art[:, 1]) < 16) if len(text) else np.zeros(0, dtype=int)
    for start in range(0, len(small), 512):
        part = art[small[start : start + 512]]
        inside = (
            (part[:, None, 0] > text[None, :, 0] - 4) & (part[:, None, 2] < text[None, :, 2] + 4)
            & (part[:, None, 1] > text[None, :, 1] - 3.5) & (part[:, None, 3] < text[None, :, 3] + 3.5)
        )  # fmt: skip
        result[small[start : start + 512]] = inside.any(axis=1)
    return result


def members_in(boxes: Array, free: NDArray[np.bool_], zone: Box, slack: float = 3.0) -> Index:
    """Free boxes whose middle is in the zone and that do not stick out of its ends."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (middle[:, 0] > zone[0]) & (middle[:, 0] < zone[2]) & (middle[:, 1] > zone[1]) & (middle[:, 1] < zone[3])
    inside &= (boxes[:, 1] > zone[1] - slack - 0.2 * (boxes[:, 3] - boxes[:, 1])) & (
        boxes[:, 3] < zone[3] + slack + 0.2 * (boxes[:, 3] - boxes[:, 1])
    )
    return np.flatnonzero(inside & free)


def box_of(parts: Array) -> Box:
    low, high = parts[:, :2].min(axis=0), parts[:, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def habit(page: Page, family: str, side: str, kind: str) -> float:
    """Figures are looked for above, tables and algorithms below; what this document did before counts as well."""
    usual = "below" if kind in ("table", "algorithm") else "above"
    points = 0.45 if side == usual else 0.0
    up, down = page.style.above[family], page.style.below[family]
    seen = up if side == "above" else down
    return points + 0.5 * (seen + 0.5) / (up + down + 1.0)


def distance(page: Page, box: Box, caption: Box, side: str) -> float:
    """Points off for a gap between region and caption."""
    gap = caption[1] - box[3] if side == "above" else box[1] - caption[3]
    return float(np.clip((gap - 14.0) / 60.0, 0.0, 0.9))
