"""From axes to panels: which axes belong together, what they are called, and what names the panel.

1. An axis without the frame of a panel around it finds one among the drawn rectangles; else a horizontal and a vertical
   axis whose ends meet make one.
2. A frame without labels of its own, of the size of its neighbours, shares the axis below it or to its left.
3. The title of an axis is the nearest free label beyond its tick labels, along the axis; several lines are joined. An
   axis without one shares the title that stands in the middle of all axes of its row.
4. Above the frame stands the title of the panel; "(a)", "b)" or a single bold letter near a corner is its label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from s1pro.corpus.describe.axes import Axis, long_lines
from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.numbers import parse_number
from s1pro.corpus.describe.shapes import Shape
from s1pro.corpus.records import Box

SMALLEST_PANEL = 24.0
NARROWEST = 6.0  # colour bars
MEETING = 15.0
MOST_FRAMES = 200
PANEL_LABEL = re.compile(r"(?:[(\[]?(?:[a-z]|[A-Z]|i{1,3}|iv|v)[)\]]|[(\[]\d[)\]])")
BARE_LETTER = re.compile(r"[A-Za-z][.:]?")


@dataclass
class Panel:
    """A frame on the page with its axes; `shared` holds the directions whose labels stand at another panel."""

    frame: Box
    x: Axis | None = None
    y: Axis | None = None
    right: Axis | None = None
    label: Label | None = None
    title: list[Label] = field(default_factory=list)
    shared: set[int] = field(default_factory=set)

    @property
    def axes(self) -> list[Axis]:
        return [axis for axis in (self.x, self.y, self.right) if axis is not None]

    def contains(self, box: Box, margin: float = 1.5) -> bool:
        """Whether the middle of a box lies in the frame."""
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        x0, y0, x1, y1 = self.frame
        return x0 - margin <= x <= x1 + margin and y0 - margin <= y <= y1 + margin


def find_panels(shapes: Sequence[Shape], axes: Sequence[Axis]) -> list[Panel]:
    """Steps 1 and 2, in reading order."""
    frames = _rectangles(shapes)
    panels: list[Panel] = []
    framed: set[int] = set()
    for axis in sorted(axes, key=lambda axis: -(axis.extent[1] - axis.extent[0])):
        frame = _frame_of(axis, frames)
        if frame is not None:
            _place(axis, _panel_at(frame, panels))
            framed.add(id(axis))
    rest = [axis for axis in axes if id(axis) not in framed]
    panels += _meeting(rest, shapes)
    _share(panels, frames)
    return sorted(panels, key=lambda panel: (round(panel.frame[1] / 12), panel.frame[0]))


def _rectangles(shapes: Iterable[Shape]) -> list[Box]:
    found: list[Box] = []
    for shape in shapes:
        big = max(shape.w, shape.h) >= SMALLEST_PANEL and min(shape.w, shape.h) >= NARROWEST
        if shape.kind == "rectangle" and big and not any(_same(shape.box, box) for box in found):
            found.append(shape.box)
            if len(found) >= MOST_FRAMES:
                break
    return found


def _same(a: Box, b: Box, tolerance: float = 2.0) -> bool:
    return all(abs(p - q) <= tolerance for p, q in zip(a, b, strict=True))


def _frame_of(axis: Axis, frames: Sequence[Box]) -> Box | None:
    """The rectangle along whose edge the axis runs."""
    k = axis.k
    fitting = []
    for frame in frames:
        side = frame[3 - k] if axis.outward > 0 else frame[1 - k]
        away = (axis.height - side) * axis.outward
        if not -6 <= away <= 14:
            continue
        ends = abs(frame[k] - axis.extent[0]) + abs(frame[2 + k] - axis.extent[1])
        around = frame[k] - 2 <= axis.positions[0] and axis.positions[-1] <= frame[2 + k] + 2
        if ends < 5 or (around and axis.extent == (axis.positions[0], axis.positions[-1])):
            fitting.append((abs(away) + ends, frame))
    return min(fitting)[1] if fitting else None


def _panel_at(frame: Box, panels: list[Panel]) -> Panel:
    for panel in panels:
        if _same(panel.frame, frame):
            return panel
    panels.append(Panel(frame))
    return panels[-1]


def _place(axis: Axis, panel: Panel) -> bool:
    """Puts an axis at its side of a panel. False if the place is taken."""
    if axis.k == 0 and panel.x is None:
        panel.x = axis
    elif axis.k == 1 and axis.outward < 0 and panel.y is None:
        panel.y = axis
    elif axis.k == 1 and axis.outward > 0 and panel.right is None:
        panel.right = axis
    else:
        return False
    return True


def _meeting(axes: Sequence[Axis], shapes: Sequence[Shape]) -> list[Panel]:
    """Pairs of axes whose ends meet; an axis alone takes the height of the lines at its end, or of the marks."""
    panels: list[Panel] = []
    horizontal = [axis for axis in axes if axis.k == 0]
    vertical = [axis for axis in axes if axis.k == 1]
    paired: set[int] = set()
    for x in horizontal:
        near = [y for y in vertical if id(y) not in paired and _meet(x, y)]
        if near:
            y = min(near, key=lambda y: abs(y.extent[1] - x.height))
            panel = Panel((x.extent[0], y.extent[0], x.extent[1], y.extent[1]), x=x)
            _place(y, panel)
            paired |= {id(x), id(y)}
            panels.append(panel)
    for axis in axes:
        if id(axis) in paired:
            continue
        beside = next((p for p in panels if _beside(axis, p)), None)
        if beside is None or not _place(axis, beside):
            panels += _alone(axis, shapes)
    return panels


def _meet(x: Axis, y: Axis) -> bool:
    at_x = min(abs(y.height - x.extent[0]), abs(y.height - x.extent[1])) <= MEETING
    at_y = min(abs(x.height - y.extent[0]), abs(x.height - y.extent[1])) <= MEETING
    crosses = x.extent[0] - MEETING <= y.height <= x.extent[1] + MEETING
    crosses = crosses and y.extent[0] - MEETING <= x.height <= y.extent[1] + MEETING
    return (at_x or at_y) and crosses


def _beside(axis: Axis, panel: Panel) -> bool:
    start, end = panel.frame[axis.k], panel.frame[2 + axis.k]
    return abs(axis.extent[0] - start) < 4 and abs(axis.extent[1] - end) < 4


def _alone(axis: Axis, shapes: Sequence[Shape]) -> list[Panel]:
    start, end = axis.extent
    across = [
        line
        for line in long_lines(shapes, 1 - axis.k)
        if start - 3 <= line[0] <= end + 3 and line[1] - MEETING <= axis.height <= line[2] + MEETING
    ]
    if across:
        low, high = min(line[1] for line in across), max(line[2] for line in across)
    else:
        inner = [
            shape.box
            for shape in shapes
            if start - 1 <= shape.centre[axis.k] <= end + 1
            and shape.colour not in (None, (255, 255, 255))
            and (axis.height - shape.centre[1 - axis.k]) * axis.outward > 0
        ]
        if not inner:
            return []
        low, high = min(box[1 - axis.k] for box in inner), max(box[3 - axis.k] for box in inner)
    if high - low < SMALLEST_PANEL:
        return []
    panel = Panel((start, low, end, high) if axis.k == 0 else (low, start, high, end))
    _place(axis, panel)
    return [panel]


def _share(panels: list[Panel], frames: Sequence[Box]) -> None:
    """Step 2."""
    owners = [panel for panel in panels if panel.axes]
    for frame in frames:
        alike = any(_alike(frame, panel.frame) for panel in owners)
        if alike and not any(_same(frame, panel.frame) or _inside(frame, panel.frame) for panel in panels):
            panels.append(Panel(frame))
    for panel in panels:
        for k in (0, 1):
            if (panel.x if k == 0 else panel.y or panel.right) is not None:
                continue
            row = [other for other in owners if _aligned(panel, other, k) and (other.x if k == 0 else other.y)]
            if row:
                near = min(row, key=lambda other: abs(other.frame[1 - k] - panel.frame[1 - k]))
                panel.shared.add(k)
                panel.x, panel.y = (near.x, panel.y) if k == 0 else (panel.x, near.y)
    panels[:] = [panel for panel in panels if _is_proven(panel)]


def _is_proven(panel: Panel) -> bool:
    """Axes in both directions, or one with at least three labelled ticks; tables and diagrams have neither."""
    numeric = [axis for axis in panel.axes if axis.is_numeric]
    both = panel.x is not None and (panel.y is not None or panel.right is not None)
    ticked = all(axis.has_ticks for axis in panel.axes)  # maps of two lists of names have ticks, tables have none
    sure = any(axis.has_ticks and len(axis.labels) >= 3 for axis in numeric)
    return (both and (bool(numeric) or ticked)) or sure


def _alike(a: Box, b: Box) -> bool:
    return abs((a[2] - a[0]) - (b[2] - b[0])) < 2 and abs((a[3] - a[1]) - (b[3] - b[1])) < 2


def _inside(a: Box, b: Box) -> bool:
    return a[0] >= b[0] - 1 and a[1] >= b[1] - 1 and a[2] <= b[2] + 1 and a[3] <= b[3] + 1


def _aligned(panel: Panel, other: Panel, k: int) -> bool:
    a, b = panel.frame, other.frame
    return other is not panel and abs(a[k] - b[k]) < 3 and abs(a[2 + k] - b[2 + k]) < 3


def is_panel_label(label: Label, frame: Box) -> bool:
    """ "(a)" or a bold letter at the upper left corner of a frame, or just outside of it."""
    text = label.text.strip()
    if not PANEL_LABEL.fullmatch(text) and not (BARE_LETTER.fullmatch(text) and label.bold):
        return False
    x, y = label.centre
    reach = 7 * label.size
    return frame[0] - reach <= x <= frame[0] + max(3 * label.size, 0.2 * (frame[2] - frame[0])) and (
        frame[1] - 2.5 * label.size <= y <= frame[1] + 2.5 * label.size
    )


def is_number(label: Label) -> bool:
    return parse_number(label.text) is not None
