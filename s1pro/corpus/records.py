"""The rows of the caption pipeline: what one stage writes and the next one reads.

    ingest       DocumentRow, PageRow, ElementRow     what is in a PDF, and what happened to it
    layout       PageRow, ElementRow                  pages that an engine read, in the place of those of ingest
    deduplicate  DuplicateRow                         which figures are copies of which (marked, never deleted)
    route        RouteRow                             topic, scientific or not, which model shall describe it
    caption      CaptionRow                           what is visible in a figure, and how that was found out
    judge        QualityRow                           whether a text is fit for training, with reasons

A row is frozen and holds plain values, so every stage is a pure function from rows to rows, and the same rows come out
wherever it runs. Nothing in a row depends on the clock, the machine or a random state (costs are in the manifests).

Identity. `doc_id` is the SHA-256 of the bytes of the document, `element_id` a BLAKE2b of document, page, type, box and
extractor, `image_id` the SHA-256 of the encoded picture. Boxes are `(x0, y0, x1, y1)` in PDF points of the page as it
is shown: origin at the top left corner of its crop box, `/Rotate` applied.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

Box = tuple[float, float, float, float]

DocumentStatus = Literal[
    "ok", "partial", "encrypted", "not_pdf", "corrupt", "too_large", "timeout", "oom", "crash", "empty", "filtered"
]
PageStatus = Literal["ok", "timeout", "oom", "crash", "error", "skipped"]
PageRoute = Literal["text", "needs_ocr", "needs_layout_model", "engine"]
ElementType = Literal["figure", "chart", "table", "formula", "scheme", "algorithm", "other"]
ElementSource = Literal["geometry", "tagged", "mineru", "docling", "http"]

DOCUMENT_STATUSES: tuple[DocumentStatus, ...] = get_args(DocumentStatus)


@dataclass(frozen=True, kw_only=True)
class DocumentRow:
    """One input and its one terminal status.

    Attributes:
        source_uri: where the bytes came from; several inputs with equal bytes are one document.
        num_pages: pages that the file says it has; `pages_ok` were read, `pages_failed` were not (by number from 0),
            `pages_skipped` lie beyond the limit of pages.
        tagged: the file carries a structure tree.
        error: what went wrong, for a person.
    """

    doc_id: str
    source_uri: str
    byte_size: int
    status: DocumentStatus
    num_pages: int = 0
    pages_ok: int = 0
    pages_failed: tuple[int, ...] = ()
    pages_skipped: int = 0
    tagged: bool = False
    producer: str = ""
    licence: str = ""
    error: str = ""
    extractor: str = ""


@dataclass(frozen=True, kw_only=True)
class PageRow:
    """One page: its size in points as shown, the health of its text layer, and which engine it needs.

    Attributes:
        rotation: the page's own `/Rotate`, degrees clockwise.
        unicode_error_ratio, private_use_ratio: shares of characters without a usable code point.
        image_coverage: share of the page under raster images.
        route, reasons: `text` if the geometry of the file suffices, else why not; `engine` if an engine has read it
            since.
    """

    doc_id: str
    page: int
    width: float
    height: float
    status: PageStatus = "ok"
    rotation: int = 0
    num_chars: int = 0
    unicode_error_ratio: float = 0.0
    private_use_ratio: float = 0.0
    image_coverage: float = 0.0
    num_columns: int = 0
    route: PageRoute = "text"
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Mention:
    """A sentence of the text that refers to an element, with the page that it is on."""

    page: int
    text: str


@dataclass(frozen=True, kw_only=True)
class ElementRow:
    """A figure, table, formula or scheme, or one panel of a figure (`parent_id` is the figure then).

    Attributes:
        label: as printed: "Figure 3", "Table S1", for panels "(a)".
        caption: the authors' caption without the label; `caption_page` may differ from `page`.
        link_confidence: how sure the bond of element and caption is, 0 to 1.
        confidence: how sure the box is, 0 to 1.
        alt_text: what the file itself says for those who cannot see it (tagged PDFs).
        text_layer: the characters inside the box in reading order; captions are checked against it.
        image, mime: the encoded crop; empty for rows that are read without pictures.
        phash, dhash: 256-bit perceptual hashes, 64 hexadecimal digits; of the crop with its plain margins cut off.
        ink_ratio, entropy: share of pixels that are not background; bits of the grey histogram.
        description: what the page proves to be visible, in sentences; `facts` the same as JSON (`corpus.describe`).
    """

    element_id: str
    doc_id: str
    page: int
    type: ElementType
    box: Box
    page_width: float
    page_height: float
    parent_id: str = ""
    label: str = ""
    caption: str = ""
    caption_box: Box | None = None
    caption_page: int = -1
    link_method: str = ""
    link_confidence: float = 0.0
    mentions: tuple[Mention, ...] = ()
    section_title: str = ""
    source: ElementSource = "geometry"
    confidence: float = 0.0
    text_layer: str = ""
    crop_dpi: int = 0
    width: int = 0
    height: int = 0
    mime: str = ""
    image: bytes = b""
    image_id: str = ""
    phash: str = ""
    dhash: str = ""
    ink_ratio: float = 0.0
    entropy: float = 0.0
    description: str = ""
    alt_text: str = ""
    facts: str = ""


@dataclass(frozen=True, kw_only=True)
class DuplicateRow:
    """What de-duplication decided about one element; `representative` is the element itself if it is not a copy."""

    element_id: str
    representative: str
    decision: Literal["unique", "representative", "duplicate", "not_compared"]
    hamming: int = 0
    verify_score: float = 0.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RouteRow:
    """Topic of an element, whether it is scientific, and where it goes; `abstained` if the classifier was not sure."""

    element_id: str
    topic: str
    topic_probability: float
    scientific_probability: float
    route: str
    abstained: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class CaptionRow:
    """One text about one element.

    Attributes:
        request_id: digest of picture, template, prompt, model, sampling and rollout; names the call for ever.
        grounded: the authors' caption was shown to the model, or is part of the text.
        model: name of the model, or "embedded" for the describer without a model.
        flags: what the checks against the page found: numbers and labels that are not in the crop, and so on.
        error: why there is no text; the row is kept.
    """

    request_id: str
    element_id: str
    template_id: str
    model: str
    text: str
    grounded: bool = False
    rollout: int = 0
    prompt: str = ""
    finish_reason: str = "stop"
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    flags: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """Verdict on one text (`text_id` is a request or document id): kept or not, by which tier, and why."""

    text_id: str
    tier: Literal["rules", "features", "language_model"]
    score: float
    probability: float
    keep: bool
    reasons: tuple[str, ...] = ()


def document_id(data: bytes) -> str:
    """SHA-256 of the bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def element_id(doc_id: str, page: int, type: ElementType, box: Box, extractor: str) -> str:
    """BLAKE2b (128 bits) of what makes an element this one; boxes to a tenth of a point."""
    rounded = ",".join(f"{value:.1f}" for value in box)
    return hashlib.blake2b(f"{doc_id}|{page}|{type}|{rounded}|{extractor}".encode(), digest_size=16).hexdigest()
