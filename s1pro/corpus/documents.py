"""What is known about a document while it is read, and the rows that this becomes at its end.

A document is `ok` when every page was read, `partial` when some were, else it has the status of its first failure.
Pages reconcile: num_pages = pages_ok + len(pages_failed) + pages_skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from s1pro.corpus.records import DocumentRow, DocumentStatus, ElementRow, PageRow, PageStatus

AS_DOCUMENT: Mapping[PageStatus, DocumentStatus] = {
    "timeout": "timeout",
    "oom": "oom",
    "crash": "crash",
    "error": "corrupt",
    "skipped": "filtered",
}


@dataclass(frozen=True, kw_only=True)
class DocumentResult:
    """One document with its terminal status, the pages and elements that were read, and what it cost."""

    document: DocumentRow
    pages: tuple[PageRow, ...] = ()
    elements: tuple[ElementRow, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class Reading:
    """What is known about a document while it is read."""

    doc_id: str
    num_pages: int = -1  # -1: not opened yet
    limit: int = 0
    tagged: bool = False
    producer: str = ""
    extractor: str = ""
    refused: tuple[DocumentStatus, str] | None = None
    pages: dict[int, PageRow] = field(default_factory=dict)
    elements: dict[int, list[ElementRow]] = field(default_factory=dict)
    notes: dict[int, list[Any]] = field(default_factory=dict)
    begin: int = 0  # page at which the worker was started last for good
    first: int = 0  # page that is being read
    deaths: int = 0
    strikes: Counter[int] = field(default_factory=Counter)  # kills from outside by page
    attempts: int = 0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    finished: bool = False

    @property
    def opened(self) -> bool:
        return self.num_pages >= 0

    def back(self) -> None:
        """Forgets the pages since the last death that counts."""
        for table in (self.pages, self.elements, self.notes):
            for page in [page for page in table if page >= self.begin]:
                del table[page]
        self.first = self.begin

    def fail(self, page: int, status: PageStatus, reason: str) -> None:
        self.pages[page] = PageRow(
            doc_id=self.doc_id, page=page, width=0.0, height=0.0, status=status, reasons=(reason,)
        )


def complete(reading: Reading) -> None:
    """Pages that the extractor passed over in silence are failures too."""
    reading.finished = True
    if reading.refused is None and not reading.opened:
        reading.refused = ("corrupt", "the extractor said nothing about the document")
    for page in range(reading.limit):
        if page not in reading.pages:
            reading.fail(page, "error", "the extractor gave no rows for it")


def result_of(reading: Reading, data: bytes, costs: Mapping[str, float]) -> DocumentResult:
    pages = tuple(reading.pages[page] for page in sorted(reading.pages))
    good = [page for page in pages if page.status == "ok"]
    failed = tuple(page.page for page in pages if page.status != "ok")
    status, error = _verdict(reading, pages)
    document = DocumentRow(
        doc_id=reading.doc_id,
        source_uri="",
        byte_size=len(data),
        status=status,
        num_pages=max(reading.num_pages, 0),
        pages_ok=len(good),
        pages_failed=failed,
        pages_skipped=max(reading.num_pages - reading.limit, 0),
        tagged=reading.tagged,
        producer=reading.producer,
        error=error,
        extractor=reading.extractor,
    )
    elements = tuple(row for page in sorted(reading.elements) for row in reading.elements[page])
    return DocumentResult(document=document, pages=pages, elements=elements, costs=costs)


def _verdict(reading: Reading, pages: tuple[PageRow, ...]) -> tuple[DocumentStatus, str]:
    if reading.refused is not None:
        return reading.refused
    if not reading.num_pages:
        return "empty", "the document has no pages"
    bad = [page for page in pages if page.status != "ok"]
    told = "; ".join(f"page {page.page}: {page.status}: {' '.join(page.reasons)}" for page in bad[:3])
    if len(bad) == len(pages):
        return AS_DOCUMENT[bad[0].status], told
    skipped = reading.num_pages - reading.limit
    if skipped:
        told = "; ".join(filter(None, (told, f"{skipped:,} pages lie beyond the limit of {reading.limit:,}")))
    return ("partial" if bad or skipped else "ok"), told


def refused_row(doc_id: str, data: bytes, status: DocumentStatus, error: str) -> DocumentRow:
    return DocumentRow(doc_id=doc_id, source_uri="", byte_size=len(data), status=status, error=error)
