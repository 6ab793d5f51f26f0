"""The text of a page as data: fonts, runs, characters, and the words and lines made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.records import Box

Array = NDArray[np.float64]
MONO = ("mono", "courier", "cmtt", "consol", "menlo", "nimbusmon", "typewriter", "cousine", "txtt", "sftt")


@dataclass(frozen=True)
class Font:
    """A font of the page: PostScript name without the subset prefix, and the flags of its descriptor."""

    name: str
    flags: int
    weight: int

    @property
    def is_bold(self) -> bool:
        low = self.name.lower()
        return self.weight >= 600 or any(part in low for part in ("bold", "black", "heavy", "medi", "cmbx", "semibold"))

    @property
    def is_italic(self) -> bool:
        low = self.name.lower()
        return bool(self.flags & 64) or "ital" in low or "obli" in low

    @property
    def is_mono(self) -> bool:
        low = self.name.lower()
        return bool(self.flags & 1) or any(part in low for part in MONO)

    @property
    def is_math(self) -> bool:
        low = self.name.lower()
        marks = ("cmmi", "cmsy", "cmex", "msam", "msbm", "math", "symbol", "stix", "rsfs", "eufm", "txsy", "pxsy")
        return any(part in low for part in marks) or low.startswith(("mt2m", "rmtmi", "nxl"))


@dataclass(frozen=True)
class Runs:
    """Structure of arrays: one entry per run of characters.

    Attributes:
        font: index into `PageContent.fonts`.
        size: height of the em on the page, points.
        angle: direction of reading, degrees counter-clockwise on the shown page, 0 to 360.
        origin: (N, 2), where the base line starts.
        invisible: drawn without ink (the text behind a scan), or clipped away.
    """

    font: NDArray[np.int32]
    size: Array
    angle: Array
    origin: Array
    invisible: NDArray[np.bool_]


@dataclass(frozen=True)
class Chars:
    """Structure of arrays: code points (blanks and ends of lines that PDFium adds included), boxes, runs."""

    codes: NDArray[np.uint32]
    boxes: Array
    run: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Word:
    """Characters without a blank between them."""

    text: str
    box: Box
    size: float
    font: Font
    angle: float


@dataclass(frozen=True, eq=False)
class Line:
    """A line of text, or the part of one in a cell or a column.

    Attributes:
        index: positions of its characters in `PageContent.chars`, in reading order; blanks of `text` have none.
        size, font: of most of its characters.
        angle: 0, 90, 180, 270, or the true angle of slanted text.
        bold: share of bold characters; `math` of those in mathematical fonts.
        gap: the widest blank inside, in heights; cells of a table that stand close are one line with a wide gap.
        blank: the mean of its other blanks; in justified text it is not far from `gap`.
        hyphen: it ends in a hyphen that PDFium takes for the break of a word.
        invisible: text without ink.
    """

    text: str
    box: Box
    size: float
    font: Font
    angle: float
    index: NDArray[np.int64]
    bold: float
    math: float
    gap: float = 0.0
    blank: float = 0.0
    hyphen: bool = False
    invisible: bool = False

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]


def hull(boxes: Array) -> Box:
    """The smallest box around boxes (N, 4); `nan` rows are left out."""
    low, high = np.nanmin(boxes[:, :2], axis=0), np.nanmax(boxes[:, 2:], axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
