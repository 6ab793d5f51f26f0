"""Ingest: documents to rows of documents, pages and elements. One unit is a few documents.

Documents are read in a worker process (corpus/workers.py), one after another; several units run in several processes,
each with its own worker. The status of every document is in the manifest of its unit. A document whose bytes cannot be
read any more is `corrupt` with the reason, and may be tried again.

Layouts of other programs are read in this process, since they are JSON and pictures of bounded size.

Retries are rounds after the first: their units name the documents, the changed limits and the number of the round, so
they are new units even if nothing else changed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError, MissingExtraError
from s1pro.corpus.ledger import InputRow, read_ledger, read_source, sources
from s1pro.corpus.records import DocumentRow, ElementRow, PageRow
from s1pro.corpus.settings import IngestSettings
from s1pro.corpus.stages.base import Beat, CorpusFolder, Work
from s1pro.corpus.stages.layouts import IMPORT_VERSION, import_layout
from s1pro.corpus.stages.reading import join
from s1pro.corpus.units import Outcome, Table, Unit, chunks, digest_of
from s1pro.corpus.workers import DocumentResult, DocumentWorker


class Ingest:
    name = "ingest"
    version = 2

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        ledger = read_ledger(folder.root)
        if not ledger:
            raise InputError(f"{folder.root}: there are no inputs; give PDF files or folders of them")
        settings = folder.settings().ingest
        units = []
        for kind in ("pdf", "layout"):
            known = {row.doc_id for row in ledger if row.kind == kind}
            units += self._round(settings, kind, known, 0, {})
            for number, entry in enumerate(folder.rounds(), start=1):
                again = known.intersection(entry["documents"])
                units += self._round(settings, kind, again, number, entry["changes"])
        return units

    def _round(
        self, settings: IngestSettings, kind: str, documents: set[str], number: int, changes: dict[str, Any]
    ) -> list[Unit]:
        identity: dict[str, Any] = {"layout": IMPORT_VERSION}
        if kind == "pdf":
            identity = settings.changed(changes).identity()
        digest = digest_of({**identity, "round": number} if number else identity)
        return [
            Unit(
                stage=self.name,
                version=self.version,
                settings=digest,
                inputs=group,
                work={"kind": kind, "changes": changes},
            )
            for group in chunks(documents, settings.documents_per_unit)
        ]

    @contextmanager
    def open(self, folder: CorpusFolder) -> Iterator[Work]:
        settings = folder.settings().ingest
        if importlib.util.find_spec("pypdfium2") is None:
            raise MissingExtraError("pypdfium2", "papers")
        inputs = sources(read_ledger(folder.root))
        with _Readers() as readers:

            def work(unit: Unit, beat: Beat) -> Outcome:
                if unit.work["kind"] == "layout":
                    return _outcome([import_layout(inputs[doc_id][0]) for doc_id in unit.inputs])
                worker = readers.get(settings.changed(unit.work["changes"]))
                done = 0
                worker.beat = lambda pages: beat(done + pages)
                results = []
                for doc_id in unit.inputs:
                    results.append(_read(worker, doc_id, inputs[doc_id]))
                    done += len(results[-1].pages)
                    beat(done)
                return _outcome(results)

            yield work


class _Readers:
    """One worker at a time; another one when the settings change."""

    def __init__(self) -> None:
        self._current: tuple[IngestSettings, DocumentWorker] | None = None

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._current is not None:
            self._current[1].__exit__(None, None, None)

    def get(self, settings: IngestSettings) -> DocumentWorker:
        if self._current is None or self._current[0] != settings:
            self.__exit__()
            extract = {"max_pages": settings.limits.max_pages, "extract": config_to_json(settings.extract)}
            self._current = (settings, DocumentWorker(settings.extractor, extract, settings.limits, join=join))
        return self._current[1]


def _read(worker: DocumentWorker, doc_id: str, rows: list[InputRow]) -> DocumentResult:
    size, limit = rows[0].byte_size, worker.limits.max_bytes
    if size > limit:  # not even into memory
        why = f"{size:,} bytes; the limit is {limit:,}"
        return DocumentResult(
            document=DocumentRow(doc_id=doc_id, source_uri="", byte_size=size, status="too_large", error=why)
        )
    try:
        data = read_source(rows)
    except InputError as error:
        row = DocumentRow(
            doc_id=doc_id, source_uri="", byte_size=rows[0].byte_size, status="corrupt", error=f"not read: {error}"
        )
        return DocumentResult(document=row)
    return worker.read(doc_id, data)


def _outcome(results: list[DocumentResult]) -> Outcome:
    documents = [result.document for result in results]
    return Outcome(
        tables={
            "documents": Table(kind=DocumentRow, rows=documents),
            "pages": Table(kind=PageRow, rows=[row for result in results for row in result.pages]),
            "elements": Table(kind=ElementRow, rows=[row for result in results for row in result.elements]),
        },
        statuses={row.doc_id: row.status for row in documents},
        costs={result.document.doc_id: dict(result.costs) for result in results},
    )
