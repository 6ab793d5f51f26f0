"""Every rule of the search on a page that has just that; boxes, captions, labels, citations, routes, crops."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pypdfium2")
pytest.importorskip("reportlab")

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont

from s1pro.corpus.pdf.crops import CropSettings
from s1pro.corpus.pdf.extract import ExtractSettings, PageResult, extract, read_facts
from s1pro.corpus.pdf.labels import LABEL, key_of_label
from s1pro.corpus.pdf.mentions import attach_mentions, keys_in
from s1pro.corpus.records import ElementRow
from tests.corpus.pdf.paper import Box, Paper, iou

PLAIN = ExtractSettings(crops=False)


def pages_of(data: bytes, settings: ExtractSettings = PLAIN) -> list[PageResult]:
    return list(extract(data, settings))


def wholes(data: bytes, settings: ExtractSettings = PLAIN) -> list[ElementRow]:
    return [row for page in pages_of(data, settings) for row in page.elements if not row.parent_id]


def by_label(data: bytes, settings: ExtractSettings = PLAIN) -> dict[str, ElementRow]:
    return {row.label: row for row in wholes(data, settings)}


def simple(caption: str = "Figure 1. Heat flow of the product.") -> tuple[Paper, Box]:
    paper = Paper()
    paper.text(50, 60, "2 Results", "Times-Bold", 13)
    paper.body(50, 70, 500, 8)
    box = (120.0, 200.0, 480.0, 360.0)
    paper.chart(box)
    paper.text(50, 378, caption, size=9)
    paper.body(50, 400, 500, 12)
    return paper, box


# ------------------------------------------------------------------------------------------------ captions, labels


def test_a_figure_above_its_caption_with_section_and_citations() -> None:
    paper, box = simple()
    paper.text(50, 580, "As Fig. 1 shows, the flow is steady. Table 9 is elsewhere.")
    results = pages_of(paper.data())
    (row,) = [row for row in results[0].elements if row.label == "Figure 1"]
    assert iou(row.box, box) > 0.9 and row.type == "chart" and row.confidence > 0.8
    assert row.caption == "Heat flow of the product." and row.section_title == "2 Results"
    assert row.link_method == "caption_below" and row.caption_page == 0
    (attached,) = [r for r in attach_mentions(results[0].elements, results[0].citations) if r.label == "Figure 1"]
    assert [mention.text for mention in attached.mentions] == ["As Fig. 1 shows, the flow is steady."]
    assert results[0].page.route == "text" and results[0].page.num_columns == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "Figure 2 shows that the yield depends on the temperature of the bath.",
        "Table 2, which was measured later, gives the same values as before.",
        "Fig. 3 and the text below explain why the curves do not coincide here.",
    ],
)
def test_references_in_running_text_are_no_captions(sentence: str) -> None:
    paper, _ = simple()
    y = paper.body(50, 600, 500, 3)
    paper.text(50, y + 10, sentence)
    paper.body(50, y + 12, 500, 3)
    assert [row.label for row in wholes(paper.data())] == ["Figure 1"]


def test_a_list_of_figures_has_no_captions() -> None:
    paper, _ = simple()
    for n in range(1, 6):
        paper.text(50, 600 + 14 * n, f"Figure {n}. Title of number {n} .......... {10 * n}")
    paper.page()
    for n in range(1, 6):
        paper.text(50, 100 + 14 * n, f"Table {n}. Title of number {n}", size=9)
    results = pages_of(paper.data())
    assert [row.label for row in results[0].elements] == ["Figure 1"] and results[1].elements == []
    assert results[1].page.route == "text"


def test_captions_keep_superscripts_and_mend_broken_words() -> None:
    paper = Paper()
    paper.body(50, 60, 500, 8)
    paper.chart((120, 200, 480, 360))
    text = paper.canvas.beginText(50, 800 - 378)
    text.setFont("Times-Roman", 9)
    text.textOut("Figure 4: Absorbance at 1600 cm")
    text.setRise(3)
    text.setFont("Times-Roman", 6)
    text.textOut("-1")
    text.setRise(0)
    text.setFont("Times-Roman", 9)
    text.textOut(" over time, and the temper-")
    paper.canvas.drawText(text)
    paper.text(50, 389, "ature of the sample.", size=9)
    paper.body(50, 410, 500, 8)
    caption = by_label(paper.data())["Figure 4"].caption
    assert caption == "Absorbance at 1600 cm-1 over time, and the temperature of the sample."


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Figure 3. Title", "figure:3"),
        ("FIG. 3 Title", "figure:3"),
        ("Fig. S3: title", "figure:S3"),
        ("Supplementary Figure 3 | Title", "figure:S3"),
        ("Extended Data Fig. 2 | Title", "figure:ed2"),
        ("TABLE IV", "table:IV"),
        ("Table A1. Title", "table:A1"),
        ("Table 2-1 Title", "table:2.1"),
        ("Scheme 1. Synthesis", "scheme:1"),
        ("Algorithm 2 Sorting", "algorithm:2"),
        ("图 5 样品", "figure:5"),
        ("表3 数据", "table:3"),
        ("[그림 4-5] 도출", "figure:4.5"),
        ("Abbildung 2: Titel", "figure:2"),
    ],
)
def test_labels_in_many_spellings(text: str, key: str) -> None:
    match = LABEL.match(text)
    assert match is not None and key_of_label(match.group("label")) == key


@pytest.mark.parametrize("text", ["Figures are shown below", "Tableau vivant", "Table of contents", "figurative 3"])
def test_words_that_only_look_like_labels(text: str) -> None:
    assert LABEL.match(text) is None


@pytest.mark.parametrize(
    ("sentence", "keys"),
    [
        ("See Fig. 2a.", ["figure:2"]),
        ("Figs. 1-3 and 5 agree.", ["figure:1", "figure:2", "figure:3", "figure:5"]),
        ("Tables 1 and 2 list them.", ["table:1", "table:2"]),
        ("Supplementary Table 4 has more.", ["table:S4"]),
        ("如图 2 所示。", ["figure:2"]),
        ("The table is long.", []),
    ],
)
def test_what_a_sentence_cites(sentence: str, keys: list[str]) -> None:
    assert keys_in(sentence) == keys


def test_chinese_captions_without_the_font_installed() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    paper = Paper()
    paper.chart((120, 100, 480, 260))
    paper.text(240, 276, "图 2 沉积物中有机碳含量随深度的变化", "STSong-Light", 9)
    for n in range(8):
        paper.text(
            60,
            330 + 14 * n,
            "沉积物中的有机碳含量与深度呈负相关采用高分辨率显微镜观察了表面形貌本文研究",
            "STSong-Light",
            10,
        )
    row = by_label(paper.data())["图 2"]
    assert iou(row.box, (120, 100, 480, 260)) > 0.9 and row.caption == "沉积物中有机碳含量随深度的变化"


# ----------------------------------------------------------------------------------------------- places and shapes


def test_a_table_below_its_caption_ends_at_its_last_rule() -> None:
    paper = Paper()
    paper.body(50, 60, 500, 6)
    paper.text(50, 160, "Table 1: Yields of the products.", size=9)
    box = paper.table(50, 168, 4, 6, 400)
    paper.text(50, box[3] + 10, "Values are means of three runs that were done on one day.", size=8)
    paper.text(220, box[3] + 40, "E = m c + 5", "Times-Italic", 10)
    paper.text(535, box[3] + 40, "(3)")
    paper.body(50, box[3] + 60, 500, 8)
    found = by_label(paper.data())
    assert iou(found["Table 1"].box, box) > 0.95 and found["Table 1"].type == "table"
    assert found["(3)"].type == "formula" and found["(3)"].box[2] < 300
    assert "1.07\t1.17" in found["Table 1"].text_layer


def test_captions_above_figures_are_learnt_from_the_page() -> None:
    paper = Paper()
    paper.body(50, 50, 500, 6)
    boxes = [(100.0, 160.0, 420.0, 280.0), (100.0, 330.0, 420.0, 450.0)]
    for n, box in enumerate(boxes, 1):
        paper.text(50, box[1] - 10, f"Figure {n}. Title of this one.", size=9)
        paper.chart(box)
    paper.body(50, 480, 500, 8)
    found = by_label(paper.data())
    assert all(iou(found[f"Figure {n}"].box, box) > 0.9 for n, box in enumerate(boxes, 1))


def test_a_caption_beside_its_figure() -> None:
    paper = Paper()
    paper.body(50, 50, 500, 6)
    paper.chart((50, 160, 330, 330))
    for n, line in enumerate(["Figure 1. Heat flow of the", "product over time, as it was", "measured twice."]):
        paper.text(360, 180 + 11 * n, line, size=9)
    paper.body(50, 360, 500, 8)
    row = by_label(paper.data())["Figure 1"]
    assert iou(row.box, (50, 160, 330, 330)) > 0.9 and row.link_method == "caption_right"


def two_columns() -> tuple[Paper, dict[str, Box]]:
    paper = Paper()
    wide: Box = (60.0, 60.0, 540.0, 200.0)
    paper.chart(wide)
    paper.text(230, 216, "Figure 1. All of the width.", size=8.5)
    paper.body(40, 240, 250, 10)
    paper.body(310, 240, 250, 4)
    narrow: Box = (330.0, 310.0, 540.0, 420.0)
    paper.chart(narrow)
    paper.text(310, 436, "Figure 2. One column.", size=8.5)
    paper.body(310, 455, 250, 12)
    paper.text(40, 390, "Table 1. Beside the figure.", size=8.5)
    table = paper.table(40, 396, 3, 4, 240)
    paper.body(40, table[3] + 20, 250, 10)
    return paper, {"Figure 1": wide, "Figure 2": narrow, "Table 1": table}


def test_two_columns_with_a_wide_figure() -> None:
    paper, boxes = two_columns()
    results = pages_of(paper.data())
    found = {row.label: row for row in results[0].elements if not row.parent_id}
    assert results[0].page.num_columns == 2 and set(found) == set(boxes)
    assert all(iou(found[label].box, box) > 0.9 for label, box in boxes.items())


def test_a_table_right_above_a_figure_without_text_between() -> None:
    paper = Paper()
    paper.body(50, 50, 500, 4)
    paper.text(50, 130, "Table 1: Yields.", size=9)
    table = paper.table(50, 138, 4, 4, 400)
    paper.chart((80, 260, 480, 400))
    paper.text(50, 418, "Figure 1: Flow.", size=9)
    paper.body(50, 440, 500, 8)
    found = by_label(paper.data())
    assert iou(found["Table 1"].box, table) > 0.9 and iou(found["Figure 1"].box, (80, 260, 480, 400)) > 0.9


def test_landscape_table_on_an_upright_page() -> None:
    paper = Paper()
    paper.canvas.translate(600, 0)
    paper.canvas.rotate(90)
    paper.height = 600
    paper.text(60, 80, "Table 3: Turned by a quarter, with a long title for a page.", size=9)
    x0, y0, x1, y1 = paper.table(60, 88, 6, 10, 600)
    row = by_label(paper.data())["Table 3"]
    assert iou(row.box, (y0, 800 - x1, y1, 800 - x0)) > 0.9 and row.caption.startswith("Turned")


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_and_cropped_pages_give_the_same_elements(rotation: int) -> None:
    paper, box = simple()
    plain = paper.data()
    pattern = re.compile(rb"/MediaBox \[ 0 0 600 800 \](.*?)/Rotate 0", re.DOTALL)
    crop = b"/MediaBox [ 0 0 600 800 ] /CropBox [20 30 590 780]"
    turned = pattern.sub(lambda match: crop + match.group(1) + b"/Rotate %d" % rotation, plain)
    assert turned != plain
    (row,) = [r for r in wholes(turned) if r.label == "Figure 1"]
    x0, y0, x1, y1 = box[0] - 20, box[1] - 20, box[2] - 20, box[3] - 20
    want = {
        90: (750 - y1, x0, 750 - y0, x1),
        180: (570 - x1, 750 - y1, 570 - x0, 750 - y0),
        270: (y0, 570 - x1, y1, 570 - x0),
    }[rotation]
    assert iou(row.box, want) > 0.85
    assert (row.page_width, row.page_height) == ((750, 570) if rotation != 180 else (570, 750))


def test_a_table_goes_on_on_the_next_page() -> None:
    paper = Paper()
    paper.body(50, 50, 500, 20)
    paper.text(50, 500, "Table 5: A long list.", size=9)
    paper.table(50, 508, 4, 14, 400)
    paper.page()
    second = paper.table(50, 60, 4, 8, 400)
    paper.body(50, 220, 500, 10)
    rows = [row for row in wholes(paper.data()) if row.page == 1]
    assert [(row.label, row.link_method, row.caption_page, row.caption) for row in rows] == [
        ("Table 5", "continued", 0, "A long list.")
    ]
    assert iou(rows[0].box, second) > 0.9


def test_panels_are_children_of_a_whole_figure() -> None:
    paper = Paper()
    paper.body(50, 40, 500, 6)
    cells = [
        (60.0, 150.0, 280.0, 260.0),
        (310.0, 150.0, 530.0, 260.0),
        (60.0, 290.0, 280.0, 400.0),
        (310.0, 290.0, 530.0, 400.0),
    ]
    for letter, cell in zip("abcd", cells, strict=True):
        paper.text(cell[0], cell[1], f"({letter})", "Helvetica-Bold", 9)
        paper.chart((cell[0], cell[1] + 6, cell[2], cell[3]))
    paper.text(50, 420, "Figure 1. Four panels: (a) to (d).", size=9)
    paper.body(50, 440, 500, 8)
    rows = pages_of(paper.data())[0].elements
    figure, *panels = rows
    assert iou(figure.box, (60, 143, 530, 400)) > 0.9
    assert [panel.label for panel in panels] == ["(a)", "(b)", "(c)", "(d)"]
    assert all(panel.parent_id == figure.element_id for panel in panels)
    for panel, cell in zip(panels, cells, strict=True):
        assert iou(panel.box, (cell[0], cell[1] - 7, cell[2], cell[3])) > 0.85


def test_a_framed_listing_and_a_box_of_text_are_no_figures() -> None:
    paper = Paper()
    paper.body(50, 40, 500, 4)
    paper.text(50, 110, "Listing 1: A loop.", size=9)
    paper.canvas.rect(50, 800 - 170, 500, 52)
    for n, line in enumerate(["for k in range(3):", "    print(k)", "done()"]):
        paper.text(58, 132 + 13 * n, line, "Courier", 9)
    paper.rect((50, 200, 550, 280), (0.9, 0.9, 0.8))
    paper.body(60, 208, 480, 5)
    paper.chart((100, 300, 480, 420))
    paper.text(50, 436, "Figure 1: Below the box.", size=9)
    paper.body(50, 460, 500, 6)
    found = by_label(paper.data())
    assert found["Listing 1"].type == "algorithm" and iou(found["Listing 1"].box, (50, 118, 550, 170)) > 0.8
    assert iou(found["Figure 1"].box, (100, 300, 480, 420)) > 0.9 and set(found) == {"Listing 1", "Figure 1"}


# ------------------------------------------------------------------------------------------------ routes and crops


def test_a_caption_without_art_and_art_without_a_caption_are_told() -> None:
    paper = Paper()
    paper.body(50, 40, 500, 10)
    paper.text(50, 190, "Figure 7. Nothing is here.", size=9)
    paper.body(50, 210, 500, 10)
    paper.page()
    paper.body(50, 40, 500, 10)
    paper.chart((100, 220, 480, 420))
    paper.body(50, 460, 500, 10)
    first, second = pages_of(paper.data())
    assert first.page.route == "needs_layout_model" and "Figure 7" in " ".join(first.page.reasons)
    (row,) = second.elements
    assert second.page.route == "needs_layout_model" and row.label == "" and row.confidence < 0.5


def test_a_scan_needs_ocr() -> None:
    from PIL import Image

    paper = Paper()
    noise = np.random.default_rng(0).integers(0, 255, (80, 60, 3), dtype=np.uint8)
    paper.canvas.drawInlineImage(Image.fromarray(noise), 0, 0, 600, 800)
    (result,) = pages_of(paper.data())
    assert result.page.route == "needs_ocr" and result.page.image_coverage > 0.95 and result.elements == []


def test_crops_are_padded_hashed_and_the_same_every_time() -> None:
    from PIL import Image

    paper, _ = simple()
    paper.text(50, 600, "Table 1: Grey.", size=9)
    paper.table(50, 608, 3, 4, 300)
    data = paper.data()
    settings = ExtractSettings(crop=CropSettings(dpi=144, pad=5.0))
    found = by_label(data, settings)
    figure, table = found["Figure 1"], found["Table 1"]
    assert figure.mime == "image/jpeg" and table.mime == "image/png" and figure.crop_dpi == 144
    assert figure.width == pytest.approx(2 * (figure.box[2] - figure.box[0] + 10), abs=3)
    with Image.open(io.BytesIO(figure.image)) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert picture.size == (figure.width, figure.height)
    assert pixels[:3].min() > 200 and pixels[:, :3].min() > 200 and pixels.min() < 100  # nothing touches the edge
    assert figure.image_id == hashlib.sha256(figure.image).hexdigest() and len(figure.phash) == len(figure.dhash) == 64
    assert 0.0 < figure.ink_ratio < 0.3 and figure.entropy > 0.0
    again = by_label(data, settings)
    assert again == found


def test_crops_stay_under_the_caps() -> None:
    paper, _ = simple()
    capped = ExtractSettings(crop=CropSettings(dpi=600, max_side=300, max_area=50_000))
    row = by_label(paper.data(), capped)["Figure 1"]
    assert max(row.width, row.height) <= 302 and row.width * row.height <= 51_000 and row.crop_dpi < 100


def test_streaming_resumes_at_a_page_and_outlines_are_open_meanwhile() -> None:
    paper, _ = simple()
    paper.page()
    paper.chart((100, 100, 480, 260))
    paper.text(50, 280, "Figure 2. On the second page.", size=9)
    paper.body(50, 300, 500, 10)
    data = paper.data()
    kept = []
    for result in extract(data, PLAIN):
        assert result.content is not None and len(result.content.outline(0).points) >= 2
        kept.append(result)
    with pytest.raises(ValueError, match="closed"):
        kept[0].content.outline(0)  # type: ignore[union-attr]
    (late,) = list(extract(data, PLAIN, first_page=1))
    assert late.page == kept[1].page
    plain = {"section_title": "", "confidence": 0.0, "link_confidence": 0.0}  # these learn from the pages before
    assert [replace(row, **plain) for row in late.elements] == [replace(row, **plain) for row in kept[1].elements]


def test_elements_are_capped_and_ids_are_stable() -> None:
    paper, _ = two_columns()
    data = paper.data()
    capped = pages_of(data, ExtractSettings(crops=False, max_elements=1, panels=False))[0]
    assert len(capped.elements) == 1 and "elements 3 > 1" in capped.page.reasons
    first, second = wholes(data), wholes(data)
    assert [row.element_id for row in first] == [row.element_id for row in second]
    assert len({row.element_id for row in first}) == len(first)


# ----------------------------------------------------------------------------------------------------- tagged files


def tagged_pdf() -> bytes:
    """A page whose structure tree declares one figure by marked content and one by a stated box."""
    stream = b"/Figure <</MCID 0>> BDC 1 0 0 rg 100 500 200 120 re f EMC 0 0 1 rg 100 250 60 60 re f 240 250 60 60 re f"
    body = [
        b"<< /Type /Catalog /Pages 2 0 R /MarkInfo << /Marked true >> /StructTreeRoot 5 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 700] /Contents 4 0 R /StructParents 0 /Resources << >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /StructTreeRoot /K 6 0 R /ParentTree 9 0 R >>",
        b"<< /Type /StructElem /S /Document /P 5 0 R /K [7 0 R 8 0 R] >>",
        b"<< /Type /StructElem /S /Figure /P 6 0 R /Pg 3 0 R /K 0 /Alt (A red field) >>",
        b"<< /Type /StructElem /S /Figure /P 6 0 R /Pg 3 0 R /Alt (Two blue fields) /K [] "
        b"/A << /O /Layout /BBox [90 240 310 320] >> >>",
        b"<< /Nums [0 [7 0 R]] >>",
    ]
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, text in enumerate(body, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, text)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(body) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(body) + 1, start)
    return bytes(out)


def test_declared_figures_come_with_their_alternative_text() -> None:
    data = tagged_pdf()
    assert read_facts(data).tagged
    rows = {row.alt_text: row for row in wholes(data)}
    red = rows["A red field"]
    assert red.source == "tagged" and red.caption == "A red field" and iou(red.box, (100, 80, 300, 200)) > 0.95
    if "Two blue fields" in rows:  # PDFium lists an element without marked content only if the tree reaches it
        assert iou(rows["Two blue fields"].box, (90, 380, 310, 460)) > 0.95
    assert wholes(data, ExtractSettings(crops=False, tags=False)) == []


# ------------------------------------------------------------------------------------------------------ real papers


@pytest.mark.parametrize(
    ("file", "labels"),
    [
        ("2305.03393v1-pg9.pdf", ["Table 1"]),
        ("code_and_formula.pdf", ["Listing 1", ""]),
        ("multi_page.pdf", []),
        ("picture_classification.pdf", ["Figure 1", "Figure 2"]),
        ("skipped_1page.pdf", ["그림 4-5"]),
        ("table_mislabeled_as_picture.pdf", []),
        (
            "tableformer_acl2022.pdf",
            ["Figure 1", "(1)", "(2)", "Figure 2", "(3)", "(4)", "(5)", "Table 1", "Table 2", "Table 3", "(6)", "(7)",
             "Table 4", "Table 5", "Table 6", "Table 7"],
        ),
    ],
)  # fmt: skip
def test_real_papers(samples_dir: Path, file: str, labels: list[str]) -> None:
    rows = wholes((samples_dir / "papers" / file).read_bytes())
    assert sorted(row.label for row in rows) == sorted(labels)
    assert all(row.caption for row in rows if row.type not in ("formula",))
