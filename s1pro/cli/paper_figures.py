"""Figures of a PDF for the page of the server: the joint between the rooms `corpus` and `serve`, which do not know each
other.

The file is read by the extractor of `s1pro corpus` in a worker process without network, with limits of time and memory
that suit somebody who waits; a page that kills the worker is skipped. The worker ends with the paper.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.corpus.children import Limits
from s1pro.corpus.pdf.extract import ExtractSettings
from s1pro.corpus.records import ElementRow, document_id
from s1pro.corpus.workers import DocumentWorker
from s1pro.serve.http.paper_figures import FiguresOfPdf, PaperFigure, PaperFigures

READ = "s1pro.corpus.stages.reading:extract"
SHOWN = ("figure", "chart", "scheme", "table")
LIMITS = Limits(
    page_seconds=15, document_seconds=90, cpu_seconds=90, max_bytes=64 << 20, max_pages=100, documents_per_worker=1
)


class GivenUp(RuntimeError):
    """Nobody waits for the figures any more."""


def figures_reader() -> FiguresOfPdf | None:
    """The function that reads papers; None without the extra `papers`."""
    return None if importlib.util.find_spec("pypdfium2") is None else figures_of_pdf


def figures_of_pdf(data: bytes, wanted: Callable[[], bool], limits: Limits = LIMITS) -> PaperFigures:
    """Figures, charts, schemes and tables of a paper, in reading order.

    Raises:
        InputError: no PDF, damaged, locked with a password, or too much for the limits.
        GivenUp: `wanted` said no.
    """

    def beat(pages: int) -> None:
        if not wanted():
            raise GivenUp

    settings = {
        "extract": config_to_json(ExtractSettings(panels=False, formulas=False)),
        "max_pages": limits.max_pages,
    }
    with DocumentWorker(READ, settings, limits, beat) as worker:
        result = worker.read(document_id(data), data)
    if result.document.status not in ("ok", "partial"):
        raise InputError(f"the PDF cannot be read ({result.document.status}): {result.document.error}"[:300])
    return PaperFigures(
        num_pages=result.document.num_pages,
        figures=tuple(_figure(row) for row in result.elements if row.image and row.type in SHOWN and not row.parent_id),
        note=result.document.error[:300],
    )


def _figure(row: ElementRow) -> PaperFigure:
    return PaperFigure(
        page=row.page + 1,
        type=row.type,
        label=row.label,
        caption=row.caption,
        mime=row.mime,
        image=row.image,
        width=row.width,
        height=row.height,
    )
