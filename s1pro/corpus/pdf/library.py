"""PDFium's C functions, bound to plain addresses.

The functions of pypdfium2.raw make a Python object for every pointer that goes in or out. Here pointers are numbers and
results go straight into the memory of numpy arrays, one column each, and `map` makes the calls: about 0.4 µs per call.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpy.typing import NDArray


class Library:
    """PDFium's functions bound to plain addresses: no objects of ctypes are made per call."""

    def __init__(self) -> None:
        import pypdfium2.raw as raw

        address, integer = ctypes.c_void_p, ctypes.c_int

        def bind(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
            pointer = ctypes.cast(getattr(raw, name), ctypes.c_void_p).value
            return ctypes.PYFUNCTYPE(result, *arguments)(pointer or 0)

        self.raw = raw
        self.char_box = bind("FPDFText_GetCharBox", integer, address, integer, *[address] * 4)
        self.unicode = bind("FPDFText_GetUnicode", ctypes.c_uint, address, integer)
        self.text_object = bind("FPDFText_GetTextObject", address, address, integer)
        self.char_matrix = bind("FPDFText_GetMatrix", integer, address, integer, address)
        self.char_origin = bind("FPDFText_GetCharOrigin", integer, address, integer, address, address)
        self.font_size = bind("FPDFText_GetFontSize", ctypes.c_double, address, integer)
        self.map_error = bind("FPDFText_HasUnicodeMapError", integer, address, integer)
        self.render_mode = bind("FPDFTextObj_GetTextRenderMode", integer, address)
        self.font = bind("FPDFTextObj_GetFont", address, address)
        self.font_name = bind("FPDFFont_GetBaseFontName", ctypes.c_size_t, address, address, ctypes.c_size_t)
        self.font_flags = bind("FPDFFont_GetFlags", integer, address)
        self.font_weight = bind("FPDFFont_GetWeight", integer, address)
        self.type = bind("FPDFPageObj_GetType", integer, address)
        self.bounds = bind("FPDFPageObj_GetBounds", integer, address, *[address] * 4)
        self.matrix = bind("FPDFPageObj_GetMatrix", integer, address, address)
        self.count = bind("FPDFPage_CountObjects", integer, address)
        self.object = bind("FPDFPage_GetObject", address, address, integer)
        self.form_count = bind("FPDFFormObj_CountObjects", integer, address)
        self.form_object = bind("FPDFFormObj_GetObject", address, address, ctypes.c_ulong)
        self.marked_content = bind("FPDFPageObj_GetMarkedContentID", integer, address)
        self.draw_mode = bind("FPDFPath_GetDrawMode", integer, address, address, address)
        self.fill = bind("FPDFPageObj_GetFillColor", integer, address, *[address] * 4)
        self.stroke = bind("FPDFPageObj_GetStrokeColor", integer, address, *[address] * 4)
        self.line_width = bind("FPDFPageObj_GetStrokeWidth", integer, address, address)
        self.clip = bind("FPDFPageObj_GetClipPath", address, address)
        self.clip_paths = bind("FPDFClipPath_CountPaths", integer, address)
        self.clip_segments = bind("FPDFClipPath_CountPathSegments", integer, address, integer)
        self.clip_segment = bind("FPDFClipPath_GetPathSegment", address, address, integer, integer)
        self.segments = bind("FPDFPath_CountSegments", integer, address)
        self.segment = bind("FPDFPath_GetPathSegment", address, address, integer)
        self.point = bind("FPDFPathSegment_GetPoint", integer, address, address, address)
        self.segment_type = bind("FPDFPathSegment_GetType", integer, address)
        self.segment_close = bind("FPDFPathSegment_GetClose", integer, address)


_BOUND: list[Library] = []


def library() -> Library:
    if not _BOUND:
        _BOUND.append(Library())
    return _BOUND[0]


def each(function: Callable[..., Any], *arguments: Iterable[Any]) -> None:
    """Calls the function for every row of arguments."""
    deque(map(function, *arguments), maxlen=0)


def columns(array: NDArray[Any]) -> Iterator[range]:
    """Addresses of the columns of a C-ordered array (N, K), a range over rows for each."""
    start, item = array.ctypes.data, array.itemsize
    stride = array.shape[1] * item
    for column in range(array.shape[1]):
        yield range(start + column * item, start + column * item + stride * array.shape[0], stride)
