"""The structure tree of a tagged PDF: figures, tables and formulas that the author's program declared.

An element of the tree names its content by marked-content numbers, and sometimes states a box (attribute `BBox`). The
box is the stated one, else that of the objects with these numbers. What the program declared is more certain than any
geometry, so a region that agrees with a declared one takes its box, and a declared figure that was not found is added
with its alternative text. Decoration is declared as artifact and is not in the tree.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from s1pro.corpus.pdf.drawing import transform
from s1pro.corpus.pdf.library import Library, columns, each
from s1pro.corpus.pdf.reader import shown_matrix
from s1pro.corpus.records import Box, ElementType

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

KINDS: dict[str, ElementType] = {"Figure": "figure", "Table": "table", "Formula": "formula"}
MAX_NODES = 5000
MAX_OBJECTS = 20_000


@dataclass(frozen=True)
class Declared:
    """One element of the tree; `stated` if the box was written down and not measured."""

    type: ElementType
    box: Box
    alt: str
    stated: bool


@dataclass
class _Node:
    type: ElementType
    alt: str
    box: list[float]
    marks: set[int]


def read_declared(page: PdfPage, library: Library) -> list[Declared]:
    """Figures, tables and formulas that the structure tree declares on this page; outermost ones only."""
    nodes = _nodes(page, library.raw)
    if not nodes:
        return []
    marks, boxes = (
        _marked_boxes(page, library) if any(not node.box for node in nodes) else (np.zeros(0), np.zeros((0, 4)))
    )
    shown = shown_matrix(page)
    found = []
    for node in nodes:
        if node.box:
            box = transform(np.array([node.box]), shown)[0]
        else:
            mine = boxes[np.isin(marks, list(node.marks))]
            if not len(mine):
                continue
            raw = np.concatenate([mine[:, :2].min(axis=0), mine[:, 2:].max(axis=0)])
            box = transform(raw[None], shown)[0]
        x0, y0, x1, y1 = box.tolist()
        if x1 - x0 > 4 and y1 - y0 > 4:
            found.append(Declared(node.type, (x0, y0, x1, y1), node.alt, bool(node.box)))
    return found


def _nodes(page: PdfPage, raw: Any) -> list[_Node]:
    tree = raw.FPDF_StructTree_GetForPage(page.raw)
    if not tree:
        return []
    result: list[_Node] = []
    try:
        count = max(0, raw.FPDF_StructTree_CountChildren(tree))
        stack: list[tuple[Any, _Node | None]] = []
        stack.extend((raw.FPDF_StructTree_GetChildAtIndex(tree, i), None) for i in reversed(range(count)))
        left = MAX_NODES
        while stack and left:
            left -= 1
            element, owner = stack.pop()
            if not element:
                continue
            kind = KINDS.get(_string(raw.FPDF_StructElement_GetType, element))
            if owner is None and kind is not None:
                owner = _Node(kind, _string(raw.FPDF_StructElement_GetAltText, element), _stated(raw, element), set())
                result.append(owner)
            if owner is not None:
                owner.marks.update(_marks(raw, element))
            children = range(min(MAX_NODES, max(0, raw.FPDF_StructElement_CountChildren(element))))
            stack.extend((raw.FPDF_StructElement_GetChildAtIndex(element, i), owner) for i in reversed(children))
    finally:
        raw.FPDF_StructTree_Close(tree)
    return result


def _string(function: Any, element: Any) -> str:
    size = function(element, None, 0)
    if not 2 < size < 40_000:
        return ""
    buffer = ctypes.create_string_buffer(size)
    function(element, buffer, size)
    return buffer.raw[: size - 2].decode("utf-16-le", "replace").strip()


def _marks(raw: Any, element: Any) -> set[int]:
    """Numbers of the marked content directly below an element."""
    own = {raw.FPDF_StructElement_GetMarkedContentIdAtIndex(element, i)
           for i in range(max(0, raw.FPDF_StructElement_GetMarkedContentIdCount(element)))}  # fmt: skip
    count = min(MAX_NODES, max(0, raw.FPDF_StructElement_CountChildren(element)))
    own |= {raw.FPDF_StructElement_GetChildMarkedContentID(element, i) for i in range(count)}
    return {mark for mark in own if mark >= 0}


def _stated(raw: Any, element: Any) -> list[float]:
    """The attribute `BBox`: left, bottom, right, top in the space of the page; empty if there is none."""
    for i in range(min(20, max(0, raw.FPDF_StructElement_GetAttributeCount(element)))):
        attribute = raw.FPDF_StructElement_GetAttributeAtIndex(element, i)
        value = raw.FPDF_StructElement_Attr_GetValue(attribute, b"BBox") if attribute else None
        if not value or raw.FPDF_StructElement_Attr_CountChildren(value) != 4:
            continue
        numbers = []
        for k in range(4):
            number = ctypes.c_float()
            child = raw.FPDF_StructElement_Attr_GetChildAtIndex(value, k)
            if child and raw.FPDF_StructElement_Attr_GetNumberValue(child, ctypes.byref(number)):
                numbers.append(float(number.value))
        if len(numbers) == 4 and numbers[2] > numbers[0] and numbers[3] > numbers[1]:
            return numbers
    return []


def _marked_boxes(page: PdfPage, library: Library) -> tuple[np.ndarray, np.ndarray]:
    """Marked-content number and box of every object of the page itself, in the space of the page."""
    root = ctypes.cast(page.raw, ctypes.c_void_p).value or 0
    count = min(MAX_OBJECTS, max(0, library.count(root)))
    objects = [handle for handle in map(library.object, repeat(root, count), range(count)) if handle]
    marks = np.fromiter(map(library.marked_content, objects), dtype=np.int64, count=len(objects))
    boxes = np.zeros((len(objects), 4), dtype=np.float32)
    if len(objects):
        each(library.bounds, objects, *columns(boxes))
    return marks, boxes.astype(np.float64)
