"""Layout and truth of the typst generator: compiles a source, asks where the marks came to lie, makes boxes of them.

Marks without size stand at two opposite corners of everything that shall be found; typst's introspection says on which
page and where they are. The boxes are then tightened to the ink. Rows of long tables are marked one by one, so that a
table on two pages has a box on each.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.corpus.composed import charts
from tests.corpus.composed.rich import ROMAN
from tests.corpus.composed.truth import Box, ComposedDocument, TrueElement, TruePage, tightened, union
from tests.corpus.composed.typst_styles import MARKS, TypstStyle


@dataclass(frozen=True)
class Known:
    """What is known of an element before it is laid out. `panels`: letter, and its share of the element or None."""

    type: str
    label: str
    caption: str
    panels: tuple[tuple[str, Box | None], ...] = ()


@dataclass
class Source:
    """A document under way: typst source, files beside it, what is known."""

    style: TypstStyle
    rng: random.Random
    parts: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)
    first_picture: int = 0

    def picture(self, picture: charts.Picture, width: float) -> str:
        self.files[picture.name] = picture.data
        return f'image("{picture.name}", width: {width:.1f}pt)'

    def turn(self) -> int:
        """A number for the next picture: all of the pool before one comes again."""
        self.numbers["pictures"] += 1
        return (self.numbers["pictures"] + self.first_picture) % charts.POOL

    def label(self, kind: str) -> str:
        self.numbers[kind] += 1
        number = str(self.numbers[kind])
        if kind == "table" and self.style.roman:
            number = ROMAN[self.numbers[kind] - 1]
        if self.style.chapters:
            number = f"{self.numbers['chapter']}.{number}"
        return (self.style.table if kind == "table" else self.style.figure).format(number)

    def know(self, known: Known) -> str:
        name = f"e{len(self.known)}"
        self.known[name] = known
        return name


def composed(source: Source, name: str) -> ComposedDocument:
    import typst

    style = source.style
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for file, data in source.files.items():
            (root / file).write_bytes(data)
        main = root / "main.typ"
        main.write_text(
            "#set document(date: none)\n" + MARKS + style.preamble + "\n" + "".join(source.parts), encoding="utf-8"
        )
        data = typst.compile(str(main), root=folder, pdf_tags=style.tagged)
        marks = json.loads(typst.query(str(main), "<mark>", root=folder))
    places: dict[tuple[str, int], list[Box]] = defaultdict(list)
    for mark in marks:
        value, position = mark["value"], mark["value"]["pos"]
        x, y = float(position["x"][:-2]), float(position["y"][:-2])
        places[value["id"].split("/")[0], int(position["page"]) - 1].append((x, y, x, y))
    turned = {page for (id_, page) in places if id_ == "sideways"}
    sizes, data = _sizes(data)
    elements = _elements(source, places)
    document = ComposedDocument(
        name=name, generator="typst", style=style.name, data=data, pages=sizes, elements=elements
    )
    document = tightened(document, 80.0)  # all fonts are embedded: the ink is complete
    if style.rotated or style.cropped:
        document = _restored(document, turned if style.rotated else set(), style.cropped)
    return document


def _elements(source: Source, places: dict[tuple[str, int], list[Box]]) -> tuple[TrueElement, ...]:
    elements = []
    for (id_, page), corners in sorted(places.items(), key=lambda item: (item[0][1], item[0][0])):
        if id_ not in source.known:
            continue
        known = source.known[id_]
        box = union(corners)
        long = len(corners) > 2
        if long:  # marks lie inside the cells: add their inset, the ink decides
            box = (box[0] - 6, box[1] - 5, box[2] + 6, box[3] + 5)
        panels = []
        for letter, share in known.panels:
            if share is None:
                panels.append((letter, union(places[f"{id_}-{letter}", page])))
            else:
                w, h = box[2] - box[0], box[3] - box[1]
                panels.append(
                    (
                        letter,
                        (box[0] + share[0] * w, box[1] + share[1] * h, box[0] + share[2] * w, box[1] + share[3] * h),
                    )
                )
        first = min(p for (other, p) in places if other == id_)
        elements.append(
            TrueElement(
                page=page,
                type=known.type,  # type: ignore[arg-type]
                box=box,
                label=known.label,
                caption=known.caption,
                panels=tuple(panels),
                continued=page != first,
            )
        )
    return tuple(sorted(elements, key=lambda e: (e.page, e.box[1], e.box[0])))


def _sizes(data: bytes) -> tuple[tuple[TruePage, ...], bytes]:
    import pypdfium2

    pdf = pypdfium2.PdfDocument(data)
    sizes = tuple(TruePage(width=w, height=h) for w, h in (pdf[i].get_size() for i in range(len(pdf))))
    pdf.close()
    return sizes, data


def _restored(document: ComposedDocument, turned: set[int], cropped: bool) -> ComposedDocument:
    """Sets `/Rotate 90` on the turned pages, a crop box on all if wanted, and moves the truth along."""
    import pypdfium2

    cut = (18.0, 12.0) if cropped else (0.0, 0.0)
    pdf = pypdfium2.PdfDocument(document.data)
    pages = []
    for i, page in enumerate(document.pages):
        if cropped:
            pdf[i].set_cropbox(cut[0], cut[1], page.width - cut[0], page.height - cut[1])
        width, height = page.width - 2 * cut[0], page.height - 2 * cut[1]
        if i in turned:
            pdf[i].set_rotation(90)
            width, height = height, width
        pages.append(TruePage(width=width, height=height, rotation=90 if i in turned else 0))
    file = io.BytesIO()
    pdf.save(file)
    pdf.close()

    def moved(box: Box, page: int) -> Box:
        x0, y0, x1, y1 = box[0] - cut[0], box[1] - cut[1], box[2] - cut[0], box[3] - cut[1]
        if page in turned:
            width = pages[page].width  # the former height
            return (width - y1, x0, width - y0, x1)
        return (x0, y0, x1, y1)

    elements = tuple(
        dataclasses.replace(
            e, box=moved(e.box, e.page), panels=tuple((name, moved(box, e.page)) for name, box in e.panels)
        )
        for e in document.elements
    )
    return dataclasses.replace(document, data=file.getvalue(), pages=tuple(pages), elements=elements)
