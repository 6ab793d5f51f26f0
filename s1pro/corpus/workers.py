"""Reading documents in a process that may die: what is finished is kept, what kills it is named, the rest goes on.

    before     empty, too large, no PDF header within the first kilobyte: decided here, without a worker
    open       the child sends facts: number of pages, tagged or not, producer; or refuses (password, damage)
    page k     one frame per page with its rows; they are kept whatever happens later
    death at k page k gets the status of the death, and a fresh worker starts at k + 1
    3 deaths   the rest is given up

The document is `ok` when every page was read, `partial` when some were, else it has the status of its first failure.
Pages reconcile: num_pages = pages_ok + len(pages_failed) + pages_skipped.

A worker that has read other documents may die of what they left behind. So a crash or a lack of memory counts only in a
fresh worker; in a used one it is tried again first. Time limits count at once. A SIGKILL from outside (somebody, or a
system that is short of memory) says little about a page: it counts when it has hit the same page several times.
What a page is read as may depend on the pages before it, so a death that does not count repeats all pages since the
last one that does: the rows are the same as without it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from s1pro.base.errors import InputError
from s1pro.corpus.children import Child, ChildDied, Limits
from s1pro.corpus.frames import Frame
from s1pro.corpus.records import DocumentRow, DocumentStatus, ElementRow, PageRow, PageStatus
from s1pro.corpus.tables import from_plain

# Elements of a document and what its pages noted for the end, to the final elements.
Join = Callable[[Sequence[ElementRow], Sequence[Any]], Sequence[ElementRow]]

_HEADER_WITHIN = 1024
_STRIKES = 5
_AS_DOCUMENT: Mapping[PageStatus, DocumentStatus] = {
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
class _Reading:
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


class DocumentWorker:
    """Reads documents one after another in a child process; a context manager.

    Args:
        function: what the child calls, `module:function`.
        settings: JSON values for it; part of what the result depends on.
        beat: called about twice a second, and after every page with the number of pages of this document so far.
        join: gets the elements of a document and the notes of all its pages, in order, and gives the final elements.
    """

    def __init__(
        self,
        function: str,
        settings: Mapping[str, Any],
        limits: Limits,
        beat: Callable[[int], None] | None = None,
        join: Join | None = None,
    ) -> None:
        self.function, self.settings, self.limits = function, settings, limits
        self.join = join or (lambda elements, notes: elements)
        self.beat = beat or (lambda pages: None)
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def read(self, doc_id: str, data: bytes) -> DocumentResult:
        """Everything about one document; never raises for what is in it."""
        refused = preflight(data, self.limits)
        if refused is not None:
            return DocumentResult(document=_row(doc_id, data, *refused))
        reading = _Reading(doc_id=doc_id)
        began = time.monotonic()
        end = began + self.limits.document_seconds
        while not reading.finished:
            self._attempt(reading, data, end)
        costs = {
            "wall_seconds": time.monotonic() - began,
            "cpu_seconds": reading.cpu_seconds,
            "peak_mb": reading.peak_mb,
            "attempts": float(reading.attempts),
        }
        result = _result(reading, data, costs)
        notes = [note for page in sorted(reading.notes) for note in reading.notes[page]]
        return replace(result, elements=tuple(self.join(result.elements, notes)))

    def _attempt(self, reading: _Reading, data: bytes, end: float) -> None:
        child = self._ready()
        fresh = child.documents == 0
        child.documents += 1
        reading.attempts += 1
        child.send(Frame(header={"op": "document", "first_page": reading.first}, parts=(data,)))
        try:
            self._listen(child, reading, end)
        except ChildDied as death:
            self._drop()
            reading.cpu_seconds += death.cpu_seconds
            reading.peak_mb = max(reading.peak_mb, child.peak_mb)
            reading.strikes[reading.first] += death.from_outside
            if _counts(death, fresh, reading.strikes[reading.first]) or time.monotonic() >= end:
                self._bury(reading, death, gone=time.monotonic() >= end)
            else:
                reading.back()
            return
        _complete(reading)
        if child.documents >= self.limits.documents_per_worker:
            self._drop()

    def _listen(self, child: Child, reading: _Reading, end: float) -> None:
        """Frames until the end of the document. Every frame starts the time of the next page."""
        while True:
            deadline = min(time.monotonic() + self.limits.page_seconds, end)
            frame = child.receive(deadline, lambda: self.beat(len(reading.pages)))
            try:
                if self._take(frame, reading):
                    return
            except (InputError, KeyError, TypeError, ValueError) as error:
                child.kill()
                raise ChildDied("crash", f"answered with rows that do not fit ({error})", 0.0) from error

    def _take(self, frame: Frame, reading: _Reading) -> bool:
        """Books a frame; whether it was the last one."""
        header = frame.header
        if frame.op == "facts":
            reading.num_pages = int(header["num_pages"])
            reading.limit = min(reading.num_pages, self.limits.max_pages)
            reading.tagged, reading.producer = bool(header["tagged"]), str(header["producer"])
            reading.extractor = str(header["extractor"])
        elif frame.op == "refused":
            reading.refused = (header["status"], str(header["error"]))
        elif frame.op == "page":
            page = from_plain(PageRow, header["page"])
            reading.pages[page.page] = page
            reading.elements[page.page] = [from_plain(ElementRow, row, frame.parts) for row in header["elements"]]
            reading.notes[page.page] = list(header.get("notes", ()))
            reading.first = page.page + 1
            self.beat(len(reading.pages))
        elif frame.op == "end":
            reading.cpu_seconds += float(header["cpu_seconds"])
            reading.peak_mb = max(reading.peak_mb, float(header["peak_mb"]))
            if float(header["resident_mb"]) > self.limits.resident_mb:
                self._drop()
            return True
        else:
            raise ValueError(f"unknown frame {frame.op!r}")
        return False

    def _bury(self, reading: _Reading, death: ChildDied, *, gone: bool) -> None:
        """Names the page that did it and decides whether to go on after it."""
        if not reading.opened:
            status = _AS_DOCUMENT[death.status]
            reading.refused, reading.finished = (status, death.reason), True
            return
        reading.deaths += 1
        if reading.first < reading.limit:
            reading.fail(reading.first, death.status, death.reason)
        reading.first += 1
        reading.begin = reading.first
        if gone or reading.deaths >= self.limits.deaths or reading.first >= reading.limit:
            why = "the document took longer than allowed" if gone else "given up after too many deaths"
            for page in range(reading.first, reading.limit):
                reading.fail(page, "skipped", why)
            reading.finished = True

    def _ready(self) -> Child:
        if self._child is None or not self._child.alive():
            self._drop()
            self._child = Child(self.function, self.settings, self.limits)
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def _counts(death: ChildDied, fresh: bool, strikes: int) -> bool:
    """Whether a death is proof against the page at which it happened."""
    if death.from_outside:
        return strikes >= _STRIKES
    return fresh or death.status in ("timeout", "error")


def preflight(data: bytes, limits: Limits) -> tuple[DocumentStatus, str] | None:
    """What can be said of a file without opening it."""
    if not data:
        return "empty", "the file has no bytes"
    if len(data) > limits.max_bytes:
        return "too_large", f"{len(data):,} bytes; the limit is {limits.max_bytes:,}"
    if b"%PDF-" not in data[:_HEADER_WITHIN]:
        return "not_pdf", "no PDF header within the first kilobyte"
    return None


def _complete(reading: _Reading) -> None:
    """Pages that the extractor passed over in silence are failures too."""
    reading.finished = True
    if reading.refused is None and not reading.opened:
        reading.refused = ("corrupt", "the extractor said nothing about the document")
    for page in range(reading.limit):
        if page not in reading.pages:
            reading.fail(page, "error", "the extractor gave no rows for it")


def _result(reading: _Reading, data: bytes, costs: Mapping[str, float]) -> DocumentResult:
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


def _verdict(reading: _Reading, pages: tuple[PageRow, ...]) -> tuple[DocumentStatus, str]:
    if reading.refused is not None:
        return reading.refused
    if not reading.num_pages:
        return "empty", "the document has no pages"
    bad = [page for page in pages if page.status != "ok"]
    told = "; ".join(f"page {page.page}: {page.status}: {' '.join(page.reasons)}" for page in bad[:3])
    if len(bad) == len(pages):
        return _AS_DOCUMENT[bad[0].status], told
    skipped = reading.num_pages - reading.limit
    if skipped:
        told = "; ".join(filter(None, (told, f"{skipped:,} pages lie beyond the limit of {reading.limit:,}")))
    return ("partial" if bad or skipped else "ok"), told


def _row(doc_id: str, data: bytes, status: DocumentStatus, error: str) -> DocumentRow:
    return DocumentRow(doc_id=doc_id, source_uri="", byte_size=len(data), status=status, error=error)
