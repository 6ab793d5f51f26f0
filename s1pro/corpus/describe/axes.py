"""Axes of charts: ticks, their labels, and the scale that fits them.

Ticks are short segments of one length, side by side, with labels at one end. Where a chart has none, its grid lines
serve (and `unticked` looks for what has neither). Horizontal and vertical axes go through
the same code: `k` is the direction along the axis (0 for x), `1 - k` the one across.

1. Rows of parallel segments that begin and end at the same height are found; the line of the axis (or the edge of its
   frame) that they touch cuts a row into the axes of panels that stand side by side.
2. Every tick takes the nearest label at its outer end whose middle (or end, if slanted) is at the tick.
3. A label belongs to one axis: rows with more labels choose first, then those that are nearer.
4. Numbers are fitted to positions, linearly and in their logarithm; the better one is the scale if it fits. Other
   labels are categories. Factors at the end of an axis ("1e6", "×10^−3") are part of the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.numbers import parse_number, parse_offset
from s1pro.corpus.describe.scales import Scale, fit_scale, without_strays
from s1pro.corpus.describe.shapes import Colour, Shape

LONGEST_TICK = 12.0
SHORTEST_AXIS = 20.0
REACH = 2.4
LIGHT = 215
FLUSH = 1.0
MOST_ROWS, MOST_TICKS = 120, 250
Line = tuple[float, float, float]
"""Height across, begin and end along."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """One axis.

    Attributes:
        k: 0 for a horizontal axis, 1 for a vertical one.
        outward: +1 if its labels stand below or to the right of it.
        height: where it is across; `extent`: from where to where along, on the page.
        positions, labels: of the ticks that have a label, in the order of the page.
        values: of the labels as printed, without `factor` and `shift`; None for categories.
        fit: value (or its logarithm to base 10) = fit[0] * position + fit[1].
        offset: the printed factor, or None.
        has_ticks: it was found by its ticks, the surest sign.
    """

    k: int
    outward: int
    height: float
    extent: tuple[float, float]
    positions: tuple[float, ...]
    labels: tuple[Label, ...]
    values: tuple[float, ...] | None
    scale: Scale
    fit: tuple[float, float] = (0.0, 0.0)
    offset: Label | None = None
    title: tuple[Label, ...] = ()
    has_ticks: bool = False

    @property
    def is_numeric(self) -> bool:
        return self.values is not None

    def value(self, position: float) -> float | None:
        """The number at a position (of an axis that is linear or logarithmic), without the printed factor."""
        if self.scale not in ("linear", "log"):
            return None
        value = self.fit[0] * position + self.fit[1]
        return float(10.0 ** min(max(value, -300.0), 300.0)) if self.scale == "log" else value

    def nearest(self, position: float) -> Label:
        """The label of the nearest tick."""
        return self.labels[int(np.argmin([abs(p - position) for p in self.positions]))]

    def reading(self, position: float) -> tuple[str, ...]:
        """What a reader can say of a position: the label of the tick that is near, or the two that are around it."""
        order = np.argsort(self.positions)
        places = np.array(self.positions)[order]
        after = int(np.searchsorted(places, position))
        if not self.is_numeric or after in (0, len(places)):
            return (self.nearest(position).text,)
        low, high = places[after - 1], places[after]
        share = (position - low) / (high - low)
        if share < 0.2 or share > 0.8:
            return (self.nearest(position).text,)
        pair = [order[after - 1], order[after]]
        if self.values is not None:
            pair.sort(key=self.values.__getitem__)
        return (self.labels[pair[0]].text, self.labels[pair[1]].text)

    def outer_edge(self) -> float:
        """How far the labels reach outwards."""
        edges = [span_of(label, 1 - self.k)[1 if self.outward > 0 else 0] for label in self.labels]
        return max(edges) if self.outward > 0 else min(edges)


def find_ticked(shapes: Sequence[Shape], labels: Sequence[Label], claimed: set[int]) -> list[Axis]:
    """All axes with at least two labelled ticks or grid lines; their labels are added to `claimed`."""
    found: list[Axis] = []
    for k in (0, 1):
        lines, across = long_lines(shapes, k), long_lines(shapes, 1 - k)
        candidates: list[Candidate] = []
        for shortest, longest in ((0.8, LONGEST_TICK), (SHORTEST_AXIS, 1e9)):
            for row in tick_rows(shapes, k, shortest, longest):
                for ticks in split_row(row, lines):
                    found_here = _match(k, ticks, labels)
                    candidates += [c for c in found_here if c.axis.is_numeric or not _is_inside(c.axis, across)]
        found += choose(candidates, claimed)
    return found


def long_lines(shapes: Iterable[Shape], k: int) -> list[Line]:
    """Straight lines along k, and the edges of rectangles that are empty or light (others are bars and boxes)."""
    lines: list[Line] = []
    for shape in shapes:
        start, end = shape.box[k], shape.box[2 + k]
        low, high = shape.box[1 - k], shape.box[3 - k]
        if end - start < SHORTEST_AXIS:
            continue
        if shape.kind == "segment" and high - low < 1.5:
            lines.append(((low + high) / 2, start, end))
        elif shape.kind == "rectangle" and (shape.fill is None or min(shape.fill) >= LIGHT):
            lines += [(low, start, end), (high, start, end)]
        elif shape.kind == "line" and len(shape.points) <= 6:  # axes drawn as one L or U
            lines += _straight_parts(shape, k)
    return lines


def _straight_parts(shape: Shape, k: int) -> list[Line]:
    parts: list[Line] = []
    for a, b in zip(shape.points[:-1], shape.points[1:], strict=True):
        if abs(a[1 - k] - b[1 - k]) < 0.3 and abs(a[k] - b[k]) >= SHORTEST_AXIS:
            parts.append((float(a[1 - k]), float(min(a[k], b[k])), float(max(a[k], b[k]))))
    return parts


@dataclass(frozen=True)
class Row:
    """Parallel segments across an axis: their common ends, and where along they are."""

    low: float
    high: float
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class Ticks(Row):
    """Those of one axis; `touching` if the line of the axis was found."""

    extent: tuple[float, float]
    touching: bool


@dataclass(frozen=True)
class Candidate:
    axis: Axis
    distance: float


def tick_rows(shapes: Sequence[Shape], k: int, shortest: float, longest: float) -> list[Row]:
    """Step 1: segments of one length and colour at one height."""
    segments = []
    for shape in shapes:
        if shape.kind == "segment" and shape.box[2 + k] - shape.box[k] < 1.5:
            low, high = shape.box[1 - k], shape.box[3 - k]
            if shortest <= high - low <= longest:
                segments.append((low, high, (shape.box[k] + shape.box[2 + k]) / 2, shape.stroke or shape.fill))
    groups: list[list[tuple[float, float, float, Colour | None]]] = []
    for segment in sorted(segments, key=lambda s: s[:3]):
        for group in reversed(groups[-12:]):
            ends = max(abs(group[0][0] - segment[0]), abs(group[0][1] - segment[1]))
            if ends < 0.6 and group[0][3] == segment[3]:
                group.append(segment)
                break
        else:
            groups.append([segment])
    return [
        Row(group[0][0], group[0][1], tuple(sorted({round(s[2], 2) for s in group})))
        for group in sorted(groups, key=len, reverse=True)[:MOST_ROWS]
        if 2 <= len(group) <= MOST_TICKS
    ]


def split_row(row: Row, lines: Sequence[Line]) -> list[Ticks]:
    """Cuts a row of ticks by the lines that they touch."""
    if row.high - row.low <= LONGEST_TICK:
        near = [line for line in lines if row.low - 1.2 <= line[0] <= row.high + 1.2]
    else:
        near = [line for line in lines if min(abs(line[0] - row.low), abs(line[0] - row.high)) <= 1.2]
    near = [line for line in near if sum(_spans(line, tick) for tick in row.ticks) >= 2]
    parts: dict[tuple[float, float], list[float]] = {}
    for tick in row.ticks:
        around = [line for line in near if _spans(line, tick)]
        extent = min(((line[1], line[2]) for line in around), key=lambda e: e[1] - e[0], default=(0.0, 0.0))
        key = next((k for k in parts if abs(k[0] - extent[0]) < 1.5 and abs(k[1] - extent[1]) < 1.5), extent)
        parts.setdefault(key, []).append(tick)
    result = []
    for (start, end), ticks in parts.items():
        touching = end > start
        extent = (start, end) if touching else (min(ticks), max(ticks))
        result.append(Ticks(row.low, row.high, tuple(ticks), extent, touching))
    return result


def _spans(line: Line, tick: float) -> bool:
    return line[1] - 1.2 <= tick <= line[2] + 1.2


def span_of(label: Label, k: int) -> tuple[float, float]:
    return label.box[k], label.box[2 + k]


def _match(k: int, row: Ticks, labels: Sequence[Label]) -> list[Candidate]:
    """Step 2, on either side of the ticks."""
    candidates = []
    for outward, edge in ((1, row.high), (-1, row.low)):
        pairs, distances = [], []
        for tick in row.ticks:
            last = tick in (row.ticks[0], row.ticks[-1])
            near = ((d, label) for label in labels if (d := _distance(label, k, tick, edge, outward, last)) is not None)
            best = min(near, key=lambda pair: pair[0], default=None)
            if best is not None:
                pairs.append((tick, best[1]))
                distances.append(best[0])
        nearest_first = [pairs[i] for i in np.argsort(distances, kind="stable")]
        axis = make_axis(k, outward, edge, row.extent, nearest_first)
        full = axis is not None and len(axis.labels) >= 0.6 * len(row.ticks)
        if axis is not None and (axis.is_numeric or (row.touching and full)):
            short = row.high - row.low <= LONGEST_TICK
            candidates.append(Candidate(replace(axis, has_ticks=short), float(np.mean(distances))))
    return candidates


def _is_inside(axis: Axis, across: Sequence[Line]) -> bool:
    """Whether the labels stand between lines that begin at the ends of the axis: inside the frame of a plot."""
    middle = float(np.mean([label.centre[1 - axis.k] for label in axis.labels]))
    ends = [line for line in across if min(abs(line[0] - axis.extent[0]), abs(line[0] - axis.extent[1])) < 1.5]
    return any(line[1] + 1 < middle < line[2] - 1 for line in ends)


def _distance(label: Label, k: int, tick: float, edge: float, outward: int, last: bool) -> float | None:
    """How far a label is from a tick, None if it is not at its outer end. The last ones may be shifted inwards."""
    low, high = span_of(label, 1 - k)
    gap = low - edge if outward > 0 else edge - high
    if not -1.2 <= gap <= REACH * label.size:
        return None
    anchors = [sum(span_of(label, k)) / 2]
    if label.angle % 90 and k == 0:
        anchors += [label.end[0], label.start[0], label.box[0], label.box[2]]
    tolerance = max(1.6, (0.6 if label.angle % 90 else 0.4) * label.size)
    aside = min(abs(anchor - tick) for anchor in anchors)
    if last and k == 0 and min(abs(label.box[0] - tick), abs(label.box[2] - tick)) < 1.5:
        aside = min(aside, FLUSH)
    return max(gap, 0.0) + aside if aside <= tolerance else None


def make_axis(
    k: int, outward: int, height: float, extent: tuple[float, float], pairs: list[tuple[float, Label]]
) -> Axis | None:
    """Step 4: an axis of ticks and labels; None if these are too few or contradict each other."""
    angles = [label.angle for _, label in pairs]
    usual = max(set(angles), key=angles.count, default=0)
    once: dict[int, tuple[float, Label]] = {}
    for tick, label in pairs:
        if label.angle == usual:
            once.setdefault(id(label), (tick, label))
    pairs = sorted(once.values(), key=lambda pair: pair[0])
    if len(pairs) < 2:
        return None
    numbers = [parse_number(label.text) for _, label in pairs]
    known = [(tick, label, number) for (tick, label), number in zip(pairs, numbers, strict=True) if number is not None]
    if len(known) < max(2, 0.75 * len(pairs)):
        positions, texts = zip(*pairs, strict=True)
        return Axis(k=k, outward=outward, height=height, extent=extent, positions=positions, labels=texts,
                    values=None, scale="category")  # fmt: skip
    positions, texts, values = zip(*known, strict=True)
    if len(set(values)) < 2:
        return None
    scale, fit = fit_scale(positions, values, [label.text for label in texts])
    if scale == "other" and len(values) >= 6:  # a label that was cut wrongly spoils the fit
        kept = without_strays(positions, values)
        positions, texts, values = (tuple(sequence[i] for i in kept) for sequence in (positions, texts, values))
        scale, fit = fit_scale(positions, values, [label.text for label in texts])
    steps = np.diff(values)
    if scale == "other" and not ((steps > 0).all() or (steps < 0).all()):
        return None
    return Axis(k=k, outward=outward, height=height, extent=extent, positions=positions, labels=texts,
                values=values, scale=scale, fit=fit)  # fmt: skip


def choose(candidates: list[Candidate], claimed: set[int]) -> list[Axis]:
    """Step 3."""
    chosen = []
    for candidate in sorted(candidates, key=lambda c: (-len(c.axis.labels), c.distance)):
        axis = candidate.axis
        free = [(p, label) for p, label in zip(axis.positions, axis.labels, strict=True) if id(label) not in claimed]
        if len(free) < len(axis.labels):
            again = (
                make_axis(axis.k, axis.outward, axis.height, axis.extent, free)
                if 2 * len(free) > len(axis.labels)
                else None
            )
            if again is None:
                continue
            axis = again
        claimed.update(id(label) for label in axis.labels)
        chosen.append(axis)
    return chosen


def with_offset(axis: Axis, labels: Sequence[Label], claimed: set[int]) -> Axis:
    """Finds the factor that is printed at the end of a numeric axis."""
    if not axis.is_numeric:
        return axis
    for label in labels:
        if id(label) in claimed or not label.is_upright or parse_offset(label.text) is None:
            continue
        x, y = label.centre
        if axis.k == 1:  # above the upper end
            fits = -2.5 * label.size < y - axis.extent[0] < 0 and abs(x - axis.height) < 5 * label.size
        else:  # below the right end
            reach = 4.5 * label.size
            fits = abs(label.box[2] - axis.extent[1]) < 2 * label.size and 0 < y - axis.height < reach
        if fits:
            claimed.add(id(label))
            return replace(axis, offset=label)
    return axis
