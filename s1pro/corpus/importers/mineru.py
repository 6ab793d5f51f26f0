"""MinerU's outputs: `middle.json`, `content_list.json` (a flat list) and `content_list_v2.json` (a list of pages).

| file | boxes | pages |
|---|---|---|
| `middle.json` | points, body and caption apart; `sub_images` in shares of their figure | `page_size` of every page |
| content list v1 | thousandths of the page; the body's box | only `page_idx`: sizes come from elsewhere |
| content list v2 | thousandths | outer list |

Types: image → figure, chart → chart, table → table, displayed equation → formula, code with `sub_type` algorithm →
algorithm. Text of tables is their HTML without tags, of formulas their LaTeX. Lists, headers, footers and code are read
past; an unknown type is an error, so that a new version of MinerU is noticed. MinerU names no panels in content lists.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from s1pro.corpus.importers.assemble import Found
from s1pro.corpus.importers.coordinates import Convention, inside, to_page
from s1pro.corpus.importers.json_file import Field
from s1pro.corpus.importers.pictures import PictureLimits, read_picture
from s1pro.corpus.records import Box, ElementType

Sizes = Sequence[tuple[float, float]]
_ELEMENTS: dict[str, ElementType] = {
    "image": "figure",
    "chart": "chart",
    "table": "table",
    "equation": "formula",
    "interline_equation": "formula",
    "equation_interline": "formula",
    "algorithm": "algorithm",
}
_TEXTS = frozenset({"text", "paragraph", "abstract", "list", "index", "ref_text", "phonetic", "vertical_text"})
_TITLES = frozenset({"title", "doc_title", "paragraph_title"})
_PASSED = frozenset(
    {
        "code", "header", "footer", "page_number", "aside_text", "page_footnote", "page_header", "page_footer",
        "page_aside_text", "discarded", "seal", "header_image", "footer_image", "formula_number", "footnote", "caption",
    }
)  # fmt: skip


class MineruReader:
    """Reads one file of MinerU.

    Args:
        folder: where pictures are looked for.
        limits: of pictures; None leaves them out.
    """

    def __init__(self, folder: Path, limits: PictureLimits | None) -> None:
        self._folder = folder
        self._limits = limits

    def content_list(self, root: Field, sizes: Sizes) -> Iterator[Found]:
        """Things of `content_list.json`."""
        for block in root.items():
            kind = _kind(block)
            page = block.need("page_idx").integer(0, len(sizes) - 1)
            if kind in _ELEMENTS:
                yield self._element(block, block, kind, page, sizes[page], "text", "img_path")
            elif kind in _TEXTS and block.get("text_level") and block.need("text_level").integer() > 0:
                yield Found(kind="title", page=page, text=block.optional_text("text"))
            elif kind in _TEXTS:
                items = [item.text() for item in block.list_of("list_items")]
                yield Found(kind="text", page=page, text=block.optional_text("text") or " ".join(items))

    def content_list_v2(self, root: Field, sizes: Sizes) -> Iterator[Found]:
        """Things of `content_list_v2.json`."""
        for page, blocks in enumerate(root.items()):
            for block in blocks.items():
                kind = _kind(block)
                if kind in _ELEMENTS:
                    content = block.need("content")
                    source = content.get("image_source")
                    yield self._element(block, content, kind, page, sizes[page], "math_content", "path", source)
                elif kind in _TITLES | _TEXTS:
                    title = "title" if kind in _TITLES else "text"
                    yield Found(kind=title, page=page, text=_spans_text(block.get("content")))  # type: ignore[arg-type]

    def middle(self, root: Field, sizes: Sizes) -> Iterator[Found]:
        """Things of `middle.json`."""
        for page_field in root.need("pdf_info").items():
            page = page_field.need("page_idx").integer(0, len(sizes) - 1)
            for block in page_field.list_of("para_blocks"):
                kind = _kind(block)
                if kind in _ELEMENTS:
                    yield self._two_layers(block, kind, page, sizes[page])
                elif kind in _TITLES | _TEXTS:
                    title = "title" if kind in _TITLES else "text"
                    yield Found(kind=title, page=page, text=_lines_text(block))  # type: ignore[arg-type]

    def _element(
        self,
        block: Field,
        content: Field,
        kind: str,
        page: int,
        size: tuple[float, float],
        math: str,
        path: str,
        source: Field | None = None,
    ) -> Found:
        """A block of a content list; `content` holds its texts (v1: the block itself)."""
        name = {"algorithm": "code"}.get(kind, kind) if block is content else kind
        captions = [_caption_text(item) for item in content.list_of(f"{name}_caption")]
        text = content.optional_text(math) if _ELEMENTS[kind] == "formula" else ""
        for table in ("table_body", "html"):
            text = text or _without_tags(content.optional_text(table) if kind == "table" else "")
        captions = ["".join(captions)] if block is not content else captions
        return Found(
            kind="element",
            page=page,
            text=text,
            type=_ELEMENTS[kind],
            box=_box(block.need("bbox"), "thousandths", size),
            captions=tuple(caption for caption in captions if caption.strip()),
            caption_page=page,
            picture=self._picture((content if source is None and block is content else source), path),
        )

    def _two_layers(self, block: Field, kind: str, page: int, size: tuple[float, float]) -> Found:
        """A block of `middle.json`: a body with captions, or an equation without."""
        parts = list(block.list_of("blocks"))
        bodies = [part for part in parts if part.need("type").text().endswith("_body")] or [block]
        captions = [part for part in parts if part.need("type").text().endswith("caption")]
        box = _box(bodies[0].need("bbox"), "points", size)
        panels = [
            (_ELEMENTS.get(panel.optional_text("type"), "figure"), _inside(panel.need("bbox"), box))
            for panel in block.list_of("sub_images")
        ]
        spans = [span for body in bodies for line in body.list_of("lines") for span in line.list_of("spans")]
        scores = [span.need("score").number() for span in spans if span.get("score") is not None]
        pictured = [span for span in spans if span.optional_text("image_path") or span.optional_text("img_path")]
        path = "image_path" if pictured and pictured[0].get("image_path") is not None else "img_path"
        return Found(
            kind="element",
            page=page,
            text=" ".join(_without_tags(span.optional_text("html")) or span.optional_text("content") for span in spans),
            type=_ELEMENTS[kind],
            box=box,
            captions=tuple(_lines_text(caption) for caption in captions),
            caption_box=_box(captions[0].need("bbox"), "points", size) if captions else None,
            caption_page=page,
            confidence=min(scores, default=1.0),
            panels=tuple(panels),
            picture=self._picture(pictured[0] if pictured else None, path),
        )

    def _picture(self, holder: Field | None, name: str) -> dict[str, Any]:
        field = holder.get(name) if holder is not None and self._limits is not None else None
        if field is None or not field.text() or self._limits is None:
            return {}
        folder = self._folder
        # middle.json names the file, the content lists the folder too
        if "/" not in field.text() and not (folder / field.text()).is_file() and (folder / "images").is_dir():
            field = Field(field.file, field.path, f"images/{field.text()}")
        return read_picture(folder, field, self._limits)


def middle_sizes(root: Field) -> list[tuple[float, float]]:
    """Page sizes of `middle.json`; pages must be numbered from 0 without a gap."""
    sizes: list[tuple[float, float]] = []
    for number, page in enumerate(root.need("pdf_info").items()):
        page.need("page_idx").integer(number, number)
        width, height = page.need("page_size").numbers(2)
        if not (0 < width < 1e5 and 0 < height < 1e5):
            raise page.need("page_size").wrong("expected width and height in points")
        sizes.append((width, height))
    return sizes


def _kind(block: Field) -> str:
    """The type of a block, algorithms apart from code; unknown types are errors."""
    field = block.need("type")
    kind = field.text()
    if kind == "code" and block.optional_text("sub_type") == "algorithm":
        return "algorithm"
    if kind not in _ELEMENTS and kind not in _TEXTS | _TITLES | _PASSED:
        known = ", ".join(sorted({*_ELEMENTS, *_TEXTS, *_TITLES, *_PASSED}))
        raise field.wrong(f"expected one of {known}")
    return kind


def _box(field: Field, convention: Convention, size: tuple[float, float]) -> Box:
    return _checked(field, lambda: to_page(field.numbers(4), convention, size))


def _inside(field: Field, parent: Box) -> Box:
    return _checked(field, lambda: inside(field.numbers(4), parent))


def _checked(field: Field, make: Callable[[], Box]) -> Box:
    try:
        return make()
    except ValueError as error:
        if str(error).startswith(field.file):
            raise
        raise field.wrong(str(error)) from error


def _caption_text(item: Field) -> str:
    """A caption of v1 is text, of v2 a span."""
    return item.optional_text("content") if isinstance(item.value, dict) else item.text()


def _spans_text(content: Field | None) -> str:
    """All `content` texts inside a v2 block, whatever the lists around them are called."""
    if content is None:
        return ""
    if isinstance(content.value, str):
        return content.value
    if isinstance(content.value, list):
        return " ".join(filter(None, (_spans_text(item) for item in content.items())))
    if not isinstance(content.value, dict):
        return ""
    own = content.get("content")
    if own is not None:
        return _spans_text(own)
    lists = [content.get(name) for name, value in content.value.items() if isinstance(value, list)]
    return " ".join(filter(None, (_spans_text(field) for field in lists)))


def _lines_text(block: Field) -> str:
    """Text of the lines of a block and of the blocks in it."""
    parts = [span.optional_text("content") for line in block.list_of("lines") for span in line.list_of("spans")]
    parts += [_lines_text(inner) for inner in block.list_of("blocks")]
    return " ".join(" ".join(parts).split())


def _without_tags(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]{0,500}>", " ", text)).split())
