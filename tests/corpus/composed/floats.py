"""Floats of the reportlab generator: planned first (so that their height is known), drawn later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.corpus.composed import drawings
from tests.corpus.composed.composer import Composer, caption_text
from tests.corpus.composed.tables import Look, TableBlock, draw_table, make_table
from tests.corpus.composed.truth import Box, TrueElement, union

GAP = 6.0


@dataclass(frozen=True)
class Planned:
    """Something with a height that can be drawn with its top left corner at a place of the current page."""

    height: float
    draw: Callable[[float, float], None]


def plan_figure(c: Composer, width: float, *, wide: bool = False) -> Planned:
    """A figure with its caption: plot, scheme, picture, or panels."""
    rng, style = c.rng, c.style
    look = style.figure
    scheme = "schemes" in style.features and rng.random() < 0.25
    grid = None if scheme or rng.random() < 0.5 else _grid(c, width)
    names = drawings.panel_names(style.panel_style, grid[0] * grid[1]) if grid else ()
    label = c.label("scheme" if scheme else "figure", look)
    body = c.caption_words(look, names)
    lines = c.caption_lines(label, look, body, width)
    caption = c.caption_height(lines)
    tall, inner = _figure_size(c, width, grid, wide)
    drawing = drawings.molecules if scheme else rng.choice(drawings.VECTOR + drawings.RASTER)
    offset = (width - inner) / 2 if rng.random() < 0.7 else 0.0

    def draw(x: float, y: float) -> None:
        if look.above:
            y = c.draw_caption(lines, look, x, y, width) + GAP
        box, panels = _draw_content(c, drawing, grid, (x + offset, y, inner, tall))
        if not look.above:
            c.draw_caption(lines, look, x, y + tall + GAP, width)
        c.add(
            TrueElement(
                page=c.page, type="figure", box=box, label=label, caption=caption_text(body), panels=tuple(panels)
            )
        )

    return Planned(tall + GAP + caption, draw)


def _figure_size(c: Composer, width: float, grid: tuple[int, int] | None, wide: bool) -> tuple[float, float]:
    """Height and width of the drawing."""
    rng = c.rng
    inner = width * (rng.uniform(0.75, 1.0) if not wide or grid is None else 1.0)
    if grid:
        return min(inner / grid[0] * 0.72 * grid[1], 0.55 * (c.bottom - c.top)), inner
    return min(inner * rng.uniform(0.42, 0.7), 0.4 * c.sheet.height), inner


def _grid(c: Composer, width: float) -> tuple[int, int]:
    """Columns and rows of panels."""
    if width < 300:
        return c.rng.choice(((2, 1), (1, 2), (2, 2)))
    return c.rng.choice(((2, 1), (3, 1), (2, 2), (3, 2), (4, 1)))


def _draw_content(
    c: Composer, drawing: Callable[..., None], grid: tuple[int, int] | None, frame: drawings.Frame
) -> tuple[Box, list[tuple[str, Box]]]:
    panels: list[tuple[str, Box]] = []
    with c.pen.recording() as boxes:
        if grid:
            panels = drawings.panels(c.pen, c.rng, frame, grid, c.style.panel_style)
        else:
            drawing(c.pen, c.rng, frame)
    return union(boxes), panels


def plan_side_figure(c: Composer, width: float) -> Planned:
    """A figure with its caption beside it."""
    look = c.style.figure
    label = c.label("figure", look)
    body = c.caption_words(look, ())
    left = width * c.rng.uniform(0.5, 0.62)
    lines = c.caption_lines(label, look, body, width - left - 14)
    tall = max(left * c.rng.uniform(0.5, 0.75), c.caption_height(lines))
    drawing = c.rng.choice(drawings.VECTOR + drawings.RASTER)

    def draw(x: float, y: float) -> None:
        box, _ = _draw_content(c, drawing, None, (x, y, left, tall))
        c.draw_caption(lines, look, x + left + 14, y, width - left - 14)
        c.add(TrueElement(page=c.page, type="figure", box=box, label=label, caption=caption_text(body)))

    return Planned(tall, draw)


def plan_margin_figure(c: Composer, width: float) -> Planned:
    """A figure whose caption stands in the margin to the left of it."""
    look = c.style.figure
    label = c.label("figure", look)
    body = c.caption_words(look, ())
    left, room = c.style.margins[0], c.style.side_margin - 16
    lines = c.caption_lines(label, look, body, room)
    tall = max(width * c.rng.uniform(0.4, 0.6), c.caption_height(lines))
    drawing = c.rng.choice(drawings.VECTOR + drawings.RASTER)

    def draw(x: float, y: float) -> None:
        box, _ = _draw_content(c, drawing, None, (x, y, width, tall))
        c.draw_caption(lines, look, left, y, room)
        c.add(TrueElement(page=c.page, type="figure", box=box, label=label, caption=caption_text(body)))

    return Planned(tall, draw)


def plan_pair(c: Composer, width: float) -> Planned:
    """Two figures side by side, each with its own caption below."""
    look = replace(c.style.figure, above=False)
    half = (width - 24) / 2
    drawn = []
    for _ in range(2):
        label = c.label("figure", look)
        body = c.caption_words(look, (), short=True)
        drawn.append((label, body, c.caption_lines(label, look, body, half), c.rng.choice(drawings.SMALL)))
    tall = half * 0.7
    caption = max(c.caption_height(lines) for _, _, lines, _ in drawn)

    def draw(x: float, y: float) -> None:
        for i, (label, body, lines, drawing) in enumerate(drawn):
            left = x + i * (half + 24)
            box, _ = _draw_content(c, drawing, None, (left, y, half, tall))
            c.draw_caption(lines, look, left, y + tall + GAP, half)
            c.add(TrueElement(page=c.page, type="figure", box=box, label=label, caption=caption_text(body)))

    return Planned(tall + GAP + caption, draw)


def table_look(c: Composer) -> Look:
    regular, bold, _ = c.style.caption_fonts
    return Look(rules=c.rng.choice(c.style.rules), font=regular, bold=bold, size=c.style.caption_size)


def plan_table(c: Composer, width: float, *, wide: bool = False) -> Planned:
    """A table with its caption and sometimes notes below it."""
    rng, look = c.rng, c.style.table
    table = make_table(
        rng, table_look(c), width, rows=rng.randint(3, 10), columns=rng.randint(5, 8) if wide else rng.randint(3, 5)
    )
    label = c.label("table", look)
    body = c.caption_words(look, (), short=True)
    lines = c.caption_lines(label, look, body, width)
    caption = c.caption_height(lines)
    notes = c.style.caption_size * 1.3 if rng.random() < 0.3 and look.above else 0.0
    offset = (width - table.width) / 2 if look.align == "center" or rng.random() < 0.3 else 0.0

    def draw(x: float, y: float) -> None:
        if look.above:
            y = c.draw_caption(lines, look, x, y, width) + 3
        with c.pen.recording() as boxes:
            draw_table(c.pen, table, x + offset, y)
        if not look.above:
            c.draw_caption(lines, look, x, y + table.height + 4, width)
        if notes:
            size = c.style.caption_size * 0.9
            c.pen.text(
                x + offset,
                y + table.height + size + 2,
                "Values are means; n.d., not detected.",
                c.style.caption_fonts[0],
                size,
            )
        c.add(TrueElement(page=c.page, type="table", box=union(boxes), label=label, caption=caption_text(body)))

    return Planned(caption + 4 + table.height + notes, draw)


def long_table(c: Composer) -> None:
    """A table from here to the end of the page, and on the next page again with its header."""
    look = c.style.table
    width = c.column_width
    table = make_table(c.rng, table_look(c), width, rows=c.rng.randint(40, 60), columns=c.rng.randint(4, 6))
    label = c.label("table", look)
    body = c.caption_words(look, (), short=True)
    lines = c.caption_lines(label, look, body, width)
    caption = c.caption_height(lines)
    if c.room < caption + table.height_of(6):
        c.fill_column()
    elif c.y > c.top:
        c.y += 10
    y = c.draw_caption(lines, look, c.x, c.y, width) + 3
    first = 1
    element: TrueElement | None = None
    while first < len(table.cells):
        rows = _rows_that_fit(table, c.bottom - y)
        with c.pen.recording() as boxes:
            y = draw_table(c.pen, table, c.x, y, first, first + rows)
        if element is None:
            element = TrueElement(page=c.page, type="table", box=union(boxes), label=label, caption=caption_text(body))
            c.add(element)
        else:
            c.again(element, union(boxes))
        first += rows
        c.y = y + 12
        if first < len(table.cells):
            c.new_page()
            words = wrap_continued(c, label)
            y = c.draw_caption(words, look, c.x, c.y, width) + 3


def _rows_that_fit(table: TableBlock, room: float) -> int:
    return max(2, int((room - 4) // table.row_height) - 1 - bool(table.group))


def wrap_continued(c: Composer, label: str) -> list[list]:  # type: ignore[type-arg]
    from tests.corpus.composed.rich import Run, wrap

    regular, bold, _ = c.style.caption_fonts
    text = c.rng.choice((" (continued)", ". Continued."))
    return wrap([Run(label, bold), Run(text, regular)], c.style.caption_size, c.column_width)


def sideways_table(c: Composer) -> None:
    """A page of its own with a wide table that reads from bottom to top."""
    c.fill_page()
    c.new_page()
    look = c.style.table
    long, short = c.bottom - c.top, c.right - c.left
    table = make_table(c.rng, replace(table_look(c), rules="booktabs"), long, rows=c.rng.randint(8, 16), columns=8)
    label = c.label("table", look)
    body = c.caption_words(look, (), short=True)
    lines = c.caption_lines(label, look, body, long)
    assert c.caption_height(lines) + table.height < short
    with c.pen.sideways(c.left, c.bottom):
        y = c.draw_caption(lines, look, 0, 0, long) + 3
        with c.pen.recording() as boxes:
            draw_table(c.pen, table, (long - table.width) / 2, y)
    c.add(TrueElement(page=c.page, type="table", box=union(boxes), label=label, caption=caption_text(body)))
    c.new_page()


def landscape_page(c: Composer) -> None:
    """A page in landscape with a large figure or table on it."""
    c.fill_page()
    c.new_page(landscape=True, columns=1)
    planned = (
        plan_table(c, c.column_width, wide=True) if c.rng.random() < 0.4 else plan_figure(c, c.column_width, wide=True)
    )
    planned.draw(c.left, c.top)
    c.y = c.top + planned.height + 14
    c.fill_page()
    c.new_page()
