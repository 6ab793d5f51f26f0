"""Pages as pictures for an engine, rendered in a worker that may be killed.

`pages` runs in the child (corpus/child.py): without network, within limits of memory and time. It gives the picture of
each wanted page, and the text of those whose text layer can be trusted; or, when the engine has answered, crops and
descriptions of what it found on them. `PageRenderer` is the parent: a page that kills the worker gets a reason instead
of a picture, and a fresh worker goes on behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from s1pro.base.config import config_from_json, config_to_json
from s1pro.base.errors import InputError
from s1pro.corpus.children import Child, ChildDied, Limits
from s1pro.corpus.describe.page import described
from s1pro.corpus.engines.text import PageText, page_text
from s1pro.corpus.frames import Frame
from s1pro.corpus.pdf.crops import CropSettings, encode, render, with_crop
from s1pro.corpus.pdf.drawing import ReadLimits
from s1pro.corpus.pdf.reader import PdfError, close_page, load_page, open_document, read_loaded
from s1pro.corpus.records import ElementRow
from s1pro.corpus.tables import from_plain, to_plain

FUNCTION = "s1pro.corpus.engines.render:pages"
_STRIKES = 5


@dataclass(frozen=True, kw_only=True)
class WantedPage:
    """A page to render.

    Attributes:
        text: its text layer is read as well.
        elements: if given, no picture of the page is wanted, but these elements with crops and descriptions.
    """

    page: int
    text: bool = False
    elements: tuple[ElementRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PagePicture:
    """A page as it is sent to an engine; `text` is None if its text layer is not to be trusted."""

    page: int
    width: float
    height: float
    mime: str
    image: bytes
    text: PageText | None = None


@dataclass(frozen=True, kw_only=True)
class DescribedPage:
    """Elements of a page with their crops, and what the page itself proves to be visible in them."""

    page: int
    elements: tuple[ElementRow, ...]


Drawn = PagePicture | DescribedPage | str


def pages(data: bytes, settings: Mapping[str, Any], first_page: int) -> Iterator[Frame]:
    """Frames of the wanted pages.

    Args:
        settings: `pages` (plain `WantedPage`), `picture` and `crop` (plain `CropSettings`).
    """
    picture, crop = (config_from_json(CropSettings, settings[name]) for name in ("picture", "crop"))
    document = open_document(data)
    for plain in settings["pages"]:
        wanted = from_plain(WantedPage, plain, [b""])
        try:
            yield _described(document, wanted, crop) if wanted.elements else _picture(document, wanted, picture)
        except PdfError as error:
            yield Frame(header={"op": "refused", "page": wanted.page, "error": str(error)})


def _picture(document: Any, wanted: WantedPage, settings: CropSettings) -> Frame:
    page = load_page(document, wanted.page)
    width, height = page.get_size()
    text = None
    if wanted.text:
        content = read_loaded(page, wanted.page, ReadLimits())
        text = page_text(content)
        close_page(content)
    crop = encode(render(page, (0.0, 0.0, float(width), float(height)), settings), settings)
    row = PagePicture(
        page=wanted.page, width=float(width), height=float(height), mime=crop.mime, image=crop.image, text=text
    )
    parts: list[bytes] = []
    return Frame(header={"op": "picture", "row": to_plain(row, parts)}, parts=parts)


def _described(document: Any, wanted: WantedPage, settings: CropSettings) -> Frame:
    page = load_page(document, wanted.page)
    content = read_loaded(page, wanted.page, ReadLimits())
    rows = [
        described(with_crop(row, encode(render(page, row.box, settings), settings)), content) for row in wanted.elements
    ]
    close_page(content)
    parts: list[bytes] = []
    found = to_plain(DescribedPage(page=wanted.page, elements=tuple(rows)), parts)
    return Frame(header={"op": "described", "row": found}, parts=parts)


class PageRenderer:
    """Renders pages of one document after another in a worker process; a context manager.

    Args:
        settings: for pictures of pages.
        crop: for elements.
        function: what the child calls.
    """

    def __init__(
        self, settings: CropSettings, limits: Limits, *, crop: CropSettings | None = None, function: str = FUNCTION
    ) -> None:
        self.settings, self.limits, self.function = settings, limits, function
        self.crop = crop or CropSettings()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def render(
        self, data: bytes, wanted: Sequence[WantedPage], beat: Callable[[], None] | None = None
    ) -> dict[int, Drawn]:
        """Every wanted page of a document: its picture or its elements, or why there are none."""
        result: dict[int, Drawn] = {}
        left, deaths, strikes = list(wanted), 0, 0
        while left:
            child = self._ready()
            fresh = child.documents == 0
            child.documents += 1
            death = self._round(child, data, left, result, beat)
            if death is None:
                break
            self._drop()
            strikes += death.from_outside
            if not _counts(death, fresh, strikes):
                continue
            if left:
                result[left.pop(0).page] = f"{death.status}: {death.reason}"
            deaths, strikes = deaths + 1, 0
            if deaths >= self.limits.deaths:
                break
        if self._child is not None and self._child.documents >= self.limits.documents_per_worker:
            self._drop()
        return {page.page: "skipped: given up after too many deaths" for page in left} | result

    def _round(
        self,
        child: Child,
        data: bytes,
        left: list[WantedPage],
        result: dict[int, Drawn],
        beat: Callable[[], None] | None,
    ) -> ChildDied | None:
        """One document, until the worker is done or dead; takes from `left` what it answers."""
        pages = {"pages": [_without_pictures(page) for page in left]}
        child.send(Frame(header={"op": "document", "first_page": 0, "settings": pages}, parts=(data,)))
        try:
            while True:
                frame = child.receive(time.monotonic() + self.limits.page_seconds, beat)
                if frame.op == "end":
                    for page in left:
                        result[page.page] = "error: the worker gave no picture"
                    left.clear()
                    return None
                _take(frame, left, result)
        except ChildDied as death:
            return death
        except (InputError, KeyError, TypeError, ValueError, IndexError) as error:
            return ChildDied("error", f"answered with something that does not fit ({error})", 0.0)

    def _ready(self) -> Child:
        if self._child is None or not self._child.alive():
            self._drop()
            self._child = Child(
                self.function,
                {"picture": config_to_json(self.settings), "crop": config_to_json(self.crop)},
                self.limits,
            )
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def _without_pictures(page: WantedPage) -> dict[str, Any]:
    """The page as JSON values; the elements get new pictures, so the old ones stay here (0: none, see `pages`)."""
    plain = to_plain(page)
    for row in plain["elements"]:
        row["image"] = 0
    return plain


def _counts(death: ChildDied, fresh: bool, strikes: int) -> bool:
    """Whether a death is proof against the page at which it happened; see corpus/workers.py."""
    if death.from_outside:
        return strikes >= _STRIKES
    return fresh or death.status in ("timeout", "error")


def _take(frame: Frame, left: list[WantedPage], result: dict[int, Drawn]) -> None:
    value: Drawn
    if frame.op == "picture":
        value = from_plain(PagePicture, frame.header["row"], frame.parts)
        number = value.page
    elif frame.op == "described":
        value = from_plain(DescribedPage, frame.header["row"], frame.parts)
        number = value.page
    elif frame.op == "refused":
        number, value = int(frame.header["page"]), f"error: {frame.header['error']}"
    else:
        raise ValueError(f"unknown frame {frame.op!r}")
    if number != left[0].page:
        raise ValueError(f"page {number} instead of {left[0].page}")
    result[number] = value
    left.pop(0)
