"""What no caption speaks of: parts of tables that go on from the page before, tables and art without a number.

A table without a caption is a stack of rules or bands of equal width with rows of several cells between them. At the
top of a page (or column), after a page that ended in a table of the same width, it is that table's next part and gets
its label. Everything else keeps low confidence: whether it is a figure is for a model of layouts to say.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from s1pro.corpus.pdf.captions import CaptionFound
from s1pro.corpus.pdf.found import Found, inside, is_chart, texts_in
from s1pro.corpus.pdf.layout import BODY, CAPTION, CODE, FORMULA, HEADING
from s1pro.corpus.pdf.view import HORIZONTAL, IMAGE, PATH, VERTICAL, Index, clusters
from s1pro.corpus.pdf.workspace import Page
from s1pro.corpus.records import Box, ElementType

MIN_ART = 1600.0
MAX_BAND = 40.0


def loose_tables(page: Page, number: int) -> list[Found]:
    """Tables without a caption; the first may be the continuation of the last table of the page before."""
    found = []
    for (left, right), tops in list(_bands(page).items())[:50]:
        for stack in _stacks(page, tops, left, right):
            table = _loose_table(page, stack, left, right)
            if table is not None:
                found.append(table)
    found.sort(key=lambda table: table.box[1])
    if found:
        _continue(page, found[0], number)
    for table in found:
        table.box = page.view.back(table.box)
    return found


def _bands(page: Page) -> dict[tuple[float, float], list[tuple[float, float]]]:
    """Rules and rows of coloured cells, as (top, bottom) under their horizontal range."""
    view = page.view
    flat = page.free_items & ((view.kind == HORIZONTAL) | (view.kind == PATH))
    flat &= (view.art[:, 3] - view.art[:, 1] < MAX_BAND) & (view.art[:, 2] - view.art[:, 0] > 8)
    rows: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for i in np.flatnonzero(flat)[:4000].tolist():
        x0, y0, x1, y1 = view.art[i].tolist()
        rows.setdefault((round(y0), round(y1)), []).append((x0, x1))
    groups: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for (top, bottom), spans in rows.items():
        spans.sort()
        merged = [spans[0]]
        for x0, x1 in spans[1:]:
            if x0 <= merged[-1][1] + 1.5:
                merged[-1] = (merged[-1][0], max(merged[-1][1], x1))
            else:
                merged.append((x0, x1))
        for x0, x1 in merged:
            if x1 - x0 > 60:
                key = next((k for k in groups if abs(k[0] - x0) < 4 and abs(k[1] - x1) < 4), (x0, x1))
                groups.setdefault(key, []).append((float(top), float(bottom)))
    return groups


def _stacks(
    page: Page, bands: list[tuple[float, float]], left: float, right: float
) -> list[list[tuple[float, float]]]:  # fmt: skip
    """Bands of one width, split where walls or nothing lie between two of them."""
    view = page.view
    bands = sorted(bands)
    stacks: list[list[tuple[float, float]]] = [[bands[0]]]
    walls = view.boxes[np.isin(page.layout.roles, (BODY, HEADING, FORMULA, CODE, CAPTION))]
    free = view.boxes[page.free_lines]
    for (_, top), (bottom, end) in pairwise(bands):
        between = (walls[:, 1] > top - 2) & (walls[:, 3] < bottom + 2) & (walls[:, 0] < right) & (walls[:, 2] > left)
        rows = free[(free[:, 1] > top - 2) & (free[:, 3] < bottom + 2) & (free[:, 0] < right) & (free[:, 2] > left)]
        tops = np.sort(np.concatenate([[top], rows[:, 3], [bottom]]))
        holes = np.diff(tops).max() > 45 if bottom - top > 45 else False
        if between.any() or holes or (bottom - top > 30 and not len(rows)):
            stacks.append([])
        stacks[-1].append((bottom, end))
    return [stack for stack in stacks if len(stack) >= 2]


def _loose_table(page: Page, stack: list[tuple[float, float]], left: float, right: float) -> Found | None:
    view = page.view
    top, bottom = min(band[0] for band in stack), max(band[1] for band in stack)
    middle = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
    held = (middle > [left - 2, top - 2]).all(axis=1) & (middle < [right + 2, bottom + 2]).all(axis=1)
    lines = np.flatnonzero(held & page.free_lines)
    box = (float(left), top, float(right), bottom)
    top, bottom = _with_rows(page, top, bottom, left, right)
    box = (float(left), top, float(right), bottom)
    if len(lines) < 6 or (held & ~page.free_lines).any() or any(inside(box, taken) for taken in page.taken):
        return None
    rows: dict[int, int] = {}
    for i in lines.tolist():
        rows[round(middle[i, 1] / 4)] = rows.get(round(middle[i, 1] / 4), 0) + 1
    if sum(count >= 2 for count in rows.values()) < 2:
        return None
    art = np.flatnonzero(
        (view.art[:, 0] > left - 4) & (view.art[:, 2] < right + 4)
        & (view.art[:, 1] > top - 3) & (view.art[:, 3] < bottom + 3)
    )  # fmt: skip
    page.free_items[art] = False
    page.free_lines[lines] = False
    page.taken.append(box)
    return Found("table", box, confidence=0.45, section_at=(box[0], box[1]))


def _with_rows(page: Page, top: float, bottom: float, left: float, right: float) -> tuple[float, float]:
    """Rows without a band of their own at the end of a table with stripes."""
    view = page.view
    middle = (view.boxes[:, 0] + view.boxes[:, 2]) / 2
    free = np.flatnonzero(page.free_lines & (middle > left) & (middle < right) & page.layout.mates)
    for i in free.tolist():
        y0, y1 = view.boxes[i, [1, 3]].tolist()
        if bottom - 2 < (y0 + y1) / 2 and y0 < bottom + 0.9 * view.sizes[i]:
            bottom = y1
    return top, bottom


def _continue(page: Page, table: Found, number: int) -> None:
    """Ties a table at the top of a page to the one that ended the page before."""
    last = page.style.last_table
    above = page.view.boxes[np.isin(page.layout.roles, (BODY, HEADING, CAPTION)), 3]
    first = not (above < table.box[1]).any() or table.box[1] < 0.16 * page.view.height
    if last is None or last[0] != number - 1 or not first:
        return
    if last[3] is not None:
        width, before = table.box[2] - table.box[0], last[3][1] - last[3][0]
        if abs(width - before) > 0.06 * before + 4:
            return
    table.label, table.text, table.caption_page = last[1], last[2], number - 1
    table.method, table.link, table.confidence = "continued", 0.7, 0.75


def remember_last(page: Page, tables: list[Found], lost: list[CaptionFound], number: int) -> None:
    """Keeps the last table of a page, or a caption at its foot whose table did not fit, for the next page."""
    heads = [caption for caption in lost if caption.kind == "table" and caption.box[1] > 0.6 * page.view.height]
    if heads:
        head = max(heads, key=lambda caption: caption.box[3])
        page.style.last_table = (number, head.label, head.text, None)
        return
    labelled = [table for table in tables if table.type == "table" and table.label]
    if labelled:
        last = max(labelled, key=lambda table: table.box[3])
        label = re.sub(r"\s*\(.*\)$", "", last.label)
        page.style.last_table = (number, label, last.text, (last.box[0], last.box[2]))


def loose_art(page: Page) -> list[Found]:
    """Art that no caption speaks of, with low confidence."""
    view = page.view
    free = np.flatnonzero(page.free_items & np.isin(view.kind, (PATH, IMAGE, VERTICAL)))
    found: list[Found] = []
    for group in clusters(view.art[free], gap=12.0):
        art = _art_of(page, free[group])
        if art is not None:
            art.box = page.view.back(art.box)
            found.append(art)
    return found


def _art_of(page: Page, members: Index) -> Found | None:
    view = page.view
    art = view.art[members]
    low, high = art[:, :2].min(axis=0), art[:, 2:].max(axis=0)
    size = high - low
    picture = bool((view.kind[members] == IMAGE).any())
    if size.prod() < MIN_ART or size.min() < 28:
        return None
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    around = (box[0] - 25, box[1] - 12, box[2] + 12, box[3] + 16)
    if not picture and len(members) < 8 and not is_chart(texts_in(view, around), art, view.kind[members]):
        return None
    if any(inside(box, taken) for taken in page.taken) or _mostly_text(page, box):
        return None
    edge = box[3] < 0.12 * view.height or box[1] > 0.92 * view.height
    kind: ElementType = "other" if edge or size.prod() < 4000 else "figure"
    if kind == "figure" and is_chart(texts_in(view, box), art, view.kind[members]):
        kind = "chart"
    return Found(kind, box, confidence=0.2 if edge else 0.35, section_at=(box[0], box[1]))


def _mostly_text(page: Page, box: Box) -> bool:
    """A box behind running text, or a grid of cells, is no picture."""
    boxes = page.view.boxes
    across = np.minimum(boxes[:, 2], box[2]) - np.maximum(boxes[:, 0], box[0])
    along = np.minimum(boxes[:, 3], box[3]) - np.maximum(boxes[:, 1], box[1])
    held = (across > 0) & (along > 0)
    covered = (across[held] * along[held]).sum()
    solid = np.isin(page.layout.roles, (BODY, HEADING, CAPTION)) & held
    area = (box[2] - box[0]) * (box[3] - box[1])
    return bool(covered > 0.35 * area or (across[solid] * along[solid]).sum() > 0.15 * area)
