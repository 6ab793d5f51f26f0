"""A table whose cells stand far apart: its bold first column is no heading."""

from __future__ import annotations

from io import BytesIO

from reportlab.pdfgen.canvas import Canvas

from s1pro.corpus.pdf.extract import ExtractSettings, extract


def page_with_wide_table() -> bytes:
    stream = BytesIO()
    canvas = Canvas(stream, pagesize=(595, 842), invariant=True)
    y = 780.0
    canvas.setFont("Helvetica", 10)
    for _ in range(12):
        canvas.drawString(
            62, y, "Running text of a paper fills its column with words of ordinary length, line by line."
        )
        y -= 13
    y -= 20
    canvas.setFont("Helvetica", 9)
    canvas.drawString(62, y, "Table 1: Values at their lower end.")
    for number, row in enumerate(
        [("compound", "from", "unit"), ("pentanoic acid", "361", "kPa"), ("2-butanol", "253", "kPa")]
    ):
        y -= 15
        canvas.setFont("Helvetica-Bold" if number == 0 else "Helvetica", 9)
        for x, cell in zip((62, 340, 490), row, strict=True):
            canvas.drawString(x, y, cell)
        if number < 1:
            canvas.line(62, y - 3, 533, y - 3)
    canvas.line(62, y - 3, 533, y - 3)
    canvas.save()
    return stream.getvalue()


def test_the_first_column_of_a_wide_table_is_no_heading() -> None:
    (page,) = extract(page_with_wide_table(), ExtractSettings())
    (table,) = [element for element in page.elements if element.type == "table"]
    assert table.label == "Table 1"
    assert "compound" in table.text_layer and "2-butanol" in table.text_layer and "kPa" in table.text_layer
