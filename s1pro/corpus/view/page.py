"""The gallery: counts that reconcile, and documents with pages, boxes, crops, captions, checks and copies.

write_gallery(folder, path)      one HTML file without scripts, built from blocks of `report`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s1pro.corpus.ledger import read_ledger, sources
from s1pro.corpus.records import CaptionRow, DocumentRow, ElementRow, PageRow, QualityRow
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.stages.caption import WITH_TEXT
from s1pro.corpus.status import CorpusStatus, folder_status
from s1pro.corpus.view.gather import ShownDocument, ShownElement, all_documents, choose, gather
from s1pro.corpus.view.pictures import crop_svg, page_pictures, page_svg
from s1pro.report.blocks import (
    Block,
    Exhibit,
    Exhibits,
    Figure,
    Paragraph,
    Report,
    Section,
    Table,
    Tile,
    Tone,
    Verdict,
)
from s1pro.report.html import write

_ROWS = 300


@dataclass(frozen=True, kw_only=True)
class GallerySettings:
    """How much the gallery shows: documents, pages with elements of each, and elements of each."""

    documents: int = 12
    pages: int = 6
    elements: int = 24


def write_gallery(folder: CorpusFolder, path: Path, settings: GallerySettings | None = None) -> CorpusStatus:
    """Writes the gallery and gives the counts that it states.

    Raises:
        InputError: not a corpus folder.
    """
    settings = settings or GallerySettings()
    status = folder_status(folder, check=False)
    documents = all_documents(folder)
    limits = folder.settings().ingest.limits
    shown = gather(folder, choose(documents, settings.documents))
    sections = [_summary(status), _documents(folder, [row for _, row in documents])]
    for number, document in enumerate(shown, start=1):
        pages = _pages_of(document, settings.pages)
        pictures = page_pictures(document, [page.page for page in pages], limits)
        sections.append(_document(number, document, pages, pictures, settings))
    report = Report(
        title=f"Corpus {folder.root.resolve().name}",
        subtitle="What was found in the documents, and what happened to every one of them.",
        tiles=_tiles(status),
        sections=sections,
        footer=f"{len(shown)} of {status.documents} documents are shown; boxes are drawn where elements were found, "
        "dashed boxes are their captions.",
    )
    write(report, path)
    return status


def _tiles(status: CorpusStatus) -> list[Tile]:
    good = status.statuses.get("ok", 0) + status.statuses.get("partial", 0)
    tiles = [
        Tile(label="inputs", value=f"{status.inputs:,}", note=f"{status.duplicates:,} of them copies"),
        Tile(label="read", value=f"{good:,}", note=f"{status.statuses.get('partial', 0):,} of them in part"),
        Tile(label="pages read", value=f"{status.pages.get('read', 0):,}"),
        Tile(label="elements", value=f"{sum(status.elements.values()):,}", note=f"and {status.panels:,} panels"),
    ]
    if "caption" in status.stages:
        count = sum(n for name, n in status.stages["caption"].statuses.items() if name in WITH_TEXT)
        tiles.append(Tile(label="captioned", value=f"{count:,}"))
    tone: Tone = "good" if status.finished else "bad"
    text = "yes" if status.finished else ("something is pending" if status.reconciled else "no")
    return [*tiles, Tile(label="counts reconcile", value=text, tone=tone)]


def _summary(status: CorpusStatus) -> Section:
    pending = {"pending": status.pending} if status.pending else {}
    rows: list[list[str | int]] = [["inputs", name, n] for name, n in {**status.statuses, **pending}.items()]
    rows += [["pages", name, n] for name, n in status.pages.items() if n]
    rows += [["pages read, by what they need", name, n] for name, n in status.routes.items()]
    rows += [["elements", name, n] for name, n in status.elements.items()]
    rows += [["elements", "panels of figures", status.panels]]
    for stage, entry in status.stages.items():
        rows += [[stage, name, n] for name, n in entry.statuses.items()]
        rows += [[stage, "pending", entry.pending]] if entry.pending else []
    for name, costs in status.spending.items():
        rows.append(
            [f"calls of {name}", f"spent {costs.spent:.6g}" + f" of {costs.cap:g}" * bool(costs.cap), costs.calls]
        )
    total = sum(status.statuses.values()) + status.pending
    elements = sum(status.elements.values()) + status.panels
    stages = "; ".join(
        f"{name}: {sum(entry.statuses.values()) + entry.pending:,} of {elements:,} elements"
        for name, entry in status.stages.items()
    )
    text = "; ".join(filter(None, (f"{status.inputs:,} inputs, statuses of {total:,}", stages))) + "."
    blocks: list[Block] = [Verdict(text=" ".join([text, *status.problems]), passed=status.reconciled)]
    blocks.append(Table(columns=("what", "status", "count"), rows=rows))
    return Section(
        title="Counts", blocks=blocks, intro="Every input and every element has exactly one status per stage."
    )


def _documents(folder: CorpusFolder, documents: Sequence[DocumentRow]) -> Section:
    inputs = sources(read_ledger(folder.root))
    rows = []
    for row in documents[:_ROWS]:
        names = ", ".join(Path(source.source_uri).name for source in inputs[row.doc_id])
        read = f"{row.pages_ok} of {row.num_pages}"
        rows.append((names, row.status, read, row.extractor or "", row.error[:200]))
    left = len(documents) - len(rows)
    note = f"{left:,} more are not listed." if left > 0 else ""
    table = Table(columns=("inputs", "status", "pages read", "extractor", "why"), rows=rows, note=note)
    return Section(title="Documents", blocks=[table] if rows else [Paragraph(text="None was read yet.")])


def _pages_of(document: ShownDocument, most: int) -> list[PageRow]:
    """Pages with elements first, in their order; the first page if there is none."""
    with_elements = {element.row.page for element in document.elements}
    good = [page for page in document.pages if page.status == "ok" and page.width > 0]
    found = [page for page in good if page.page in with_elements] or good[:1]
    return found[:most]


def _document(
    number: int,
    document: ShownDocument,
    pages: Sequence[PageRow],
    pictures: Mapping[int, bytes],
    settings: GallerySettings,
) -> Section:
    name = Path(document.inputs[0].source_uri).name
    row = document.row
    facts = [f"Status {row.status}", f"{row.pages_ok} of {row.num_pages} pages read"]
    facts += [f"{len(document.inputs)} inputs with the same bytes"] if len(document.inputs) > 1 else []
    facts += [row.error] if row.error else []
    unread = [page for page in document.pages if page.route not in ("text", "engine")]
    needs = sorted({f"page {page.page + 1}: {page.route}" for page in unread})
    blocks: list[Block] = [Paragraph(text="; ".join([*facts, *needs]) + ".")]
    for page in pages:
        here = [element for shown in document.elements for element in (shown.row, *shown.panels)]
        here = [element for element in here if element.page == page.page]
        blocks.append(
            Figure(
                svg=page_svg(page, here, pictures.get(page.page)),
                alt=f"page {page.page + 1} of {name} with the boxes of {len(here)} elements",
                caption=_about_page(page, page.page in pictures),
            )
        )
        cards = [_exhibit(shown) for shown in document.elements if shown.row.page == page.page]
        if cards:
            blocks.append(Exhibits(items=cards[: settings.elements]))
    return Section(title=f"{number}. {name}", blocks=blocks)


def _about_page(page: PageRow, rendered: bool) -> str:
    told = [f"Page {page.page + 1}", f"{page.num_chars:,} characters", f"route {page.route}"]
    told += [", ".join(page.reasons)] if page.reasons else []
    told += [] if rendered else ["drawn without its source"]
    return "; ".join(told)


def _exhibit(shown: ShownElement) -> Exhibit:
    row = shown.row
    facts: dict[str, str] = {}
    if row.caption:
        facts["authors' caption"] = row.caption
    for caption in shown.captions:
        facts |= _caption_facts(caption, shown.qualities.get(caption.request_id))
    if row.description and not any(caption.text == row.description for caption in shown.captions):
        facts["description of what is visible"] = row.description
    if row.mentions:
        facts["mentions"] = "\n".join(f"p. {m.page + 1}: {m.text}" for m in row.mentions[:4])
    if row.section_title:
        facts["section"] = row.section_title
    if shown.panels:
        facts["panels"] = ", ".join(panel.label or "without a label" for panel in shown.panels)
    if row.text_layer:
        facts["text inside"] = row.text_layer[:400]
    if shown.duplicate is not None and shown.duplicate.reason:
        facts["copies"] = f"{shown.duplicate.decision}: {shown.duplicate.reason}"
    return Exhibit(
        title=f"{row.label or row.type}, page {row.page + 1}",
        picture_svg=crop_svg(row),
        alt=f"crop of {row.label or row.type}",
        marks=_marks(shown, row),
        facts=facts,
    )


def _marks(shown: ShownElement, row: ElementRow) -> list[tuple[str, Tone]]:
    marks: list[tuple[str, Tone]] = [(row.type, "neutral"), (f"box {row.confidence:.2f}", "neutral")]
    if row.caption:
        marks.append((f"caption {row.link_method} {row.link_confidence:.2f}", "neutral"))
    if shown.route is not None:
        marks.append((f"route {shown.route.route}", "neutral"))
        marks.append((f"topic {shown.route.topic} {shown.route.topic_probability:.2f}", "neutral"))
    if shown.duplicate is not None:
        marks.append((shown.duplicate.decision, "bad" if shown.duplicate.decision == "duplicate" else "neutral"))
    flags = [flag for caption in shown.captions for flag in caption.flags]
    if shown.captions:
        marks.append((f"{len(flags)} flags", "bad" if flags else "good"))
    kept = [quality.keep for quality in shown.qualities.values()]
    if kept:
        marks.append(("kept" if all(kept) else "not kept", "good" if all(kept) else "bad"))
    return marks


def _caption_facts(caption: CaptionRow, quality: QualityRow | None) -> dict[str, str]:
    name = f"caption by {caption.model}" + (f", rollout {caption.rollout}" if caption.rollout else "")
    facts = {name: caption.text or f"none: {caption.error}"}
    if caption.flags:
        facts[f"{name}: checks against the page"] = "\n".join(caption.flags)
    if quality is not None:
        verdict = "kept" if quality.keep else "not kept"
        reasons = f": {', '.join(quality.reasons)}" if quality.reasons else ""
        facts[f"{name}: quality"] = f"{verdict}, {quality.tier}, probability {quality.probability:.2f}{reasons}"
    return facts
