"""The exam: questions about a drawn chart, right answers, and the answers that the caption allows."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from tests.corpus.describe import answerer
from tests.corpus.describe.charts import Drawn, PanelTruth
from tests.corpus.describe.tables import TableDrawn


def questions(drawn: Drawn, text: str) -> Iterator[tuple[str, str, str]]:
    """(kind of question, right answer, given answer)."""
    several = len(drawn.panels) > 1
    if several:
        yield "panels", str(len(drawn.panels)), str(answerer.number_of_panels(text))
    for panel in drawn.panels:
        yield from _panel(panel, answerer.panel_text(text, panel.label) if several else text)


def _panel(panel: PanelTruth, text: str) -> Iterator[tuple[str, str, str]]:
    for name, axis in (("x", panel.x), ("y", panel.y)):
        quantity, unit = answerer.axis_title(text, name)
        yield "axis name", axis.quantity, quantity
        if axis.scale != "category":
            yield "unit", axis.unit, unit
        yield "scale", axis.scale, answerer.axis_scale(text, name)
        if axis.low and axis.scale != "category":
            low, high = answerer.axis_range(text, name)
            yield "range", f"{number(axis.low)} {number(axis.high)}", f"{number(low)} {number(high)}"
    if panel.categories:
        yield "categories", str(panel.categories), str(answerer.categories(text, "x"))
    if panel.legend:
        yield "legend", str(sorted(s.name for s in panel.series)), str(sorted(answerer.legend(text)))
    yield "number of series", str(len(panel.series)), str(answerer.number_of_series(text))
    for series in panel.series:
        name = series.name if panel.legend else ""
        if series.trend and (panel.legend or len(panel.series) == 1):
            yield "trend", series.trend, answerer.trend(text, name)
        if series.top and (panel.legend or len(panel.series) == 1):
            yield "tallest bar", series.top, answerer.tallest(text, name)


def number(text: str) -> str:
    """A printed number in one form."""
    text = text.replace("−", "-").replace(",", "").replace("10^", "1e").replace("e+", "e")
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def foreign_numbers(text: str, text_layer: str) -> list[str]:
    """Numbers of a caption that are not on the page, up to sign and format."""
    printed = {re.sub(r"\D", "", found) for found in re.findall(r"\d[\d,.^−-]*", text_layer)}
    squeezed = re.sub(r"[^\d]", "", text_layer)
    wrong = []
    for found in re.findall(r"\d[\d,]*(?:\.\d+)?(?:\^[−-]?\d+)?(?:e[−-]?\d+)?", text):
        digits = re.sub(r"\D", "", found)
        if digits not in printed and not (len(digits) > 1 and digits in squeezed):
            wrong.append(found)
    return wrong


def invented_numbers(text_layer: str, count: int, seed: int) -> list[str]:
    """Numbers of two to five digits, with and without a point, that a text layer does not print, nor is near to."""
    rng = random.Random(seed)
    printed = [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text_layer)]
    runs = {re.sub(r"\D", "", found) for found in re.findall(r"[\d.,^ eE+−-]*\d", text_layer)}
    found: list[str] = []
    while len(found) < count:
        digits = rng.randrange(2, 6)
        text = str(rng.randrange(10 ** (digits - 1), 10**digits))
        if rng.random() < 0.5:
            cut = rng.randrange(1, len(text))
            text = f"{text[:cut]}.{text[cut:]}"
        value = float(text)
        near = any(abs(value * scale - each) <= 1 for each in printed for scale in (1, 100, 0.01))
        if not near and not any(re.sub(r"\D", "", text) in run for run in runs):
            found.append(text)
    return found


def table_questions(drawn: TableDrawn, text: str) -> Iterator[tuple[str, str, str]]:
    """The same for a table."""
    yield "headers", str(drawn.header), str(answerer.columns_of_table(text))
    yield "rows", str(len(drawn.rows)), str(answerer.rows_of_table(text))
    for row in drawn.rows:
        for column, cell in list(zip(drawn.header, row, strict=True))[1:]:
            yield "cells", cell, answerer.cell_of_table(text, row[0], column)
