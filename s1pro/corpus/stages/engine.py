"""Layout: pages that geometry cannot read are read by an engine behind HTTP. One unit per part that has such pages.

Without an endpoint in the settings the stage has no units, and nothing is different. With one, the worker that may be
killed renders the pages, this process asks the engine, and the answer becomes rows:

    read           the engine answered; the page has the route `engine`, and its elements are in the tables of this unit
    failed         it refused the page, or its answer does not fit; the page stays as it was, with the reason
    not rendered   there was nothing to send: the source is gone, or the page killed the worker

Every page that was tried is in the unit, its row and all its elements; readers of the folder see them in the place of
those of ingest (`CorpusFolder.elements`). Replies are written to `calls/layout-<part>.jsonl` as they come, so a killed
unit pays again only for the calls that were under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.corpus.engines.answer import read_answer
from s1pro.corpus.engines.ask import ask_pages
from s1pro.corpus.engines.log import Reply, ReplyLog
from s1pro.corpus.engines.render import DescribedPage, Drawn, PagePicture, PageRenderer, WantedPage
from s1pro.corpus.engines.rows import PageOutcome, page_outcome
from s1pro.corpus.engines.settings import LayoutSettings
from s1pro.corpus.ledger import InputRow, read_ledger, read_source, sources
from s1pro.corpus.pdf.crops import CropSettings
from s1pro.corpus.pdf.mentions import Citation, attach_mentions
from s1pro.corpus.records import ElementRow, PageRow
from s1pro.corpus.stages.base import Beat, CorpusFolder, Work, part_of, work_on
from s1pro.corpus.units import Outcome, Table, Unit, digest_of

_LONGEST_REASON = 400
_Old = dict[tuple[str, int], list[ElementRow]]


class Layout:
    name = "layout"
    version = 1

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        settings = folder.settings()
        if settings.layout.endpoint is None:
            return []
        folder.require("ingest", "ingest --folder FOLDER")
        digest = digest_of([settings.layout.identity(), settings.ingest.identity()["extract"]["crop"]])
        units = []
        for part in folder.parts(engine=False):
            wanted = [[page.doc_id, page.page] for page in routed(folder.pages(part), settings.layout)]
            if wanted:
                inputs = tuple(sorted((part.digest, digest_of(wanted))))
                units.append(
                    Unit(stage=self.name, version=self.version, settings=digest, inputs=inputs, work=work_on(part))
                )
        return units

    @contextmanager
    def open(self, folder: CorpusFolder) -> Iterator[Work]:
        settings = folder.settings()
        assert settings.layout.endpoint is not None
        inputs = sources(read_ledger(folder.root))
        client = HttpClient(settings.layout.endpoint, api_key_variable=settings.layout.api_key_variable or None)
        crop = settings.ingest.extract.crop
        with PageRenderer(settings.layout.page, settings.ingest.limits, crop=crop) as renderer:

            def work(unit: Unit, beat: Beat) -> Outcome:
                part = part_of(unit)
                pages: dict[str, list[PageRow]] = {}
                for page in routed(folder.pages(part), settings.layout):
                    pages.setdefault(page.doc_id, []).append(page)
                old: _Old = {(page.doc_id, page.page): [] for found in pages.values() for page in found}
                for row in folder.elements(part, without=()):
                    if (row.doc_id, row.page) in old:
                        old[row.doc_id, row.page].append(row)
                done = _Done()
                with ReplyLog(folder.root / "calls" / f"layout-{part.key}.jsonl", again=settings.layout.again) as log:
                    reader = _Reader(settings.layout, crop, renderer, client, log, beat, done)
                    for doc_id, found in pages.items():
                        reader.read(inputs[doc_id], found, old)
                tables = {
                    "pages": Table(kind=PageRow, rows=done.pages),
                    "elements": Table(kind=ElementRow, rows=done.elements),
                }
                return Outcome(tables=tables, statuses=done.statuses)

            yield work


def routed(pages: Iterator[PageRow], settings: LayoutSettings) -> Iterator[PageRow]:
    """The pages that are for an engine."""
    return (page for page in pages if page.status == "ok" and page.route in settings.routes)


def page_name(page: PageRow) -> str:
    """What a page is called in manifests of this stage."""
    return f"{page.doc_id}:{page.page}"


@dataclass(kw_only=True)
class _Done:
    """What a unit has so far."""

    pages: list[PageRow] = field(default_factory=list)
    elements: list[ElementRow] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)


@dataclass
class _Reader:
    """Reads the pages of one document after another."""

    settings: LayoutSettings
    crop: CropSettings
    renderer: PageRenderer
    client: HttpClient
    log: ReplyLog
    beat: Beat
    done: _Done

    def read(self, rows: list[InputRow], pages: Sequence[PageRow], old: _Old) -> None:
        elements: list[ElementRow] = []
        citations: list[Citation] = []
        try:
            data, gone = read_source(rows), ""
        except InputError as error:
            data, gone = b"", f"not read: {error}"
        step = self.settings.pages_at_once
        for some in (pages[start : start + step] for start in range(0, len(pages), step)):
            pictures = self._render(data, some) if data else dict.fromkeys((page.page for page in some), gone)
            replies = self._ask([found for found in pictures.values() if isinstance(found, PagePicture)])
            outcomes = [self._outcome(page, old, pictures[page.page], replies.get(page.page)) for page in some]
            for outcome in self._described(data, outcomes, some):
                self.done.pages.append(outcome.page)
                elements += outcome.elements
                citations += outcome.citations
            self.beat(len(self.done.pages))
        self.done.elements += _with_mentions(elements, citations)

    def _render(self, data: bytes, pages: Sequence[PageRow]) -> Mapping[int, Drawn]:
        return self._draw(data, [WantedPage(page=page.page, text=_has_text(page)) for page in pages])

    def _draw(self, data: bytes, wanted: Sequence[WantedPage]) -> Mapping[int, Drawn]:
        return self.renderer.render(data, wanted, lambda: self.beat(len(self.done.pages)))

    def _described(
        self, data: bytes, outcomes: Sequence[PageOutcome], pages: Sequence[PageRow]
    ) -> Iterator[PageOutcome]:
        """The outcomes; where the file itself has text, what the engine found is cropped and described from it."""
        theirs = {
            page.page: tuple(row for row in outcome.elements if row.source == "http")
            for page, outcome in zip(pages, outcomes, strict=True)
            if _has_text(page)
        }
        wanted = [WantedPage(page=page, elements=rows) for page, rows in theirs.items() if rows]
        drawn = self._draw(data, wanted) if wanted else {}
        for outcome in outcomes:
            found = drawn.get(outcome.page.page)
            if isinstance(found, DescribedPage):
                better = {row.element_id: row for row in found.elements}
                rows = tuple(better.get(row.element_id, row) for row in outcome.elements)
                outcome = replace(outcome, elements=rows)
            elif found is not None:
                reasons = (*outcome.page.reasons, f"not described: {found}")
                outcome = replace(outcome, page=replace(outcome.page, reasons=reasons))
            yield outcome

    def _ask(self, pictures: Sequence[PagePicture]) -> dict[int, Reply]:
        import asyncio

        if not pictures:
            return {}
        replies = asyncio.run(
            ask_pages(pictures, self.client, self.settings, self.log, lambda: self.beat(len(self.done.pages)))
        )
        return {picture.page: reply for picture, reply in zip(pictures, replies, strict=True)}

    def _outcome(self, page: PageRow, old: _Old, picture: Drawn, reply: Reply | None) -> PageOutcome:
        """What became of a page: as it was, with a reason, unless the engine has read it."""
        before = old[page.doc_id, page.page]
        status, found = self._try(page, before, picture, reply)
        self.done.statuses[page_name(page)] = status
        self.beat(len(self.done.pages))
        if isinstance(found, PageOutcome):
            return found
        reason = f"layout engine: {found}"[:_LONGEST_REASON]
        return PageOutcome(page=replace(page, reasons=(*page.reasons, reason)), elements=tuple(before), citations=())

    def _try(
        self, page: PageRow, before: Sequence[ElementRow], picture: Drawn, reply: Reply | None
    ) -> tuple[str, PageOutcome | str]:
        if not isinstance(picture, PagePicture) or reply is None:
            return "not rendered", f"not rendered: {picture}"
        if reply.error:
            return "failed", reply.error
        try:
            answer = read_answer(reply.answer, self.settings.limits)
            return "read", page_outcome(page, before, picture, answer, self.settings, self.crop)
        except (InputError, OSError) as error:
            return "failed", str(error)


def _has_text(page: PageRow) -> bool:
    """Whether the text layer of a page that is for an engine can be trusted."""
    return page.route == "needs_layout_model"


def _with_mentions(elements: Sequence[ElementRow], citations: Sequence[Citation]) -> list[ElementRow]:
    """The elements of one document; those of the engine with the sentences of the pages that it read."""
    theirs = [row for row in elements if row.source == "http"]
    found = {row.element_id: row for row in attach_mentions(theirs, citations)}
    return [found.get(row.element_id, row) for row in elements]
