"""Cells of a table from where its words and rules stand.

1. Labels whose middles are at one height are a row; labels of two lines of one cell are joined where rules separate
   rows, or where a line has text in its first column only below a full row and no number begins it.
2. Columns are the gaps that most rows leave free: label intervals that overlap across rows belong to one column. Labels
   over several columns (spanning headers) are set apart first.
3. The header ends at the first rule that has rows on both sides (the second one in tables with a rule on top), else
   after the first row if it is bold or holds no number while later rows do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s1pro.corpus.describe.axes import long_lines
from s1pro.corpus.describe.facts import TableFacts
from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.numbers import parse_number
from s1pro.corpus.describe.shapes import Shape
from s1pro.corpus.records import Box

FEWEST_ROWS = 2
Interval = tuple[float, float]


@dataclass
class _Row:
    labels: list[Label]
    top: float
    bottom: float

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def find_table(box: Box, shapes: Sequence[Shape], labels: Sequence[Label]) -> TableFacts | None:
    """None if the labels do not stand in at least two rows and two columns."""
    rows = _rows([label for label in labels if label.is_upright])
    if len(rows) < FEWEST_ROWS:
        return None
    columns = _columns(rows)
    if len(columns) < 2:
        return None
    rules = _rules(shapes, columns)
    number_of_header = _header_rows(rows, rules)
    while 0 < number_of_header < len(rows) - 1 and _names_columns(rows[number_of_header], columns, rows):
        number_of_header += 1
    header, spans = _header(rows[:number_of_header], columns)
    cells = [_cells(row, columns) for row in rows[number_of_header:]]
    cells = _joined(cells, rows[number_of_header:], rules)
    if not cells:
        return None
    body = tuple(tuple(row) for row in cells)
    return TableFacts(header=tuple(header), rows=body, spans=tuple(spans), ruled=bool(rules))


def _rows(labels: Sequence[Label]) -> list[_Row]:
    """Step 1, from top to bottom."""
    rows: list[_Row] = []
    for label in sorted(labels, key=lambda label: label.start[1]):
        base = label.start[1]
        last = rows[-1] if rows else None
        if last is not None and abs(base - last.labels[0].start[1]) < 0.35 * label.size:
            last.labels.append(label)
            last.top, last.bottom = min(last.top, label.box[1]), max(last.bottom, label.box[3])
        else:
            rows.append(_Row([label], label.box[1], label.box[3]))
    for row in rows:
        row.labels.sort(key=lambda label: label.box[0])
    return rows


def _columns(rows: Sequence[_Row]) -> list[Interval]:
    """Step 2. Rows with the usual number of labels decide; the others only add what lies in a free gap."""
    counts = [len(row.labels) for row in rows]
    usual = max(set(counts), key=lambda count: (counts.count(count) * count, count))
    sure = [row for row in rows if len(row.labels) >= usual]
    intervals = _merged([(label.box[0], label.box[2]) for row in sure for label in row.labels])
    if len(intervals) < usual:  # some label spans: take it only from the rows that agree with the usual number
        columns = [[row.labels[i] for row in sure if len(row.labels) == usual] for i in range(usual)]
        intervals = [(min(c.box[0] for c in column), max(c.box[2] for c in column)) for column in columns if column]
        if any(b[0] < a[1] - 1 for a, b in itertools.pairwise(intervals)):
            intervals = _merged([(c.box[0] + 0.3, c.box[2] - 0.3) for column in columns for c in column])
    for row in rows:
        for label in row.labels:
            span = (label.box[0], label.box[2])
            if not any(_overlap(span, interval) > 0 for interval in intervals):
                intervals.append(span)
    return sorted(intervals)


def _merged(intervals: list[Interval]) -> list[Interval]:
    merged: list[list[float]] = []
    for start, end in sorted(intervals):
        if merged and start < merged[-1][1] - 0.5:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return [(start, end) for start, end in merged]


def _overlap(a: Interval, b: Interval) -> float:
    return min(a[1], b[1]) - max(a[0], b[0])


def _touched(label: Label, columns: Sequence[Interval]) -> list[int]:
    """The columns that a label stands over; the nearest if it is over none."""
    span = (label.box[0], label.box[2])
    over = [i for i, c in enumerate(columns) if _overlap(span, c) > 0.15 * min(label.size, c[1] - c[0])]
    if over:
        return over
    middle = (span[0] + span[1]) / 2
    return [int(np.argmin([abs((column[0] + column[1]) / 2 - middle) for column in columns]))]


def _cells(row: _Row, columns: Sequence[Interval]) -> list[str]:
    cells = [""] * len(columns)
    for label in row.labels:
        first = _touched(label, columns)[0]
        cells[first] = f"{cells[first]} {label.text}".strip()
    return cells


def _rules(shapes: Sequence[Shape], columns: Sequence[Interval]) -> list[float]:
    """Heights of the horizontal rules over at least half of the table, from top to bottom."""
    width = columns[-1][1] - columns[0][0]
    pieces: dict[int, float] = {}
    for height, start, end in long_lines(shapes, 0):
        pieces[round(height)] = pieces.get(round(height), 0.0) + min(end, columns[-1][1]) - max(start, columns[0][0])
    heights = sorted(height for height, length in pieces.items() if length > 0.5 * width)
    return [float(h) for i, h in enumerate(heights) if i == 0 or h - heights[i - 1] > 2]


def _header_rows(rows: Sequence[_Row], rules: Sequence[float]) -> int:
    """Step 3."""
    inner = [rule for rule in rules if rows[0].middle < rule < rows[-1].middle]
    if inner:
        above = sum(row.middle < inner[0] for row in rows)
        dense = len(inner) >= len(rows) - 2  # rules between all rows tell nothing
        if above <= max(3, len(rows) // 3) and (not dense or above == 1):
            return above
    first, later = rows[0].labels, [label for row in rows[1:] for label in row.labels]
    bold = all(label.bold for label in first) and not all(label.bold for label in later)
    worded = not any(parse_number(label.text) is not None for label in first)
    return 1 if bold or (worded and any(parse_number(label.text) is not None for label in later)) else 0


def _names_columns(row: _Row, columns: Sequence[Interval], rows: Sequence[_Row]) -> bool:
    """A second line of headers: nothing in the first column, no numbers, while most of the table is numbers."""
    first = any(0 in _touched(label, columns) for label in row.labels)
    words = not any(parse_number(label.text) is not None for label in row.labels)
    numbers = [parse_number(label.text) is not None for other in rows for label in other.labels]
    return not first and words and len(row.labels) > 1 and 2 * sum(numbers) > len(numbers) - len(rows)


def _header(rows: Sequence[_Row], columns: Sequence[Interval]) -> tuple[list[str], list[str]]:
    """Texts of the columns, lines joined; headers over several columns apart."""
    header, spans = [""] * len(columns), []
    for row in rows:
        for label in row.labels:
            over = _touched(label, columns)
            if len(over) > 1:
                spans.append(label.text)
            else:
                header[over[0]] = f"{header[over[0]]} {label.text}".strip()
    return header, spans


def _joined(cells: list[list[str]], rows: Sequence[_Row], rules: Sequence[float]) -> list[list[str]]:
    """Lines that continue the cells of the row above: where rules stand between rows, all lines between two rules."""
    inner = [rule for rule in rules if rows and rows[0].middle < rule < rows[-1].middle]
    if len(inner) < 2 or len(inner) >= len(rows) - 1:
        return cells
    edges = [-1e9, *inner, 1e9]
    bands = [[i for i, row in enumerate(rows) if a < row.middle < b] for a, b in itertools.pairwise(edges)]
    bands = [band for band in bands if band]
    continuing = all(sum(bool(cells[i][0]) for i in band) <= 1 for band in bands)
    if not continuing:
        return cells
    return [[" ".join(filter(None, (cells[i][c] for i in band))) for c in range(len(cells[0]))] for band in bands]
