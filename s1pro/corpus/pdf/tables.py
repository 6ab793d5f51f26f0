"""How the region of a table or a listing grows from its caption.

A table is a chain of rows and rules: rules of one width hold it together, a gap much wider than a row ends it, notes
below are left out, and drawings count against it. A listing stands in a frame or between rules of one width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s1pro.corpus.pdf.captions import CaptionFound
from s1pro.corpus.pdf.layout import BODY, CAPTION, CODE, words_in
from s1pro.corpus.pdf.view import HORIZONTAL, IMAGE, PATH, VERTICAL, Index, View
from s1pro.corpus.pdf.workspace import Page, Region, box_of, distance, habit, members_in
from s1pro.corpus.records import Box


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


def grow_table(page: Page, caption: CaptionFound, zone: Box, side: str) -> Region | None:
    view = page.view
    items = members_in(view.art, page.free_items, zone)
    lines = members_in(view.boxes, page.free_lines, zone)
    rows = _rows(view, items, lines)
    if side == "above":
        rows = rows[::-1]
    chosen = _table_rows(view, rows, zone, side)
    if not chosen:
        return None
    items = np.array(sorted(i for row in chosen for i in row.items), dtype=int)
    lines = np.array(sorted(i for row in chosen for i in row.lines), dtype=int)
    box = box_of(np.concatenate([view.art[items], view.boxes[lines]]))
    rules = int((view.kind[items] == HORIZONTAL).sum())
    cells = sum(len(row.lines) > 1 for row in chosen)
    pictures = view.kind[items] == IMAGE
    content = 0.5 * min(rules, 3) / 2 + 0.5 * min(cells, 3) / 2 + (0.4 if pictures.any() and not cells else 0.0)
    content += 0.3 if ((view.kind[items] == VERTICAL).any() or (view.kind[items] == PATH).any()) and cells >= 2 else 0.0
    if box[3] - box[1] < 12 or box[2] - box[0] < 20 or (not len(lines) and not pictures.any()):
        return None
    content -= _drawn_in(view, items, lines)
    score = content + habit(page, "table", side, "table") - distance(page, box, caption.box, side)
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
    """A listing in a frame that holds its caption too, or between rules of one width, to the last of them."""
    view, box = page.view, caption.box
    rules = view.art[view.kind == HORIZONTAL]
    frames = np.concatenate([view.art[view.kind == PATH], view.frames])
    around = (frames[:, :2] < np.array(box[:2]) + 1).all(axis=1) & (frames[:, 2:] > np.array(box[2:]) - 1).all(axis=1)
    around &= (frames[:, 3] > box[3] + 15) & (frames[:, 1] > box[1] - 14)
    below = (np.abs(frames[:, 1] - box[3]) < 22) & (frames[:, 0] < box[2]) & (frames[:, 2] > box[0])
    around |= below & (frames[:, 3] > box[3] + 22)
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
    for place, row in enumerate(rows):
        edge = (zone[3] - row.bottom if side == "above" else row.top - zone[1]) if not chosen else (
            chosen[-1].top - row.bottom if side == "above" else row.top - chosen[-1].bottom)  # fmt: skip
        if not chosen and edge > 42:
            break
        limit = max(11.0, 1.5 * _size(view, row, chosen), 1.5 * pitch)
        ruled = span is not None and row.is_rule and abs(row.left - span[0]) < 5 and abs(row.right - span[1]) < 5
        if chosen and edge > (2.6 * limit if ruled else limit):
            break
        if chosen and (_foreign(view, row, span) or _drawing(view, rows[place:], chosen, span)):
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


def _drawing(view: View, rest: list[_Row], chosen: list[_Row], span: tuple[float, float] | None) -> bool:
    """A tall drawing next to a table that is complete: its last rule is behind, and none of its width follows."""
    row = rest[0]
    usual = max([other.bottom - other.top for other in chosen if other.lines] or [8.0])
    tall = row.bottom - row.top > max(40.0, 2.5 * usual) and len(row.items) >= 2
    if not tall or span is None or len([other for other in chosen if other.is_rule]) < 2:
        return False
    rules = [view.art[i] for other in rest for i in other.items if view.kind[i] == HORIZONTAL]
    return not any(abs(rule[0] - span[0]) < 5 and abs(rule[2] - span[1]) < 5 for rule in rules)


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
