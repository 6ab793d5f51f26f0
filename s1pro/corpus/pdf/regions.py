"""Which part of the page a caption speaks of: regions grow from captions, between blocks of running text.

For every caption there are up to four places: above, below, left and right of it. In each the region is grown and gets
points: for what is in it (graphics for figures; rows, cells and rules for tables), for the distance, and for the habit
of the kind (figures stand above their captions, tables below) and of this document (`Style`). Captions are served one
by one: first those with only one possible place, then by points; a region that is taken is a wall for the others.

*Zone*: from the caption to the next wall (running text, heading, formula, another caption, a taken region), as wide as
the column of the caption, or as the page if the caption or the art next to it crosses a gutter. Captions side by side
share the width between them.

*Figures*: graphics of the zone, then free text near them, round by round. *Tables*: a chain of rows and rules from the
caption on; rules of one width hold it together, a gap much wider than a row ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.captions import CaptionFound
from s1pro.corpus.pdf.columns import Style
from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.layout import BODY, CAPTION, CODE, FORMULA, FREE, FURNITURE, HEADING, Layout, words_in
from s1pro.corpus.pdf.view import HORIZONTAL, IMAGE, PATH, VERTICAL, Index, View, clusters
from s1pro.corpus.records import Box

WALLS = (BODY, HEADING, FORMULA, CODE)
MIN_SCORE = 0.5
MAX_CAPTIONS = 40


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
    """The working state of the search on one view; `hulls` are the boxes of the drawing that each item is part of."""

    view: View
    layout: Layout
    style: Style
    free_items: NDArray[np.bool_]
    free_lines: NDArray[np.bool_]
    hulls: Array
    taken: list[Box] = field(default_factory=list)


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
    for group in clusters(view.art[free], gap=10.0):
        hulls[free[group]] = _box_of(view.art[free[group]])
    return Page(view, layout, style, free_items, np.isin(layout.roles, (FREE, CODE)), hulls)


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


def assign(page: Page, captions: list[CaptionFound]) -> list[Region | None]:
    """The region of each caption, or nothing."""
    result: list[Region | None] = [None] * len(captions)
    waiting = list(range(min(len(captions), MAX_CAPTIONS)))
    while waiting:
        options = {k: _options(page, captions, k) for k in waiting}
        ready = [k for k in waiting if options[k]]
        if not ready:
            break
        best = max(ready, key=lambda k: _urgency(captions[k], options[k]))
        region = options[best][0]
        result[best] = region
        waiting.remove(best)
        page.free_items[region.items] = False
        page.free_lines[region.lines] = False
        page.taken.append(region.box)
        family = "table" if captions[best].kind == "table" else "figure"
        if region.side in ("above", "below"):
            (page.style.above if region.side == "above" else page.style.below)[family] += 1
    return result


def _urgency(caption: CaptionFound, options: list[Region]) -> float:
    """Listings and tables first, since rules and rows end by themselves; then captions with one place; then points."""
    margin = options[0].score - options[1].score if len(options) > 1 else 2.0
    return options[0].score + margin + {"algorithm": 20.0, "table": 10.0}.get(caption.kind, 0.0)


def _options(page: Page, captions: list[CaptionFound], k: int) -> list[Region]:
    caption = captions[k]
    found = []
    for side in ("above", "below"):
        region = _vertical(page, captions, k, side)
        if region is not None and region.score >= MIN_SCORE:
            found.append(region)
    if caption.kind != "algorithm" and (not found or caption.box[2] - caption.box[0] < 0.45 * page.view.width):
        for side in ("left", "right"):
            region = _sideways(page, captions, k, side)
            if region is not None and region.score >= MIN_SCORE:
                outside = [other for other in found if not _contains(region.box, other.box)]
                if not found or len(outside) < len(found):
                    found = [*outside, region]
    return sorted(found, key=lambda region: -region.score)


def _contains(outer: Box, inner: Box) -> bool:
    """All of a region but for a margin lies in another one, which goes on: the first saw only a part."""
    return (
        inner[0] > outer[0] - 6 and inner[2] < outer[2] + 6 and inner[1] > outer[1] - 6 and inner[3] < outer[3] + 6
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- zones


def _vertical(page: Page, captions: list[CaptionFound], k: int, side: str) -> Region | None:
    caption = captions[k]
    if caption.kind == "algorithm" and side == "below":
        region = grow_listing(page, caption)
        if region is not None:
            return region
    span = _span(page, captions, k)
    zone = _zone(page, captions, k, span, side)
    wide = _crosses(page, captions[k], zone, side)
    if wide is not None and wide != span:
        span = wide
        zone = _zone(page, captions, k, span, side)
    if zone[3] - zone[1] < 6:
        return None
    if caption.kind == "table":
        return _grow_table(page, caption, zone, side)
    return _grow_figure(page, caption, zone, side)


def _span(page: Page, captions: list[CaptionFound], k: int) -> tuple[float, float]:
    """Left and right end of the zone: the column of the caption, shared with captions at its sides."""
    box, layout = captions[k].box, page.layout
    left, right = layout.column_of(box[0], box[2])
    if (left, right) == (layout.columns[0][0], layout.columns[0][1]) or left == layout.columns[0][0]:
        left = min(left, box[0])
    first, last = left <= layout.columns[0][0] + 1, right >= layout.columns[-1][1] - 1
    left = 0.0 if first else left - 8
    right = page.view.width if last else right + 8
    for j, other in enumerate(captions):
        overlap = min(box[3], other.box[3]) - max(box[1], other.box[1])
        if j == k or overlap < 0.5 * min(box[3] - box[1], other.box[3] - other.box[1]):
            continue
        if other.box[0] > box[2]:
            right = min(right, (box[2] + other.box[0]) / 2)
        elif other.box[2] < box[0]:
            left = max(left, (other.box[2] + box[0]) / 2)
    return left, right


def _zone(page: Page, captions: list[CaptionFound], k: int, span: tuple[float, float], side: str) -> Box:
    """From the caption to the next wall."""
    box = captions[k].box
    roles = page.layout.roles
    others = np.array([c.box for j, c in enumerate(captions) if j != k], dtype=np.float64).reshape(-1, 4)
    taken = np.array(page.taken, dtype=np.float64).reshape(-1, 4)
    solid = (BODY, HEADING, FORMULA) if captions[k].kind == "algorithm" else WALLS
    walls = np.concatenate([page.view.boxes[np.isin(roles, solid)], others, taken])
    overlap = np.minimum(walls[:, 2], span[1]) - np.maximum(walls[:, 0], span[0])
    walls = walls[overlap > np.minimum(12.0, 0.5 * (walls[:, 2] - walls[:, 0]))]
    if side == "above":
        tops = walls[walls[:, 3] < box[1] + 0.6 * (box[3] - box[1])][:, 3]
        return span[0], float(tops.max()) if len(tops) else 0.0, span[1], box[1]
    bottoms = walls[walls[:, 1] > box[3] - 0.6 * (box[3] - box[1])][:, 1]
    return span[0], box[3], span[1], float(bottoms.min()) if len(bottoms) else page.view.height


def _crosses(page: Page, caption: CaptionFound, zone: Box, side: str) -> tuple[float, float] | None:
    """A wider span if the art or the row of cells next to the caption reaches into another column."""
    layout, view = page.layout, page.view
    if len(layout.columns) < 2:
        return None
    art = view.art[page.free_items]
    text = view.boxes[page.free_lines]
    boxes = np.concatenate([art, text])
    inside = (boxes[:, 0] < zone[2]) & (boxes[:, 2] > zone[0]) & (boxes[:, 3] > zone[1]) & (boxes[:, 1] < zone[3])
    near = boxes[inside]
    if not len(near):
        return None
    edge = near[:, 3].max() if side == "above" else near[:, 1].min()
    close = near[np.abs((near[:, 3] if side == "above" else near[:, 1]) - edge) < 60]
    close = np.array([_box_of(close[group]) for group in clusters(close, gap=13.0)])
    reach_left, reach_right = close[:, 0].min(), close[:, 2].max()
    span_left, span_right = zone[0], zone[2]
    for before, after in zip(layout.columns, layout.columns[1:], strict=False):
        middle = (before[1] + after[0]) / 2
        crossing = bool(((close[:, 0] < middle - 15) & (close[:, 2] > middle + 15)).any())
        if crossing and span_left < middle < span_right:
            continue
        if crossing and reach_right > after[0] + 12 and span_right < after[1]:
            span_right = after[1] + 8 if after is not layout.columns[-1] else view.width
        if crossing and reach_left < before[1] - 12 and span_left > before[0]:
            span_left = before[0] - 8 if before is not layout.columns[0] else 0.0
    return span_left, span_right


def _members(boxes: Array, free: NDArray[np.bool_], zone: Box, slack: float = 3.0) -> Index:
    """Free boxes whose middle is in the zone and that do not stick out of its ends."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (middle[:, 0] > zone[0]) & (middle[:, 0] < zone[2]) & (middle[:, 1] > zone[1]) & (middle[:, 1] < zone[3])
    inside &= (boxes[:, 1] > zone[1] - slack - 0.2 * (boxes[:, 3] - boxes[:, 1])) & (
        boxes[:, 3] < zone[3] + slack + 0.2 * (boxes[:, 3] - boxes[:, 1])
    )
    return np.flatnonzero(inside & free)


def _box_of(parts: Array) -> Box:
    low, high = parts[:, :2].min(axis=0), parts[:, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


# ----------------------------------------------------------------------------------------------------- figures


def _grow_figure(page: Page, caption: CaptionFound, zone: Box, side: str) -> Region | None:
    view = page.view
    items = _members(view.art, page.free_items, zone)
    hulls = page.hulls[items]
    items = items[(hulls[:, 0] > zone[0] - 20) & (hulls[:, 2] < zone[2] + 20)]
    lines = _members(view.boxes, page.free_lines, zone)
    slanted = view.other[_members(view.other, np.ones(len(view.other), dtype=bool), zone)]
    items, lines = _chain(view, items, lines, zone, side, 0.05 * view.height)
    if not len(items) and len(lines) < 2:
        return None
    art = view.art[items]
    if len(items):
        box = _box_of(art)
        between = _between(box, view.boxes[lines], caption.box, side)
        if len(between):
            box = _box_of(np.concatenate([[box], view.boxes[lines][between]]))
        box, chosen = _absorb(box, view.boxes[lines], reach=0.022 * view.height)
        lines = lines[chosen]
        box, _ = _absorb(box, slanted, reach=14.0)
        box, _ = _absorb(box, view.boxes[lines], reach=10.0)
        drawn = art[view.kind[items] != HORIZONTAL]
        area = float((drawn[:, 2] - drawn[:, 0]).max() * (drawn[:, 3] - drawn[:, 1]).max()) if len(drawn) else 0.0
        content = 1.2 if area > 400 else 0.6 if area > 60 or len(items) > 6 else 0.1
        content += 0.3 * bool((view.kind[items] == IMAGE).any()) + 0.2 * (len(items) > 20)
    else:
        box = _box_of(view.boxes[lines])
        content = 0.5 if caption.kind == "algorithm" else 0.15
    if box[3] - box[1] < 12 or box[2] - box[0] < 12:
        return None
    score = content + _habit(page, "figure", side, caption.kind) - _distance(page, box, caption.box, side)
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
    return items[np.sort(keep[keep < len(items)])], lines[np.sort(keep[keep >= len(items)] - len(items))]


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
        box = _box_of(np.concatenate([[box], p[near]]))
        left = left[~near]
    return box, np.sort(np.concatenate(taken)) if taken else np.zeros(0, dtype=int)


def _habit(page: Page, family: str, side: str, kind: str) -> float:
    """Figures are looked for above, tables and algorithms below; what this document did before counts as well."""
    usual = "below" if kind in ("table", "algorithm") else "above"
    points = 0.45 if side == usual else 0.0
    up, down = page.style.above[family], page.style.below[family]
    seen = up if side == "above" else down
    return points + 0.5 * (seen + 0.5) / (up + down + 1.0)


def _distance(page: Page, box: Box, caption: Box, side: str) -> float:
    """Points off for a gap between region and caption."""
    gap = caption[1] - box[3] if side == "above" else box[1] - caption[3]
    return float(np.clip((gap - 14.0) / 60.0, 0.0, 1.2))


def _sideways(page: Page, captions: list[CaptionFound], k: int, side: str) -> Region | None:
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
    items = np.intersect1d(seeds, _members(view.art, page.free_items, zone))
    if not len(items):
        return None
    lines = _members(view.boxes, page.free_lines, zone)
    region, chosen = _absorb(_box_of(view.art[items]), view.boxes[lines], reach=16.0)
    region, _ = _absorb(region, view.other[_members(view.other, np.ones(len(view.other), dtype=bool), zone)], 14.0)
    shared = min(region[3], box[3]) - max(region[1], box[1])
    gap = box[0] - region[2] if side == "left" else region[0] - box[2]
    if shared < 0.6 * (box[3] - box[1]) or gap > 0.25 * view.width or region[3] - region[1] < 20:
        return None
    return Region(side, region, items, lines[chosen], 1.35 - float(np.clip(gap / 160.0, 0.0, 0.8)))


# ------------------------------------------------------------------------------------------------------ tables


@dataclass
class _Row:
    """Pieces of text and graphics at one height."""

    top: float
    bottom: float
    lines: list[int]
    items: list[int]
    left: float
    right: float

    @property
    def is_rule(self) -> bool:
        return not self.lines


def _rows(view: View, items: Index, lines: Index) -> list[_Row]:
    """Sorts what a zone holds into rows, from top to bottom; tall art is a row of its own."""
    parts = [(*view.art[i].tolist(), -1, i) for i in items.tolist()]
    parts += [(*view.boxes[i].tolist(), i, -1) for i in lines.tolist()]
    rows: list[_Row] = []
    for x0, y0, x1, y1, line, item in sorted(parts, key=lambda part: part[1]):
        row = rows[-1] if rows else None
        if row is not None and min(y1, row.bottom) - max(y0, row.top) > 0.3 * min(y1 - y0, row.bottom - row.top) - 0.5:
            row.bottom, row.left, row.right = max(row.bottom, y1), min(row.left, x0), max(row.right, x1)
        else:
            row = _Row(y0, y1, [], [], x0, x1)
            rows.append(row)
        (row.lines if line >= 0 else row.items).append(line if line >= 0 else item)
    return rows


def _grow_table(page: Page, caption: CaptionFound, zone: Box, side: str) -> Region | None:
    view = page.view
    items = _members(view.art, page.free_items, zone)
    lines = _members(view.boxes, page.free_lines, zone)
    rows = _rows(view, items, lines)
    if side == "above":
        rows = rows[::-1]
    chosen = _table_rows(view, rows, zone, side)
    if not chosen:
        return None
    items = np.array(sorted(i for row in chosen for i in row.items), dtype=int)
    lines = np.array(sorted(i for row in chosen for i in row.lines), dtype=int)
    box = _box_of(np.concatenate([view.art[items], view.boxes[lines]]))
    rules = int((view.kind[items] == HORIZONTAL).sum())
    cells = sum(len(row.lines) > 1 for row in chosen)
    pictures = view.kind[items] == IMAGE
    content = 0.5 * min(rules, 3) / 2 + 0.5 * min(cells, 3) / 2 + (0.4 if pictures.any() and not cells else 0.0)
    content += 0.3 if ((view.kind[items] == VERTICAL).any() or (view.kind[items] == PATH).any()) and cells >= 2 else 0.0
    if box[3] - box[1] < 12 or box[2] - box[0] < 20 or (not len(lines) and not pictures.any()):
        return None
    content -= _drawn_in(view, items, lines)
    score = content + _habit(page, "table", side, "table") - _distance(page, box, caption.box, side)
    return Region(side, box, items, lines, score)


def _drawn_in(view: View, items: Index, lines: Index) -> float:
    """Points off for drawings: large art without two pieces of text on it, and lettering that runs up."""
    art, text = view.art[items], view.boxes[lines]
    size = art[:, 2:] - art[:, :2]
    large = art[(size > 28).all(axis=1) & np.isin(view.kind[items], (PATH, IMAGE))][:60]
    middle = (text[:, :2] + text[:, 2:]) / 2
    for box in large:
        if ((middle > box[:2]) & (middle < box[2:])).all(axis=1).sum() < 2:
            return 0.9
    return 0.0


def grow_listing(page: Page, caption: CaptionFound) -> Region | None:
    """An algorithm in a frame that holds its caption too, or between rules of one width, from its caption to the last."""
    view, box = page.view, caption.box
    rules = view.art[view.kind == HORIZONTAL]
    frames = np.concatenate([view.art[view.kind == PATH], view.frames])
    around = (frames[:, :2] < np.array(box[:2]) + 1).all(axis=1) & (frames[:, 2:] > np.array(box[2:]) - 1).all(axis=1)
    around &= (frames[:, 3] > box[3] + 15) & (frames[:, 1] > box[1] - 14)
    if around.any():
        left, top, right, bottom = frames[around][0].tolist()
        same = np.array([[left, bottom, right, bottom]])
    else:
        near = rules[(np.abs(rules[:, 1] - box[1]) < 14) | (np.abs(rules[:, 1] - box[3]) < 14)]
        near = near[(near[:, 0] < box[0] + 14) & (near[:, 2] > box[2] - 14)]
        if not len(near):
            return None
        left, right = near[0, 0], near[0, 2]
        top = float(near[:, 1].min()) if near[:, 1].min() < box[1] else box[3]
        same = rules[(np.abs(rules[:, 0] - left) < 4) & (np.abs(rules[:, 2] - right) < 4) & (rules[:, 1] > box[3] + 12)]
    heads = view.boxes[page.layout.roles == CAPTION]
    below = heads[(heads[:, 1] > box[3] + 2) & (heads[:, 0] < right) & (heads[:, 2] > left)]
    stop = float(below[:, 1].min()) if len(below) else view.height
    same = same[same[:, 1] < stop - 8]
    if not len(same):
        return None
    bottom = float(same[:, 3].min())
    held = (view.boxes[:, 1] > box[3] - 2) & (view.boxes[:, 3] < bottom + 2)
    held &= (view.boxes[:, 0] > left - 4) & (view.boxes[:, 2] < right + 4) & (page.layout.roles != CAPTION)
    items = np.flatnonzero((view.art[:, 1] > box[1] - 14) & (view.art[:, 3] < bottom + 2)
                           & (view.art[:, 0] > left - 4) & (view.art[:, 2] < right + 4))  # fmt: skip
    if held.sum() < 2:
        return None
    page.layout.roles[held & (page.layout.roles == BODY)] = CODE
    return Region("below", (float(left), top, float(right), bottom), items, np.flatnonzero(held), 2.2)


def _table_rows(view: View, rows: list[_Row], zone: Box, side: str) -> list[_Row]:
    """The chain of rows that starts at the caption."""
    chosen: list[_Row] = []
    last_rule = -1
    span: tuple[float, float] | None = None
    pitch = 0.0
    for row in rows:
        edge = (zone[3] - row.bottom if side == "above" else row.top - zone[1]) if not chosen else (
            chosen[-1].top - row.bottom if side == "above" else row.top - chosen[-1].bottom)  # fmt: skip
        if not chosen and edge > 42:
            break
        limit = max(11.0, 1.5 * _size(view, row, chosen), 1.5 * pitch)
        ruled = span is not None and row.is_rule and abs(row.left - span[0]) < 5 and abs(row.right - span[1]) < 5
        if chosen and edge > (2.6 * limit if ruled else limit):
            break
        if chosen and _foreign(view, row, span):
            break
        chosen.append(row)
        if len(chosen) > 1 and row.lines and chosen[-2].lines:
            pitch = max(pitch, edge)
        horizontal = [i for i in row.items if view.kind[i] == HORIZONTAL]
        if row.is_rule and horizontal and (span is None or ruled):
            span, last_rule = (row.left, row.right), len(chosen)
    kept = _trim(chosen, last_rule)
    while len(kept) > 3 and _is_note(view, kept[-1]):
        kept = kept[:-1]
    return kept


def _size(view: View, row: _Row, chosen: list[_Row]) -> float:
    for candidate in (row, *chosen[-1:]):
        if candidate.lines:
            return float(view.sizes[candidate.lines[0]])
    return 8.0


def _foreign(view: View, row: _Row, span: tuple[float, float] | None) -> bool:
    """Art that is no part of a table: far wider than the rules, or a large picture or drawing with nothing in it."""
    if span is not None and (row.left < span[0] - 40 or row.right > span[1] + 40):
        return True
    tall = row.bottom - row.top > 60
    images = any(view.kind[i] == IMAGE for i in row.items)
    return tall and images and len(row.lines) < 2


def _is_note(view: View, row: _Row) -> bool:
    """One piece of several words: a note under the table, no row of it."""
    return len(row.lines) == 1 and not row.items and words_in(view.texts[row.lines[0]]) >= 4


def _trim(chosen: list[_Row], last_rule: int) -> list[_Row]:
    """With two rules or more the table ends at the last one, unless rows of several cells follow."""
    num_rules = sum(row.is_rule for row in chosen)
    if num_rules < 2 or last_rule < 0:
        return chosen
    rest = chosen[last_rule:]
    cells = [row for row in rest if len(row.lines) > 1]
    if not rest or not cells:
        return chosen[:last_rule]
    many = np.median([len(row.lines) for row in chosen[:last_rule] if row.lines] or [1])
    if num_rules >= 3 and len(cells) < 2:
        return chosen[:last_rule]
    keep = last_rule
    for offset, row in enumerate(rest):
        if len(row.lines) < max(2, 0.5 * many):
            break
        keep = last_rule + offset + 1
    return chosen[:keep]
