"""A page turned so that some of its text is upright: what the search for figures works on.

Floats in landscape are printed turned by a quarter. Instead of rules for every direction there is one set of rules for
upright text, and a page whose captions run up or down is looked at a second time, turned (`views`). Boxes that are
found are turned back (`View.back`).

Of the graphics only what leaves ink on white paper is kept: white fills, invisible paths and backgrounds of the whole
page are not art. Thin long boxes are rules: tables and fractions have them, and so has the furniture of a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.pdf.glyphs import Array, Line
from s1pro.corpus.records import Box

WHITE = 246
THIN = 3.0
LONG = 14.0
WHOLE_PAGE = 0.7
TOP, FOOT = 0.085, 0.925
PATH, IMAGE, HORIZONTAL, VERTICAL = 0, 1, 2, 3
Index = NDArray[np.int64]


@dataclass
class View:
    """Upright text and visible graphics.

    Attributes:
        lines, boxes, sizes: text that is upright in this view, from top to bottom; boxes (N, 4) in this view.
        other: (K, 4), boxes of text in other directions; `other_lines` are these lines.
        art, kind: (M, 4) boxes of visible graphics; `PATH`, `IMAGE`, or a rule `HORIZONTAL` or `VERTICAL`.
        source: for each item the index of its path in the page, -1 for images.
        page_images: share of the page under raster images that cover nearly all of it.
    """

    turn: int
    width: float
    height: float
    lines: list[Line]
    boxes: Array
    other_lines: list[Line]
    other: Array
    art: Array
    kind: NDArray[np.int8]
    source: Index
    page_images: float
    frames: Array = field(default_factory=lambda: np.zeros((0, 4)))

    @cached_property
    def sizes(self) -> Array:
        return np.array([line.size for line in self.lines])

    @cached_property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    def drop(self, items: Index) -> None:
        """Takes items out of the art; frames of text are still known as `frames`."""
        self.frames = np.concatenate([self.frames, self.art[items]])
        keep = np.ones(len(self.art), dtype=bool)
        keep[items] = False
        self.art, self.kind, self.source = self.art[keep], self.kind[keep], self.source[keep]

    def back(self, box: Box) -> Box:
        """A box of this view on the page as shown."""
        x0, y0, x1, y1 = box
        if self.turn == 90:
            return y0, self.width - x1, y1, self.width - x0
        if self.turn == 270:
            return self.height - y1, x0, self.height - y0, x1
        if self.turn == 180:
            return self.width - x1, self.height - y1, self.width - x0, self.height - y0
        return box


def view_of(content: PageContent, turn: int = 0) -> View:
    """The page for a reader of text that runs at `turn` degrees (0, 90, 180, 270) counter-clockwise as shown."""
    upright = [line for line in content.lines if line.angle == turn and not line.invisible]
    others = [line for line in content.lines if line.angle != turn and not line.invisible]
    boxes = _turned(np.array([line.box for line in upright]).reshape(-1, 4), turn, content)
    order = np.lexsort((boxes[:, 0], boxes[:, 1]))
    other = _turned(np.array([line.box for line in others]).reshape(-1, 4), turn, content)
    art, kind, source, page_images = _art(content)
    strip = _strips(art, kind, content)
    art, kind, source = _turned(art[~strip], turn, content), kind[~strip], source[~strip]
    if turn in (90, 270):
        swap = {HORIZONTAL: VERTICAL, VERTICAL: HORIZONTAL}
        kind = np.array([swap.get(k, k) for k in kind.tolist()], dtype=np.int8)
    width, height = (content.width, content.height) if turn in (0, 180) else (content.height, content.width)
    return View(
        turn, width, height, [upright[i] for i in order], boxes[order], others, other, art, kind, source, page_images
    )


def _strips(art: Array, kind: NDArray[np.int8], content: PageContent) -> NDArray[np.bool_]:
    """Logos, bars of colour and rules at the very top and foot, with nothing else of the art near them.

    A rule with text close below and none above is the first of a table, not the one under a running head.
    """
    result = np.zeros(len(art), dtype=bool)
    if not len(art):
        return result
    height, text = content.height, content.line_boxes
    for inside, near in (
        (art[:, 3] < TOP * height, art[:, 1] < TOP * height + 12),
        (art[:, 1] > FOOT * height, art[:, 3] > FOOT * height - 12),
    ):
        part = np.flatnonzero(near)
        for group in clusters(art[part], gap=6.0):
            members = part[group]
            if not inside[members].all():
                continue
            y0, y1 = art[members, 1].min(), art[members, 3].max()
            below = ((text[:, 1] > y0) & (text[:, 1] < y1 + 13)).any()
            above = (text[:, 3] < y0 + 2).any()
            if below and not above and (kind[members] == HORIZONTAL).all():
                continue
            result[members] = True
    return result


def _turned(boxes: Array, turn: int, content: PageContent) -> Array:
    x0, y0, x1, y1 = boxes.T
    if turn == 90:
        return np.stack([content.height - y1, x0, content.height - y0, x1], axis=1)
    if turn == 270:
        return np.stack([y0, content.width - x1, y1, content.width - x0], axis=1)
    if turn == 180:
        return np.stack([content.width - x1, content.height - y1, content.width - x0, content.height - y0], axis=1)
    return boxes


def _inked(colour: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (colour[:, 3] > 12) & (colour[:, :3].min(axis=1) < WHITE)


def _art(content: PageContent) -> tuple[Array, NDArray[np.int8], Index, float]:
    """Visible graphics, cut to the page."""
    paths, images = content.paths, content.images
    boxes = np.concatenate([paths.boxes, images.boxes])
    seen = np.concatenate([_inked(paths.fill) | _inked(paths.stroke), np.ones(len(images), dtype=bool)])
    source = np.concatenate([np.arange(len(paths)), np.full(len(images), -1)])
    with np.errstate(invalid="ignore"):
        low = np.maximum(boxes[:, :2], 0.0)
        high = np.minimum(boxes[:, 2:], [content.width, content.height])
        size = high - low
        whole = size.prod(axis=1) >= WHOLE_PAGE * content.width * content.height
        keep = seen & (size >= 0).all(axis=1) & ~np.isnan(boxes).any(axis=1) & (size.max(axis=1) > 0.5)
    covered = whole & keep & (source < 0)
    keep &= ~whole
    size, source = size[keep], source[keep]
    kind = np.select(
        [source < 0, (size[:, 1] <= THIN) & (size[:, 0] >= LONG), (size[:, 0] <= THIN) & (size[:, 1] >= LONG)],
        [IMAGE, HORIZONTAL, VERTICAL], PATH,
    ).astype(np.int8)  # fmt: skip
    return np.concatenate([low, high], axis=1)[keep], kind, source, float(covered.any())


def clusters(boxes: Array, gap: float, limit: int = 4000) -> list[Index]:
    """Groups of boxes that are at most `gap` apart, by a sweep from top to bottom; at most `limit` boxes take part.

    The sweep keeps one open group per stack of boxes and merges groups that meet: its cost is boxes times open groups.
    """
    order = np.argsort(boxes[:, 1], kind="stable")[:limit]
    open_groups: list[tuple[list[float], list[int]]] = []
    done: list[list[int]] = []
    for i in order.tolist():
        x0, y0, x1, y1 = boxes[i].tolist()
        hull, members = [x0, y0, x1, y1], [i]
        rest = []
        for other, indices in open_groups:
            if other[3] + gap < y0:
                done.append(indices)
            elif other[0] - gap <= hull[2] and hull[0] <= other[2] + gap:
                hull = [min(hull[0], other[0]), min(hull[1], other[1]), max(hull[2], other[2]), max(hull[3], other[3])]
                members = indices + members if len(indices) > len(members) else members + indices
            else:
                rest.append((other, indices))
        open_groups = [*rest, (hull, members)]
    return [np.array(indices) for indices in [*done, *[indices for _, indices in open_groups]]]
