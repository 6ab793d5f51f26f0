"""Reading documents in a process that may die: what is finished is kept, what kills it is named, the rest goes on.

    before     empty, too large, no PDF header within the first kilobyte: decided here, without a worker
    open       the child sends facts: number of pages, tagged or not, producer; or refuses (password, damage)
    page k     one frame per page with its rows; they are kept whatever happens later
    death at k page k gets the status of the death, and a fresh worker starts at k + 1
    3 deaths   the rest is given up

**Time.** The clock of a document starts with `read`. At its end nothing is waited for: the worker gets SIGKILL, and
neither its death (the kernel takes back a gigabyte) nor the birth of its successor (Python and PDFium are loaded) is
part of this document. A worker that dies earlier is replaced within the time of its document. Only if the worker was
not ready when a document came does the clock give it the time of one page from then on, so that a slow start is not
blamed on a good document.

A worker that has read other documents may die of what they left behind. So a crash or a lack of memory counts only in a
fresh worker; in a used one it is tried again first. Time limits count at once. A SIGKILL from outside (somebody, or a
system that is short of memory) says little about a page: it counts when it has hit the same page several times.
What a page is read as may depend on the pages before it, so a death that does not count repeats all pages since the
last one that does: the rows are the same as without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from s1pro.base.errors import InputError
from s1pro.corpus.children import Child, ChildDied, Limits
from s1pro.corpus.documents import AS_DOCUMENT, DocumentResult, Reading, complete, refused_row, result_of
from s1pro.corpus.frames import Frame
from s1pro.corpus.records import DocumentStatus, ElementRow, PageRow
from s1pro.corpus.tables import from_plain

# Elements of a document and what its pages noted for the end, to the final elements.
Join = Callable[[Sequence[ElementRow], Sequence[Any]], Sequence[ElementRow]]

_HEADER_WITHIN = 1024
_STRIKES = 5


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
        self._dying: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()
        for child in self._dying:
            child.close()
        self._dying.clear()

    def read(self, doc_id: str, data: bytes) -> DocumentResult:
        """Everything about one document; never raises for what is in it."""
        refused = preflight(data, self.limits)
        if refused is not None:
            return DocumentResult(document=refused_row(doc_id, data, *refused))
        reading = Reading(doc_id=doc_id)
        began = time.monotonic()
        self._ready(math.inf)
        first = min(self.limits.page_seconds, self.limits.document_seconds)
        end = max(began + self.limits.document_seconds, time.monotonic() + first)
        while not reading.finished:
            self._attempt(reading, data, end)
        costs = {
            "wall_seconds": time.monotonic() - began,
            "cpu_seconds": reading.cpu_seconds,
            "peak_mb": reading.peak_mb,
            "attempts": float(reading.attempts),
        }
        result = result_of(reading, data, costs)
        notes = [note for page in sorted(reading.notes) for note in reading.notes[page]]
        return replace(result, elements=tuple(self.join(result.elements, notes)))

    def _attempt(self, reading: Reading, data: bytes, end: float) -> None:
        try:
            child = self._ready(end)
        except TimeoutError:
            self._bury(reading, ChildDied("timeout", "took longer than allowed", 0.0), gone=True)
            return
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
        complete(reading)
        if child.documents >= self.limits.documents_per_worker:
            self._drop()

    def _listen(self, child: Child, reading: Reading, end: float) -> None:
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
            if time.monotonic() >= end:  # whatever it still sends
                raise ChildDied("timeout", "took longer than allowed", child.kill())

    def _take(self, frame: Frame, reading: Reading) -> bool:
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

    def _bury(self, reading: Reading, death: ChildDied, *, gone: bool) -> None:
        """Names the page that did it and decides whether to go on after it."""
        if not reading.opened:
            status = AS_DOCUMENT[death.status]
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

    def _ready(self, deadline: float) -> Child:
        """A worker that waits for a document.

        Raises:
            TimeoutError: it is still starting at the deadline; it goes on starting.
        """
        self._dying = [child for child in self._dying if not child.reaped()]
        if self._child is None or not self._child.alive():
            self._drop()
            self._child = self._start()
        self._child.greet(deadline)
        return self._child

    def _start(self) -> Child:
        return Child(self.function, self.settings, self.limits, wait=False)

    def _drop(self) -> None:
        """Kills the worker, if there is one, and does not wait until it is gone."""
        if self._child is not None:
            self._child.kill()
            self._dying.append(self._child)
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
