"""One element that was found on a page, and what can be told from the things inside its box."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from s1pro.corpus.pdf.captions import CaptionFound
from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.panels import PanelFound
from s1pro.corpus.pdf.view import HORIZONTAL, PATH, VERTICAL, View
from s1pro.corpus.records import Box, ElementSource, ElementType

_TICK = re.compile(r"^[-−–+]?\d[\d.,]*\s?(?:%|°|[eE][-+]?\d+|×\s?10.*|[kKMG]|)$")


@dataclass
class Found:
    """One element in the coordinates of the shown page; `caption_page` only if it is another page."""

    type: ElementType
    box: Box
    caption: CaptionFound | None = None
    caption_box: Box | None = None
    label: str = ""
    text: str = ""
    caption_page: int | None = None
    source: ElementSource = "geometry"
    alt: str = ""
    method: str = ""
    link: float = 0.0
    confidence: float = 0.0
    section_at: tuple[float, float] = (0.0, 0.0)
    panels: list[PanelFound] = field(default_factory=list)


def inside(inner: Box, outer: Box) -> bool:
    """More than half of the first box lies in the second."""
    across = min(inner[2], outer[2]) - max(inner[0], outer[0])
    along = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return across > 0 and along > 0 and across * along > 0.5 * area


def texts_in(view: View, box: Box) -> list[tuple[str, Box]]:
    """Pieces of upright text inside a box."""
    middle = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
    inside = (middle >= box[:2]).all(axis=1) & (middle <= box[2:]).all(axis=1)
    pieces = []
    for i in np.flatnonzero(inside).tolist():
        x0, y0, x1, y1 = view.boxes[i].tolist()
        pieces.append((view.texts[i], (x0, y0, x1, y1)))
    return pieces


def is_chart(texts: list[tuple[str, Box]], art: Array, kinds: np.ndarray) -> bool:
    """Ticks in a row and ticks in a column, or many of one, beside drawn lines."""
    ticks = np.array([box for text, box in texts if _TICK.match(text.strip())]).reshape(-1, 4)
    drawn = (kinds == HORIZONTAL) | (kinds == VERTICAL) | (kinds == PATH)
    if len(ticks) < 4 or not drawn.any():
        return False
    rows = np.abs(ticks[:, None, 3] - ticks[None, :, 3]) < 1.5
    columns = np.minimum(
        np.abs(ticks[:, None, 2] - ticks[None, :, 2]), np.abs(ticks[:, None, 0] - ticks[None, :, 0])) < 1.5  # fmt: skip
    in_row, in_column = int(rows.sum(axis=1).max()), int(columns.sum(axis=1).max())
    return (in_row >= 3 and in_column >= 3) or max(in_row, in_column) >= 5
