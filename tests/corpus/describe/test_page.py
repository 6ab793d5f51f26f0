"""Whole elements: drawings, pictures, formulas, other programs than those of the exam, and hostile pages."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.describe.facts import Facts
from s1pro.corpus.describe.labels import labels_in
from s1pro.corpus.describe.page import described, find_facts
from s1pro.corpus.describe.prose import STYLES, render
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.pdf.extract import text_in
from s1pro.corpus.pdf.reader import open_document, read_page
from s1pro.corpus.records import ElementRow
from tests.corpus.describe.exam import foreign_numbers


def page(draw: Callable[..., None], width: float = 400, height: float = 300) -> PageContent:
    """A page drawn by reportlab; y grows upwards there."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(width, height))
    draw(canvas)
    canvas.showPage()
    canvas.save()
    return read_page(open_document(buffer.getvalue()), 0)


def whole(content: PageContent, type: str = "figure") -> Facts:
    return find_facts(content, (0, 0, content.width, content.height), type)  # type: ignore[arg-type]


def test_a_diagram_has_boxes_arrows_and_colours() -> None:
    def draw(canvas) -> None:  # type: ignore[no-untyped-def]
        canvas.setStrokeColorRGB(0.12, 0.47, 0.71)
        for x, text in ((30, "Encoder"), (230, "Decoder")):
            canvas.rect(x, 140, 100, 40)
            canvas.drawString(x + 20, 155, text)
        canvas.line(130, 160, 222, 160)
        path = canvas.beginPath()
        path.moveTo(230, 160)
        path.lineTo(222, 164)
        path.lineTo(222, 156)
        path.close()
        canvas.drawPath(path, fill=1)
        canvas.drawString(150, 170, "tokens")

    facts = whole(page(draw))
    assert facts.chart is None and facts.boxes == ("Encoder", "Decoder") and facts.arrows == 1
    assert facts.texts == ("tokens", "Encoder", "Decoder") and facts.colours == ("blue",)
    text = render(facts)
    assert "“Encoder” and “Decoder”" in text and "One arrow is drawn" in text and "tokens" in text and "blue" in text


def test_pictures_and_their_places() -> None:
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    picture = ImageReader(Image.fromarray(np.full((8, 8, 3), 90, np.uint8)))

    def two(canvas) -> None:  # type: ignore[no-untyped-def]
        canvas.drawImage(picture, 10, 100, 120, 120)
        canvas.drawImage(picture, 260, 100, 120, 120)
        canvas.drawString(12, 230, "(a)")
        canvas.drawString(262, 230, "(b)")

    facts = whole(page(two))
    assert facts.pictures == ("left", "right") and facts.panel_labels == ("(a)", "(b)")
    assert "at the left and at the right" in render(facts) and "two parts, marked (a) and (b)" in render(facts)
    facts = whole(page(lambda canvas: canvas.drawImage(picture, 0, 0, 400, 300)))
    assert render(facts) == "A raster image fills the figure."


def test_a_formula_is_numbered() -> None:
    facts = whole(page(lambda c: (c.drawString(100, 150, "E = mc"), c.drawString(330, 150, "(2.1)"))), "formula")
    assert facts.number == "(2.1)" and "number (2.1)" in render(facts)


def test_an_empty_crop_says_nothing() -> None:
    content = page(lambda canvas: canvas.drawString(10, 10, "far away"))
    assert render(find_facts(content, (100, 100, 200, 200), "figure")) == ""


def test_axes_without_frame_of_another_program() -> None:
    """A chart of reportlab's own: category names between ticks, no titles."""
    from reportlab.graphics import renderPDF
    from reportlab.graphics.charts.barcharts import HorizontalBarChart, VerticalBarChart
    from reportlab.graphics.shapes import Drawing

    for kind, top in ((VerticalBarChart, "May"), (HorizontalBarChart, "May")):
        drawing = Drawing(400, 250)
        chart = kind()
        chart.x, chart.y, chart.width, chart.height = 60, 40, 300, 160
        chart.data = [(13, 5, 20, 22, 47)]
        chart.valueAxis.valueMin, chart.valueAxis.valueMax, chart.valueAxis.valueStep = 0, 50, 10
        chart.categoryAxis.categoryNames = ["Jan", "Feb", "Mar", "Apr", "May"]
        drawing.add(chart)
        facts = whole(read_page(open_document(renderPDF.drawToString(drawing)), 0))
        assert facts.chart is not None
        (panel,) = facts.chart.panels
        categories, numbers = (panel.x, panel.y) if kind is VerticalBarChart else (panel.y, panel.x)
        assert categories is not None and sorted(categories.ticks) == ["Apr", "Feb", "Jan", "Mar", "May"]
        assert numbers is not None and (numbers.low, numbers.high, numbers.scale) == ("0", "50", "linear")
        (series,) = panel.series
        assert (series.kind, series.num_marks, series.top_x, series.low_x) == ("bars", 5, (top,), ("Feb",))
        assert series.horizontal == (kind is HorizontalBarChart)


def test_labels_drawn_glyph_by_glyph_with_superscripts() -> None:
    def draw(canvas) -> None:  # type: ignore[no-untyped-def]
        x = 50.0
        for letter in "Flux (W m":
            canvas.setFont("Helvetica", 10)
            if letter != " ":
                canvas.drawString(x, 100, letter)
            x += canvas.stringWidth(letter, "Helvetica", 10)
        canvas.setFont("Helvetica", 7)
        canvas.drawString(x, 104, "-2")
        canvas.setFont("Helvetica", 10)
        canvas.drawString(x + 6.5, 100, ")")
        canvas.drawString(50, 50, "12")
        canvas.drawString(70, 50, "14")  # the ticks of an axis stay apart
        canvas.saveState()
        canvas.translate(20, 80)
        canvas.rotate(90)
        canvas.drawString(0, 0, "Turned text")
        canvas.restoreState()

    content = page(draw)
    labels = {label.text: label.angle for label in labels_in(content, (0, 0, 400, 300))}
    assert labels == {"Flux (W m^-2)": 0, "12": 0, "14": 0, "Turned text": 90}


def test_an_inverted_and_a_second_axis() -> None:
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    FigureCanvasPdf(figure)
    axis = figure.add_subplot()
    axis.plot([0, 1, 2, 3], [10, 20, 30, 40])
    axis.invert_yaxis()
    axis.set_ylabel("Depth (m)")
    axis.set_xlabel("Distance (km)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf")
    facts = whole(read_page(open_document(buffer.getvalue()), 0))
    assert facts.chart is not None and facts.chart.panels[0].series[0].trend == "rising"
    twin = axis.twinx()
    twin.plot([0, 1, 2, 3], [1e6, 3e6, 2e6, 5e6], "r--")
    twin.set_ylabel("Energy [J]")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf")
    facts = whole(read_page(open_document(buffer.getvalue()), 0))
    assert facts.chart is not None
    (panel,) = facts.chart.panels
    assert panel.y is not None and panel.right is not None and panel.x is not None
    assert (panel.y.unit, panel.right.unit, panel.right.factor, panel.x.unit) == ("m", "J", "1e6", "km")
    assert "right vertical axis" in render(facts) and "1e6" in render(facts)


def test_a_page_with_very_many_strokes_is_not_counted() -> None:
    def draw(canvas) -> None:  # type: ignore[no-untyped-def]
        for i in range(7000):
            canvas.line(i % 390, i / 25, i % 390 + 5 * math.sin(i), i / 25 + 3)

    facts = whole(page(draw))
    assert facts.truncated and facts.arrows == 0


def test_random_pages_never_break_the_describer() -> None:
    """Lines, boxes, marks and labels anywhere: whatever is said, its digits are on the page."""
    rng = random.Random(5)

    def draw(canvas) -> None:  # type: ignore[no-untyped-def]
        grid = [20 * rng.randint(0, 18) for _ in range(12)]
        for _ in range(rng.randint(0, 60)):
            canvas.setStrokeColorRGB(rng.random(), rng.random(), rng.choice((0, 0, 1)))
            canvas.setFillColorRGB(rng.random(), rng.random(), rng.random())
            x, y = rng.choice(grid), rng.choice(grid)
            size = rng.choice((0, 1, 4, 15, 60, 200))
            kind = rng.randrange(5)
            if kind == 0:
                canvas.line(x, y, x + size, y + rng.choice((0, 0, size)))
            elif kind == 1:
                canvas.rect(x, y, size, rng.choice((0, 2, size)), fill=rng.random() < 0.5, stroke=rng.random() < 0.5)
            elif kind == 2:
                canvas.circle(x, y, size / 9, fill=1)
            else:
                canvas.setFont("Helvetica", rng.choice((7, 9, 12)))
                label = rng.choice((str(rng.randrange(999)), "x (s)", "(a)", "(b) T", "a", "name", "1e6", "−3"))
                canvas.drawString(x, y, label)

    for _ in range(40):
        content = page(draw)
        printed = text_in(content, (-400, -400, 800, 800))
        for type in ("figure", "table", "formula"):
            facts = whole(content, type)
            assert Facts.from_json(facts.to_json()) == facts
            for style in STYLES:
                assert foreign_numbers(render(facts, style=style), printed) == []


STYLED = [
    "dark_background",
    "grayscale",
    "Solarize_Light2",
    "seaborn-v0_8-darkgrid",
    "seaborn-v0_8-white",
    "fivethirtyeight",
]


@pytest.mark.parametrize("style", STYLED)
def test_other_looks_of_the_same_chart(style: str) -> None:
    """Dark backgrounds, no ticks, no frames, grey colours: axes, legend and trends are found in all of them."""
    import matplotlib as mpl
    import matplotlib.style
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    with mpl.style.context(style):
        figure = Figure(figsize=(5, 3.5), layout="constrained")
        FigureCanvasPdf(figure)
        axis = figure.add_subplot()
        x = np.linspace(0, 9, 40)
        axis.plot(x, 3 * x, label="up")
        axis.plot(x, 30 - 2 * x, label="down")
        axis.set_xlabel("Time (s)")
        axis.set_ylabel("Load (N)")
        axis.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="pdf")
    facts = whole(read_page(open_document(buffer.getvalue()), 0))
    assert facts.chart is not None
    (panel,) = facts.chart.panels
    assert panel.x is not None and panel.y is not None
    assert (panel.x.title, panel.y.title, panel.x.low, panel.x.high) == ("Time (s)", "Load (N)", "0", "8")
    assert panel.legend == ("up", "down")
    assert [(series.name, series.trend) for series in panel.series] == [("up", "rising"), ("down", "falling")]


def test_an_element_gets_text_and_facts() -> None:
    content = page(lambda canvas: canvas.drawString(100, 100, "A label"))
    element = ElementRow(
        element_id="e", doc_id="d", page=0, type="figure", box=(0, 0, 400, 300), page_width=400, page_height=300,
        caption="Figure 7: 42 mice.",
    )  # fmt: skip
    found = described(element, content)
    assert "A label" in found.description and "42" not in found.description
    assert Facts.from_json(found.facts).texts == ("A label",)


@pytest.mark.parametrize("text", ["", "[]", '{"chart": 3}', '{"unknown": 1}', "{"])
def test_broken_facts_are_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        Facts.from_json(text)


def test_unknown_styles_are_refused() -> None:
    with pytest.raises(InputError, match="style"):
        render(Facts(), style="sonnet")
