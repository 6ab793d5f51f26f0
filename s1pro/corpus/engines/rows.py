"""From the answer of an engine to rows: elements with crops and captions, and what of the old ones stays.

Captions are found in the text of the page as on any other page (engines/text.py), and bound to the elements of their
kind by distance: one to one, the closest pair first; below a figure and above a table is closer than elsewhere. Where
none is found, the label and caption that the engine states are taken.

What geometry found on the page before:

    needs_ocr            is replaced; such a page is mostly one picture of itself
    needs_layout_model   elements with a printed caption and tagged ones stay, and the engine's that overlap with them
                         are left out; the others go where the engine found something instead (a formula by another
                         kind of element only)
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from s1pro.corpus.engines.answer import EngineAnswer, EngineElement
from s1pro.corpus.engines.render import PagePicture
from s1pro.corpus.engines.settings import VERSION, LayoutSettings
from s1pro.corpus.engines.text import PageText, TextCaption, content_of_words, page_text, without
from s1pro.corpus.importers.assemble import split_label
from s1pro.corpus.pdf.crops import Bitmap, CropSettings, encode, part, with_crop
from s1pro.corpus.pdf.found import inside
from s1pro.corpus.pdf.mentions import Citation
from s1pro.corpus.records import Box, ElementRow, PageRow, element_id

_REACH = 0.3  # of the height of the page: a caption farther away belongs to something else
_OTHER_SIDE = 40.0  # points that a caption on the unusual side counts as farther away
_SAME = 0.85
_LINK = 0.9


@dataclass(frozen=True, kw_only=True)
class PageOutcome:
    """A page that an engine has read: its row, all its elements, and the sentences on it that cite some."""

    page: PageRow
    elements: tuple[ElementRow, ...]
    citations: tuple[Citation, ...]


@dataclass(frozen=True)
class _Placed:
    """An element with its box in points, and the caption that was bound to it."""

    element: EngineElement
    box: Box
    caption: TextCaption | None = None
    side: str = ""


def page_outcome(
    page: PageRow,
    old: Sequence[ElementRow],
    picture: PagePicture,
    answer: EngineAnswer,
    settings: LayoutSettings,
    crop: CropSettings,
) -> PageOutcome:
    """Rows of one page.

    Args:
        page, old: what ingest made of it.

    Raises:
        OSError: the picture cannot be decoded.
    """
    scale = (page.width, page.height, page.width, page.height)
    sure = [element for element in answer.elements if element.score >= settings.limits.min_score]
    placed = _distinct([_Placed(element, _scaled(element.box, scale)) for element in sure])
    text = picture.text
    if text is None or not text.lines:
        text = _read_words(page, answer, [each.element.box for each in placed])
    kept = [] if page.route == "needs_ocr" else _kept(old, placed)
    spoken_for = {row.label for row in kept if row.label}
    placed = [each for each in placed if not any(_overlap(each.box, row.box) for row in kept)]
    placed = _bind(placed, [caption for caption in text.captions if caption.label not in spoken_for], page.height)
    pixels = np.asarray(Image.open(io.BytesIO(picture.image)).convert("RGB"))
    bitmap = Bitmap(pixels, 0.0, 0.0, pixels.shape[1] / page.width)
    rows = {row.element_id: row for row in (_row(each, page, text, bitmap, crop) for each in placed)}
    told = [f"read by {settings.endpoint.model if settings.endpoint else 'an engine'}: {len(rows)} elements"]
    if len(sure) < len(answer.elements):
        told.append(f"{len(answer.elements) - len(sure)} below score {settings.limits.min_score:g}")
    done = replace(
        page,
        route="engine",
        reasons=(*page.reasons, *told),
        num_chars=text.num_chars if picture.text is None else page.num_chars,
    )
    found = sorted((row for row in rows.values()), key=lambda row: (row.box[1], row.box[0], row.element_id))
    return PageOutcome(page=done, elements=(*kept, *found), citations=text.citations)


def _scaled(box: Box, scale: Box) -> Box:
    x0, y0, x1, y1 = (round(value * factor, 2) for value, factor in zip(box, scale, strict=True))
    return x0, y0, x1, y1


def _distinct(placed: Sequence[_Placed]) -> list[_Placed]:
    """The surest of elements that are nearly the same box; empty boxes go."""
    result: list[_Placed] = []
    for each in sorted(placed, key=lambda each: (-each.element.score, each.box)):
        if _area(each.box) > 0 and all(_ratio(each.box, other.box) < _SAME for other in result):
            result.append(each)
    return result


def _read_words(page: PageRow, answer: EngineAnswer, boxes: Sequence[Box]) -> PageText:
    """All lines, and captions and citations among those that are in no element."""
    every = page_text(content_of_words(page.page, page.width, page.height, answer.words))
    rest = page_text(content_of_words(page.page, page.width, page.height, without(answer.words, boxes)))
    return replace(every, captions=rest.captions, citations=rest.citations)


def _kept(old: Sequence[ElementRow], placed: Sequence[_Placed]) -> list[ElementRow]:
    """Elements of geometry that stay, with their panels."""
    stay = {row.element_id for row in old if not row.parent_id and _stays(row, placed)}
    return [row for row in old if (row.parent_id or row.element_id) in stay]


def _stays(row: ElementRow, placed: Sequence[_Placed]) -> bool:
    if row.source == "tagged" or (row.label and row.type != "formula"):
        return True
    others = [each for each in placed if not row.type == each.element.type == "formula"]
    return not any(_overlap(row.box, each.box) for each in others)


def _bind(placed: Sequence[_Placed], captions: Sequence[TextCaption], height: float) -> list[_Placed]:
    """Elements with their captions."""
    pairs = []
    for number, each in enumerate(placed):
        for which, caption in enumerate(captions):
            distance, side = _distance(each, caption)
            if _family(each.element.type) == _family(caption.kind) and distance <= _REACH * height:
                pairs.append((distance, number, which, side))
    result, used = list(placed), set()
    for _, number, which, side in sorted(pairs):
        if result[number].caption is None and which not in used:
            used.add(which)
            result[number] = replace(placed[number], caption=captions[which], side=side)
    return result


def _distance(each: _Placed, caption: TextCaption) -> tuple[float, str]:
    """How far a caption is, and on which side of its element; infinite if it is beside it at an angle."""
    box, other = each.box, caption.box
    across = min(box[2], other[2]) - max(box[0], other[0])
    along = min(box[3], other[3]) - max(box[1], other[1])
    usual = "above" if caption.kind in ("table", "algorithm") else "below"
    if across > 0.3 * min(box[2] - box[0], other[2] - other[0]):
        side = "below" if other[1] + other[3] > box[1] + box[3] else "above"
        gap = other[1] - box[3] if side == "below" else box[1] - other[3]
        return max(gap, 0.0) + (0.0 if side == usual else _OTHER_SIDE), side
    if along > 0.3 * min(box[3] - box[1], other[3] - other[1]):
        side = "right" if other[0] > box[0] else "left"
        return max(other[0] - box[2], box[0] - other[2], 0.0) + _OTHER_SIDE, side
    return float("inf"), ""


def _row(each: _Placed, page: PageRow, text: PageText, bitmap: Bitmap, settings: CropSettings) -> ElementRow:
    element, caption = each.element, each.caption
    if caption is not None:
        label, words = caption.label, caption.text
        method, link = f"caption_{each.side}", _LINK
    else:
        label, words = element.label, element.caption
        if not label and words:
            label, words = split_label([words])
        method, link = ("engine", element.score) if label or words else ("", 0.0)
    crop = encode(part(bitmap, each.box, settings.pad), settings)
    row = ElementRow(
        element_id=element_id(page.doc_id, page.page, element.type, each.box, VERSION),
        doc_id=page.doc_id,
        page=page.page,
        type=element.type,
        box=each.box,
        page_width=page.width,
        page_height=page.height,
        label=label,
        caption=words,
        caption_box=caption.box if caption else None,
        caption_page=page.page if label or words else -1,
        link_method=method,
        link_confidence=link,
        source="http",
        confidence=element.score,
        text_layer=_text_in(text, each.box) or element.text,
    )
    return with_crop(row, crop)


def _text_in(text: PageText, box: Box) -> str:
    """Lines whose middle is in the box, from top to bottom."""
    found = [
        line
        for line in text.lines
        if box[0] <= (line.box[0] + line.box[2]) / 2 <= box[2] and box[1] <= (line.box[1] + line.box[3]) / 2 <= box[3]
    ]
    return "\n".join(line.text for line in found)


def _family(kind: str) -> str:
    return kind if kind in ("table", "algorithm", "formula") else "figure"


def _overlap(first: Box, second: Box) -> bool:
    return inside(first, second) or inside(second, first)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _ratio(first: Box, second: Box) -> float:
    """Intersection over union."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    along = min(first[3], second[3]) - max(first[1], second[1])
    common = max(across, 0.0) * max(along, 0.0)
    return common / (_area(first) + _area(second) - common)
