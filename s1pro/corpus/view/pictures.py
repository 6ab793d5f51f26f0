"""Drawings of the gallery: pages with the boxes of what was found on them, and crops.

A page is rendered from its source in a worker process, as everything that touches a PDF. Where the source is gone, or
rendering fails, the page is drawn white with the crops at their places.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from s1pro.base.errors import InputError
from s1pro.corpus.children import Limits
from s1pro.corpus.frames import Frame
from s1pro.corpus.ledger import read_source
from s1pro.corpus.records import ElementRow, PageRow
from s1pro.corpus.tables import to_plain
from s1pro.corpus.view.gather import ShownDocument
from s1pro.corpus.workers import DocumentWorker

RENDER = "s1pro.corpus.view.pictures:render_pages"
COLOURS: Mapping[str, str] = {
    "figure": "#0072b2",
    "chart": "#009e73",
    "table": "#d55e00",
    "formula": "#cc79a7",
    "scheme": "#56b4e9",
    "algorithm": "#7a5cc8",
    "other": "#666666",
}
_DPI = 75
_LONGEST = 900  # pixels of a crop on the page


def render_pages(data: bytes, settings: Mapping[str, Any], first_page: int) -> Iterator[Frame]:
    """Runs in a worker: pictures of some pages. A picture travels as an element of its page."""
    import pypdfium2 as pdfium

    document = pdfium.PdfDocument(data)
    facts = {"num_pages": len(document), "tagged": False, "producer": "", "extractor": "render"}
    yield Frame(header={"op": "facts", **facts})
    for number in settings["pages"]:
        if number < first_page:
            continue
        page = document[number]
        width, height = page.get_size()
        scale = min(_DPI / 72, 1400 / max(width, height, 1.0))
        bitmap = page.render(scale=scale, draw_annots=False, may_draw_forms=False)
        file = io.BytesIO()
        bitmap.to_pil().convert("RGB").save(file, format="JPEG", quality=72)
        row = PageRow(doc_id="", page=number, width=width, height=height)
        picture = ElementRow(
            element_id=str(number), doc_id="", page=number, type="other", box=(0.0, 0.0, width, height),
            page_width=width, page_height=height, image=file.getvalue(), mime="image/jpeg",
        )  # fmt: skip
        parts: list[bytes] = []
        yield Frame(header={"op": "page", "page": to_plain(row), "elements": [to_plain(picture, parts)]}, parts=parts)


def page_pictures(document: ShownDocument, pages: Sequence[int], limits: Limits) -> dict[int, bytes]:
    """JPEGs of pages, as far as they can be rendered."""
    if document.inputs[0].kind != "pdf" or not pages:
        return {}
    try:
        data = read_source(document.inputs)
    except InputError:
        return {}
    with DocumentWorker(RENDER, {"pages": list(pages)}, limits) as worker:
        result = worker.read(document.row.doc_id, data)
    return {element.page: element.image for element in result.elements}


def page_svg(page: PageRow, elements: Sequence[ElementRow], picture: bytes | None) -> str:
    """A page with the boxes of its elements; captions are dashed, panels thin."""
    width, height = page.width, page.height
    frame = f'<rect x="0" y="0" width="{width:.1f}" height="{height:.1f}"'
    parts = [f'{frame} fill="#ffffff"/>']
    if picture is not None:
        parts.append(_image(picture, "image/jpeg", 0, 0, width, height))
    else:
        for row in (row for row in elements if row.image and not row.parent_id):
            x0, y0, x1, y1 = row.box
            parts.append(_image(row.image, row.mime, x0, y0, x1 - x0, y1 - y0))
    parts.append(f'{frame} fill="none" stroke="#999999" stroke-width="1"/>')
    for row in elements:
        parts.append(_boxes(row))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.1f} {height:.1f}" role="img">'
        f"<title>page {page.page + 1}</title>{''.join(parts)}</svg>"
    )


def crop_svg(row: ElementRow) -> str:
    """The crop of an element, made smaller if it is large; empty without a picture."""
    if not row.image:
        return ""
    from PIL import Image, UnidentifiedImageError

    image, mime, width, height = row.image, row.mime, row.width, row.height
    if max(width, height) > _LONGEST:
        try:
            with Image.open(io.BytesIO(row.image)) as opened:
                small = opened.convert("RGB")
        except (UnidentifiedImageError, OSError):
            return ""
        small.thumbnail((_LONGEST, _LONGEST))
        file = io.BytesIO()
        small.save(file, format="JPEG", quality=82)
        image, mime, (width, height) = file.getvalue(), "image/jpeg", small.size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(row.label or row.type)}</title>{_image(image, mime, 0, 0, width, height)}</svg>"
    )


def _boxes(row: ElementRow) -> str:
    colour = COLOURS[row.type]
    thin = bool(row.parent_id)
    drawn = _box(row.box, colour, 0.6 if thin else 1.5)
    if row.caption_box is not None and row.caption_page == row.page and not thin:
        drawn += _box(row.caption_box, colour, 0.8, dashed=True)
    name = escape(row.label if thin else (row.label or row.type))
    x, y = row.box[0], max(row.box[1] - 2.0, 7.0)
    return drawn + f'<text x="{x:.1f}" y="{y:.1f}" font-size="{6 if thin else 8}" fill="{colour}">{name}</text>'


def _box(box: tuple[float, float, float, float], colour: str, width: float, *, dashed: bool = False) -> str:
    x0, y0, x1, y1 = box
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" fill="none" '
        f'stroke="{colour}" stroke-width="{width}"{dashes}/>'
    )


def _image(data: bytes, mime: str, x: float, y: float, width: float, height: float) -> str:
    address = f"data:{escape(mime or 'image/png')};base64,{base64.b64encode(data).decode('ascii')}"
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'preserveAspectRatio="none" href="{address}"/>'
    )
