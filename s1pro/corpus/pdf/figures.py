"""How the region of a figure grows from its caption: graphics of the zone, then the text that belongs to them.

Above or below: from the graphics nearest to the caption on, everything that hangs together; what lies between them and
the caption is in, too. Beside: the drawing must stand clear of the caption and overlap its height.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.captions import CaptionFound
from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.neighbours import share_of_stack
from s1pro.corpus.pdf.view import HORIZONTAL, IMAGE, Index, View
from s1pro.corpus.pdf.workspace import WALLS, Page, Region, box_of, distance, habit, members_in
from s1pro.corpus.records import Box

APART = 11.0


def grow_figure(page: Page, caption: CaptionFound, zone: Box, side: str) -> Region | None:
    view = page.view
    items = members_in(view.art, page.free_items, zone)
    hulls = page.hulls[items]
    items = items[(hulls[:, 0] > zone[0] - 20) & (hulls[:, 2] < zone[2] + 20)]
    lines = members_in(view.boxes, page.free_lines, zone)
    slanted = view.other[members_in(view.other, np.ones(len(view.other), dtype=bool), zone)]
    every = items, lines
    items, lines = _chain(view, items, lines, zone, side, 0.05 * view.height)
    far: Index = np.zeros(0, dtype=int)
    if len(items):
        items, far = _across_white(page, *every, items, lines, side)
        lines = np.union1d(lines, far)
    if not len(items) and len(lines) < 2:
        return None
    art = view.art[items]
    if len(items):
        box = box_of(np.concatenate([art, view.boxes[far]]))
        between = _between(box, view.boxes[lines], caption.box, side)
        if len(between):
            box = box_of(np.concatenate([[box], view.boxes[lines][between]]))
        box, chosen = _absorb(box, view.boxes[lines], reach=0.022 * view.height)
        lines = lines[chosen]
        box, _ = _absorb(box, slanted, reach=14.0)
        box, _ = _absorb(box, view.boxes[lines], reach=10.0)
        drawn = art[view.kind[items] != HORIZONTAL]
        area = float((drawn[:, 2] - drawn[:, 0]).max() * (drawn[:, 3] - drawn[:, 1]).max()) if len(drawn) else 0.0
        content = 1.2 if area > 400 else 0.6 if area > 60 or len(items) > 6 else 0.1
        content += 0.3 * bool((view.kind[items] == IMAGE).any()) + 0.2 * (len(items) > 20)
    else:
        box = box_of(view.boxes[lines])
        content = 0.5 if caption.kind == "algorithm" else 0.15
    if box[3] - box[1] < 12 or box[2] - box[0] < 12:
        return None
    score = content + habit(page, "figure", side, caption.kind) - distance(page, box, caption.box, side)
    return Region(side, box, items, lines, score)


def _chain(
    view: View, items: Index, lines: Index, zone: Box, side: str, limit: float
) -> tuple[Index, Index]:  # fmt: skip
    """What hangs together without a gap of more than `limit`, from the graphics nearest to the caption on.

    Whatever lies between these graphics and the caption belongs to them. Without graphics the chain begins at the end
    of the zone.
    """
    boxes = np.concatenate([view.art[items], view.boxes[lines]])
    if not len(boxes):
        return items, lines
    near, far = (zone[3] - boxes[:, 3], zone[3] - boxes[:, 1]) if side == "above" else (
        boxes[:, 1] - zone[1], boxes[:, 3] - zone[1])  # fmt: skip
    start = float(far[: len(items)][np.argmin(near[: len(items)])]) if len(items) else 0.0
    if len(items) and near[: len(items)].min() > 0.3 * view.height:
        start = 0.0
    order = np.argsort(near, kind="stable")
    reach = np.maximum(np.maximum.accumulate(np.concatenate([[0.0], far[order]]))[:-1], start)
    broken = np.flatnonzero(near[order] - reach > limit)
    keep = order[: broken[0]] if len(broken) else order
    keep = keep[: _stranger(boxes[keep], (near[order] - reach)[: len(keep)], keep < len(items))]
    return items[np.sort(keep[keep < len(items)])], lines[np.sort(keep[keep >= len(items)] - len(items))]


def _stranger(boxes: Array, gaps: Array, drawn: NDArray[np.bool_]) -> int:
    """How many boxes, in their order from the caption on, come before art that goes its own way.

    That is art beyond a gap which sticks out at one side of all that is nearer and is much narrower than it: a logo or
    picture of its own above the figure. The upper row of a figure is as wide as the lower one or stands over it.
    """
    for start, stop in pairwise([*np.flatnonzero(gaps > APART).tolist(), len(boxes)]):
        if not start or not drawn[:start].any() or not drawn[start:stop].any():
            continue
        nearer, group = box_of(boxes[:start]), box_of(boxes[start:stop])
        out = max(nearer[0] - group[0], group[2] - nearer[2])
        if out > 18.0 and group[2] - group[0] < 0.5 * (nearer[2] - nearer[0]):
            return start
    return len(boxes)


def _across_white(
    page: Page, all_items: Index, all_lines: Index, items: Index, lines: Index, side: str
) -> tuple[Index, Index]:
    """Goes on over a wide white gap to art as wide as what was found, or to labels that stand under it.

    Gives the graphics with what was added, and the text that was added.
    """
    view, kept = page.view, lines
    reach, limit = 0.15 * view.height, 0.05 * view.height
    low, sign = (3, -1.0) if side == "above" else (1, 1.0)
    for _ in range(6):
        hull = box_of(view.art[items])
        whole = box_of(np.concatenate([[hull], view.boxes[lines]]))
        edge = whole[1] if side == "above" else whole[3]
        more_items, more_lines = np.setdiff1d(all_items, items), np.setdiff1d(all_lines, lines)
        parts = np.concatenate([view.art[more_items], view.boxes[more_lines]])
        gaps = sign * (parts[:, low] - edge)
        if not len(parts) or not -1.0 < gaps.min() < reach:
            break
        near = gaps < gaps.min() + limit
        new_items, new_lines = more_items[near[: len(more_items)]], more_lines[near[len(more_items) :]]
        if not _goes_with(page, hull, new_items, new_lines):
            break
        items, lines = np.union1d(items, new_items), np.union1d(lines, new_lines)
    return items, np.setdiff1d(lines, kept)


def _goes_with(page: Page, hull: Box, items: Index, lines: Index) -> bool:
    """Art with the width and place of what was found, or only short labels within its width."""
    view = page.view
    art, text = view.art[items], view.boxes[lines]
    x0, _, x1, _ = box_of(np.concatenate([art, text]))
    if x0 < hull[0] - 12 or x1 > hull[2] + 12 or (page.layout.words[lines] > 3).any():
        return False
    if not len(items):
        return True
    left, _, right, _ = box_of(art)
    return right - left > 0.6 * (hull[2] - hull[0])


def _between(box: Box, parts: Array, caption: Box, side: str) -> Index:
    """Text between the art and its caption."""
    low, high = (box[3], caption[1]) if side == "above" else (caption[3], box[1])
    middle = (parts[:, 1] + parts[:, 3]) / 2
    beside = (parts[:, 0] < box[2] + 25) & (parts[:, 2] > box[0] - 25)
    return np.flatnonzero((middle > low) & (middle < high) & beside)


def _absorb(box: Box, parts: Array, reach: float) -> tuple[Box, Index]:
    """Grows a box by parts that are within reach of it, round by round."""
    left = np.arange(len(parts))
    taken: list[Index] = []
    for _ in range(6):
        if not len(left):
            break
        p = parts[left]
        across = np.maximum(p[:, 0] - box[2], box[0] - p[:, 2])
        along = np.maximum(p[:, 1] - box[3], box[1] - p[:, 3])
        near = (across < reach) & (along < reach)
        if not near.any():
            break
        taken.append(left[near])
        box = box_of(np.concatenate([[box], p[near]]))
        left = left[~near]
    return box, np.sort(np.concatenate(taken)) if taken else np.zeros(0, dtype=int)


def grow_sideways(page: Page, captions: list[CaptionFound], k: int, side: str) -> Region | None:
    """A figure or table beside its caption: it must overlap the caption's height for the most part."""
    caption, view = captions[k], page.view
    box = caption.box
    middle = (view.art[:, :2] + view.art[:, 2:]) / 2
    beyond = middle[:, 0] < box[0] if side == "left" else middle[:, 0] > box[2]
    clear = page.hulls[:, 2] < box[0] + 4 if side == "left" else page.hulls[:, 0] > box[2] - 4
    seeds = np.flatnonzero(beyond & clear & page.free_items)
    if not len(seeds):
        return None
    roles = np.isin(page.layout.roles, WALLS)
    others = np.array([c.box for j, c in enumerate(captions) if j != k], dtype=np.float64).reshape(-1, 4)
    walls = np.concatenate([view.boxes[roles], others, np.array(page.taken, dtype=np.float64).reshape(-1, 4)])
    zone_x = (0.0, box[0]) if side == "left" else (box[2], view.width)
    overlap = np.minimum(walls[:, 2], zone_x[1]) - np.maximum(walls[:, 0], zone_x[0])
    walls = walls[overlap > 12]
    middle_y = (box[1] + box[3]) / 2
    tops, bottoms = walls[walls[:, 3] < middle_y][:, 3], walls[walls[:, 1] > middle_y][:, 1]
    zone = (
        zone_x[0], float(tops.max()) if len(tops) else 0.0, zone_x[1],
        float(bottoms.min()) if len(bottoms) else view.height,
    )  # fmt: skip
    zone = share_of_stack(page, captions, k, zone)
    items = np.intersect1d(seeds, members_in(view.art, page.free_items, zone))
    if not len(items):
        return None
    lines = members_in(view.boxes, page.free_lines, zone)
    region, chosen = _absorb(box_of(view.art[items]), view.boxes[lines], reach=16.0)
    region, _ = _absorb(region, view.other[members_in(view.other, np.ones(len(view.other), dtype=bool), zone)], 14.0)
    shared = min(region[3], box[3]) - max(region[1], box[1])
    gap = box[0] - region[2] if side == "left" else region[0] - box[2]
    if (
        shared < 0.6 * min(box[3] - box[1], region[3] - region[1])
        or gap > 0.4 * view.width
        or region[3] - region[1] < 20
    ):
        return None
    return Region(side, region, items, lines[chosen], 1.35 - float(np.clip(gap / 160.0, 0.0, 0.8)))
