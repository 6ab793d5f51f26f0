"""Reads one page through PDFium: characters, runs, paths and pictures with boxes on the shown page.

PDFium is a C library; a Python loop over 5,000 characters with five calls each costs more than drawing the page. Here
every property is read by `map` over a C function that was bound to plain addresses, which costs about 0.4 µs per call,
and into arrays, so that all arithmetic afterwards is numpy's.

Form XObjects are walked with their matrices; objects, characters and depth are capped (`ReadLimits`), and every cap
that was reached is named in `PageContent.limits`. Nothing here is safe to call from two threads (PDFium is not), and a
malicious file can end the process or take minutes inside of PDFium: the workers of `corpus` run this in a child process
that may be killed.
"""

from __future__ import annotations

import ctypes
from itertools import repeat
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.pdf.drawing import Matrix, ReadLimits, read_outline, transform, walk
from s1pro.corpus.pdf.glyphs import Array, Chars, Font, Runs
from s1pro.corpus.pdf.library import Library, columns, each
from s1pro.corpus.pdf.library import library as bound_library
from s1pro.corpus.pdf.lines import quarter

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

PASSWORD_ERROR = 4


class PdfError(InputError):
    """A document or page that cannot be read; `status` is the one that the ledger gets."""

    def __init__(self, status: Literal["encrypted", "not_pdf", "corrupt", "empty"], message: str) -> None:
        super().__init__(message)
        self.status = status


def open_document(data: bytes) -> PdfDocument:
    """Opens a PDF from memory.

    Raises:
        PdfError: with status `not_pdf`, `encrypted`, `corrupt` or `empty` (no pages).
        MissingExtraError: pypdfium2 is not installed.
    """
    try:
        import pypdfium2 as pdfium
    except ImportError as error:
        raise MissingExtraError("pypdfium2", "papers") from error
    if b"%PDF-" not in data[:1024]:
        raise PdfError("not_pdf", "no %PDF- header in the first 1024 bytes")
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == PASSWORD_ERROR or "password" in str(error).lower():
            raise PdfError("encrypted", "the document asks for a password") from error
        raise PdfError("corrupt", f"PDFium cannot open it: {error}") from error
    if len(document) == 0:
        document.close()
        raise PdfError("empty", "the document has no pages")
    return document


def load_page(document: PdfDocument, number: int) -> PdfPage:
    """Loads page `number` (from 0).

    Raises:
        PdfError: with status `corrupt`: PDFium cannot load this page.
    """
    import pypdfium2 as pdfium

    try:
        return document[number]
    except (pdfium.PdfiumError, IndexError) as error:
        raise PdfError("corrupt", f"page {number} cannot be loaded: {error}") from error


def read_page(document: PdfDocument, number: int, limits: ReadLimits | None = None) -> PageContent:
    """Loads and reads a page. Outlines of its paths can be read until `close_page(content)`.

    Raises:
        PdfError: PDFium cannot load this page.
    """
    return read_loaded(load_page(document, number), number, limits or ReadLimits())


def read_loaded(page: PdfPage, number: int, limits: ReadLimits) -> PageContent:
    """Reads a page that is loaded already."""
    shown = shown_matrix(page)
    reached: list[str] = []
    library = bound_library()
    too_many: list[str] = []
    drawn = walk(page, shown, limits, too_many, library)
    chars, runs, fonts, errors = _read_text(page, shown, limits, reached, library, drawn.hidden)
    reached += too_many
    width, height = page.get_size()
    content = PageContent(
        number=number, width=float(width), height=float(height), rotation=int(page.get_rotation()),
        chars=chars, runs=runs, fonts=fonts, paths=drawn.paths(library), images=drawn.images(),
        limits=tuple(reached), map_errors=errors,
    )  # fmt: skip
    # the lambda keeps the page object alive, and with it the addresses of its paths
    content.outliner = lambda path, owner=page: read_outline(drawn, path, limits, library, owner)  # type: ignore[misc]
    return content


def close_page(content: PageContent) -> None:
    """Gives the page back; outlines cannot be read any more."""
    content.outliner = None


def shown_matrix(page: PdfPage) -> Matrix:
    """(3, 2) matrix from the space of the page to the page as shown: `(x, y, 1) @ matrix`."""
    left, bottom, right, top = page.get_bbox()
    rotation = page.get_rotation() % 360
    matrices = {
        0: [[1, 0], [0, -1], [-left, top]],
        90: [[0, 1], [1, 0], [-bottom, -left]],
        180: [[-1, 0], [0, 1], [right, -bottom]],
        270: [[0, -1], [-1, 0], [top, right]],
    }
    return np.array(matrices[rotation], dtype=np.float64)


def _read_text(
    page: PdfPage, shown: Matrix, limits: ReadLimits, reached: list[str], library: Library, hidden: set[int]
) -> tuple[Chars, Runs, tuple[Font, ...], float]:
    textpage = page.get_textpage()
    handle = ctypes.cast(textpage.raw, ctypes.c_void_p).value or 0
    count = max(0, library.raw.FPDFText_CountChars(textpage.raw))
    if count > limits.max_chars:
        reached.append(f"chars {count} > {limits.max_chars}")
        count = limits.max_chars
    positions = range(count)
    raw_boxes = np.zeros((count, 4))
    codes = np.fromiter(map(library.unicode, repeat(handle, count), positions), dtype=np.uint32, count=count)
    if count:
        left, right, bottom, top = columns(raw_boxes)
        each(library.char_box, repeat(handle, count), positions, left, right, bottom, top)
    objects = np.array([x or 0 for x in map(library.text_object, repeat(handle, count), positions)], dtype=np.uint64)
    boxes = transform(raw_boxes[:, [0, 2, 1, 3]], shown)
    run, starts = _runs_of(objects)
    runs, fonts = _describe_runs(handle, starts, objects, shown, library, hidden)
    boxes = _raise_flat(boxes, codes, run, runs)
    sample = range(0, count, max(1, count // 400))
    wrong = sum(library.map_error(handle, i) == 1 for i in sample)
    textpage.close()
    return Chars(codes, boxes, run), runs, fonts, wrong / max(1, len(sample))


def _raise_flat(boxes: Array, codes: NDArray[np.uint32], run: NDArray[np.int32], runs: Runs) -> Array:
    """Characters of fonts that are neither embedded nor installed have no height: they get the usual one."""
    if not len(boxes):
        return boxes
    size, angle = runs.size[run], quarter(runs.angle)[run]
    flat_y = (boxes[:, 3] - boxes[:, 1] < 1e-3) & (boxes[:, 2] > boxes[:, 0]) & (codes > 32) & (angle == 0)
    flat_x = (boxes[:, 2] - boxes[:, 0] < 1e-3) & (boxes[:, 3] > boxes[:, 1]) & (codes > 32)
    boxes[flat_y, 1] -= 0.75 * size[flat_y]
    boxes[flat_y, 3] += 0.1 * size[flat_y]
    for turn, (up, down) in ((90, (0, 2)), (270, (2, 0))):
        flat = flat_x & (angle == turn)
        sign = -1.0 if turn == 90 else 1.0
        boxes[flat, up] += sign * 0.75 * size[flat]
        boxes[flat, down] -= sign * 0.1 * size[flat]
    return boxes


def _runs_of(objects: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The run of each character (a generated one, without an object, belongs to the run before), and run starts."""
    if not len(objects):
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    real = np.flatnonzero(objects)
    if not len(real):
        return np.zeros(len(objects), dtype=np.int32), np.zeros(1, dtype=np.int64)
    new = np.concatenate([[True], objects[real][1:] != objects[real][:-1]])
    starts = real[new]
    run = np.clip(np.searchsorted(starts, np.arange(len(objects)), side="right") - 1, 0, None)
    return run.astype(np.int32), starts


def _describe_runs(
    handle: int, starts: NDArray[np.int64], objects: NDArray[np.uint64], shown: Matrix, library: Library,
    hidden: set[int],
) -> tuple[Runs, tuple[Font, ...]]:  # fmt: skip
    count = len(starts)
    where = starts.tolist()
    matrices = np.zeros((count, 6), dtype=np.float32)
    origins = np.zeros((count, 2))
    if count:
        each(library.char_matrix, repeat(handle, count), where, next(columns(matrices)))
        each(library.char_origin, repeat(handle, count), where, *columns(origins))
    sizes = np.fromiter(map(library.font_size, repeat(handle, count), where), dtype=np.float64, count=count)
    a, b, c, d = matrices[:, :4].astype(np.float64).T
    scale = np.hypot(c, d)
    dx, dy = a * shown[0, 0] + b * shown[1, 0], a * shown[0, 1] + b * shown[1, 1]
    known: dict[int, int] = {}
    fonts: list[Font] = []
    font = np.zeros(count, dtype=np.int32)
    invisible = np.zeros(count, dtype=bool)
    for i, owner in enumerate(objects[starts].tolist()):
        pointer = library.font(owner) if owner else 0
        if pointer not in known:
            known[pointer] = len(fonts)
            fonts.append(_font(pointer, library))
        font[i] = known[pointer]
        invisible[i] = bool(owner) and (owner in hidden or library.render_mode(owner) in (3, 7))
    runs = Runs(
        font=font, size=np.abs(sizes * np.where(scale > 0, scale, 1.0)), angle=np.degrees(np.arctan2(-dy, dx)) % 360.0,
        origin=origins @ shown[:2] + shown[2], invisible=invisible,
    )  # fmt: skip
    return runs, tuple(fonts) or (Font("", 0, 0),)


def _font(pointer: int, library: Library) -> Font:
    if not pointer:
        return Font("", 0, 0)
    buffer = ctypes.create_string_buffer(256)
    library.font_name(pointer, ctypes.addressof(buffer), 256)
    name = buffer.value.decode("utf-8", "replace")
    if len(name) > 7 and name[6] == "+":
        name = name[7:]
    return Font(name, max(0, library.font_flags(pointer)), max(0, library.font_weight(pointer)))
