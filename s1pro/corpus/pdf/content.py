"""What is on one page of a PDF: characters, words, lines, vector paths and pictures, in one system of coordinates.

Boxes are `(x0, y0, x1, y1)` in points of the page as it is shown: origin at the top left corner of the crop box, y
downwards, `/Rotate` applied. The unit is that of the page (PDFium ignores `/UserUnit`, and so does the size that goes
with the boxes, so boxes relative to the page are right for any `/UserUnit`).

Characters, paths and pictures are structures of arrays, since a page has thousands; words and lines are objects and are
made when somebody asks. A *run* is what one operator of the page shows: its characters share font, size and direction.

Outlines (points of a path) are read when asked for, while the page is open; most pages never need them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.glyphs import Array, Chars, Font, Line, Runs, Word, hull
from s1pro.corpus.pdf.lines import build_lines


@dataclass(frozen=True)
class Paths:
    """Structure of arrays: vector paths in drawing order.

    Attributes:
        boxes: (N, 4), clipped to what is visible; `nan` if nothing is.
        fill, stroke: (N, 4) red, green, blue, alpha; alpha 0 if the path is not filled or not stroked.
        line_width: points.
        group: which Form XObject drew it, -1 for the page itself; paths of one plot often share a group.
        shading: the entry is a shading without an outline.
    """

    boxes: Array
    fill: NDArray[np.uint8]
    stroke: NDArray[np.uint8]
    line_width: Array
    group: NDArray[np.int32]
    shading: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Outline:
    """The points of a path; `kinds`: 0 move, 1 line, 2 Bézier (control, control, end); `closed`: the subpath ends."""

    points: Array
    kinds: NDArray[np.int8]
    closed: NDArray[np.bool_]


@dataclass(frozen=True)
class Images:
    """Structure of arrays: raster images, boxes clipped to what is visible."""

    boxes: Array
    group: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass
class PageContent:
    """One page. `limits` names every cap that was reached: what lies beyond is not in here."""

    number: int
    width: float
    height: float
    rotation: int
    chars: Chars
    runs: Runs
    fonts: tuple[Font, ...]
    paths: Paths
    images: Images
    limits: tuple[str, ...] = ()
    map_errors: float = 0.0
    outliner: Callable[[int], Outline] | None = field(default=None, repr=False)

    def outline(self, path: int) -> Outline:
        """Points of one path, on the shown page.

        Raises:
            ValueError: the page is closed, or the entry is a shading.
        """
        if self.outliner is None:
            raise ValueError(f"page {self.number} is closed: read outlines before the next page")
        if self.paths.shading[path]:
            raise ValueError(f"path {path} of page {self.number} is a shading and has no outline")
        return self.outliner(path)

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Lines of text in drawing order."""
        return tuple(build_lines(self.chars, self.runs, self.fonts))

    @cached_property
    def line_boxes(self) -> Array:
        """(N, 4), the boxes of `lines`."""
        return np.array([line.box for line in self.lines], dtype=np.float64).reshape(-1, 4)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """Words in the order of the lines."""
        return tuple(word for line in self.lines for word in self.words_of(line))

    def words_of(self, line: Line) -> list[Word]:
        """The words of one line, with boxes."""
        words: list[Word] = []
        boxes, run = self.chars.boxes[line.index], self.chars.run[line.index]
        start = 0
        for text in line.text.split(" "):
            stop = start + len(text)
            if text:
                owner = int(run[start])
                font = self.fonts[self.runs.font[owner]]
                words.append(Word(text, hull(boxes[start:stop]), float(self.runs.size[owner]), font, line.angle))
            start = stop
        return words
