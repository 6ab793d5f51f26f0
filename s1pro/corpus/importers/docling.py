"""`DoclingDocument` as JSON: pictures, tables, formulas, with captions and the pictures inside pictures.

1. The tree under `body` gives the reading order; references are `{"$ref": "#/texts/3"}`.
2. `pages` gives the sizes. Boxes are points; their origin stands in every box, usually the bottom left corner.
3. An element that lies on several pages (a long table) has one `prov` per page and becomes one element per page.
4. A picture inside a picture is a panel. A picture whose classification names a chart is a chart.
5. The content layer "furniture" (headers, footers) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from s1pro.corpus.importers.assemble import Found
from s1pro.corpus.importers.coordinates import to_page
from s1pro.corpus.importers.json_file import Field
from s1pro.corpus.importers.pictures import PictureLimits, read_picture
from s1pro.corpus.records import Box, ElementType

Sizes = Sequence[tuple[float, float]]
_LISTS = ("texts", "pictures", "tables", "groups", "key_value_items", "form_items", "field_items", "field_regions")
_ELEMENTS: dict[str, ElementType] = {"picture": "figure", "chart": "chart", "table": "table", "formula": "formula"}
_TITLES = frozenset({"title", "section_header"})
_MAX_DEPTH = 100


def page_sizes(root: Field) -> list[tuple[float, float]]:
    """Sizes of pages 1, 2, …; pages without an entry have the size (0, 0) and cannot bear elements."""
    pages = root.need("pages")
    if not isinstance(pages.value, dict):
        raise pages.wrong("expected an object of pages")
    found: dict[int, tuple[float, float]] = {}
    for key in pages.value:
        page = pages.need(key)
        size = page.need("size")
        width, height = size.need("width").number(), size.need("height").number()
        if not (0 < width < 1e5 and 0 < height < 1e5):
            raise size.wrong("expected width and height in points")
        found[page.need("page_no").integer(1)] = (width, height)
    return [found.get(number, (0.0, 0.0)) for number in range(1, max(found, default=0) + 1)]


class DoclingReader:
    """Reads one document; `folder` and `limits` as for MinerU."""

    def __init__(self, root: Field, folder: Path, limits: PictureLimits | None) -> None:
        self._root = root
        self._folder = folder
        self._limits = limits
        self._items = {f"#/{name}/{number}": item for name in _LISTS for number, item in enumerate(root.list_of(name))}

    def things(self, sizes: Sizes) -> Iterator[Found]:
        """Titles, texts and elements in reading order."""
        captions = {
            ref.need("$ref").text()
            for item in self._items.values()
            if item.get("captions") is not None
            for ref in item.list_of("captions")
        }
        for item in self._walk(self._root.need("body"), 0, set()):
            label = item.optional_text("label")
            if item.optional_text("content_layer") == "furniture" or item.optional_text("self_ref") in captions:
                continue
            if label in _ELEMENTS:
                yield from self._element(item, label, sizes)
            elif item.get("text") is not None:
                kind = "title" if label in _TITLES else "text"
                page = self._first_page(item, sizes)
                yield Found(kind=kind, page=page, text=item.need("text").text())  # type: ignore[arg-type]

    def _walk(self, item: Field, depth: int, seen: set[str]) -> Iterator[Field]:
        """The items below one, in order; pictures keep what is in them to themselves."""
        if depth > _MAX_DEPTH:
            raise item.wrong(f"nested deeper than {_MAX_DEPTH} levels")
        for ref in item.list_of("children"):
            child = self._resolved(ref)
            name = ref.need("$ref").text()
            if name in seen:
                raise ref.wrong("the item is in the tree twice")
            seen.add(name)
            yield child
            if child.optional_text("label") not in _ELEMENTS:
                yield from self._walk(child, depth + 1, seen)

    def _resolved(self, ref: Field) -> Field:
        address = ref.need("$ref")
        found = self._items.get(address.text())
        if found is None:
            raise address.wrong("there is no such item")
        return found

    def _first_page(self, item: Field, sizes: Sizes) -> int:
        for place in item.list_of("prov"):
            return place.need("page_no").integer(1, len(sizes)) - 1
        return 0

    def _element(self, item: Field, label: str, sizes: Sizes) -> Iterator[Found]:
        captions = [self._resolved(ref) for ref in item.list_of("captions")]
        places = list(item.list_of("prov"))
        if not places:
            raise item.wrong("an element without prov has no place")
        caption_box, caption_page = None, -1
        for place in captions[0].list_of("prov") if captions else ():
            caption_page, caption_box = _place(place, sizes)
            break
        panels = self._panels(item, sizes)
        for number, place in enumerate(places):
            page, box = _place(place, sizes)
            yield Found(
                kind="element",
                page=page,
                text=_cells(item) if label == "table" else item.optional_text("text"),
                type="chart" if _is_chart(item) else _ELEMENTS[label],
                box=box,
                captions=tuple(caption.need("text").text() for caption in captions),
                caption_box=caption_box,
                caption_page=caption_page if caption_page >= 0 else page,
                panels=tuple((type_, panel) for type_, where, panel in panels if where == page),
                picture=self._picture(item) if number == 0 else {},
            )

    def _panels(self, item: Field, sizes: Sizes) -> list[tuple[ElementType, int, Box]]:
        found: list[tuple[ElementType, int, Box]] = []
        for ref in item.list_of("children"):
            child = self._resolved(ref)
            if child.optional_text("label") in ("picture", "chart"):
                for place in child.list_of("prov"):
                    page, box = _place(place, sizes)
                    found.append(("chart" if _is_chart(child) else "figure", page, box))
        return found

    def _picture(self, item: Field) -> dict[str, Any]:
        image = item.get("image")
        if image is None or self._limits is None:
            return {}
        return read_picture(self._folder, image.need("uri"), self._limits)


def _place(place: Field, sizes: Sizes) -> tuple[int, Box]:
    """Page from 0, and box."""
    number = place.need("page_no")
    page = number.integer(1, len(sizes)) - 1
    if sizes[page] == (0.0, 0.0):
        raise number.wrong("the document has no size for this page")
    field = place.need("bbox")
    numbers = [field.need(side).number() for side in ("l", "t", "r", "b")]
    origin = field.optional_text("coord_origin") or "TOPLEFT"
    if origin not in ("TOPLEFT", "BOTTOMLEFT"):
        raise field.need("coord_origin").wrong("expected TOPLEFT or BOTTOMLEFT")
    try:
        return page, to_page(numbers, "bottom_left" if origin == "BOTTOMLEFT" else "exact", sizes[page])
    except ValueError as error:
        raise field.wrong(str(error)) from error


def _is_chart(item: Field) -> bool:
    """Whether the best class of a picture's classification is a chart."""
    if item.optional_text("label") == "chart":
        return True
    for annotation in item.list_of("annotations"):
        for best in annotation.list_of("predicted_classes"):
            return "chart" in best.optional_text("class_name")
    return False


def _cells(item: Field) -> str:
    """Cell texts of a table in row order."""
    data = item.get("data")
    return "" if data is None else " ".join(cell.optional_text("text") for cell in data.list_of("table_cells"))
