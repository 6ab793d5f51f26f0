"""The vector paths of a crop as simple shapes: segments, rectangles, polylines, closed figures, with their colours.

A path may hold many separate strokes (all ticks of an axis, all cells of a map), so every sub-path is a shape of its
own; curves are taken by their end points. Thin grey rectangles are segments, as some programs draw rules that way.
Small crosses and stars, several strokes around one point, are one mark.

A crop may hold a hundred thousand strokes (a map, a dense scatter). At most `MAX_SHAPES` are looked at, and `truncated`
says that there were more: what is said about such a crop must not count.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from s1pro.corpus.pdf.content import Array, Outline, PageContent
from s1pro.corpus.records import Box

MAX_SHAPES = 6000
MARK_SIZE = 16.0
THIN = 1.3
GREY = 12
Kind = Literal["segment", "rectangle", "line", "closed", "cross"]
Colour = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Shape:
    """One sub-path.

    Attributes:
        points: (N, 2) on the page.
        box: of the points, without the width of the pen.
        stroke, fill: colour, None if not drawn.
        alpha: opacity of the filling (of the stroke, if nothing is filled), 0 to 1.
        path: number of the path on the page; sub-paths share it.
        group: which form drew it, -1 for the page.
        clipped: the box of the whole path, as far as it is visible, pen included.
        curved: it has Bézier parts.
    """

    kind: Kind
    points: Array
    box: Box
    stroke: Colour | None
    fill: Colour | None
    alpha: float
    width: float
    path: int
    group: int
    clipped: Box
    curved: bool = False

    @property
    def w(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def h(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def colour(self) -> Colour | None:
        """What a person would name: the filling, or the stroke of hollow and white shapes."""
        if self.fill is not None and (min(self.fill) < 250 or self.stroke is None):
            return self.fill
        return self.stroke

    @property
    def form(self) -> str:
        """What a marker looks like: circle, square, triangle, diamond, cross, or nothing that has a name here."""
        if self.kind in ("cross", "rectangle") or self.curved:
            return {"cross": "cross", "rectangle": "square"}.get(self.kind, "circle")
        corners = {(round(float(x), 1), round(float(y), 1)) for x, y in self.points}
        return {3: "triangle", 4: "diamond"}.get(len(corners), "")

    @property
    def is_small(self) -> bool:
        return self.w <= MARK_SIZE and self.h <= MARK_SIZE

    @property
    def is_mark(self) -> bool:
        """Small and about as wide as high: a marker of a data point."""
        large, small = max(self.w, self.h), min(self.w, self.h)
        return self.kind in ("closed", "rectangle", "cross") and self.is_small and small > 0.4 * large and large > 0.8


@dataclass(frozen=True)
class Shapes:
    """Shapes in drawing order, and whether some were left out."""

    shapes: tuple[Shape, ...]
    truncated: bool = False


def shapes_in(content: PageContent, box: Box, limit: int = MAX_SHAPES) -> Shapes:
    """The shapes whose visible box has its centre inside the crop."""
    boxes = content.paths.boxes
    with np.errstate(invalid="ignore"):
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres >= box[:2]) & (centres <= box[2:])).all(axis=1)
    drawn = (content.paths.fill[:, 3] > 0) | (content.paths.stroke[:, 3] > 0)
    shapes: list[Shape] = []
    for path in np.flatnonzero(inside & drawn & ~content.paths.shading).tolist():
        shapes += _shapes_of(content, path)
        if len(shapes) > limit:
            return Shapes(tuple(shapes[:limit]), truncated=True)
    return Shapes(tuple(shapes), truncated=bool(content.limits))


def _shapes_of(content: PageContent, path: int) -> list[Shape]:
    paths, outline = content.paths, content.outline(path)
    parts = _sub_paths(outline)
    if not parts:
        return []
    stroke = _colour(paths.stroke[path])
    fill = _colour(paths.fill[path])
    alpha = float((paths.fill if fill is not None else paths.stroke)[path, 3]) / 255
    width, group = float(paths.line_width[path]), int(paths.group[path])
    curved = bool((outline.kinds == 2).any())
    clipped = tuple(float(value) for value in paths.boxes[path])

    def shape(kind: Kind, points: Array) -> Shape:
        low, high = points.min(axis=0), points.max(axis=0)
        around = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        return Shape(kind, points, around, stroke, fill, alpha, width, path, group, clipped, curved)  # type: ignore[arg-type]

    if stroke is None:  # a filling without extent is not visible: the bar of an empty bin
        parts = [part for part in parts if np.ptp(part[0], axis=0).min() > 0.02]
        if not parts:
            return []
    whole = np.concatenate([points for points, _ in parts])
    if 2 <= len(parts) <= 8 and _is_cross(parts, whole):
        return [shape("cross", whole)]
    return [shape(_kind(points, closed, fill, stroke, curved), points) for points, closed in parts]


def _sub_paths(outline: Outline) -> list[tuple[Array, bool]]:
    """Points and whether they are closed. Of a curve (control, control, end) only the end is kept."""
    kinds = outline.kinds
    keep = kinds != 2
    curve = np.flatnonzero(kinds == 2)
    keep[curve[2::3]] = True
    points, moves = outline.points[keep], (kinds == 0)[keep]
    starts = [*np.flatnonzero(moves).tolist(), len(points)]
    closed_at = outline.closed[keep]
    parts = []
    for first, last in itertools.pairwise(starts):
        part = points[first:last]
        if len(part) < 2:
            continue
        distance = float(np.abs(part[0] - part[-1]).max())
        parts.append((part, bool(closed_at[first:last].any()) or (len(part) > 3 and distance < 0.05)))
    return parts


def _is_cross(parts: list[tuple[Array, bool]], whole: Array) -> bool:
    if np.ptp(whole, axis=0).max() > 12 or any(len(points) > 2 for points, _ in parts):
        return False
    middles = np.array([points.mean(axis=0) for points, _ in parts])
    return bool(np.ptp(middles, axis=0).max() < 0.25 * np.ptp(whole, axis=0).max())


def _kind(points: Array, closed: bool, fill: Colour | None, stroke: Colour | None, curved: bool) -> Kind:
    size = np.ptp(points, axis=0)
    if len(points) == 2 and not closed:
        return "segment"
    if not curved and _is_rectangle(points):
        thin = min(size) <= THIN and stroke is None and max(size) > 2 * min(size)
        return "segment" if thin and fill is not None and max(fill) - min(fill) <= GREY else "rectangle"
    if closed or (fill is not None and stroke is None):
        return "closed"
    if float(size.min()) < 0.01 and len(points) <= 3:
        return "segment"  # legend samples, drawn through their middle
    return "line"


def _is_rectangle(points: Array) -> bool:
    if len(points) not in (4, 5):
        return False
    low, high = points.min(axis=0), points.max(axis=0)
    on_edge = (np.abs(points - low) < 0.02) | (np.abs(points - high) < 0.02)
    corners = {(bool(x), bool(y)) for x, y in (np.abs(points - low) < 0.02)}
    return bool(on_edge.all()) and len(corners) == 4


def _colour(value: np.ndarray) -> Colour | None:
    return None if value[3] == 0 else (int(value[0]), int(value[1]), int(value[2]))
