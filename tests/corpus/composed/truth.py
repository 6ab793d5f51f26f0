"""What a composed PDF is known to hold: per page the boxes of figures and tables with labels, captions and panels.

Boxes are `(x0, y0, x1, y1)` in points of the page as shown, origin top left, tight on the content without the caption.
Generators may give boxes with some slack; `tightened` shrinks each side to the ink of the rendered page (by at most
`MAX_SHRINK` points where fonts may lack), so that "tight" means the same for every generator. Tables are tight on rules
and cell text, without notes below. A panel's box includes its letter. Pictures without a number (graphical abstracts)
are `neutral`: to find them is neither right nor wrong. Logos, rules and boxes behind text are decoys: a figure found
there is false.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Box = tuple[float, float, float, float]
MAX_SHRINK = 10.0
_SCALE = 1.5


@dataclass(frozen=True, kw_only=True)
class TrueElement:
    """A numbered figure, table or algorithm; parts of one table on several pages are elements with one label."""

    page: int
    type: Literal["figure", "table", "algorithm"]
    box: Box
    label: str
    caption: str
    panels: tuple[tuple[str, Box], ...] = ()
    continued: bool = False


@dataclass(frozen=True, kw_only=True)
class TruePage:
    width: float
    height: float
    rotation: int = 0


@dataclass(frozen=True, kw_only=True)
class ComposedDocument:
    """A PDF and the truth about it. `neutral` holds (page, box) of pictures without a number."""

    name: str
    generator: Literal["reportlab", "typst"]
    style: str
    data: bytes
    pages: tuple[TruePage, ...]
    elements: tuple[TrueElement, ...]
    neutral: tuple[tuple[int, Box], ...] = ()


def union(boxes: list[Box]) -> Box:
    """The smallest box around all."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def tightened(document: ComposedDocument, max_shrink: float = MAX_SHRINK) -> ComposedDocument:
    """The same document with boxes that end where the ink ends."""
    ink_of: dict[int, np.ndarray] = {}
    pages = {element.page for element in document.elements}
    for page, ink in rendered_ink(document, pages):
        ink_of[page] = ink
    elements = []
    for element in document.elements:
        shrink = _shrinker(ink_of[element.page], document.pages[element.page], max_shrink)
        panels = tuple((name, shrink(box)) for name, box in element.panels)
        elements.append(replace(element, box=shrink(element.box), panels=panels))
    return replace(document, elements=tuple(elements))


def rendered_ink(document: ComposedDocument, pages: set[int], scale: float = _SCALE) -> list[tuple[int, np.ndarray]]:
    """Per page what is not white, as boolean rows."""
    import pypdfium2

    found = []
    pdf = pypdfium2.PdfDocument(io.BytesIO(document.data))
    for page in sorted(pages):
        bitmap = pdf[page].render(scale=scale, grayscale=True)
        found.append((page, bitmap.to_numpy().reshape(bitmap.height, bitmap.width) < 248))
    pdf.close()
    return found


def _shrinker(ink: np.ndarray, page: TruePage, max_shrink: float) -> Callable[[Box], Box]:
    per_x, per_y = ink.shape[1] / page.width, ink.shape[0] / page.height

    def shrink(box: Box) -> Box:
        x0, y0 = max(int(box[0] * per_x), 0), max(int(box[1] * per_y), 0)
        part = ink[y0 : int(np.ceil(box[3] * per_y)), x0 : int(np.ceil(box[2] * per_x))]
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        if not len(rows):
            return box
        found = (
            (x0 + columns[0]) / per_x,
            (y0 + rows[0]) / per_y,
            (x0 + columns[-1] + 1) / per_x,
            (y0 + rows[-1] + 1) / per_y,
        )
        # fonts that are not embedded leave no ink here: a side that would move far stays where it is
        sides = [new if abs(new - old) <= max_shrink else old for new, old in zip(found, box, strict=True)]
        return sides[0], sides[1], sides[2], sides[3]

    return shrink
