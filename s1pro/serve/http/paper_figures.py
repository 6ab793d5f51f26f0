"""`POST /page/pdf`: the figures of a paper, offered by the page.

Reading PDFs belongs to another room (`corpus`), so whoever starts the server gives the function that does it; without
one the route answers 501. The function gets the bytes and a question that it must ask now and then: is the answer still
wanted? It must read the file in a process of its own, for a PDF comes from anywhere.

One paper is read at a time, in a thread that prompts never wait for; a few more wait for it, others get 429. A client
that leaves, and a server that ends, give up the reading.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import Response

from s1pro.serve.http.connection import answered
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import Json

MAX_FIGURES, MAX_FIGURE_BYTES = 60, 24 * 2**20
MAX_WAITING = 4


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """One figure: where it stands, what the authors call it, and its picture."""

    page: int
    type: str
    label: str
    caption: str
    mime: str
    image: bytes
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class PaperFigures:
    """What was found in a file. `note` says what could not be read."""

    num_pages: int
    figures: tuple[PaperFigure, ...]
    note: str = ""


# The bytes of a PDF, and whether the answer is still wanted, to its figures. InputError: not a PDF that can be read.
FiguresOfPdf = Callable[[bytes, Callable[[], bool]], PaperFigures]


class PaperReader:
    """See the module docstring.

    Args:
        figures_of_pdf: does the work; None if this server cannot.
    """

    def __init__(self, figures_of_pdf: FiguresOfPdf | None) -> None:
        self._read = figures_of_pdf
        self._turn = threading.Lock()
        self._inside = 0
        self._closed = threading.Event()

    def close(self) -> None:
        """Gives up what is being read."""
        self._closed.set()

    async def answer(self, request: Request) -> Response:
        """The answer to a request with a PDF as its body."""
        if self._read is None:
            raise ApiError(
                501, "this server cannot read PDFs: install the extra `papers` (pip install 's1pro[papers]') and "
                "start it again, or send the figures as images"
            )  # fmt: skip
        if self._inside > MAX_WAITING:
            raise ApiError(429, "other papers are being read", code="server_full", retry_after=10)
        self._inside += 1
        gone = threading.Event()
        try:
            data = await request.body()
            return await answered(request, self._figures(data, gone))
        finally:
            gone.set()
            self._inside -= 1

    async def _figures(self, data: bytes, gone: threading.Event) -> Response:
        def wanted() -> bool:
            return not (gone.is_set() or self._closed.is_set())

        return Json(as_record(await asyncio.to_thread(self._in_turn, data, wanted)))

    def _in_turn(self, data: bytes, wanted: Callable[[], bool]) -> PaperFigures:
        assert self._read is not None
        while wanted():
            if self._turn.acquire(timeout=0.2):
                try:
                    return self._read(data, wanted)
                finally:
                    self._turn.release()
        return PaperFigures(num_pages=0, figures=())


def as_record(found: PaperFigures) -> dict[str, Any]:
    """Figures as JSON, as many as an answer may hold; the note says how many are left out."""
    figures: list[dict[str, Any]] = []
    size = 0
    for figure in found.figures:
        size += len(figure.image)
        if len(figures) == MAX_FIGURES or size > MAX_FIGURE_BYTES:
            break
        figures.append(
            {
                "page": figure.page,
                "type": figure.type,
                "label": figure.label,
                "caption": figure.caption,
                "width": figure.width,
                "height": figure.height,
                "image": f"data:{figure.mime};base64," + base64.b64encode(figure.image).decode("ascii"),
            }
        )
    left_out = len(found.figures) - len(figures)
    notes = [found.note, f"{left_out} more figures are not shown" if left_out else ""]
    return {"num_pages": found.num_pages, "figures": figures, "note": "; ".join(filter(None, notes))}
