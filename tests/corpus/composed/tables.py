"""Tables for the reportlab generator: booktabs, full grids, shaded rows and plain columns, with spanning headers."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.corpus.composed import words
from tests.corpus.composed.pen import CJK, Pen, text_width


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a table is drawn: `rules` is booktabs, grid, shaded or plain; fonts; size of the text."""

    rules: str
    font: str
    bold: str
    size: float


@dataclass(frozen=True)
class TableBlock:
    """Cells with the widths of their columns; the first row is the header, `group` may span the last columns."""

    cells: list[list[str]]
    widths: list[float]
    row_height: float
    look: Look
    group: str = ""

    @property
    def width(self) -> float:
        return sum(self.widths)

    @property
    def height(self) -> float:
        return self.height_of(len(self.cells) - 1)

    def height_of(self, rows: int) -> float:
        return self.row_height * (1 + rows + bool(self.group)) + 2


def make_table(rng: random.Random, look: Look, available: float, *, rows: int, columns: int) -> TableBlock:
    """A table that fits `available` points: columns are dropped or stretched until it does."""
    cells = words.table_cells(rng, columns, rows)
    if look.font == CJK:
        cells[0] = ["样品"] + [
            f"{rng.choice(('温度', '压力', '浓度', '产率'))} ({rng.choice(words.UNITS)})" for _ in cells[0][1:]
        ]
        for i, row in enumerate(cells[1:]):
            row[0] = f"样品 {i + 1}"
    widths = _widths(cells, look)
    while sum(widths) > available and len(cells[0]) > 2:
        cells = [row[:-1] for row in cells]
        widths = _widths(cells, look)
    if sum(widths) > available:
        cells = [[row[0][:12], *row[1:]] for row in cells]
        cells[0][-1] = cells[0][-1].split(" ")[0]
        widths = _widths(cells, look)
    full = rng.random() < 0.55
    if full:
        extra = (available - sum(widths)) / len(widths)
        widths = [width + max(extra, 0.0) for width in widths]
    group = (
        rng.choice(("Measured values", "This work"))
        if look.rules == "booktabs" and len(widths) > 3 and rng.random() < 0.4
        else ""
    )
    return TableBlock(cells, widths, look.size * rng.choice((1.35, 1.5, 1.7)), look, group)


def _widths(cells: list[list[str]], look: Look) -> list[float]:
    return [
        max(text_width(row[i], look.bold if j == 0 else look.font, look.size) for j, row in enumerate(cells)) + 9
        for i in range(len(cells[0]))
    ]


def draw_table(pen: Pen, table: TableBlock, x: float, y: float, first: int = 1, last: int | None = None) -> float:
    """Draws header and body rows `first` to `last`; y below the table."""
    rows = [table.cells[0], *table.cells[first : (last if last is not None else len(table.cells))]]
    look, step = table.look, table.row_height
    top = y
    if look.rules == "booktabs":
        pen.line(x, y, x + table.width, y, 0.9)
    y += 1
    if table.group:
        left = x + sum(table.widths[:2])
        right = x + table.width
        pen.text((left + right) / 2, y + 0.72 * step, table.group, look.bold, look.size, anchor="middle")
        pen.line(left + 2, y + step - 0.5, right - 2, y + step - 0.5, 0.4)
        y += step
    for j, row in enumerate(rows):
        _draw_row(pen, table, row, x, y, header=j == 0, shaded=j % 2 == 0)
        y += step
        if j == 0 and look.rules == "booktabs":
            pen.line(x, y, x + table.width, y, 0.5)
        if j == 0 and look.rules == "plain":
            pen.line(x, y, x + table.width, y, 0.3, "#777777")
    if look.rules == "booktabs":
        pen.line(x, y + 1, x + table.width, y + 1, 0.9)
    if look.rules == "grid":
        _draw_grid(pen, table, x, top + 1, y, len(rows) + bool(table.group))
    return y + 1


def _draw_row(pen: Pen, table: TableBlock, row: list[str], x: float, y: float, *, header: bool, shaded: bool) -> None:
    look, step = table.look, table.row_height
    if look.rules == "shaded":
        fill = "#2f5597" if header else ("#e7edf7" if shaded else "#ffffff")
        pen.rect(x, y, table.width, step, fill=fill)
    at = x
    for i, text in enumerate(row):
        color = "#ffffff" if look.rules == "shaded" and header else "#000000"
        font = look.bold if header else look.font
        if i == 0:
            pen.text(at + 4, y + 0.72 * step, text, font, look.size, color=color)
        else:
            pen.text(at + table.widths[i] / 2, y + 0.72 * step, text, font, look.size, anchor="middle", color=color)
        at += table.widths[i]


def _draw_grid(pen: Pen, table: TableBlock, x: float, top: float, bottom: float, rows: int) -> None:
    for j in range(rows + 1):
        y = top + (bottom - top) * j / rows
        pen.line(x, y, x + table.width, y, 0.5)
    at = x
    for width in [0.0, *table.widths]:
        at += width
        pen.line(at, top, at, bottom, 0.5)
