"""From the bytes of a PDF to rows: page by page, with crops, hashes, captions, panels and citations.

`extract` is a generator: a page is read, searched, rendered and forgotten before the next one is loaded, so memory does
not grow with the document and the rows of finished pages survive whatever a later page does to the process. To go on
after page k, start with `first_page=k + 1` (headings and habits of the pages before are unknown then).

While the consumer holds a `PageResult` its page is open: `content.outline` works until the generator goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from s1pro.corpus.pdf.columns import Style
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.pdf.crops import Bitmap, CropSettings, encode, part, render, with_crop
from s1pro.corpus.pdf.drawing import ReadLimits
from s1pro.corpus.pdf.find import PageFound, find_on_page, merge_declared
from s1pro.corpus.pdf.found import Found
from s1pro.corpus.pdf.library import library
from s1pro.corpus.pdf.mentions import Citation, Reading, finish_citations, headings, read_citations, section_of
from s1pro.corpus.pdf.reader import PdfError, close_page, load_page, open_document, read_loaded
from s1pro.corpus.pdf.tagged import read_declared
from s1pro.corpus.pdf.trust import Health, check_health
from s1pro.corpus.records import Box, ElementRow, PageRoute, PageRow, document_id, element_id

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

EXTRACTOR = "s1pro-geometry-1"


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """What is read and rendered. `crops=False` leaves pictures and hashes out; `max_elements` caps a page;
    `tags=False` leaves the structure tree of tagged files out."""

    limits: ReadLimits = field(default_factory=ReadLimits)
    crop: CropSettings = field(default_factory=CropSettings)
    crops: bool = True
    panels: bool = True
    formulas: bool = True
    tags: bool = True
    max_elements: int = 200


@dataclass(frozen=True, kw_only=True)
class DocumentFacts:
    """What the file says about itself."""

    num_pages: int
    tagged: bool
    producer: str


@dataclass
class PageResult:
    """One page: its row, its elements (panels after their figure), and the sentences that cite any element.

    `content` is what the describer reads; outlines of paths can be read until the next result is asked for.
    """

    page: PageRow
    elements: list[ElementRow]
    citations: list[Citation]
    content: PageContent | None = None


@dataclass
class _Document:
    doc_id: str
    tagged: bool
    style: Style = field(default_factory=Style)
    reading: Reading = field(default_factory=Reading)


def document_facts(document: PdfDocument) -> DocumentFacts:
    """Pages, structure tree and producer."""
    import pypdfium2.raw as raw

    producer = document.get_metadata_value("Producer") or ""
    return DocumentFacts(
        num_pages=len(document), tagged=bool(raw.FPDFCatalog_IsTagged(document.raw)), producer=producer[:200]
    )


def read_facts(data: bytes) -> DocumentFacts:
    """`document_facts` of bytes; raises `PdfError` like `extract`."""
    document = open_document(data)
    try:
        return document_facts(document)
    finally:
        document.close()


def extract(data: bytes, settings: ExtractSettings | None = None, *, first_page: int = 0) -> Iterator[PageResult]:
    """Reads a document page by page from `first_page` on.

    A page that cannot be loaded gives a row with status `error`, and the reading goes on.

    Raises:
        PdfError: the document cannot be opened; see `reader.open_document`.
    """
    settings = settings or ExtractSettings()
    document = open_document(data)
    state = _Document(document_id(data), document_facts(document).tagged)
    try:
        for number in range(first_page, len(document)):
            result = _page(document, number, state, settings)
            if number == len(document) - 1:
                result.citations.extend(finish_citations(state.reading))
            yield result
            if result.content is not None:
                close_page(result.content)
    finally:
        document.close()


def _page(document: PdfDocument, number: int, state: _Document, settings: ExtractSettings) -> PageResult:
    try:
        page = load_page(document, number)
    except PdfError as error:
        row = PageRow(doc_id=state.doc_id, page=number, width=0.0, height=0.0, status="error", reasons=(str(error),))
        return PageResult(row, [], [])
    content = read_loaded(page, number, settings.limits)
    health = check_health(content)
    found = find_on_page(content, state.style)
    if settings.tags and state.tagged:
        found.elements = merge_declared(found.elements, read_declared(page, library()))
    citations = read_citations(found.view, found.layout, number, state.reading)
    elements = _rows(page, content, found, state, settings)
    titles = headings(found.view, found.layout)
    if titles:
        state.reading.section = titles[-1][1]
    return PageResult(
        _page_row(content, health, found, state.doc_id, settings.max_elements), elements, citations, content
    )


def _page_row(content: PageContent, health: Health, found: PageFound, doc_id: str, max_elements: int) -> PageRow:
    reasons = [*health.reasons, *content.limits]
    route: PageRoute = health.route
    doubts = [f"caption without a region: {caption.label}" for caption in found.orphans]
    if len(found.elements) > max_elements:
        doubts.append(f"elements {len(found.elements)} > {max_elements}")
    alone = sum(not e.label and e.caption is None and e.type in ("figure", "chart", "table") for e in found.elements)
    if alone:
        doubts.append(f"art without a caption: {alone}")
    if (doubts or content.limits) and route == "text":
        route = "needs_layout_model"
    return PageRow(
        doc_id=doc_id, page=content.number, width=content.width, height=content.height, rotation=content.rotation,
        num_chars=health.num_chars, unicode_error_ratio=health.unicode_errors, private_use_ratio=health.private_use,
        image_coverage=health.image_coverage, num_columns=len(found.layout.columns), route=route,
        reasons=(*reasons, *doubts),
    )  # fmt: skip


def _rows(
    page: PdfPage, content: PageContent, found: PageFound, state: _Document, settings: ExtractSettings
) -> list[ElementRow]:  # fmt: skip
    rows: list[ElementRow] = []
    for element in sorted(found.elements, key=lambda e: (e.box[1], e.box[0]))[: settings.max_elements]:
        if element.type == "formula" and not settings.formulas:
            continue
        box = _within(element.box, content)
        caption_box = _within(element.caption_box, content) if element.caption_box else None
        row = ElementRow(
            element_id=element_id(state.doc_id, content.number, element.type, box, EXTRACTOR),
            doc_id=state.doc_id, page=content.number, type=element.type, box=box, page_width=content.width,
            page_height=content.height, label=element.label, caption=element.text, caption_box=caption_box,
            caption_page=_caption_page(element, content.number), source=element.source, alt_text=element.alt,
            link_method=element.method,
            link_confidence=element.link, confidence=element.confidence, text_layer=text_in(content, box),
            section_title=section_of(found.view, found.layout, state.reading, *element.section_at),
        )  # fmt: skip
        bitmap = render(page, box, settings.crop) if settings.crops else None
        rows.append(_with_crop(row, bitmap, settings))
        if settings.panels:
            rows.extend(_panels(row, element, content, bitmap, settings))
    return rows


def _caption_page(element: Found, number: int) -> int:
    if element.caption_page is not None:
        return element.caption_page
    return number if element.caption else -1


def _panels(
    figure: ElementRow, element: Found, content: PageContent, bitmap: Bitmap | None, settings: ExtractSettings
) -> Iterator[ElementRow]:  # fmt: skip
    for panel in element.panels:
        box = _within(panel.box, content)
        row = replace(
            figure, element_id=element_id(figure.doc_id, figure.page, figure.type, box, EXTRACTOR + "/panel"), box=box,
            parent_id=figure.element_id, label=panel.label, link_method="panel", text_layer=text_in(content, box),
            confidence=figure.confidence * (0.9 if panel.label else 0.6),
        )  # fmt: skip
        yield _with_crop(row, part(bitmap, box, settings.crop.pad) if bitmap else None, settings)


def _within(box: Box, content: PageContent) -> Box:
    """A box on the page, to a hundredth of a point, so that platforms agree on it."""
    x0, x1 = (round(min(max(v, 0.0), content.width), 2) for v in (box[0], box[2]))
    y0, y1 = (round(min(max(v, 0.0), content.height), 2) for v in (box[1], box[3]))
    return x0, y0, x1, y1


def _with_crop(row: ElementRow, bitmap: Bitmap | None, settings: ExtractSettings) -> ElementRow:
    return row if bitmap is None else with_crop(row, encode(bitmap, settings.crop))


def text_in(content: PageContent, box: Box, slack: float = 0.5) -> str:
    """The text inside a box: rows from top to bottom, pieces of one row separated by tabs."""
    boxes = content.line_boxes
    inside = np.flatnonzero(
        (boxes[:, 0] >= box[0] - slack) & (boxes[:, 1] >= box[1] - slack)
        & (boxes[:, 2] <= box[2] + slack) & (boxes[:, 3] <= box[3] + slack)
    )  # fmt: skip
    order = sorted(inside.tolist(), key=lambda i: (boxes[i, 1] + boxes[i, 3]) / 2)
    rows: list[tuple[float, list[int]]] = []
    for i in order:
        middle = float(boxes[i, 1] + boxes[i, 3]) / 2
        if rows and abs(middle - rows[-1][0]) < 0.4 * content.lines[i].size:
            rows[-1][1].append(i)
        else:
            rows.append((middle, [i]))
    return "\n".join(
        "\t".join(content.lines[i].text for i in sorted(row, key=lambda i: boxes[i, 0])) for _, row in rows
    )
