"""Vector paths, pictures and shadings of a page: a walk over its objects, and over those of its Form XObjects.

Bounds of an object are in the space of the form that holds it, so the walk carries the product of the matrices from
there to the shown page. What a clip path hides (curves that leave the axes of a plot) is cut from the boxes; clip paths
are shared between objects, so each is read once.
"""

from __future__ import annotations

import ctypes
from collections import deque
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.content import Images, Outline, Paths
from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.library import Library, columns, each

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

TEXT, PATH, IMAGE, SHADING, FORM = 1, 2, 3, 4, 5
Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """Caps per page, so that a hostile page costs bounded time in Python."""

    max_chars: int = 60_000
    max_objects: int = 20_000
    max_depth: int = 12
    max_points: int = 200_000


def compose(inner: Matrix, outer: Matrix) -> Matrix:
    """First `inner`, then `outer`; both (3, 2), used as `(x, y, 1) @ matrix`."""
    return np.vstack([inner[:2] @ outer[:2], inner[2:] @ outer[:2] + outer[2:]])


def transform(boxes: Array, matrix: Matrix) -> Array:
    """Boxes (left, bottom, right, top) through a matrix; the result is (x0, y0, x1, y1)."""
    left, bottom, right, top = boxes.T
    xs = np.stack([left, right, left, right], axis=1)
    ys = np.stack([bottom, bottom, top, top], axis=1)
    u = xs * matrix[0, 0] + ys * matrix[1, 0] + matrix[2, 0]
    v = xs * matrix[0, 1] + ys * matrix[1, 1] + matrix[2, 1]
    return np.stack([u.min(axis=1), v.min(axis=1), u.max(axis=1), v.max(axis=1)], axis=1)


class Drawn:
    """What the walk over the objects has gathered: addresses, boxes and matrices, per kind of object.

    `hidden` are the text objects of forms that lie outside of their clip paths: an included picture often has a
    caption or page number of its own that was cropped away.
    """

    def __init__(self) -> None:
        self.handles: list[int] = []
        self.kinds: list[int] = []
        self.boxes: list[Array] = []
        self.matrices: list[Matrix] = []
        self.scales: list[float] = []
        self.groups: list[int] = []
        self.num_groups = 0
        self.hidden: set[int] = set()

    def _select(self, kinds: tuple[int, ...]) -> tuple[list[int], Array, NDArray[np.int32]]:
        wanted = [i for i, kind in enumerate(self.kinds) if kind in kinds]
        boxes = np.concatenate(self.boxes) if self.boxes else np.zeros((0, 4))
        return wanted, boxes[wanted], np.array([self.groups[i] for i in wanted], dtype=np.int32)

    def images(self) -> Images:
        _, boxes, groups = self._select((IMAGE,))
        return Images(boxes, groups)

    def paths(self, library: Library) -> Paths:
        wanted, boxes, groups = self._select((PATH, SHADING))
        self.path_index = wanted
        handles = [self.handles[i] for i in wanted]
        count = len(handles)
        shading = np.array([self.kinds[i] == SHADING for i in wanted], dtype=bool)
        modes = np.zeros((count, 2), dtype=np.int32)
        fill, stroke = np.zeros((count, 4), dtype=np.uint32), np.zeros((count, 4), dtype=np.uint32)
        width = np.zeros((count, 1), dtype=np.float32)
        if count:
            each(library.draw_mode, handles, *columns(modes))
            each(library.fill, handles, *columns(fill))
            each(library.stroke, handles, *columns(stroke))
            each(library.line_width, handles, *columns(width))
        fill[:, 3] = np.where((modes[:, 0] != 0) | shading, fill[:, 3], 0)
        fill[shading] = (128, 128, 128, 255)
        stroke[:, 3] = np.where(modes[:, 1] != 0, stroke[:, 3], 0)
        own = np.zeros((count, 6), dtype=np.float32)
        if count:
            each(library.matrix, handles, next(columns(own)))
        outer = np.array([self.scales[i] for i in wanted])
        scale = outer * np.sqrt(np.abs(own[:, 0] * own[:, 3] - own[:, 1] * own[:, 2]))
        return Paths(
            boxes, fill.astype(np.uint8), stroke.astype(np.uint8), width[:, 0].astype(np.float64) * scale,
            groups, shading,
        )  # fmt: skip


def walk(page: PdfPage, shown: Matrix, limits: ReadLimits, reached: list[str], library: Library) -> Drawn:
    """Visits all objects in drawing order, Form XObjects with their matrices, without recursion."""
    drawn = Drawn()
    root = ctypes.cast(page.raw, ctypes.c_void_p).value or 0
    clips: dict[int, Array] = {}
    left = limits.max_objects
    queue: deque[tuple[int, bool, Matrix, int, int]] = deque([(root, False, shown, -1, 0)])
    while queue:
        owner, is_form, matrix, group, depth = queue.popleft()
        total = library.form_count(owner) if is_form else library.count(owner)
        if total > left:
            reached.append(f"objects of one page > {limits.max_objects}")
            total = left
        left -= total
        getter = library.form_object if is_form else library.object
        handles = [handle for handle in map(getter, repeat(owner, total), range(total)) if handle]
        kinds = list(map(library.type, handles))
        _gather(drawn, handles, kinds, matrix, group, clips, library)
        for handle, kind in zip(handles, kinds, strict=True):
            if kind == FORM and depth >= limits.max_depth:
                reached.append(f"forms nested deeper than {limits.max_depth}")
            elif kind == FORM:
                own = np.zeros((1, 6), dtype=np.float32)
                library.matrix(handle, own.ctypes.data)
                inner = compose(own.astype(np.float64).reshape(3, 2), matrix)
                queue.append((handle, True, inner, group if group >= 0 else drawn.num_groups, depth + 1))
                drawn.num_groups += group < 0
    reached[:] = list(dict.fromkeys(reached))
    return drawn


def _gather(
    drawn: Drawn, handles: list[int], kinds: list[int], matrix: Matrix, group: int, clips: dict[int, Array],
    library: Library,
) -> None:  # fmt: skip
    if group >= 0:
        texts = [handle for handle, kind in zip(handles, kinds, strict=True) if kind == TEXT]
        extents = np.zeros((len(texts), 4), dtype=np.float32)
        if texts:
            each(library.bounds, texts, *columns(extents))
        seen = _clip(extents.astype(np.float64), texts, clips, library)
        drawn.hidden.update(handle for handle, gone in zip(texts, np.isnan(seen[:, 0]).tolist(), strict=True) if gone)
    wanted = [(handle, kind) for handle, kind in zip(handles, kinds, strict=True) if kind in (PATH, IMAGE, SHADING)]
    if not wanted:
        return
    objects = [handle for handle, _ in wanted]
    boxes = np.zeros((len(wanted), 4), dtype=np.float32)
    each(library.bounds, objects, *columns(boxes))
    clipped = _clip(boxes.astype(np.float64), objects, clips, library)
    drawn.handles.extend(objects)
    drawn.kinds.extend(kind for _, kind in wanted)
    drawn.boxes.append(transform(clipped, matrix))
    drawn.matrices.extend(repeat(matrix, len(wanted)))
    drawn.scales.extend(repeat(float(np.sqrt(abs(np.linalg.det(matrix[:2])))), len(wanted)))
    drawn.groups.extend(repeat(group, len(wanted)))


def _clip(boxes: Array, objects: list[int], clips: dict[int, Array], library: Library) -> Array:
    """Cuts boxes down to their clip paths (of plots, for example); `nan` where nothing is left."""
    low, high = boxes[:, :2].copy(), boxes[:, 2:].copy()
    for i, handle in enumerate(objects):
        clip = library.clip(handle)
        for path in range(min(8, max(0, library.clip_paths(clip) if clip else 0))):
            first = library.clip_segment(clip, path, 0)
            if not first:
                continue
            if first not in clips:
                clips[first] = _clip_box(clip, path, library)
            box = clips[first]
            low[i] = np.maximum(low[i], box[:2])
            high[i] = np.minimum(high[i], box[2:])
    result = np.concatenate([low, high], axis=1)
    result[(high < low).any(axis=1)] = np.nan
    return result


def _clip_box(clip: int, path: int, library: Library) -> Array:
    count = min(2000, library.clip_segments(clip, path))
    points = np.zeros((count, 2), dtype=np.float32)
    segments = [library.clip_segment(clip, path, i) for i in range(count)]
    each(library.point, segments, *columns(points))
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)


def read_outline(drawn: Drawn, path: int, limits: ReadLimits, library: Library, owner: PdfPage) -> Outline:
    entry = drawn.path_index[path]
    handle = drawn.handles[entry]
    count = min(limits.max_points, max(0, library.segments(handle)))
    segments = list(map(library.segment, repeat(handle, count), range(count)))
    points = np.zeros((count, 2), dtype=np.float32)
    own = np.zeros((1, 6), dtype=np.float32)
    if count:
        each(library.point, segments, *columns(points))
    library.matrix(handle, own.ctypes.data)
    matrix = compose(own.astype(np.float64).reshape(3, 2), drawn.matrices[entry])
    kinds = np.fromiter(map(library.segment_type, segments), dtype=np.int32, count=count)
    closed = np.fromiter(map(library.segment_close, segments), dtype=np.int32, count=count)
    renamed = np.select([kinds == 2, kinds == 0], [0, 1], 2).astype(np.int8)  # PDFium: 0 line, 1 Bézier, 2 move
    return Outline(points.astype(np.float64) @ matrix[:2] + matrix[2], renamed, closed != 0)
