"""Where one figure ends and the next begins when no text stands between them.

Three cases have an answer that does not depend on any style. Two figures side by side in two columns are two if each
column has a caption of its own and nothing is drawn across the gutter. A stack with a caption above and one below, none
of which has another place, holds two figures: the border is the widest white band. Captions below each other at the
side of a stack of figures share it in the same way.
"""

from __future__ import annotations

import numpy as np

from s1pro.corpus.pdf.captions import CaptionFound
from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.layout import CODE
from s1pro.corpus.pdf.view import HORIZONTAL, PATH, THIN
from s1pro.corpus.pdf.workspace import Page, Region, box_of, members_in
from s1pro.corpus.records import Box

LEAST_BAND = 5.0


def content_of(page: Page, zone: Box) -> Array:
    """Boxes of the free graphics and free text in a zone."""
    view = page.view
    items, lines = members_in(view.art, page.free_items, zone), members_in(view.boxes, page.free_lines, zone)
    return np.concatenate([view.art[items], view.boxes[lines]])


def widest_band(boxes: Array, low: float, high: float) -> tuple[float, float] | None:
    """The widest stretch of height between `low` and `high` that no box covers; boxes lie above and below it."""
    if len(boxes) < 2:
        return None
    order = np.argsort(boxes[:, 1], kind="stable")
    tops, reach = boxes[order, 1][1:], np.maximum.accumulate(boxes[order, 3])[:-1]
    inside = (reach > low - 1) & (tops < high + 1) & (tops - reach >= LEAST_BAND)
    if not inside.any():
        return None
    best = int(np.argmax(np.where(inside, tops - reach, 0.0)))
    return float(reach[best]), float(tops[best])


def facing(captions: list[CaptionFound], k: int, zone: Box, side: str) -> int | None:
    """The caption at the far end of a zone, which may want the same things."""
    box, best = captions[k].box, None
    for j, other in enumerate(captions):
        shared = min(other.box[2], zone[2]) - max(other.box[0], zone[0])
        end = other.box[3] - zone[1] if side == "above" else other.box[1] - zone[3]
        if j != k and abs(end) < 1.0 and shared > 0.5 * min(other.box[2] - other.box[0], box[2] - box[0]):
            best = j
    return best


def claimed_beyond(page: Page, captions: list[CaptionFound], k: int, close: Array, column: tuple[float, float]) -> bool:
    """Whether what stands in another column has a caption there, right above or below it."""
    middle = (close[:, 0] + close[:, 2]) / 2
    part = close[(middle > column[0] - 8) & (middle < column[1] + 8)]
    if not len(part):
        return False
    _, top, _, bottom = box_of(part)
    for j, other in enumerate(captions):
        within = other.box[0] > column[0] - 8 and other.box[2] < column[1] + 8
        near = abs(other.box[1] - bottom) < 45 or abs(top - other.box[3]) < 45
        if j != k and within and near:
            return True
    return False


def share_of_stack(page: Page, captions: list[CaptionFound], k: int, zone: Box) -> Box:
    """The part of a stack beside a caption that is its own, if other captions stand above or below at the same side."""
    box = captions[k].box
    middle = (box[1] + box[3]) / 2
    boxes = content_of(page, zone)
    low, high = zone[1], zone[3]
    for j, other in enumerate(captions):
        shared = min(other.box[2], box[2]) - max(other.box[0], box[0])
        if j == k or shared < 0.5 * min(other.box[2] - other.box[0], box[2] - box[0]):
            continue
        other_middle = (other.box[1] + other.box[3]) / 2
        if not (zone[1] < other_middle < zone[3]) or not len(boxes):
            continue
        band = widest_band(boxes, min(middle, other_middle), max(middle, other_middle))
        if band is None:
            continue
        if other_middle < middle:
            low = max(low, (band[0] + band[1]) / 2)
        else:
            high = min(high, (band[0] + band[1]) / 2)
    return zone[0], low, zone[2], high


def framed(page: Page, captions: list[CaptionFound], k: int) -> Region | None:
    """The frame right above or below a caption: a closed box, or two rules with lines along both sides."""
    view, box = page.view, captions[k].box
    if page.ruled is None:
        page.ruled = _ruled(page)
    frames = np.concatenate([view.art[view.kind == PATH], view.frames, page.ruled])
    height = frames[:, 3] - frames[:, 1]
    fits = (frames[:, 0] < (box[0] + box[2]) / 2) & (frames[:, 2] > (box[0] + box[2]) / 2) & (height > 24)
    fits &= frames[:, 2] - frames[:, 0] > 0.6 * (box[2] - box[0])
    best: tuple[float, str, Box] | None = None
    for side, gaps in (("above", box[1] - frames[:, 3]), ("below", frames[:, 1] - box[3])):
        near = np.flatnonzero(fits & (gaps > -2) & (gaps < 30))
        for i in near.tolist():
            if best is None or gaps[i] < best[0]:
                best = float(gaps[i]), side, box_of(frames[i : i + 1])
    if best is None:
        return None
    _, side, found = best
    middle = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
    lines = np.flatnonzero((middle > found[:2]).all(axis=1) & (middle < found[2:]).all(axis=1))
    closed = all(other is captions[k] or not _overlaps(found, other.box) for other in captions)
    closed &= not any(_overlaps(found, other) for other in page.taken)
    items = members_in(view.art, page.free_items, found)
    code = (page.layout.roles[lines] == CODE).mean() if len(lines) else 0.0
    if not closed or len(lines) < 2 or (code > 0.5 and captions[k].kind == "table"):
        return None
    return Region(side, found, items, lines, 1.0)


def _ruled(page: Page) -> Array:
    """Boxes between two rules of one width whose sides are drawn, in one piece or in pieces."""
    view = page.view
    rules, size = view.art[view.kind == HORIZONTAL][:200], view.art[:, 2:] - view.art[:, :2]
    sides = view.art[(size[:, 0] <= THIN) & (size[:, 1] > THIN)]
    found = []
    for i, top in enumerate(rules):
        same = (np.abs(rules[:, 0] - top[0]) < 4) & (np.abs(rules[:, 2] - top[2]) < 4) & (rules[:, 1] > top[1] + 20)
        for bottom in rules[same & (np.arange(len(rules)) != i)]:
            inside = sides[(sides[:, 1] > top[1] - 4) & (sides[:, 3] < bottom[3] + 4)]
            drawn = [inside[np.abs(inside[:, 0] - x) < 4] for x in (top[0], top[2])]
            if min((part[:, 3] - part[:, 1]).sum() for part in drawn) > 0.8 * (bottom[3] - top[1]):
                found.append((top[0], top[1], top[2], bottom[3]))
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def _overlaps(first: Box, second: Box) -> bool:
    return min(first[2], second[2]) - max(first[0], second[0]) > 2 and (
        min(first[3], second[3]) - max(first[1], second[1]) > 2
    )
