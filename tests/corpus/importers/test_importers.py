"""One page described in every convention gives the same boxes; what is wrong is named; nothing outside is read."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.corpus.importers.assemble import label_key, split_label
from s1pro.corpus.importers.coordinates import inside, to_page
from s1pro.corpus.importers.pictures import PictureLimits
from s1pro.corpus.importers.read import Imported, ImportSettings, read_layout

SIZES = [(595.276, 841.89), (841.89, 595.276), (612.0, 792.0)]
FIGURE, CAPTION, TABLE, FORMULA = (
    (72.35, 90.8, 300.77, 250.2),
    (72.0, 255.1, 300.0, 275.9),
    (310.9, 88.4, 540.6, 199.99),
    (100.4, 420.3, 500.8, 450.7),
)
PANELS = ((72.35, 90.8, 180.0, 250.2), (190.0, 90.8, 300.77, 250.2))
PAGE_TEXT = "The yield grows with time, as Fig. 1 shows. Table 2 lists the rest."


def png(width: int = 60, height: int = 40) -> bytes:
    rows = (np.arange(width * height, dtype=np.uint32).reshape(height, width) % 251).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(rows).save(file, "PNG")
    return file.getvalue()


# ---- the same document in every format


def cut(box: tuple[float, ...], size: tuple[float, float], unit: int | None = None) -> list[int]:
    """Whole numbers as MinerU writes them: cut off, in points or thousandths."""
    width, height = (1, 1) if unit is None else (size[0] / unit, size[1] / unit)
    return [int(box[0] / width), int(box[1] / height), int(box[2] / width), int(box[3] / height)]


def lines(text: str) -> list[dict[str, Any]]:
    return [{"bbox": [0, 0, 1, 1], "spans": [{"bbox": [0, 0, 1, 1], "type": "text", "content": text}]}]


def middle(folder: Path) -> Path:
    pages = []
    for number, size in enumerate(SIZES):
        shares = [
            [round((p[i] - FIGURE[i % 2]) / (FIGURE[2 + i % 2] - FIGURE[i % 2]), 3) for i in range(4)] for p in PANELS
        ]
        span = {"bbox": cut(FIGURE, size), "type": "image", "image_path": "f.png", "score": 0.75}
        html = "<table><tr><td>a &amp; b</td><td>1.5</td></tr></table>"
        caption = lines("Figure 1. Yield against time.")
        figure = {
            "type": "image",
            "bbox": cut(FIGURE, size),
            "sub_images": [{"type": "chart", "bbox": share} for share in shares],
            "blocks": [
                {"type": "image_body", "bbox": cut(FIGURE, size), "lines": [{"spans": [span]}]},
                {"type": "image_caption", "bbox": cut(CAPTION, size), "lines": caption},
            ],
        }
        table = {
            "type": "table",
            "bbox": cut(TABLE, size),
            "blocks": [
                {"type": "table_caption", "bbox": cut(CAPTION, size), "lines": lines("TABLE II All runs.")},
                {
                    "type": "table_body",
                    "bbox": cut(TABLE, size),
                    "lines": [{"spans": [{"type": "table", "html": html}]}],
                },
            ],
        }
        formula = {"type": "interline_equation", "bbox": cut(FORMULA, size), "lines": lines("E = mc^2")}
        title = {"type": "title", "bbox": [1, 1, 2, 2], "lines": lines("Results")}
        text = {"type": "text", "bbox": [1, 1, 2, 2], "lines": lines(PAGE_TEXT)}
        pages.append(
            {"page_idx": number, "page_size": list(size), "para_blocks": [title, text, figure, table, formula]}
        )
    path = folder / "paper_middle.json"
    path.write_text(json.dumps({"pdf_info": pages, "_backend": "vlm", "_version_name": "3.4.0"}))
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "f.png").write_bytes(png())
    return path


def content_list(folder: Path) -> Path:
    middle(folder)
    blocks: list[dict[str, Any]] = []
    for number, size in enumerate(SIZES):
        blocks += [
            {"type": "text", "text": "Results", "text_level": 1, "bbox": [1, 1, 2, 2], "page_idx": number},
            {"type": "text", "text": PAGE_TEXT, "bbox": [1, 1, 2, 2], "page_idx": number},
            {
                "type": "image", "img_path": "images/f.png", "image_caption": ["Figure 1. Yield against time."],
                "image_footnote": [], "bbox": cut(FIGURE, size, 1000), "page_idx": number,
            },
            {
                "type": "table", "img_path": "", "table_caption": ["TABLE II", "All runs."], "table_footnote": [],
                "table_body": "<table><tr><td>a &amp; b</td><td>1.5</td></tr></table>",
                "bbox": cut(TABLE, size, 1000), "page_idx": number,
            },
            {
                "type": "equation", "text": "E = mc^2", "text_format": "latex", "bbox": cut(FORMULA, size, 1000),
                "page_idx": number,
            },
            {"type": "page_number", "text": "3", "bbox": [490, 980, 510, 990], "page_idx": number},
        ]  # fmt: skip
    path = folder / "paper_content_list.json"
    path.write_text(json.dumps(blocks))
    return path


def spans(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "content": text[:9]}, {"type": "text", "content": text[9:]}]


def content_list_v2(folder: Path) -> Path:
    middle(folder)
    pages = []
    for size in SIZES:
        image, none = {"path": "images/f.png"}, {"path": ""}
        html = "<table><tr><td>a &amp; b</td><td>1.5</td></tr></table>"
        contents: list[tuple[str, dict[str, Any], tuple[float, ...]]] = [
            ("title", {"title_content": spans("Results"), "level": 1}, (1, 1, 20, 20)),
            ("paragraph", {"paragraph_content": spans(PAGE_TEXT)}, (1, 1, 20, 20)),
            ("image", {"image_source": image, "image_caption": spans("Figure 1. Yield against time.")}, FIGURE),
            (
                "table",
                {"image_source": none, "table_caption": spans("TABLE II All runs."), "html": html},
                TABLE,
            ),
            ("equation_interline", {"math_content": "E = mc^2", "math_type": "latex"}, FORMULA),
            ("page_header", {"page_header_content": spans("A journal")}, (1, 1, 20, 20)),
        ]
        pages.append([{"type": t, "content": c, "bbox": cut(box, size, 1000)} for t, c, box in contents])
    path = folder / "paper_content_list_v2.json"
    path.write_text(json.dumps(pages))
    return path


def docling(folder: Path, origin: str = "BOTTOMLEFT") -> Path:
    """Written by Docling's own library."""
    document_module = pytest.importorskip("docling_core.types.doc.document")
    base = pytest.importorskip("docling_core.types.doc.base")
    document = document_module.DoclingDocument(name="paper")

    def place(box: tuple[float, ...], page: int) -> Any:
        height = SIZES[page][1]
        top, bottom = (height - box[1], height - box[3]) if origin == "BOTTOMLEFT" else (box[1], box[3])
        sides = base.BoundingBox(l=box[0], t=top, r=box[2], b=bottom, coord_origin=base.CoordOrigin(origin))
        return document_module.ProvenanceItem(page_no=page + 1, bbox=sides, charspan=(0, 0))

    for page, (width, height) in enumerate(SIZES):
        document.add_page(page_no=page + 1, size=base.Size(width=width, height=height))
        document.add_heading("Results", prov=place((1, 1, 20, 20), page))
        document.add_text(label="text", text=PAGE_TEXT, prov=place((1, 1, 20, 20), page))
        caption = document.add_text(label="caption", text="Figure 1. Yield against time.", prov=place(CAPTION, page))
        figure = document.add_picture(prov=place(FIGURE, page), caption=caption)
        for panel in PANELS:
            document.add_picture(prov=place(panel, page), parent=figure)
        caption = document.add_text(label="caption", text="TABLE II All runs.", prov=place(CAPTION, page))
        cells = [
            document_module.TableCell(
                text=text,
                start_row_offset_idx=0,
                end_row_offset_idx=1,
                start_col_offset_idx=i,
                end_col_offset_idx=i + 1,
            )
            for i, text in enumerate(("a & b", "1.5"))
        ]
        data = document_module.TableData(num_rows=1, num_cols=2, table_cells=cells)
        document.add_table(data=data, prov=place(TABLE, page), caption=caption)
        document.add_text(label="formula", text="E = mc^2", prov=place(FORMULA, page))
    path = folder / "paper.json"
    document.save_as_json(path)
    return path


FORMATS = {
    "middle": middle,
    "content_list": content_list,
    "content_list_v2": content_list_v2,
    "docling, bottom left": docling,
    "docling, top left": lambda folder: docling(folder, "TOPLEFT"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_all_conventions_give_the_same_rows(tmp_path: Path, name: str) -> None:
    imported = read_layout(FORMATS[name](tmp_path))
    assert imported.document.status == "ok" and imported.document.num_pages == len(imported.pages) == 3
    tops = [row for row in imported.elements if not row.parent_id]
    assert [(row.page, row.type) for row in tops] == [
        (page, kind) for page in range(3) for kind in ("figure", "table", "formula")
    ]
    for row, box in zip(tops, (FIGURE, TABLE, FORMULA) * 3, strict=True):
        assert (row.page_width, row.page_height) == pytest.approx(SIZES[row.page])
        assert max(abs(a - b) for a, b in zip(row.box, box, strict=True)) <= 1.0, (name, row.box, box)
        assert row.section_title == "Results" and row.source == ("docling" if "docling" in name else "mineru")
    figure, table, formula = tops[:3]
    assert (figure.label, figure.caption) == ("Figure 1", "Yield against time.")
    assert (table.label, table.caption) == ("TABLE II", "All runs.") and "a & b 1.5" in table.text_layer
    assert "E = mc^2" in formula.text_layer
    sentence = "The yield grows with time, as Fig. 1 shows."
    assert [(m.page, m.text) for m in figure.mentions] == [(page, sentence) for page in range(3)]
    assert len({row.element_id for row in imported.elements}) == len(imported.elements)


@pytest.mark.parametrize("name", ["middle", "docling, bottom left"])
def test_panels_are_children_of_their_figure(tmp_path: Path, name: str) -> None:
    imported = read_layout(FORMATS[name](tmp_path))
    figures = [row for row in imported.elements if row.type == "figure" and not row.parent_id]
    for figure in figures:
        panels = [row for row in imported.elements if row.parent_id == figure.element_id]
        assert len(panels) == 2 and {row.page for row in panels} == {figure.page}
        for row, box in zip(panels, PANELS, strict=True):
            assert max(abs(a - b) for a, b in zip(row.box, box, strict=True)) <= 1.0


def test_pictures_and_scores_come_along(tmp_path: Path) -> None:
    for make in (middle, content_list, content_list_v2):
        figure = read_layout(make(tmp_path)).elements[0]
        assert (figure.width, figure.height, figure.mime) == (60, 40, "image/png") and figure.image == png()
        assert len(figure.phash) == 64 and figure.entropy > 1
        assert figure.confidence == (0.75 if make is middle else 1.0)
    bare = read_layout(middle(tmp_path), ImportSettings(pictures=False))
    assert all(row.image == b"" for row in bare.elements)


def test_a_folder_prefers_the_file_with_points(tmp_path: Path) -> None:
    content_list(tmp_path)
    content_list_v2(tmp_path)
    assert read_layout(tmp_path).document.extractor == "mineru 3.4.0"
    (tmp_path / "paper_middle.json").unlink()
    with pytest.raises(InputError, match="how large its pages are"):
        read_layout(tmp_path)


def test_the_pdf_names_the_document_and_gives_sizes(tmp_path: Path) -> None:
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    pytest.importorskip("pypdfium2")
    path = content_list(tmp_path)
    before = read_layout(path)
    (tmp_path / "paper_middle.json").unlink()
    pdf = canvas.Canvas(str(tmp_path / "paper_origin.pdf"), invariant=1)
    for size in SIZES:
        pdf.setPageSize(size)
        pdf.drawString(10, 10, "x")
        pdf.showPage()
    pdf.save()
    after = read_layout(path)
    assert [row.box for row in after.elements] == [pytest.approx(row.box, abs=0.01) for row in before.elements]
    assert after.document.doc_id != before.document.doc_id and after.document.source_uri.endswith("paper_origin.pdf")
    (tmp_path / "paper_origin.pdf").write_bytes(b"no pdf")
    with pytest.raises(InputError, match="cannot be opened as a PDF"):
        read_layout(path)


# ---- boxes

numbers = st.floats(0, 0.9)


@settings(max_examples=200, deadline=None)
@given(x=numbers, y=numbers, w=st.floats(0.02, 0.1), h=st.floats(0.02, 0.1), size=st.sampled_from(SIZES))
def test_every_convention_is_within_a_point(x: float, y: float, w: float, h: float, size: tuple[float, float]) -> None:
    box = (x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1])
    flipped = (box[0], size[1] - box[1], box[2], size[1] - box[3])
    shares = [round(value, 3) for value in (x, y, x + w, y + h)]
    for found in (
        to_page([float(v) for v in cut(box, size)], "points", size),
        to_page([float(v) for v in cut(box, size, 1000)], "thousandths", size),
        to_page(flipped, "bottom_left", size),
        to_page(shares, "shares", size),
    ):
        assert max(abs(a - b) for a, b in zip(found, box, strict=True)) <= 1.0
    parent = (100.0, 50.0, 100.0 + size[0] / 2, 50.0 + size[1] / 2)
    found = inside(shares, parent)
    assert found[0] == pytest.approx(100 + shares[0] * size[0] / 2)
    assert found[3] == pytest.approx(50 + shares[3] * size[1] / 2)


def test_boxes_at_the_edge_stay_there() -> None:
    assert to_page([0, 0, 1000, 1000], "thousandths", (612, 792)) == (0, 0, 612, 792)
    assert to_page([-3, 0, 615, 792], "exact", (612, 792)) == (0, 0, 612, 792)
    for bad in ([0, 0, math.nan, 1], [0, 0, 1], [5, 5, 5, 9], [0, 0, 700, 10], [0, -90, 10, 10]):
        with pytest.raises(ValueError, match=r"box"):
            to_page(bad, "exact", (612, 792))


# ---- what is refused


def broken(tmp_path: Path, make: Any, change: Any, settings: ImportSettings | None = None) -> str:
    """The message about a file that was changed."""
    path = make(tmp_path)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(InputError) as error:
        read_layout(path, settings)
    assert path.name in str(error.value) or "paper_origin" in str(error.value)
    return str(error.value)


def test_wrong_fields_are_named(tmp_path: Path) -> None:
    def message(make: Any, change: Any) -> str:
        return broken(tmp_path, make, change)

    assert "[2]: the field 'bbox' is missing" in message(content_list, lambda v: v[2].pop("bbox"))
    assert "[2].bbox: expected 4 numbers" in message(content_list, lambda v: v[2].update(bbox=[1, 2, 3]))
    assert "[2].bbox: the box" in message(content_list, lambda v: v[2].update(bbox=[500, 10, 400, 20]))
    assert "[2].bbox[1]: expected a number, got 'x'" in message(
        content_list, lambda v: v[2].update(bbox=[1, "x", 3, 4])
    )
    assert "[0].page_idx: expected a whole number from 0 to 2, got 7" in message(
        content_list, lambda v: v[0].update(page_idx=7)
    )
    assert "[1].type: expected one of" in message(content_list, lambda v: v[1].update(type="hologram"))
    assert "3 page sizes" in message(content_list_v2, lambda v: v.append([]))
    assert "pdf_info[1].page_size: expected width" in message(
        middle, lambda v: v["pdf_info"][1].update(page_size=[0, 5])
    )
    assert "pdf_info[1].page_idx" in message(middle, lambda v: v["pdf_info"][1].update(page_idx=0))
    assert "pictures[0].captions[0].$ref: there is no such item" in message(
        docling, lambda v: v["pictures"][0]["captions"][0].update({"$ref": "#/texts/999"})
    )
    assert "tables[0].prov[0].page_no: expected a whole number from 1 to 3" in message(
        docling, lambda v: v["tables"][0]["prov"][0].update(page_no=9)
    )
    assert "coord_origin" in message(docling, lambda v: v["tables"][0]["prov"][0]["bbox"].update(coord_origin="CENTRE"))
    assert "in the tree twice" in message(docling, lambda v: v["body"]["children"].append({"$ref": "#/tables/0"}))


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, text in {"a": "[1, 2", "b": '{"x": 1}', "c": "[]", "d": "[" * 5000, "e": '[{"type": "text"}, 5]'}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(text)
        with pytest.raises(InputError, match=f"{name}.json"):
            read_layout(path)
    with pytest.raises(InputError, match="max_json_bytes"):
        read_layout(middle(tmp_path), ImportSettings(max_json_bytes=100))
    with pytest.raises(InputError, match="max_elements"):
        read_layout(middle(tmp_path), ImportSettings(max_elements=3))
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read_layout(tmp_path / "missing")


def test_pictures_outside_the_folder_are_never_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    (folder / "images").mkdir()
    (folder / "images" / "link.png").symlink_to(secret)
    for path, reason in {
        "../secret.png": "leaves the folder",
        "images/link.png": "leaves the folder",
        "images/../../secret.png": "leaves the folder",
        str(secret): "relative path",
        "..\\secret.png": "relative path",
        "http://example.org/x.png": "not from an address",
        "file:///etc/passwd": "not from an address",
        "images/none.png": "no such file",
        "images/f\0.png": "relative path",
    }.items():
        assert reason in broken(folder, content_list, lambda v, path=path: v[2].update(img_path=path))


def test_pictures_pass_limits(tmp_path: Path) -> None:
    small = ImportSettings(picture_limits=PictureLimits(max_image_bytes=50))
    assert "max_image_bytes" in broken(tmp_path, content_list, lambda v: None, small)
    flat = ImportSettings(picture_limits=PictureLimits(max_pixels=100))
    assert "max_pixels" in broken(tmp_path, content_list, lambda v: None, flat)
    (tmp_path / "images" / "text.png").write_bytes(b"no picture at all")
    assert "no PNG" in broken(tmp_path, content_list, lambda v: v[2].update(img_path="images/text.png"))
    (tmp_path / "images" / "cut.png").write_bytes(png(300, 300)[:400])
    assert "no PNG" in broken(tmp_path, content_list, lambda v: v[2].update(img_path="images/cut.png"))


def test_labels() -> None:
    assert split_label(["Fig. 3 | Growth of cells."]) == ("Fig. 3", "Growth of cells.")
    assert split_label(["(a) raw data", "Figure S2: Both."]) == ("Figure S2", "Both. (a) raw data")
    assert split_label(["Extended Data Fig. 1. X"]) == ("Extended Data Fig. 1", "X")
    assert split_label(["图 2 结构示意图"]) == ("图 2", "结构示意图")
    assert split_label(["Figures are best seen in colour."]) == ("", "Figures are best seen in colour.")
    assert label_key("Fig. 3") == label_key("Figure 3") == label_key("FIGURE 3") != label_key("Table 3")
    assert label_key("Yield") is None


def test_import_is_the_same_again(tmp_path: Path) -> None:
    def both() -> tuple[Imported, Imported]:
        return read_layout(content_list(tmp_path)), read_layout(content_list_v2(tmp_path))

    assert both() == both()
