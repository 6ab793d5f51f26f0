"""Axes without ticks: numbers whose places fit a scale, and names that fill a line evenly.

Both are weaker evidence than ticks, so they are looked for among the labels that are left. Numbers must be three or
more and face coloured marks. Names must stand along a line that ends at an axis across, evenly, and fill it: so do the
categories of bar charts whose ticks are between the bars or not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s1pro.corpus.describe.axes import Axis, Candidate, Line, choose, long_lines, make_axis, span_of
from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.numbers import parse_number
from s1pro.corpus.describe.shapes import Shape


def find_unticked(
    shapes: Sequence[Shape], labels: Sequence[Label], found: Sequence[Axis], claimed: set[int]
) -> list[Axis]:
    """More axes than those found by ticks; their labels are added to `claimed`."""
    axes = list(found)
    for k in (0, 1):
        axes += choose(_numbers_in_a_row(labels, k, axes, shapes), claimed)
    for k in (0, 1):
        lines = [line for line in long_lines(shapes, k) if _wants_names(line, k, axes)]
        axes += choose(_names_in_a_row(labels, k, claimed, lines), claimed)
    return axes


def _numbers_in_a_row(
    labels: Sequence[Label], k: int, found: Sequence[Axis], shapes: Sequence[Shape]
) -> list[Candidate]:
    """Axes without ticks and grid lines: three numbers or more at one height whose places fit a scale."""
    used = {id(label) for axis in found for label in axis.labels}
    free = [
        label for label in labels if id(label) not in used and label.is_upright and parse_number(label.text) is not None
    ]
    edge = 1 if k == 0 else 2  # feet of numbers side by side, right ends of numbers above each other
    rows: list[list[Label]] = []
    for label in sorted(free, key=lambda label: label.box[edge + (2 if k == 0 else 0)]):
        place = label.box[3] if k == 0 else label.box[2]
        last = rows[-1][-1] if rows else None
        if last is not None and abs((last.box[3] if k == 0 else last.box[2]) - place) < 1.0 and last.size == label.size:
            rows[-1].append(label)
        else:
            rows.append([label])
    candidates = []
    for row in rows:
        middles = [sum(span_of(label, k)) / 2 for label in row]
        if len(row) < 3 or not _faces_marks(row, k, shapes):
            continue
        inner = min(label.box[1] for label in row) if k == 0 else max(label.box[2] for label in row)
        outward = 1 if k == 0 else -1
        axis = make_axis(k, outward, inner, (min(middles), max(middles)), list(zip(middles, row, strict=True)))
        if axis is not None and axis.scale in ("linear", "log"):
            candidates.append(Candidate(axis, 0.0))
    return candidates


def _wants_names(line: Line, k: int, found: Sequence[Axis]) -> bool:
    """A line at the end of an axis across, along which no axis was found yet."""
    height, start, end = line
    meets = has = False
    for axis in found:
        if axis.k == k:
            same = abs(axis.extent[0] - start) < 5 and abs(axis.extent[1] - end) < 5
            has = has or (same and abs(axis.height - height) < 15)
        else:
            at_end = min(abs(axis.height - start), abs(axis.height - end)) < 12
            meets = meets or (at_end and min(abs(height - axis.extent[0]), abs(height - axis.extent[1])) < 12)
    return meets and not has


def _names_in_a_row(labels: Sequence[Label], k: int, claimed: set[int], lines: Sequence[Line]) -> list[Candidate]:
    """Categories without ticks at their names: names along a line, evenly spaced, that fill it."""
    candidates = []
    for height, start, end in sorted(set(lines)):
        for outward in (1, -1):
            near = []
            for label in labels:
                low, high = span_of(label, 1 - k)
                gap = low - height if outward > 0 else height - high
                middle = sum(span_of(label, k)) / 2
                if id(label) not in claimed and -1 <= gap <= 1.6 * label.size and start <= middle <= end:
                    near.append((middle, label))
            near.sort(key=lambda pair: pair[0])
            if len(near) < 2 or len({(label.size, label.angle) for _, label in near}) > 1:
                continue
            steps = np.diff([middle for middle, _ in near])
            even = steps.max() - steps.min() < 0.12 * steps.mean()
            fills = abs(steps.mean() * len(near) - (end - start)) < 0.15 * (end - start)
            middle = (near[0][0] + near[-1][0]) / 2
            if even and fills and abs(middle - (start + end) / 2) < 0.08 * (end - start):
                axis = make_axis(k, outward, height, (start, end), near)
                if axis is not None:
                    candidates.append(Candidate(axis, 0.0))
    return candidates


def _faces_marks(row: Sequence[Label], k: int, shapes: Sequence[Shape]) -> bool:
    """Whether coloured marks lie within the span of the row, on its inner side."""
    low, high = min(label.box[k] for label in row), max(label.box[2 + k] for label in row)
    inside = [
        shape for shape in shapes if low <= shape.centre[k] <= high and shape.colour not in (None, (255, 255, 255))
    ]
    if k == 0:
        return sum(shape.box[3] <= row[0].box[1] + 2 for shape in inside) >= 3
    return sum(shape.box[0] >= row[0].box[2] - 2 for shape in inside) >= 3
