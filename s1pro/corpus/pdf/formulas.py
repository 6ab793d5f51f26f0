"""Displayed formulas: numbered at the margin, or set in mathematical fonts away from the edges of their column.

A number in parentheses that ends at the edge of its column marks the row as a formula; pieces above and below that
touch the row (limits, fractions, matrices) belong to it. Without a number the row must be mathematical type for the
most part, stand away from the left edge, and have no words. What a formula says needs a model; here it is found and cut
out, and it keeps tables and figures from growing over it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from s1pro.corpus.pdf.layout import BODY, FORMULA, FREE, Layout, words_in
from s1pro.corpus.pdf.view import IMAGE, PATH, View
from s1pro.corpus.records import Box

_NUMBER = re.compile(r"^\(\s?(?:[A-Z]\.?)?\d{1,3}(?:\.\d{1,3})?[a-z]?\s?\)$")
_TAIL = re.compile(r"\s(\(\s?(?:[A-Z]\.?)?\d{1,3}(?:\.\d{1,3})?[a-z]?\s?\))$")
_SIGNS = re.compile(r"[=≈≃≡<>≤≥∑∏∫√∂∇±×→←↔∞∈]")


@dataclass
class FormulaFound:
    """A displayed formula; `label` is its number as printed."""

    box: Box
    label: str
    lines: list[int]
    confidence: float


def find_formulas(view: View, layout: Layout) -> list[FormulaFound]:
    """All displayed formulas from top to bottom; their lines get the role `FORMULA`."""
    found: list[FormulaFound] = []
    used: set[int] = set()
    boxes = view.boxes
    numbered = [i for i, text in enumerate(view.texts) if layout.roles[i] == FREE and _NUMBER.match(text)]
    tables = _stacked(view, numbered)
    for i in numbered:
        if i in tables or i in used:
            continue
        x0, x1 = boxes[i, [0, 2]].tolist()
        column = layout.column_of(x0, x1)
        if abs(x1 - column[1]) > 8 and abs(x0 - column[0]) > 3:
            continue
        rows = [j for j in _beside(view, layout, i, column) if j not in used]
        if rows and _is_math(view, rows):
            used.update([*rows, i])
            found.append(_formula(view, layout, rows, view.texts[i], 0.9, extra=[i]))
    for i, text in enumerate(view.texts):
        if i in used or layout.roles[i] not in (FREE, BODY) or not _alone(view, layout, i):
            continue
        beside = _beside(view, layout, i, layout.column_of(*boxes[i, [0, 2]].tolist()), itself=True)
        rows = [j for j in beside if j not in used]
        if _SIGNS.search(" ".join(view.texts[j] for j in rows)) and not _in_art(view, _box(view, rows)):
            used.update(rows)
            tail = _TAIL.search(text)
            found.append(_formula(view, layout, rows, tail.group(1) if tail else "", 0.6))
    return sorted(found, key=lambda formula: formula.box[1])


def _alone(view: View, layout: Layout, i: int) -> bool:
    """Mathematical type away from the edges of its column, or at its end with a number; hardly any words."""
    text, line = view.texts[i], view.lines[i]
    if words_in(text) > 3 or len(text) < 4 or line.math <= 0.0:
        return False
    x0, x1 = view.boxes[i, [0, 2]].tolist()
    left, right = layout.column_of(x0, x1)
    if _TAIL.search(text) and right - x1 < 8:
        return line.math >= 0.25
    inset = x0 > left + 0.07 * (right - left)
    centred = abs((x0 + x1) - (left + right)) < 0.04 * (right - left) and words_in(text) <= 1
    return inset and (line.math >= 0.3 or (centred and "=" in text and not layout.mates[i]))


def _stacked(view: View, numbered: list[int]) -> set[int]:
    """Numbers in parentheses in a column below each other, at the distance of rows: cells of a table."""
    result: set[int] = set()
    for a, b, c in zip(numbered, numbered[1:], numbered[2:], strict=False):
        tops = view.boxes[[a, b, c], 1]
        if (np.diff(tops) < 1.7 * view.sizes[a]).all():
            result.update((a, b, c))
    return result


def _beside(view: View, layout: Layout, start: int, column: tuple[float, float], itself: bool = False) -> list[int]:
    """The pieces of the formula on the row of `start`, and those above and below that touch them."""
    boxes, size = view.boxes, float(view.sizes[start])
    low, high = float(boxes[start, 1]), float(boxes[start, 3])
    members: list[int] = [start] if itself else []
    window = range(max(0, start - 40), min(len(view.lines), start + 40))
    for _ in range(3):
        grown = False
        for j in window:
            if j in members or j == start or layout.roles[j] not in (FREE, BODY):
                continue
            x0, y0, x1, y1 = boxes[j].tolist()
            inside = x0 > column[0] - 4 and x1 < column[1] + 4
            if not inside or y0 > high + 0.15 * size or y1 < low - 0.15 * size:
                continue
            if words_in(view.texts[j]) > 4 or _NUMBER.match(view.texts[j]):
                continue
            members.append(j)
            low, high = min(low, y0), max(high, y1)
            grown = True
        if not grown or high - low > 12 * size:
            break
    return members


def _is_math(view: View, rows: list[int]) -> bool:
    text = " ".join(view.texts[j] for j in rows)
    math = max(view.lines[j].math for j in rows)
    return (bool(_SIGNS.search(text)) or math > 0.2) and not _in_art(view, _box(view, rows))


def _in_art(view: View, box: Box) -> bool:
    """Labels inside of drawings are not formulas."""
    drawn = view.art[(view.kind == PATH) | (view.kind == IMAGE)]
    tall = drawn[(drawn[:, 3] - drawn[:, 1]) > 1.3 * (box[3] - box[1])]
    over = (tall[:, 0] < box[2]) & (tall[:, 2] > box[0]) & (tall[:, 1] < box[3]) & (tall[:, 3] > box[1])
    return bool(over.any())


def _box(view: View, rows: list[int]) -> Box:
    low, high = view.boxes[rows, :2].min(axis=0), view.boxes[rows, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _formula(
    view: View, layout: Layout, rows: list[int], label: str, confidence: float, extra: list[int] | None = None
) -> FormulaFound:  # fmt: skip
    layout.roles[[*rows, *(extra or [])]] = FORMULA
    return FormulaFound(_box(view, rows), label.strip(), rows, confidence)
