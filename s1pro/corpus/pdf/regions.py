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

import numpy as np

from s1pro.corpus.pdf.captions import CaptionFound
from s1pro.corpus.pdf.figures import grow_figure, grow_sideways
from s1pro.corpus.pdf.layout import BODY, FORMULA, HEADING
from s1pro.corpus.pdf.neighbours import claimed_beyond, content_of, facing, framed, widest_band
from s1pro.corpus.pdf.tables import grow_listing, grow_table
from s1pro.corpus.pdf.view import clusters
from s1pro.corpus.pdf.workspace import WALLS, Page, Region, box_of
from s1pro.corpus.records import Box

SOLID = (BODY, HEADING, FORMULA)
MIN_SCORE = 0.5
MAX_CAPTIONS = 40


def assign(page: Page, captions: list[CaptionFound]) -> list[Region | None]:
    """The region of each caption, or nothing."""
    result: list[Region | None] = [None] * len(captions)
    waiting = list(range(min(len(captions), MAX_CAPTIONS)))
    while waiting:
        options = {k: _options(page, captions, k, waiting) for k in waiting}
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


def _options(page: Page, captions: list[CaptionFound], k: int, waiting: list[int]) -> list[Region]:
    caption = captions[k]
    found = []
    for side in ("above", "below"):
        region = _shared(page, captions, k, side, waiting) or _vertical(page, captions, k, side)
        if region is not None and region.score >= MIN_SCORE:
            found.append(region)
    if caption.kind == "table" and found:
        found = _whole_frame(page, captions, k, found)
    if caption.kind != "algorithm" and (not found or caption.box[2] - caption.box[0] < 0.45 * page.view.width):
        for side in ("left", "right"):
            region = grow_sideways(page, captions, k, side)
            if region is not None and region.score >= MIN_SCORE:
                outside = [other for other in found if not _contains(region.box, other.box)]
                if not found or len(outside) < len(found):
                    found = [*outside, region]
    if not found:
        frame = framed(page, captions, k)
        found = [] if frame is None else [frame]
    elif caption.kind != "table" and any(len(region.items) for region in found):
        found = [region for region in found if len(region.items) or caption.kind == "algorithm"]
    return sorted(found, key=lambda region: -region.score)


def _whole_frame(page: Page, captions: list[CaptionFound], k: int, found: list[Region]) -> list[Region]:
    """The frame at the caption instead of a part of the table in it."""
    frame = framed(page, captions, k)
    parts = [] if frame is None else [r for r in found if r.side == frame.side and _contains(frame.box, r.box)]
    if frame is None or not parts:
        return found
    frame.score = max(region.score for region in parts)
    return [frame, *[region for region in found if region.side != frame.side]]


def _contains(outer: Box, inner: Box) -> bool:
    """All of a region but for a margin lies in another one, which goes on: the first saw only a part."""
    return (
        inner[0] > outer[0] - 6 and inner[2] < outer[2] + 6 and inner[1] > outer[1] - 6 and inner[3] < outer[3] + 6
    )  # fmt: skip


def _shared(page: Page, captions: list[CaptionFound], k: int, side: str, waiting: list[int]) -> Region | None:
    """This caption's part of what stands between it and another caption, if neither has anything at its other side."""
    if captions[k].kind == "table" or len(captions) < 2:
        return None
    zone = _zone(page, captions, k, _span(page, captions, k), side)
    j = facing(captions, k, zone, side)
    if j is None or j not in waiting or captions[j].kind == "table":
        return None
    away = {"above": "below", "below": "above"}
    for caption, back in ((k, away[side]), (j, side)):
        other = _vertical(page, captions, caption, back)
        if other is not None and other.score >= MIN_SCORE and len(other.items):
            return None
    band = widest_band(content_of(page, zone), zone[1], zone[3])
    if band is None:
        return None
    middle = (band[0] + band[1]) / 2
    part = (zone[0], middle, *zone[2:]) if side == "above" else (*zone[:3], middle)
    return grow_figure(page, captions[k], part, side)


def _vertical(page: Page, captions: list[CaptionFound], k: int, side: str) -> Region | None:
    caption = captions[k]
    if caption.kind == "algorithm" and side == "below":
        region = grow_listing(page, caption)
        if region is not None:
            return region
    span = _span(page, captions, k)
    zone = _zone(page, captions, k, span, side)
    wide = _crosses(page, captions, k, zone, side)
    if wide is not None and wide != span:
        span = wide
        zone = _zone(page, captions, k, span, side)
    if caption.kind == "table":
        return grow_table(page, caption, zone, side) if zone[3] - zone[1] >= 6 else None
    region = grow_figure(page, caption, zone, side) if zone[3] - zone[1] >= 6 else None
    margin = _margin(page, caption)
    if region is None and margin is not None:
        region = grow_figure(page, caption, _zone(page, captions, k, margin, side), side)
    if region is None or not len(region.items):
        open_zone = _zone(page, captions, k, span, side, code=False)
        wider = grow_figure(page, caption, open_zone, side) if open_zone != zone else None
        return region if wider is None else wider
    return region


def _margin(page: Page, caption: CaptionFound) -> tuple[float, float] | None:
    """The margin beside the columns, if the caption stands there."""
    first, last = page.layout.columns[0][0] - 3, page.layout.columns[-1][1] + 3
    return (0.0, first) if caption.box[2] < first else (last, page.view.width) if caption.box[0] > last else None


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
        if layout.gutter_between(box[2], other.box[0]) or layout.gutter_between(other.box[2], box[0]):
            continue
        if other.box[0] > box[2]:
            right = min(right, (box[2] + other.box[0]) / 2)
        elif other.box[2] < box[0]:
            left = max(left, (other.box[2] + box[0]) / 2)
    return left, right


def _zone(
    page: Page, captions: list[CaptionFound], k: int, span: tuple[float, float], side: str, code: bool = True
) -> Box:
    """From the caption to the next wall; source code is one if `code` says so."""
    box = captions[k].box
    roles = page.layout.roles
    others = np.array([c.box for j, c in enumerate(captions) if j != k], dtype=np.float64).reshape(-1, 4)
    taken = np.array(page.taken, dtype=np.float64).reshape(-1, 4)
    solid = SOLID if captions[k].kind == "algorithm" or not code else WALLS
    walls = np.concatenate([page.view.boxes[np.isin(roles, solid)], others, taken])
    overlap = np.minimum(walls[:, 2], span[1]) - np.maximum(walls[:, 0], span[0])
    walls = walls[overlap > np.minimum(12.0, 0.5 * (walls[:, 2] - walls[:, 0]))]
    if side == "above":
        tops = walls[walls[:, 3] < box[1] + 0.6 * (box[3] - box[1])][:, 3]
        return span[0], float(tops.max()) if len(tops) else 0.0, span[1], box[1]
    bottoms = walls[walls[:, 1] > box[3] - 0.6 * (box[3] - box[1])][:, 1]
    return span[0], box[3], span[1], float(bottoms.min()) if len(bottoms) else page.view.height


def _crosses(page: Page, captions: list[CaptionFound], k: int, zone: Box, side: str) -> tuple[float, float] | None:
    """A wider span if the art or the row of cells next to the caption reaches into another column."""
    layout, view = page.layout, page.view
    if len(layout.columns) < 2:
        return None
    art = page.hulls[page.free_items]
    text = view.boxes[page.free_lines]
    boxes = np.concatenate([art, text])
    inside = (boxes[:, 0] < zone[2]) & (boxes[:, 2] > zone[0]) & (boxes[:, 3] > zone[1]) & (boxes[:, 1] < zone[3])
    near = boxes[inside]
    if not len(near):
        return None
    edge = near[:, 3].max() if side == "above" else near[:, 1].min()
    parts = near[np.abs((near[:, 3] if side == "above" else near[:, 1]) - edge) < 60]
    close = np.array([box_of(parts[group]) for group in clusters(parts, gap=13.0)])
    reach_left, reach_right = close[:, 0].min(), close[:, 2].max()
    span_left, span_right = zone[0], zone[2]
    for before, after in zip(layout.columns, layout.columns[1:], strict=False):
        middle = (before[1] + after[0]) / 2
        crossing = bool(((close[:, 0] < middle - 15) & (close[:, 2] > middle + 15)).any())
        if crossing and span_left < middle < span_right:
            continue
        beyond = after if zone[0] < middle - 15 and zone[2] < after[1] else before
        drawn = (parts[:, 0] < middle - 1) & (parts[:, 2] > middle + 1)
        if crossing and not drawn.any() and claimed_beyond(page, captions, k, parts, beyond):
            continue
        if crossing and reach_right > after[0] + 12 and span_right < after[1]:
            span_right = after[1] + 8 if after is not layout.columns[-1] else view.width
        if crossing and reach_left < before[1] - 12 and span_left > before[0]:
            span_left = before[0] - 8 if before is not layout.columns[0] else 0.0
    return span_left, span_right
