"""Small papers about measured properties of compounds, whose every number is known: input for the caption pipeline.

A paper has a title, running text, two figures and a table, on two pages. The figures are vector drawings with axes,
units and a legend, the numbers come from `science.property_tables`, and captions say more than what is visible, as
those of real papers do. So the demo can show what the pipeline finds in PDFs, offline, on real data, and what it found
can be compared with what is there (`Known`).

Drawn by matplotlib's PDF backend; the same bytes for the same number and seed.
"""

from __future__ import annotations

import logging
import random
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.science import property_tables as tables
from s1pro.science.property_tables import Curve

PAGE = (595.0, 842.0)
"""A4 in points."""
_MARGIN = 62.0
_STYLE: Mapping[str, Any] = {"font.family": "sans-serif", "font.size": 9.0, "pdf.fonttype": 42, "axes.linewidth": 0.8}
_TABLES = {
    "vapour pressure": tables.vapour_pressures,
    "heat capacity": tables.heat_capacities,
    "viscosity": tables.viscosities,
    "surface tension": tables.surface_tensions,
    "density": tables.liquid_densities,
}
_MARKS = ("o", "s", "^", "D")


@dataclass(frozen=True, kw_only=True)
class KnownFigure:
    """What a figure shows.

    Attributes:
        label: as printed, x_label and y_label with units.
        series: names in the legend.
        page: from 0.
    """

    label: str
    x_label: str
    y_label: str
    series: tuple[str, ...]
    page: int


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a paper holds."""

    title: str
    figures: tuple[KnownFigure, ...]
    tables: int = 1


def write_papers(folder: Path, count: int, *, seed: int = 0) -> list[Known]:
    """Writes `paper-0000.pdf` and so on; complete files only.

    Raises:
        MissingExtraError: matplotlib or the tables are not installed.
        InputError: fewer than one paper.
    """
    if count < 1:
        raise InputError(f"the number of papers must be at least 1, got {count}")
    folder.mkdir(parents=True, exist_ok=True)
    known = []
    for number in range(count):
        data, content = paper(number, seed=seed)
        path = folder / f"paper-{number:04d}.pdf"
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(data)
        temporary.replace(path)
        known.append(content)
    return known


def paper(number: int, *, seed: int = 0) -> tuple[bytes, Known]:
    """The bytes of one paper, and what is in it."""
    draw = random.Random(f"papers {seed} {number}")
    names = draw.sample(sorted(_TABLES), 2)
    groups = [draw.sample(_TABLES[name](), draw.choice((2, 3))) for name in names]
    groups = [[replace(curve, compound=curve.compound.replace("⬘", "'")) for curve in group] for group in groups]
    compounds = sorted({curve.compound for group in groups for curve in group})
    title = f"{names[0].capitalize()} and {names[1]} of {_listed(compounds[:3])}"
    with _Plotting() as plotting:
        pages = [plotting.Figure(figsize=(PAGE[0] / 72, PAGE[1] / 72)) for _ in range(2)]
        y = _text(pages[0], title, PAGE[1] - _MARGIN, size=15, weight="bold", width=58)
        y = _text(pages[0], "Measured values from published correlations", y - 4, size=9, style="italic")
        figures = []
        for page, (name, group) in enumerate(zip(names, groups, strict=True)):
            figure = pages[page]
            top = y if page == 0 else PAGE[1] - _MARGIN
            top = _text(figure, f"{page + 1}  {name.capitalize()}", top - 14, size=11, weight="bold")
            top = _text(figure, _paragraph(name, group, page + 1), top - 4)
            shown, top = _chart(figure, name, group, page, top - 12, draw)
            figures.append(shown)
            top = _text(figure, _outlook(group, page + 1), top - 16)
            y = top
        _table(pages[1], [curve for group in groups for curve in group], y - 18)
        for index, figure in enumerate(pages):
            figure.text(0.5, 30 / PAGE[1], str(index + 1), ha="center", fontsize=8)
        data = plotting.saved(pages, title)
    return data, Known(title=title, figures=tuple(figures))


class _Plotting:
    """The parts of matplotlib that papers need, in their style."""

    def __enter__(self) -> _Plotting:
        try:
            from matplotlib import rc_context
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("matplotlib", "report") from error
        logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
        logging.getLogger("fontTools").setLevel(logging.ERROR)
        self.Figure = Figure
        self._context = rc_context(dict(_STYLE))
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def saved(self, pages: Sequence[Any], title: str) -> bytes:
        """All pages as one document, without a date."""
        from matplotlib.backends.backend_pdf import PdfPages

        buffer = BytesIO()
        with PdfPages(buffer, metadata={"Title": title, "CreationDate": None, "ModDate": None}) as document:
            for page in pages:
                document.savefig(page)
        return buffer.getvalue()


def _text(figure: Any, text: str, y: float, *, size: float = 9.5, width: int = 92, **options: Any) -> float:
    """Sets lines from `y` (points from below) downwards and returns where the next may begin."""
    for line in textwrap.wrap(text, width):
        y -= size * 1.32
        figure.text(_MARGIN / PAGE[0], y / PAGE[1], line, fontsize=size, va="baseline", **options)
    return y


def _chart(
    figure: Any, name: str, group: Sequence[Curve], page: int, top: float, draw: random.Random
) -> tuple[KnownFigure, float]:
    """One drawing with its caption; returns what it shows, and where it ends."""
    height, width = 190.0, 330.0
    left = (PAGE[0] - width) / 2 + 14
    box = (left / PAGE[0], (top - height) / PAGE[1], width / PAGE[0], height / PAGE[1])
    axes = figure.add_axes(box)
    with_marks = draw.random() < 0.5
    for i, curve in enumerate(group):
        step = max(len(curve.x) // 8, 1)
        marks = {"marker": _MARKS[i % len(_MARKS)], "markevery": step, "markersize": 4} if with_marks else {}
        axes.plot(curve.x, curve.y, label=curve.compound, linewidth=1.3, **marks)
    if name == "vapour pressure" and draw.random() < 0.5:
        axes.set_yscale("log")
    x_label, y_label = "temperature (K)", f"{name} ({group[0].y_unit})"
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize=8, frameon=draw.random() < 0.5)
    if draw.random() < 0.3:
        axes.grid(linewidth=0.3)
    label = f"Figure {page + 1}"
    bottom = _text(figure, f"{label}: {_caption(name, group)}", top - height - 34, size=8.5, width=100)
    series = tuple(curve.compound for curve in group)
    return KnownFigure(label=label, x_label=x_label, y_label=y_label, series=series, page=page), bottom


def _table(figure: Any, curves: Sequence[Curve], y: float) -> None:
    """Table 1: the range of every curve, with rules above and below."""
    y = _text(figure, "Table 1: Ranges of temperature and values at their lower end.", y, size=8.5)
    columns = ("compound", "property", "from (K)", "to (K)", "value", "unit")
    rows = [(c.compound, c.property, f"{c.x[0]:.0f}", f"{c.x[-1]:.0f}", f"{c.y[0]:.3g}", c.y_unit) for c in curves]
    starts = [_MARGIN + offset for offset in (0, 150, 280, 335, 385, 430)]
    y -= 6
    for index, row in enumerate((columns, *rows)):
        if index < 2:
            _rule(figure, y - 1)
        y -= 13
        for x, cell in zip(starts, row, strict=True):
            figure.text(x / PAGE[0], y / PAGE[1], cell, fontsize=8.5, weight="bold" if index == 0 else "normal")
        y -= 2
    _rule(figure, y - 3)


def _rule(figure: Any, y: float) -> None:
    from matplotlib.lines import Line2D

    ends = (_MARGIN / PAGE[0], 1 - _MARGIN / PAGE[0])
    figure.add_artist(Line2D(ends, (y / PAGE[1],) * 2, color="black", linewidth=0.7))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _paragraph(name: str, group: Sequence[Curve], number: int) -> str:
    low = max(curve.x[0] for curve in group)
    return (
        f"The {name} of {_listed([c.compound for c in group])} was computed from published correlations within the "
        f"range for which each holds. Figure {number} shows the results. Above {low:.0f} K all can be compared. "
        "Differences between the compounds follow from the size of their molecules and from how strongly these attract "
        "each other; where molecules form hydrogen bonds, the dependence on temperature is steeper."
    )


def _caption(name: str, group: Sequence[Curve]) -> str:
    """More than is visible: the authors' view."""
    return (
        f"Dependence of the {name} on temperature. The correlations were fitted to data of several laboratories, whose "
        f"scatter is below the width of the lines."
    )


def _outlook(group: Sequence[Curve], number: int) -> str:
    return (
        f"As Figure {number} shows, no curve has a maximum inside its range. Values outside do not follow from it: "
        "the correlations have no physical meaning there, and some of them turn."
    )
