"""Renders a `Report` into one HTML file that opens anywhere: no scripts, no fonts, no images from elsewhere.

1. `templates/page.html` walks the sections; `templates/blocks.html` has one macro per kind of block.
2. Everything is escaped by the template engine, except drawings that `blocks.check_svg` has passed.
3. The style follows the reader's light or dark preference, keeps wide tables and long lines inside the page, and has
   rules for paper.
4. The file appears under its name only when it is complete (written aside, then renamed).

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; no meaning rests on colour alone.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from s1pro.report.blocks import Cell, Report, check_svg
from s1pro.report.svg import course, series_colour


def render(report: Report) -> str:
    """The whole page as text."""
    return str(_environment().get_template("page.html").render(report=report))


def write(report: Report, path: str | Path) -> Path:
    """Writes the page to `path` (folders are made) in one step: readers see the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = render(report)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("s1pro.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        cell=format_cell,
        seconds=format_seconds,
        drawing=_drawing,
        is_number=_is_number,
        percent=_percent,
        course=lambda values: _drawing(course(values)),
        series_colour=series_colour,
    )
    return environment


def format_cell(value: Cell, digits: int = 3) -> str:
    """A table cell as text: thousands are separated, floats have `digits` decimals, None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        small = value != 0 and abs(value) < 10**-digits
        return f"{value:.{digits}g}" if small else f"{value:,.{digits}f}"
    return value


def format_seconds(seconds: float) -> str:
    """A duration as people say it: 0.4 s, 42 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _drawing(svg: str) -> Markup:
    check_svg(svg)
    return Markup(svg)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _percent(part: float, whole: float) -> str:
    """Share of a bar as a CSS width."""
    return f"{100 * min(max(part / whole, 0.0), 1.0):.1f}%"
