"""Everything that is found on one page: captions with their regions, formulas, art without a caption, panels.

The page is looked at as most of its text runs, and once more turned for captions that run in another direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s1pro.corpus.pdf.captions import CaptionFound, find_captions
from s1pro.corpus.pdf.columns import Style
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.pdf.formulas import FormulaFound, find_formulas
from s1pro.corpus.pdf.found import Found, inside, is_chart, texts_in
from s1pro.corpus.pdf.labels import LABEL
from s1pro.corpus.pdf.layout import BODY, CAPTION, CODE, FREE, HEADING, Layout, assign_role, lay_out
from s1pro.corpus.pdf.panels import PanelFound, find_panels
from s1pro.corpus.pdf.regions import assign
from s1pro.corpus.pdf.tagged import Declared
from s1pro.corpus.pdf.uncaptioned import loose_art, loose_tables, remember_last
from s1pro.corpus.pdf.view import HORIZONTAL, IMAGE, PATH, View, view_of
from s1pro.corpus.pdf.workspace import Region, open_page
from s1pro.corpus.records import Box, ElementType


@dataclass
class PageFound:
    """All elements of a page, captions that nothing was found for, and the upright view and layout."""

    elements: list[Found]
    orphans: list[CaptionFound]
    view: View
    layout: Layout


def find_on_page(content: PageContent, style: Style) -> PageFound:
    """The search on one page; `style` is what the document has shown so far and learns from this page."""
    share = dict.fromkeys((0, 90, 180, 270), 0)
    for line in content.lines:
        if line.angle in share and not line.invisible:
            share[int(line.angle)] += len(line.text)
    main = max(share, key=lambda turn: (share[turn], -turn))
    view = view_of(content, main)
    layout = lay_out(view, style)
    elements, orphans = _search(view, layout, style, content.number)
    for turn in share:
        turned = [line for line in content.lines if line.angle == turn and not line.invisible]
        if turn == main or share[turn] < 60 or not any(LABEL.match(line.text) for line in turned):
            continue
        side = view_of(content, turn)
        more, lost = _search(side, lay_out(side, style), style, None)
        elements = [e for e in elements if not any(inside(e.box, other.box) for other in more)] + more
        orphans += lost
    return PageFound(elements, orphans, view, layout)


def _search(view: View, layout: Layout, style: Style, number: int | None) -> tuple[list[Found], list[CaptionFound]]:
    captions = find_captions(view, layout)
    for where in {int(layout.block_of[i]) for caption in captions for i in caption.lines}:
        block = layout.blocks[where]
        first = next(k for k, i in enumerate(block) if layout.roles[i] == CAPTION)
        assign_role(view, layout, block[:first])
        assign_role(view, layout, block[first:])
    _frames(view, layout)
    _code_in_figures(view, layout)
    formulas = find_formulas(view, layout)
    page = open_page(view, layout, style)
    regions = assign(page, captions)
    elements = [
        _captioned(view, caption, region)
        for caption, region in zip(captions, regions, strict=True) if region is not None
    ]  # fmt: skip
    elements += [_formula(view, formula) for formula in formulas]
    if number is not None:
        tables = loose_tables(page, number)
        lost = [c for c, region in zip(captions, regions, strict=True) if region is None]
        remember_last(page, [*elements, *tables], lost, number)
        elements += [*tables, *loose_art(page)]
    return elements, [c for c, region in zip(captions, regions, strict=True) if region is None]


def _frames(view: View, layout: Layout) -> None:
    """Text in a frame or on a coloured box that stands alone: a box of text or a listing, no drawing.

    With other art inside or touching it, the frame is part of a drawing, and so is its text, whatever it looks like.
    """
    area = (view.art[:, 2:] - view.art[:, :2]).prod(axis=1)
    frames = np.flatnonzero((view.kind == PATH) & (area > 2500) & (area < 0.5 * view.width * view.height))
    if not len(frames) or len(frames) > 400:
        return
    middle = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
    size = (view.boxes[:, 2:] - view.boxes[:, :2]).prod(axis=1)
    drop: set[int] = set()
    for frame in frames.tolist():
        low, high = view.art[frame, :2], view.art[frame, 2:]
        lines = np.flatnonzero((middle > low).all(axis=1) & (middle < high).all(axis=1))
        text = lines[np.isin(layout.roles[lines], (BODY, HEADING, CODE))]
        rest = lines[layout.roles[lines] == FREE]
        if not len(text) and (len(rest) < 2 or layout.mates[rest].any()):
            continue
        near = (view.art[:, :2] < high + 4).all(axis=1) & (view.art[:, 2:] > low - 4).all(axis=1)
        same = (np.abs(view.art - view.art[frame]) < 3).all(axis=1)
        if (near & ~same & (view.kind != HORIZONTAL) & (area > 30)).sum() >= 2:
            layout.roles[text] = FREE
        elif size[lines].sum() > 0.04 * area[frame] and (len(text) or _left_aligned(view, rest)):
            layout.roles[rest] = CODE
            drop.update(np.flatnonzero(same).tolist())
    if drop:
        view.drop(np.array(sorted(drop)))


def _code_in_figures(view: View, layout: Layout) -> None:
    """Source code that stands beside a drawing in one column is part of the figure: text and what it draws."""
    drawn = view.art[np.isin(view.kind, (PATH, IMAGE))]
    for block in layout.blocks:
        lines = [i for i in block if layout.roles[i] == CODE]
        if not lines or not len(drawn):
            continue
        low, high = view.boxes[lines, :2].min(axis=0), view.boxes[lines, 2:].max(axis=0)
        left, right = layout.column_of(float(low[0]), float(high[0]))
        left = 0.0 if left <= layout.columns[0][0] else left
        right = view.width if right >= layout.columns[-1][1] else right + 10
        middle = (drawn[:, 0] + drawn[:, 2]) / 2
        beside = (middle > left) & (middle < right) & ((drawn[:, 0] > high[0] - 20) | (drawn[:, 2] < low[0] + 20))
        beside &= (drawn[:, 1] < high[1]) & (drawn[:, 3] > low[1])
        if beside.sum() >= 2 or (beside.any() and len(drawn) < 4):
            layout.roles[lines] = FREE


def _left_aligned(view: View, lines: np.ndarray) -> bool:
    """At least three lines, most of which start at one of two indents."""
    starts = np.round(view.boxes[lines, 0])
    return len(lines) >= 3 and int((np.abs(starts - starts.min()) < 2).sum()) >= 0.5 * len(lines)


def _captioned(view: View, caption: CaptionFound, region: Region) -> Found:
    kind: ElementType = caption.kind
    texts = texts_in(view, region.box)
    drawn = view.kind[region.items]
    if kind == "figure" and is_chart(texts, view.art[region.items], drawn):
        kind = "chart"
    confidence = float(np.clip(0.45 + 0.22 * region.score, 0.05, 0.98))
    found = Found(
        kind, view.back(region.box), caption, view.back(caption.box), caption.label, caption.text,
        method=f"caption_{_opposite(region.side)}", link=float(np.clip(0.5 + 0.2 * region.score, 0.1, 0.99)),
        confidence=confidence, section_at=(caption.box[0], caption.box[1]),
    )  # fmt: skip
    if kind in ("figure", "chart", "scheme"):
        panels = find_panels(region.box, view.art[region.items][:6000], texts)
        found.panels = [PanelFound(view.back(panel.box), panel.label) for panel in panels]
    return found


def _opposite(side: str) -> str:
    return {"above": "below", "below": "above", "left": "right", "right": "left"}[side]


def _formula(view: View, formula: FormulaFound) -> Found:
    where = (formula.box[0], formula.box[1])
    return Found(
        "formula", view.back(formula.box), label=formula.label, method="number" if formula.label else "",
        link=0.9 if formula.label else 0.0, confidence=formula.confidence, section_at=where,
    )  # fmt: skip


def merge_declared(elements: list[Found], declared: list[Declared]) -> list[Found]:
    """Elements with what the structure tree declares: boxes that agree are taken over, what was missed is added."""
    result = list(elements)
    for item in declared:
        family = "figure" if item.type == "figure" else item.type
        same = [e for e in result if _family(e.type) == family and (inside(e.box, item.box) or inside(item.box, e.box))]
        if same:
            best = max(same, key=lambda e: (bool(e.label), e.confidence))
            best.source, best.alt = "tagged", item.alt
            if item.stated and _agree(best.box, item.box):
                best.box, best.confidence = item.box, max(best.confidence, 0.97)
            result = [e for e in result if e is best or e not in same or e.label]
        elif item.type != "formula" or not any(inside(item.box, e.box) for e in result):
            where = (item.box[0], item.box[1])
            alone = Found(item.type, item.box, text=item.alt, method="alt_text" if item.alt else "", section_at=where)
            alone.confidence, alone.source, alone.alt = 0.8, "tagged", item.alt
            alone.link = 0.8 if item.alt else 0.0
            if (item.box[2] - item.box[0]) * (item.box[3] - item.box[1]) > 400 or item.type == "formula":
                result.append(alone)
    return result


def _family(kind: ElementType) -> str:
    return "figure" if kind in ("figure", "chart", "scheme", "other") else kind


def _agree(first: Box, second: Box) -> bool:
    across = min(first[2], second[2]) - max(first[0], second[0])
    along = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return across > 0 and along > 0 and across * along > 0.6 * (sum(areas) - across * along)
