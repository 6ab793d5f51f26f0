"""Cuts labels apart that run along several ticks: `E. coli wheat yeast`, one name under each tick, is three labels.

Dense tick labels stand closer than words in a sentence, so they are joined first; where ticks are known, the pieces of
a label are divided among the ticks above them such that every part is centred under its tick (the last ones may end at
it). The cut with the least sum of distances is found by dynamic programming; if it leaves a part aside, nothing is cut:
the label is a title then.
"""

from __future__ import annotations

from collections.abc import Sequence

from s1pro.corpus.describe.axes import LONGEST_TICK, SHORTEST_AXIS, Ticks, long_lines, split_row, tick_rows
from s1pro.corpus.describe.labels import Label, part_of
from s1pro.corpus.describe.shapes import Shape

MOST_PIECES = 200


def separate(labels: Sequence[Label], shapes: Sequence[Shape]) -> list[Label]:
    """All labels, those along several ticks of a horizontal axis cut apart."""
    lines = long_lines(shapes, 0)
    found = [*tick_rows(shapes, 0, 0.8, LONGEST_TICK), *tick_rows(shapes, 0, SHORTEST_AXIS, 1e9)]
    rows = [ticks for row in found for ticks in split_row(row, lines)]
    return [part for label in labels for part in _cut(label, rows, labels)]


def _cut(label: Label, rows: Sequence[Ticks], labels: Sequence[Label]) -> list[Label]:
    if not label.is_upright or not 2 <= len(label.pieces) <= MOST_PIECES:
        return [label]
    for row in rows:
        gap = _gap(label, row)
        ticks = [tick for tick in row.ticks if label.box[0] - 1 <= tick <= label.box[2] + 1]
        if gap is None or len(ticks) < 2 or len(ticks) > len(label.pieces):
            continue
        nearer = [
            other for other in labels if other is not label and (g := _gap(other, row)) is not None and g < gap - 2
        ]
        if any(other.box[0] - 1 <= tick <= other.box[2] + 1 for other in nearer for tick in ticks):
            continue
        level = [other for other in labels if abs(other.centre[1] - label.centre[1]) < 0.5 * label.size]
        if len(ticks) + sum(_gap(other, row) is not None for other in level) - 1 < 0.6 * len(row.ticks):
            continue  # words in a plot that happen to stand at ticks
        parts = _divide(label, ticks)
        if not all(any(character.isalnum() for character in part.text) for part in parts):
            continue  # a minus is no label
        if all(_aside(part, tick) < 0.4 * label.size for part, tick in zip(parts, ticks, strict=True)):
            return parts
    return [label]


def _gap(label: Label, row: Ticks) -> float | None:
    """Distance of a label from a row of ticks; None if it is far, or not along it."""
    below, above = label.box[1] - row.high, row.low - label.box[3]
    gap = max(below, above)
    along = label.box[2] >= row.ticks[0] - 1 and label.box[0] <= row.ticks[-1] + 1
    return gap if along and -1.2 <= gap <= 1.5 * label.size else None


def _divide(label: Label, ticks: Sequence[float]) -> list[Label]:
    """The best cut into as many parts as there are ticks."""
    pieces, number = label.pieces, len(label.pieces)
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for tick in ticks:
        row: dict[int, tuple[float, int]] = {}
        for start, (cost, _) in best[-1].items():
            for stop in range(start + 1, number + 1):
                total = cost + _aside(part_of(label, pieces[start:stop]), tick)
                if stop not in row or total < row[stop][0]:
                    row[stop] = (total, start)
        best.append(row)
    stop, parts = number, []
    for row in reversed(best[1:]):
        start = row[stop][1] if stop in row else max(stop - 1, 0)
        parts.append(part_of(label, pieces[start:stop] or pieces[:1]))
        stop = start
    return parts[::-1]


def _aside(part: Label, tick: float) -> float:
    ends = min(abs(part.box[0] - tick), abs(part.box[2] - tick)) + 0.5
    return min(abs(part.centre[0] - tick), ends if ends < 2 else 1e9)
