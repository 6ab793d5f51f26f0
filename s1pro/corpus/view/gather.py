"""What the gallery shows: some documents with everything that the stages found out about their elements.

Documents are chosen so that every status is seen: first one of each status, in the order of the ledger, then more of
them until there are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from s1pro.corpus.ledger import InputRow, read_ledger, sources
from s1pro.corpus.records import CaptionRow, DocumentRow, DuplicateRow, ElementRow, PageRow, QualityRow, RouteRow
from s1pro.corpus.stages.base import CorpusFolder, Part


@dataclass(frozen=True, kw_only=True)
class ShownElement:
    """An element, its panels, and what the later stages say about it."""

    row: ElementRow
    panels: tuple[ElementRow, ...] = ()
    duplicate: DuplicateRow | None = None
    route: RouteRow | None = None
    captions: tuple[CaptionRow, ...] = ()
    qualities: Mapping[str, QualityRow] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShownDocument:
    """A document with its inputs, pages and elements."""

    row: DocumentRow
    inputs: tuple[InputRow, ...]
    pages: tuple[PageRow, ...]
    elements: tuple[ShownElement, ...]


@dataclass(frozen=True, kw_only=True)
class _Later:
    duplicates: Mapping[str, DuplicateRow]
    routes: Mapping[str, RouteRow]
    captions: Mapping[str, Sequence[CaptionRow]]
    qualities: Mapping[str, QualityRow]


def all_documents(folder: CorpusFolder) -> list[tuple[Part, DocumentRow]]:
    """Every document that was read, in the order of its first source."""
    order = {row.doc_id: number for number, row in reversed(list(enumerate(read_ledger(folder.root))))}
    found = [(part, row) for part in folder.parts() for row in folder.documents(part)]
    return sorted(found, key=lambda pair: order.get(pair[1].doc_id, len(order)))


def choose(documents: Sequence[tuple[Part, DocumentRow]], count: int) -> list[tuple[Part, DocumentRow]]:
    """At most `count` documents, every status among them if there is room."""
    first: dict[str, int] = {}
    for number, (_, row) in enumerate(documents):
        first.setdefault(row.status, number)
    chosen = sorted(first.values())[:count]
    chosen += [number for number in range(len(documents)) if number not in set(chosen)][: count - len(chosen)]
    return [documents[number] for number in sorted(chosen)]


def gather(folder: CorpusFolder, documents: Sequence[tuple[Part, DocumentRow]]) -> list[ShownDocument]:
    """Everything about the chosen documents, pictures included."""
    inputs = sources(read_ledger(folder.root))
    wanted = {row.doc_id for _, row in documents}
    elements: dict[str, list[ElementRow]] = {name: [] for name in wanted}
    pages: dict[str, list[PageRow]] = {name: [] for name in wanted}
    for part in {part.key: part for part, _ in documents}.values():
        for element in folder.elements(part, without=()):
            if element.doc_id in wanted:
                elements[element.doc_id].append(element)
        for page in folder.pages(part):
            if page.doc_id in wanted:
                pages[page.doc_id].append(page)
    later = _later(folder, {row.element_id for rows in elements.values() for row in rows})
    return [
        ShownDocument(
            row=row,
            inputs=tuple(inputs[row.doc_id]),
            pages=tuple(pages[row.doc_id]),
            elements=tuple(_shown(sorted(elements[row.doc_id], key=lambda row: row.page), later)),
        )
        for _, row in documents
    ]


def _later(folder: CorpusFolder, names: set[str]) -> _Later:
    captions: dict[str, list[CaptionRow]] = {}
    for row in folder.rows("caption", "captions", CaptionRow):
        if row.element_id in names:
            captions.setdefault(row.element_id, []).append(row)
    requests = {row.request_id for rows in captions.values() for row in rows}
    return _Later(
        duplicates={
            row.element_id: row
            for row in folder.rows("deduplicate", "duplicates", DuplicateRow)
            if row.element_id in names
        },
        routes={row.element_id: row for row in folder.rows("route", "routes", RouteRow) if row.element_id in names},
        captions=captions,
        qualities={row.text_id: row for row in folder.rows("judge", "quality", QualityRow) if row.text_id in requests},
    )


def _shown(rows: Sequence[ElementRow], later: _Later) -> list[ShownElement]:
    panels: dict[str, list[ElementRow]] = {}
    for row in rows:
        if row.parent_id:
            panels.setdefault(row.parent_id, []).append(row)
    found = []
    for row in rows:
        if not row.parent_id:
            captions = tuple(later.captions.get(row.element_id, ()))
            found.append(
                ShownElement(
                    row=row,
                    panels=tuple(panels.get(row.element_id, ())),
                    duplicate=later.duplicates.get(row.element_id),
                    route=later.routes.get(row.element_id),
                    captions=captions,
                    qualities={
                        c.request_id: later.qualities[c.request_id] for c in captions if c.request_id in later.qualities
                    },
                )
            )
    return found
