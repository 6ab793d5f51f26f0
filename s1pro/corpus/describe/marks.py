"""What is drawn between the axes, sorted by what it is: lines, points, bars, areas, and what only helps to read them.

Left out are frames, backgrounds, ticks, grid lines and the samples of legends. Straight lines across the whole frame
are reference lines if they stand out by their colour. Of the rest,

    bars     filled rectangles that begin at a common base line, or stand on one another
    cells    many rectangles of one size in many colours: a map
    points   small shapes about as wide as high
    lines    open polylines; pieces of one colour that follow each other in x are one
    bands    translucent areas around a line; other areas are series
    errors   short upright segments through points
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from s1pro.corpus.describe.colours import distance, is_grey
from s1pro.corpus.describe.legend import same_colour
from s1pro.corpus.describe.panels import Panel
from s1pro.corpus.describe.shapes import Colour, Shape
from s1pro.corpus.pdf.content import Array

WHITE = (255, 255, 255)
FEWEST_CELLS = 12


@dataclass
class Marks:
    """The drawn things of one panel. `bars` go up unless `horizontal`."""

    lines: list[list[Shape]] = field(default_factory=list)
    points: list[Shape] = field(default_factory=list)
    bars: list[Shape] = field(default_factory=list)
    horizontal: bool = False
    stacked: bool = False
    areas: list[Shape] = field(default_factory=list)
    bands: int = 0
    cells: int = 0
    error_bars: bool = False
    reference_lines: int = 0


def sort_marks(panel: Panel, shapes: Iterable[Shape], left_out: set[int], colours: Sequence[Colour]) -> Marks:
    """Sorts the shapes of a panel.

    Args:
        left_out: ids of shapes that belong to legends.
        colours: those of the legend; straight lines in one of them are series.
    """
    inside = [shape for shape in shapes if id(shape) not in left_out and _is_content(shape, panel)]
    marks = Marks()
    rectangles = [shape for shape in inside if shape.kind == "rectangle" and shape.fill not in (None, WHITE)]
    rectangles = [shape for shape in rectangles if not (_is_point_like(shape, rectangles))]
    bars = _bars(rectangles, marks)
    marks.cells = 0 if bars else _cells(rectangles)
    taken = {id(shape) for shape in rectangles}
    rest = [shape for shape in inside if id(shape) not in taken]
    marks.points = [shape for shape in rest if shape.is_mark]
    strokes = [shape for shape in rest if shape.kind in ("line", "segment")]
    strokes = _without_helpers(strokes, panel, marks, colours)
    marks.lines = _lines(strokes)
    for shape in rest:
        if shape.kind == "closed" and not shape.is_small:
            _area(shape, marks)
    return marks


def _is_content(shape: Shape, panel: Panel) -> bool:
    """Inside the frame, and neither the frame itself, nor its ticks, nor white."""
    if shape.colour is None or shape.colour == WHITE or not panel.contains(shape.clipped):
        return False
    x0, y0, x1, y1 = panel.frame
    w, h = x1 - x0, y1 - y0
    if shape.kind == "rectangle" and shape.w > 0.97 * w and shape.h > 0.97 * h:
        return False
    if shape.kind == "line" and shape.stroke is not None and is_grey(shape.stroke) and _along_frame(shape, panel):
        return False
    if shape.kind != "segment":
        return True
    flat, upright = shape.h < 0.3, shape.w < 0.3
    if upright and (abs(shape.box[0] - x0) < 1.2 or abs(shape.box[0] - x1) < 1.2) and shape.h > 0.5 * h:
        return False
    if flat and (abs(shape.box[1] - y0) < 1.2 or abs(shape.box[1] - y1) < 1.2) and shape.w > 0.5 * w:
        return False
    at_side = flat and min(abs(shape.box[0] - x0), abs(shape.box[2] - x1)) < 1.2
    at_foot = upright and min(abs(shape.box[1] - y0), abs(shape.box[3] - y1)) < 1.2
    return not ((at_side or at_foot) and max(shape.w, shape.h) <= 12 and is_grey(shape.colour))


def _along_frame(shape: Shape, panel: Panel) -> bool:
    x0, y0, x1, y1 = panel.frame
    near = [min(abs(x - x0), abs(x - x1)) < 1.2 or min(abs(y - y0), abs(y - y1)) < 1.2 for x, y in shape.points]
    return all(near) and len(shape.points) <= 6


def _is_point_like(shape: Shape, others: Sequence[Shape]) -> bool:
    """A square marker: several others have exactly its size, and they are squares or have other feet."""
    if not shape.is_mark:
        return False
    alike = [s for s in others if abs(s.w - shape.w) < 0.1 and abs(s.h - shape.h) < 0.1 and s.fill == shape.fill]
    feet = {round(s.box[3]) for s in alike}
    touching = sum(abs(s.box[0] - shape.box[2]) < 0.3 and abs(s.box[1] - shape.box[1]) < 0.3 for s in others)
    square = abs(shape.w - shape.h) < 0.08 * shape.w
    return len(alike) >= 3 and (square or len(feet) >= 3) and not touching


def _bars(rectangles: Sequence[Shape], marks: Marks) -> bool:
    """Finds bars; True if there are any. Upright bars have their feet at one height, lying ones their left ends."""
    best: tuple[int, bool, list[Shape], list[Shape]] = (1, False, [], [])
    for horizontal, foot, head in ((False, 3, 1), (True, 0, 2)):
        feet = [round(shape.box[foot] * 2) for shape in rectangles]
        base = max(set(feet), key=feet.count, default=0)
        on_base = [s for s in rectangles if abs(s.box[foot] * 2 - base) <= 1 or abs(s.box[head] * 2 - base) <= 1]
        others = [shape for shape in rectangles if shape not in on_base]
        stacked = [shape for shape in others if _stands_on(shape, rectangles, foot, head)]
        if feet.count(base) >= 2 and len(on_base) + len(stacked) > best[0]:
            best = (len(on_base) + len(stacked), horizontal, on_base, stacked)
    number, horizontal, on_base, stacked = best
    lengths = {round(s.w if horizontal else s.h, 1) for s in on_base}
    if not on_base or number < 0.6 * len(rectangles) or (len(lengths) < 2 and len(on_base) > 4):
        return False
    marks.bars, marks.horizontal, marks.stacked = [*on_base, *stacked], horizontal, len(stacked) >= 2
    return True


def _stands_on(shape: Shape, others: Sequence[Shape], foot: int, head: int) -> bool:
    """Whether a bar begins where another one of the same width ends."""
    side = (foot + 1) % 2
    for other in others:
        aside = abs(other.box[side] - shape.box[side]) + abs(other.box[side + 2] - shape.box[side + 2])
        if other is not shape and aside < 1.2 and abs(other.box[head] - shape.box[foot]) < 0.6:
            return True
    return False


def _cells(rectangles: Sequence[Shape]) -> int:
    sizes = {(round(s.w, 1), round(s.h, 1)) for s in rectangles}
    colours = {s.fill for s in rectangles}
    return len(rectangles) if len(rectangles) >= FEWEST_CELLS and len(sizes) <= 4 and len(colours) >= 4 else 0


def _without_helpers(strokes: list[Shape], panel: Panel, marks: Marks, colours: Sequence[Colour]) -> list[Shape]:
    """Takes away grid and reference lines and error bars."""
    x0, y0, x1, y1 = panel.frame
    kept, across, upright = [], [], []
    for shape in strokes:
        flat, steep = shape.h < 0.3, shape.w < 0.3
        full = (flat and shape.w > 0.93 * (x1 - x0)) or (steep and shape.h > 0.93 * (y1 - y0))
        if shape.kind == "segment" and full:
            across.append(shape)
        elif shape.kind == "segment" and (steep or (flat and shape.w < 12)):
            upright.append(shape)
        else:
            kept.append(shape)
    for shape in across:
        assert shape.colour is not None
        alone = (
            sum(other.colour == shape.colour and (other.w > other.h) == (shape.w > shape.h) for other in across) == 1
        )
        if any(same_colour(shape.colour, colour) for colour in colours) and shape.w > shape.h:
            kept.append(shape)
        elif not is_grey(shape.colour) or (alone and max(shape.colour) < 60):
            marks.reference_lines += 1
    posts = [shape for shape in upright if shape.h > shape.w]
    centres = np.array([s.centre for s in (*marks.points, *marks.bars)] or [(-1e9, -1e9)])
    hits = sum(np.abs(centres[:, 0] - shape.centre[0]).min() < 1.0 for shape in posts)
    marks.error_bars = len(posts) >= 3 and hits >= 0.7 * len(posts)
    return kept


def _lines(strokes: Sequence[Shape]) -> list[list[Shape]]:
    """Pieces of one colour and width that do not lie above each other are one line."""
    groups: dict[tuple[Colour | None, float], list[Shape]] = defaultdict(list)
    for shape in strokes:
        groups[(shape.stroke or shape.fill, round(shape.width, 1))].append(shape)
    lines: list[list[Shape]] = []
    for pieces in groups.values():
        mine: list[list[Shape]] = []
        for piece in sorted(pieces, key=lambda s: s.box[0]):
            follows = [line for line in mine if _follows(piece, line[-1])]
            if follows:
                min(follows, key=lambda line: _distance(line[-1], piece)).append(piece)
            else:
                mine.append([piece])
        lines += [line for line in mine if _is_drawn_through(line)]
    total = [sum(piece.w + piece.h for piece in line) for line in lines]
    longest = max(total, default=0.0)
    return [line for line, length in zip(lines, total, strict=True) if length > 0.05 * longest and length > 6]


def _is_drawn_through(line: Sequence[Shape]) -> bool:
    """Not only a few strokes far apart, as the medians and caps of box plots are."""
    extent = max(piece.box[2] for piece in line) - min(piece.box[0] for piece in line)
    return len(line) == 1 or sum(piece.w for piece in line) > 0.5 * extent


def _follows(piece: Shape, last: Shape) -> bool:
    return piece.box[0] >= last.box[2] - 0.05 * max(last.w, piece.w) - 0.2


def _distance(a: Shape, b: Shape) -> float:
    end, start = a.points[np.argmax(a.points[:, 0])], b.points[np.argmin(b.points[:, 0])]
    return float(np.abs(end - start).max())


def line_points(line: Sequence[Shape]) -> Array:
    """All points of a line in order; a line that runs back in x keeps its own order."""
    return np.concatenate([piece.points for piece in line])


def _area(shape: Shape, marks: Marks) -> None:
    """A band if a line of a similar hue runs through it, else an area of its own."""
    if shape.fill is None:
        marks.lines.append([shape])
        return
    for line in marks.lines:
        colour = line[0].stroke
        middle = line_points(line).mean(axis=0)
        within = shape.box[0] - 1 <= middle[0] <= shape.box[2] + 1 and shape.box[1] <= middle[1] <= shape.box[3]
        if colour is not None and within and distance(colour, shape.fill) < 40 and shape.alpha < 0.95:
            marks.bands += 1
            return
    marks.areas.append(shape)
