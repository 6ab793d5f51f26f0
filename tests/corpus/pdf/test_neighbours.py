"""Figures and tables that stand close to each other, captions in narrow places, and drawings that fall apart."""

from __future__ import annotations

import pytest

pytest.importorskip("pypdfium2")
pytest.importorskip("reportlab")

from s1pro.corpus.pdf.extract import ExtractSettings, extract
from s1pro.corpus.records import ElementRow
from tests.corpus.pdf.paper import Box, Paper, iou

PLAIN = ExtractSettings(crops=False)


def rows_of(paper: Paper, page: int = 0) -> list[ElementRow]:
    return list(list(extract(paper.data(), PLAIN))[page].elements)


def found_in(paper: Paper) -> dict[str, ElementRow]:
    return {row.label: row for row in rows_of(paper) if not row.parent_id}


def check(paper: Paper, boxes: dict[str, Box], least: float = 0.85) -> None:
    found = found_in(paper)
    assert {label: round(iou(found[label].box, box), 2) for label, box in boxes.items() if label in found} == {
        label: pytest.approx(1.0, abs=1.0 - least) for label in boxes
    }


def lines(paper: Paper, x: float, y: float, text: list[str], size: float = 9.0, font: str = "Times-Roman") -> float:
    for n, line in enumerate(text):
        paper.text(x, y + 1.2 * size * n, line, font, size)
    return y + 1.2 * size * len(text)


# -------------------------------------------------------------------------------------------------- two columns


@pytest.mark.parametrize(("inset", "shift"), [(0.0, 0.0), (0.0, 60.0), (10.0, -30.0)])
def test_figures_at_one_height_in_two_columns(inset: float, shift: float) -> None:
    paper = Paper()
    left: Box = (40 + inset, 60, 290, 210)
    right: Box = (303, 60, 560 - inset, 210 + shift)
    paper.chart(left)
    paper.chart(right)
    paper.text(40, 226, "Figure 1. The first of two that have nothing in common.", size=8.5)
    paper.text(303, 226 + shift, "Figure 2. The second one, in the other column.", size=8.5)
    paper.body(40, 250, 247, 30)
    paper.body(303, 250 + max(0.0, shift), 257, 24)
    check(paper, {"Figure 1": left, "Figure 2": right})


def test_a_figure_beside_a_table_with_the_caption_on_top() -> None:
    paper = Paper()
    figure: Box = (42, 60, 288, 230)
    paper.rect(figure)
    paper.text(40, 246, "Figure 1. A photograph of the sample in the tube.", size=8.5)
    paper.text(303, 68, "Table 1. Beside the figure, at the same height.", size=8.5)
    table = paper.table(303, 76, 4, 9, 257)
    paper.body(40, 270, 247, 30)
    paper.body(303, 250, 257, 30)
    check(paper, {"Figure 1": figure, "Table 1": table})


# ------------------------------------------------------------------------------------------- one above the other


@pytest.mark.parametrize("gap", [8.0, 14.0, 24.0])
def test_a_table_with_its_caption_below_and_a_figure_right_under_it(gap: float) -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6)
    table = paper.table(100, y + 16, 4, 5, 400)
    paper.text(100, table[3] + 14, "Table 1. Yields of the products in the vessel.", size=9)
    top = table[3] + 20 + gap
    figure: Box = (110, top, 480, top + 140)
    paper.chart(figure)
    paper.text(100, top + 156, "Figure 1. Flow of heat in the vessel.", size=9)
    paper.body(50, top + 180, 500, 10)
    check(paper, {"Table 1": table, "Figure 1": figure})


@pytest.mark.parametrize("gap", [10.0, 18.0, 30.0])
def test_a_figure_with_its_caption_above_and_a_table_right_under_it(gap: float) -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6)
    paper.text(100, y + 16, "Figure 1. Flow of heat in the vessel.", size=9)
    figure: Box = (110, y + 24, 480, y + 160)
    paper.chart(figure)
    table = paper.table(100, y + 160 + gap, 4, 5, 400)
    paper.text(100, table[3] + 14, "Table 1. Yields of the products in the vessel.", size=9)
    paper.body(50, table[3] + 40, 500, 10)
    check(paper, {"Table 1": table, "Figure 1": figure})


@pytest.mark.parametrize("gap", [12.0, 20.0, 30.0])
def test_a_figure_over_a_table_with_captions_at_the_outer_ends(gap: float) -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6)
    paper.text(100, y + 16, "Table 1. Yields of the products in the vessel.", size=9)
    table = paper.table(100, y + 24, 4, 5, 400)
    figure: Box = (110, table[3] + gap, 480, table[3] + gap + 140)
    paper.chart(figure)
    paper.text(100, figure[3] + 16, "Figure 1. Flow of heat in the vessel.", size=9)
    paper.body(50, figure[3] + 40, 500, 10)
    check(paper, {"Table 1": table, "Figure 1": figure})


@pytest.mark.parametrize("gap", [14.0, 22.0, 30.0])
def test_two_figures_without_text_between_and_captions_at_the_outer_ends(gap: float) -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6)
    paper.text(100, y + 16, "Figure 1. Flow of heat in the vessel.", size=9)
    first: Box = (110, y + 24, 480, y + 150)
    paper.chart(first)
    second: Box = (110, y + 150 + gap, 480, y + 270 + gap)
    paper.chart(second, (0.1, 0.5, 0.2))
    paper.text(100, second[3] + 16, "Figure 2. Flow of salt in the vessel.", size=9)
    paper.body(50, second[3] + 40, 500, 10)
    check(paper, {"Figure 1": first, "Figure 2": second})


@pytest.mark.parametrize("gap", [10.0, 18.0, 40.0])
def test_stacked_figures_with_captions_at_their_side(gap: float) -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6) + 16
    boxes: dict[str, Box] = {}
    for n in (1, 2, 3):
        box: Box = (50, y, 330, y + 120)
        paper.chart(box)
        text = [f"Figure {n}. Flow of heat in the", "vessel over time, as it was", "measured twice."]
        lines(paper, 350, y + 30, text)
        boxes[f"Figure {n}"] = box
        y += 120 + gap
    paper.body(50, y + 10, 500, 10)
    check(paper, boxes)


@pytest.mark.parametrize("gap", [14.0, 24.0])
def test_art_without_a_number_above_a_figure(gap: float) -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6)
    for k in range(5):
        paper.rect((60 + 30 * k, y + 20, 80 + 30 * k, y + 20 + 18), (0.1 * k, 0.3, 0.5))
    figure: Box = (110, y + 38 + gap, 480, y + 200)
    paper.chart(figure)
    paper.text(100, figure[3] + 16, "Figure 1. Flow of heat in the vessel.", size=9)
    paper.body(50, figure[3] + 40, 500, 10)
    check(paper, {"Figure 1": figure}, 0.8)


@pytest.mark.parametrize("gap", [50.0, 90.0])
def test_a_drawing_with_a_large_white_gap(gap: float) -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6) + 14
    paper.rect((120, y, 470, y + 80))
    paper.rect((120, y + 80 + gap, 470, y + 160 + gap))
    figure: Box = (120, y, 470, y + 160 + gap)
    paper.text(100, figure[3] + 16, "Figure 1. Flow of heat in the vessel.", size=9)
    paper.body(50, figure[3] + 40, 500, 10)
    check(paper, {"Figure 1": figure})


def test_labels_far_below_a_drawing_and_within_its_width_are_part_of_it() -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6) + 14
    paper.text(100, y + 10, "Scheme 1. Synthesis of the product from the pure compound.", size=9)
    for n in range(3):
        paper.rect((120 + 130 * n, y + 20, 200 + 130 * n, y + 80))
        paper.text(150 + 130 * n, y + 140, f"{n + 1}a", "Helvetica-Bold", 8)
    paper.body(50, y + 160, 500, 10)
    check(paper, {"Scheme 1": (120, y + 20, 460, y + 140)}, 0.9)


# ------------------------------------------------------------------------------------------------------- captions


def test_captions_in_the_margin_go_on_for_many_short_lines() -> None:
    paper = Paper()
    y = paper.body(50, 50, 380, 6) + 14
    paper.chart((50, y, 430, y + 150))
    text = ["Figure 1. Flow of", "heat.", "It rises at the", "end, since the", "vessel was open", "for a minute."]
    lines(paper, 445, y + 20, text, size=8)
    paper.body(50, y + 170, 380, 12)
    row = found_in(paper)["Figure 1"]
    assert iou(row.box, (50, y, 430, y + 150)) > 0.85
    assert row.caption == " ".join(text).removeprefix("Figure 1. ")


@pytest.mark.parametrize("size", [8.0, 10.0])
def test_a_caption_in_a_narrow_column_beside_running_text(size: float) -> None:
    paper = Paper()
    paper.body(200, 50, 350, 40)
    paper.chart((40, 100, 180, 190))
    text = ["Fig. 1. Heat in", "a vessel.", "The upper curve is", "hot, the lower", "one is cold."]
    lines(paper, 40, 206, text, size=size)
    row = found_in(paper)["Fig. 1"]
    assert iou(row.box, (40, 100, 180, 190)) > 0.85
    assert row.caption == " ".join(text).removeprefix("Fig. 1. ")


def test_running_text_in_a_frame_belongs_to_the_caption_at_the_frame() -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6) + 20
    frame: Box = (44, y, 556, y + 12 * 12.5 + 16)
    paper.rect(frame, (0, 0, 0), fill=False)
    paper.body(52, y + 6, 496, 12)
    paper.text(150, frame[3] + 16, "Table 1: Steps of the procedure in the order of time.", size=10)
    paper.body(50, frame[3] + 40, 500, 10)
    check(paper, {"Table 1": frame}, 0.95)


def test_a_table_with_a_row_of_running_text_is_all_of_its_frame() -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6) + 20
    frame: Box = (44, y, 556, y + 14 * 14)
    for n in range(14):
        if not 2 <= n <= 6:
            paper.text(50, y + 11 + 14 * n, f"key {n}")
            paper.text(300, y + 11 + 14 * n, f"value {n}")
        if n not in (3, 4, 5, 6):
            paper.rule(44, 556, y + 14 * n)
    paper.body(50, y + 28 + 16, 500, 3)
    paper.rule(44, 556, frame[3])
    for x in (44, 556):
        paper.canvas.line(x, 800 - frame[1], x, 800 - frame[3])
    paper.text(200, frame[3] + 16, "Table 1: Keys and their values.", size=10)
    paper.body(50, frame[3] + 40, 500, 10)
    check(paper, {"Table 1": frame}, 0.95)


def test_captions_that_an_included_picture_has_cropped_away_are_not_read() -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6) + 20
    figure: Box = (110, y, 480, y + 150)
    paper.canvas.beginForm("picture", 100, 800 - figure[3] - 5, 500, 800 - figure[1] + 5)
    paper.chart(figure)
    paper.text(110, figure[3] + 16, "Figure 7. The caption in the other paper.", size=9)
    paper.canvas.endForm()
    paper.canvas.doForm("picture")
    paper.text(100, figure[3] + 18, "Figure 1. Flow of heat in the vessel.", size=9)
    paper.body(50, figure[3] + 40, 500, 10)
    (row,) = [row for row in rows_of(paper) if not row.parent_id]
    assert row.label == "Figure 1" and iou(row.box, figure) > 0.85 and row.caption == "Flow of heat in the vessel."


# --------------------------------------------------------------------------------------------------------- panels


def panels_of(paper: Paper) -> list[ElementRow]:
    return [row for row in rows_of(paper) if row.parent_id]


@pytest.mark.parametrize("gap", [6.0, 9.0, 14.0])
@pytest.mark.parametrize("letters", ["above", "inside", "none"])
def test_dense_panels(gap: float, letters: str) -> None:
    paper = Paper()
    y = paper.body(50, 40, 500, 6) + 20
    cells: list[Box] = []
    for row in range(3):
        for column in range(4):
            x = 60 + column * (110 + gap)
            top = y + row * (90 + gap)
            letter = f"({'abcdefghijkl'[4 * row + column]})"
            cell: Box = (x, top, x + 110, top + 90)
            if letters == "above":
                paper.text(x, top + 7, letter, "Helvetica-Bold", 8)
                paper.chart((x, top + 10, x + 110, top + 90))
            else:
                paper.chart(cell)
            if letters == "inside":
                paper.text(x + 24, top + 10, letter, "Helvetica-Bold", 8)
            cells.append(cell)
    bottom = cells[-1][3]
    paper.text(60, bottom + 16, "Figure 1. Twelve panels of one experiment.", size=9)
    paper.body(50, bottom + 40, 500, 8)
    panels = panels_of(paper)
    best = [max((iou(panel.box, cell) for panel in panels), default=0.0) for cell in cells]
    assert len(panels) == 12 and min(best) > 0.7


# ------------------------------------------------------------------------------------------------------- formulas


def test_definitions_below_each_other_are_formulas_of_their_own() -> None:
    paper = Paper()
    y = paper.body(50, 50, 500, 6) + 20
    for n in range(5):
        paper.text(180, y + 22 * n, f"a + {n} = b + c", "Symbol", 10)
        paper.text(538, y + 22 * n, f"({n + 1})")
    paper.body(50, y + 22 * 5, 500, 6)
    found = [row for row in rows_of(paper) if row.type == "formula"]
    assert [row.label for row in found] == [f"({n})" for n in range(1, 6)]
