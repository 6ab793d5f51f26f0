"""Legends: texts with a sample of a colour, a line or a marker right before them.

A sample alone proves little (a text may stand beside a data point), so entries must come as a group: aligned below each
other or side by side, or inside a box of their own; one entry alone needs a box, a
sample that is a line or stands well apart, or a place outside of all panels. The title
of a legend stands above its first entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1pro.corpus.describe.colours import distance
from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.panels import Panel
from s1pro.corpus.describe.shapes import Colour, Shape
from s1pro.corpus.records import Box

SAME_COLOUR = 12.0
LONGEST_SAMPLE = 50.0
GAP = 2.3


@dataclass(frozen=True, eq=False)
class Entry:
    """A text with the shapes of its sample."""

    label: Label
    samples: tuple[Shape, ...]

    @property
    def colour(self) -> Colour | None:
        colours = [shape.colour for shape in self.samples if shape.colour is not None]
        return next((colour for colour in colours if colour != (255, 255, 255)), None)

    @property
    def form(self) -> str:
        """Of its marker, if it has one."""
        marks = [shape.form for shape in self.samples if shape.is_mark]
        return marks[-1] if marks else ""

    @property
    def has_line(self) -> bool:
        return any(shape.kind in ("segment", "line") for shape in self.samples)

    @property
    def start(self) -> float:
        return min(shape.box[0] for shape in self.samples)


@dataclass(frozen=True, eq=False)
class Legend:
    """Entries in reading order, with the box around them and their samples."""

    entries: tuple[Entry, ...]
    box: Box
    frame: Shape | None = None
    title: Label | None = None


def find_legends(
    shapes: Sequence[Shape], labels: Sequence[Label], used: set[int], panels: Sequence[Panel]
) -> list[Legend]:
    """All legends; their labels are added to `used`."""
    small = [s for s in shapes if s.w <= LONGEST_SAMPLE and s.h <= 24 and s.colour not in (None, (255, 255, 255))]
    entries = []
    for label in labels:
        if id(label) not in used and label.is_upright:
            samples = [s for s in _samples(label, small) if _same_side(s, label, panels)]
            if samples and not any(_between(other, label, samples) for other in labels):
                entries.append(Entry(label, tuple(samples)))
    legends = [legend for group in _groups(entries) if (legend := _legend(group, shapes, panels)) is not None]
    for legend in legends:
        used.update(id(entry.label) for entry in legend.entries)
    return [_titled(legend, labels, used) for legend in legends]


def _samples(label: Label, small: Sequence[Shape]) -> list[Shape]:
    """Shapes on the line of a text, directly before it."""
    middle, size = label.centre[1], label.size
    beside = []
    for shape in small:
        gap = label.box[0] - shape.box[2]
        level = abs(shape.centre[1] - middle) <= 0.45 * size
        if -0.5 <= gap <= GAP * size and level and shape.h <= 1.7 * size and max(shape.w, shape.h) > 1.2:
            upright = shape.kind == "segment" and shape.h > shape.w  # a tick, or an error bar
            if not upright:
                beside.append(shape)
    if not beside:
        return []
    right = max(shape.box[2] for shape in beside)
    start = min((s.box[0] for s in beside if s.box[2] > right - 22), default=right)
    return [shape for shape in beside if shape.box[2] > start - 2]


def _same_side(sample: Shape, label: Label, panels: Sequence[Panel]) -> bool:
    """A point at the edge of a plot is no sample of a text outside of it."""
    return all(panel.contains(label.box) or not panel.contains(sample.box, 0.5) for panel in panels)


def _between(other: Label, label: Label, samples: Sequence[Shape]) -> bool:
    if other is label or not samples:
        return False
    left = max(shape.box[2] for shape in samples)
    same_line = other.box[1] < label.centre[1] < other.box[3]
    return same_line and left - 2 <= other.centre[0] <= label.box[0]


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries that are near each other and aligned, in columns or rows."""
    groups: list[list[Entry]] = []
    for entry in sorted(entries, key=lambda e: (round(e.label.centre[1]), e.start)):
        near = [group for group in groups if any(_aligned(entry, other) for other in group)]
        for group in near[1:]:
            near[0].extend(group)
            groups.remove(group)
        if near:
            near[0].append(entry)
        else:
            groups.append([entry])
    return groups


def _aligned(a: Entry, b: Entry) -> bool:
    if abs(a.label.size - b.label.size) > 0.3:
        return False
    size = a.label.size
    below = abs(a.label.box[0] - b.label.box[0]) < 2.5 and abs(a.label.centre[1] - b.label.centre[1]) < 3.2 * size
    first, second = sorted((a, b), key=lambda e: e.start)
    gap = second.start - first.label.box[2]
    beside = abs(a.label.centre[1] - b.label.centre[1]) < 0.4 * size and -2 < gap < 8 * size
    return below or beside


def _legend(entries: list[Entry], shapes: Sequence[Shape], panels: Sequence[Panel]) -> Legend | None:
    boxes = [entry.label.box for entry in entries] + [s.box for entry in entries for s in entry.samples]
    box = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    frame = _frame(box, shapes)
    outside = not any(panel.contains(sample.box, 6) for panel in panels for sample in entries[0].samples)
    drawn = any(sample.kind in ("segment", "line") and sample.w >= 8 for sample in entries[0].samples)
    away = entries[0].label.box[0] - max(sample.box[2] for sample in entries[0].samples)
    proven = len(entries) >= 2 or frame is not None or drawn or outside or away > 0.9 * entries[0].label.size
    if not proven:
        return None
    columns = len({round(entry.start / 4) for entry in entries}) > 1
    rows = len({round(entry.label.centre[1] / 4) for entry in entries}) > 1
    if columns and rows:  # read column by column, as programs fill them
        entries = sorted(entries, key=lambda e: (round(e.start / 6), e.label.centre[1]))
    return Legend(tuple(entries), box, frame)


def _frame(box: Box, shapes: Sequence[Shape]) -> Shape | None:
    """The smallest box drawn closely around."""
    around = []
    for shape in shapes:
        if shape.kind not in ("rectangle", "closed", "line") or len(shape.points) < 4:
            continue
        b = shape.box
        contains = b[0] <= box[0] and b[1] <= box[1] and b[2] >= box[2] and b[3] >= box[3]
        margins = (b[2] - b[0]) - (box[2] - box[0]), (b[3] - b[1]) - (box[3] - box[1])
        if contains and margins[0] < 40 and margins[1] < 45:
            around.append((shape.w * shape.h, shape))
    return min(around, key=lambda pair: pair[0])[1] if around else None


def _titled(legend: Legend, labels: Sequence[Label], used: set[int]) -> Legend:
    left, top, right, _ = legend.box
    for label in labels:
        if id(label) in used or not label.is_upright:
            continue
        gap = (top - label.box[3]) / label.size
        aligned = abs(label.box[0] - left) < 5 or abs(label.centre[0] - (left + right) / 2) < 5
        if -0.2 <= gap <= 1.6 and aligned and _in_reach(label, legend):
            used.add(id(label))
            return Legend(legend.entries, legend.box, legend.frame, label)
    return legend


def _in_reach(label: Label, legend: Legend) -> bool:
    if legend.frame is None:
        return True
    b = legend.frame.box
    return b[0] - 1 <= label.centre[0] <= b[2] + 1 and b[1] - 1 <= label.centre[1] <= b[3] + 1


def legend_of(panel: Panel, panels: Sequence[Panel], legends: Sequence[Legend]) -> tuple[Legend | None, bool]:
    """The legend of a panel, and whether it is its own: inside of it, or outside of all and nearest to it.

    A panel without one may share the only legend of the figure.
    """
    inside = [legend for legend in legends if panel.contains(legend.box)]
    if inside:
        return max(inside, key=lambda legend: len(legend.entries)), True
    outside = [legend for legend in legends if not any(other.contains(legend.box) for other in panels)]
    own = [legend for legend in outside if min(panels, key=lambda other: _away(legend, other)) is panel]
    if own:
        return min(own, key=lambda legend: _away(legend, panel)), True
    return (outside[0], False) if len(legends) == 1 and outside else (None, False)


def _away(legend: Legend, panel: Panel) -> float:
    """Distance of a legend from a panel; one that stands over several panels is as near to all of them."""
    x0, y0, x1, y1 = legend.box
    dx = max(panel.frame[0] - x1, 0, x0 - panel.frame[2])
    dy = max(panel.frame[1] - y1, 0, y0 - panel.frame[3])
    return dx + dy


def same_colour(a: Colour | None, b: Colour | None) -> bool:
    return a is not None and b is not None and distance(a, b) < SAME_COLOUR
