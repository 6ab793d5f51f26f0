"""What is known about a crop: the facts behind every sentence of a description.

Facts are taken from the page alone. Numbers in them are strings, exactly as printed, because a description may quote
what is there and must not compute what is not; only counts (of series, panels, rows, marks) are numbers.

    Facts ── chart: ChartFacts ── panels: PanelFacts ── x, y, right: AxisFacts
          ├─ table: TableFacts                       └─ series: SeriesFacts
          └─ texts, pictures, shapes of anything else
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s1pro.base.errors import InputError

Trend = Literal[
    "rising", "falling", "flat", "peak", "valley", "oscillating", "irregular", "positive", "negative", "none", ""
]
SeriesKind = Literal["line", "points", "bars", "histogram", "area"]
Scale = Literal["linear", "log", "category", "other"]
Reading = tuple[str, ...]
"""One printed label, or the two that a point lies between."""


@dataclass(frozen=True, kw_only=True)
class AxisFacts:
    """One axis.

    Attributes:
        title: as printed, with the unit; `quantity` and `unit` are its parts.
        ticks: all tick labels in the direction of growing values (categories: from left to right, top to bottom).
        low, high: the labels of the smallest and the largest tick.
        factor: what is printed at the end of the axis and multiplies (or shifts) all labels.
        shared: the labels stand at another panel.
    """

    title: str = ""
    quantity: str = ""
    unit: str = ""
    scale: Scale = "linear"
    ticks: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    factor: str = ""
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """One series of a panel.

    Attributes:
        name: of the legend, or empty.
        mark: "circle", "square", "triangle", "diamond", "cross" of its points; empty if it has none or an unclear one.
        num_marks: points or bars; 0 where they are not counted (lines without marks).
        horizontal: bars that extend to the right.
        start, end: reading of the vertical axis at its first and last point: the label of the tick beside it, or of
            the two ticks that it lies between.
        top_x, low_x: reading of the horizontal axis at the highest and the lowest point, or their category.
        top_y, low_y: readings of the vertical axis there.
    """

    kind: SeriesKind
    colour: str = ""
    name: str = ""
    mark: str = ""
    num_marks: int = 0
    dashed: bool = False
    horizontal: bool = False
    trend: Trend = ""
    start: Reading = ()
    end: Reading = ()
    top_x: Reading = ()
    top_y: Reading = ()
    low_x: Reading = ()
    low_y: Reading = ()


@dataclass(frozen=True, kw_only=True)
class PanelFacts:
    """One pair of axes with what is drawn between them.

    Attributes:
        label: as printed, "(a)"; `place` in the figure ("upper left"), empty if it is alone.
        legend: entries as printed, in order; with `legend_title`.
        notes: other texts inside the panel.
        pictures: raster images inside; `cells`: coloured cells of a map.
        colour_bar: labels of its ticks.
    """

    label: str = ""
    title: str = ""
    place: str = ""
    x: AxisFacts | None = None
    y: AxisFacts | None = None
    right: AxisFacts | None = None
    series: tuple[SeriesFacts, ...] = ()
    legend: tuple[str, ...] = ()
    legend_title: str = ""
    notes: tuple[str, ...] = ()
    pictures: int = 0
    cells: int = 0
    stacked: bool = False
    error_bars: bool = False
    bands: int = 0
    reference_lines: int = 0


@dataclass(frozen=True, kw_only=True)
class ColourBarFacts:
    """A scale of colours beside a chart."""

    title: str = ""
    low: str = ""
    high: str = ""


@dataclass(frozen=True, kw_only=True)
class ChartFacts:
    """A figure with axes."""

    panels: tuple[PanelFacts, ...]
    title: str = ""
    colour_bars: tuple[ColourBarFacts, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """A table: header cells, rows of cells; an empty string is an empty cell. `spans`: headers over several columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    spans: tuple[str, ...] = ()
    ruled: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is said about one element.

    Attributes:
        texts: labels that belong to no axis, legend or cell, in reading order.
        panel_labels: "(a)", "(b)" as printed.
        pictures: raster images with their place ("left", "whole").
        boxes: texts that stand inside a drawn box; `arrows`: lines that end in a head.
        colours: names of the colours of the drawing, most frequent first, without black, white and grey.
        truncated: the page has more than was read, so nothing is counted.
    """

    chart: ChartFacts | None = None
    table: TableFacts | None = None
    texts: tuple[str, ...] = ()
    panel_labels: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    arrows: int = 0
    colours: tuple[str, ...] = ()
    number: str = ""
    truncated: bool = False

    def to_json(self) -> str:
        """Compact JSON without the fields that have their default."""
        return json.dumps(_plain(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Facts:
        """The inverse of `to_json`. Raises `InputError` for anything else."""
        try:
            facts = _build(Facts, json.loads(text))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"not the facts of an element ({error}): {text[:80]!r}") from error
        assert isinstance(facts, Facts)
        return facts


_NESTED: Mapping[str, type] = {
    "chart": ChartFacts,
    "table": TableFacts,
    "panels": PanelFacts,
    "series": SeriesFacts,
    "x": AxisFacts,
    "y": AxisFacts,
    "right": AxisFacts,
    "colour_bars": ColourBarFacts,
}


def _plain(record: Any) -> Any:
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        pairs = ((field, getattr(record, field.name)) for field in dataclasses.fields(record))
        return {field.name: _plain(value) for field, value in pairs if value != field.default}
    return [_plain(value) for value in record] if isinstance(record, tuple) else record


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    arguments = {}
    for name, value in values.items():
        nested = _NESTED.get(name)
        if nested is not None and isinstance(value, list):
            value = tuple(_build(nested, entry) for entry in value)
        elif nested is not None and value is not None:
            value = _build(nested, value)
        elif isinstance(value, list):
            value = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
        arguments[name] = value
    return kind(**arguments)
