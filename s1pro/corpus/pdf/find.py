"""Everything that is found on one page: captions with their regions, formulas, art without a caption, panels.

The page is looked at upright, and once more turned by a quarter if captions run up or down it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from s1pro.corpus.pdf.captions import LABEL, CaptionFound, find_captions
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.pdf.formulas import FormulaFound, find_formulas
from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.pdf.layout import BODY, CAPTION, FREE, HEADING, Layout, Style, lay_out
from s1pro.corpus.pdf.panels import PanelFound, find_panels
from s1pro.corpus.pdf.regions import Page, Region, assign, open_page
from s1pro.corpus.pdf.view import HORIZONTAL, IMAGE, PATH, VERTICAL, View, clusters, view_of
from s1pro.corpus.records import Box, ElementType

_TICK = re.compile(r"^[-−–+]?\d[\d.,]*\s?(?:%|°|[eE][-+]?\d+|×\s?10.*|[kKMG]|)$")
MIN_ART = 1600.0


@dataclass
class Found:
    """One element in the coordinates of the shown page."""

    type: ElementType
    box: Box
    caption: CaptionFound | None = None
    caption_box: Box | None = None
    label: str = ""
    text: str = ""
    method: str = ""
    link: float = 0.0
    confidence: float = 0.0
    section_at: tuple[float, float] = (0.0, 0.0)
    panels: list[PanelFound] = field(default_factory=list)


@dataclass
class PageFound:
    """All elements of a page, captions that nothing was found for, and the upright view and layout."""

    elements: list[Found]
    orphans: list[CaptionFound]
    view: View
    layout: Layout


def find_on_page(content: PageContent, style: Style) -> PageFound:
    """The search on one page; `style` is what the document has shown so far and learns from this page."""
    view = view_of(content)
    layout = lay_out(view, style)
    elements, orphans = _search(view, layout, style, unnumbered=True)
    for turn in (90, 270):
        turned = [line for line in content.lines if line.angle == turn and not line.invisible]
        if sum(len(line.text) for line in turned) < 60 or not any(LABEL.match(line.text) for line in turned):
            continue
        side = view_of(content, turn)
        more, lost = _search(side, lay_out(side, style), style, unnumbered=False)
        elements = [e for e in elements if not any(_inside(e.box, other.box) for other in more)] + more
        orphans += lost
    return PageFound(elements, orphans, view, layout)


def _search(view: View, layout: Layout, style: Style, unnumbered: bool) -> tuple[list[Found], list[CaptionFound]]:
    _free_framed(view, layout)
    captions = find_captions(view, layout)
    formulas = find_formulas(view, layout)
    page = open_page(view, layout, style)
    regions = assign(page, captions)
    elements = [
        _captioned(view, caption, region)
        for caption, region in zip(captions, regions, strict=True) if region is not None
    ]  # fmt: skip
    elements += [_formula(view, formula) for formula in formulas]
    if unnumbered:
        elements += _unnumbered(page)
    return elements, [c for c, region in zip(captions, regions, strict=True) if region is None]


def _free_framed(view: View, layout: Layout) -> None:
    """Text inside a frame or a coloured box that is not the page belongs to the art, whatever it looks like."""
    size = view.art[:, 2:] - view.art[:, :2]
    area = size.prod(axis=1)
    frames = view.art[(view.kind == PATH) & (area > 2500) & (area < 0.4 * view.width * view.height)]
    if not len(frames) or len(frames) > 400:
        return
    for block in layout.blocks:
        lines = [i for i in block if layout.roles[i] in (BODY, HEADING)]
        if not lines:
            continue
        low, high = view.boxes[lines, :2].min(axis=0), view.boxes[lines, 2:].max(axis=0)
        if ((frames[:, :2] <= low + 1).all(axis=1) & (frames[:, 2:] >= high - 1).all(axis=1)).any():
            layout.roles[lines] = FREE


def _inside(inner: Box, outer: Box) -> bool:
    across = min(inner[2], outer[2]) - max(inner[0], outer[0])
    along = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return across > 0 and along > 0 and across * along > 0.5 * area


def _captioned(view: View, caption: CaptionFound, region: Region) -> Found:
    kind: ElementType = caption.kind
    texts = _texts_in(view, region.box)
    drawn = view.kind[region.items]
    if kind == "figure" and _is_chart(texts, view.art[region.items], drawn):
        kind = "chart"
    confidence = float(np.clip(0.45 + 0.22 * region.score, 0.05, 0.98))
    found = Found(
        kind, view.back(region.box), caption, view.back(caption.box), caption.label, caption.text,
        f"caption_{_opposite(region.side)}", float(np.clip(0.5 + 0.2 * region.score, 0.1, 0.99)), confidence,
        (caption.box[0], caption.box[1]),
    )  # fmt: skip
    if kind in ("figure", "chart", "scheme") and view.turn == 0:
        found.panels = find_panels(region.box, view.art[region.items][: 6000], texts)
    return found


def _opposite(side: str) -> str:
    return {"above": "below", "below": "above", "left": "right", "right": "left"}[side]


def _formula(view: View, formula: FormulaFound) -> Found:
    where = (formula.box[0], formula.box[1])
    return Found(
        "formula", view.back(formula.box), label=formula.label, method="number" if formula.label else "",
        link=0.9 if formula.label else 0.0, confidence=formula.confidence, section_at=where,
    )  # fmt: skip


def _texts_in(view: View, box: Box) -> list[tuple[str, Box]]:
    """Pieces of upright text inside a box."""
    middle = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
    inside = (middle >= box[:2]).all(axis=1) & (middle <= box[2:]).all(axis=1)
    pieces = []
    for i in np.flatnonzero(inside).tolist():
        x0, y0, x1, y1 = view.boxes[i].tolist()
        pieces.append((view.texts[i], (x0, y0, x1, y1)))
    return pieces


def _is_chart(texts: list[tuple[str, Box]], art: Array, kinds: np.ndarray) -> bool:
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


def _unnumbered(page: Page) -> list[Found]:
    """Art that no caption speaks of, with low confidence."""
    view = page.view
    free = np.flatnonzero(page.free_items & np.isin(view.kind, (PATH, IMAGE, VERTICAL)))
    found: list[Found] = []
    for group in clusters(view.art[free], gap=12.0):
        members = free[group]
        art = view.art[members]
        low, high = art[:, :2].min(axis=0), art[:, 2:].max(axis=0)
        size = high - low
        picture = bool((view.kind[members] == IMAGE).any())
        if size.prod() < MIN_ART or size.min() < 28 or (not picture and len(members) < 8):
            continue
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        if any(_inside(box, taken) for taken in page.taken) or _mostly_text(page, box):
            continue
        texts = _texts_in(view, box)
        edge = box[3] < 0.12 * view.height or box[1] > 0.92 * view.height
        kind: ElementType = "other" if edge or size.prod() < 4000 else "figure"
        if kind == "figure" and _is_chart(texts, art, view.kind[members]):
            kind = "chart"
        found.append(Found(kind, box, confidence=0.2 if edge else 0.35, section_at=(box[0], box[1])))
    return found


def _mostly_text(page: Page, box: Box) -> bool:
    """A box behind running text, or a grid of cells, is no picture."""
    boxes = page.view.boxes
    across = np.minimum(boxes[:, 2], box[2]) - np.maximum(boxes[:, 0], box[0])
    along = np.minimum(boxes[:, 3], box[3]) - np.maximum(boxes[:, 1], box[1])
    inside = (across > 0) & (along > 0)
    covered = (across[inside] * along[inside]).sum()
    solid = np.isin(page.layout.roles, (BODY, HEADING, CAPTION)) & inside
    area = (box[2] - box[0]) * (box[3] - box[1])
    return bool(covered > 0.35 * area or (across[solid] * along[solid]).sum() > 0.15 * area)
