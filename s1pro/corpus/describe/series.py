"""From sorted marks to the series of a panel: names by the legend, trends, and where they begin, end, and are highest.

Points that lie on a line of their colour are its markers. Colours bind a series to its entry in the legend; where
several entries have one colour, the form of the marker decides. Values are told by the nearest tick label, because
that is what the page shows.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from s1pro.corpus.describe import colours, trend
from s1pro.corpus.describe.axes import Axis
from s1pro.corpus.describe.facts import Reading, SeriesFacts
from s1pro.corpus.describe.legend import Entry, Legend, same_colour
from s1pro.corpus.describe.marks import Marks, line_points
from s1pro.corpus.describe.panels import Panel
from s1pro.corpus.describe.shapes import Colour, Shape
from s1pro.corpus.pdf.content import Array

MANY_COLOURS = 9
TOUCHING = 0.22


def find_series(panel: Panel, marks: Marks, legend: Legend | None) -> tuple[SeriesFacts, ...]:
    """The series of a panel in the order of the legend, or of drawing."""
    drawn: list[tuple[SeriesFacts, Colour | None, str]] = []
    points = _by_colour(marks.points)
    for line in marks.lines:
        colour = line[0].stroke or line[0].fill
        markers = _on_line(line_points(line), points, colour)
        drawn.append((_line(panel, line, markers), colour, markers[0].form if markers else ""))
        if markers:
            points = [group for group in points if group is not markers]
    drawn += [(_cloud(panel, group), group[0].colour, group[0].form) for group in points]
    drawn += [(_bars(panel, group, marks), group[0].colour, "") for group in _bar_groups(marks, legend)]
    drawn += [(_area(panel, shape), shape.colour, "") for shape in marks.areas]
    return _named(drawn, legend)


def _by_colour(points: Sequence[Shape]) -> list[list[Shape]]:
    """Points of one colour and form; all of them together if there are too many colours to be groups."""
    groups: dict[tuple[Colour | None, str], list[Shape]] = defaultdict(list)
    for shape in points:
        groups[(shape.colour, shape.form)].append(shape)
    found = list(groups.values())
    if len(found) >= MANY_COLOURS and len(points) < 4 * len(found):
        return [list(points)]
    return found


def _on_line(line: Array, points: list[list[Shape]], colour: Colour | None) -> list[Shape]:
    """The group of points that are the markers of a line; empty if there is none."""
    for group in points:
        centres = np.array([shape.centre for shape in group])
        if not same_colour(group[0].colour, colour) and not same_colour(group[0].stroke, colour):
            continue
        gaps = np.abs(centres[:, None, :] - line[None, :, :]).max(axis=2).min(axis=1)
        if np.mean(gaps < 1.6) > 0.7:
            return group
    return []


def _line(panel: Panel, line: Sequence[Shape], markers: Sequence[Shape]) -> SeriesFacts:
    points = line_points(line)
    x, y = _oriented(panel, points)
    facts = SeriesFacts(
        kind="line",
        colour=_name(line[0].stroke or line[0].fill),
        mark=markers[0].form if markers else "",
        num_marks=len(markers),
    )
    steps = np.diff(x)
    if (steps < -0.01).any():
        if not (steps < 0.01).all():
            return facts  # a curve that runs back has no trend
        points, x, y = points[::-1], x[::-1], y[::-1]
    return _located(replace(facts, trend=trend.line_trend(x, y)), panel, points, y)


def _cloud(panel: Panel, group: Sequence[Shape]) -> SeriesFacts:
    points = np.array([shape.centre for shape in group])
    x, y = _oriented(panel, points)
    several = len({shape.colour for shape in group}) > 1
    return SeriesFacts(
        kind="points",
        colour="" if several else _name(group[0].colour),
        mark=group[0].form,
        num_marks=len(group),
        trend=trend.cloud_trend(x, y),
    )


def _area(panel: Panel, shape: Shape) -> SeriesFacts:
    """The upper edge of an area, as a line."""
    columns: dict[float, float] = {}
    for x, y in shape.points.tolist():
        columns[round(x, 1)] = min(columns.get(round(x, 1), y), y)
    points = np.array(sorted(columns.items()))
    x, y = _oriented(panel, points)
    if (np.diff(x) < 0).any():
        points, x, y = points[::-1], x[::-1], y[::-1]
    facts = SeriesFacts(kind="area", colour=_name(shape.colour), trend=trend.line_trend(x, y))
    return _located(facts, panel, points, y)


def _oriented(panel: Panel, points: Array) -> tuple[Array, Array]:
    """x and y in units of the frame, growing with the values of the axes."""
    x0, y0, x1, y1 = panel.frame
    x, y = (points[:, 0] - x0) / (x1 - x0), (y1 - points[:, 1]) / (y1 - y0)
    vertical = panel.y or panel.right
    if panel.x is not None and panel.x.is_numeric and panel.x.fit[0] < 0:
        x = 1 - x
    if vertical is not None and vertical.is_numeric and vertical.fit[0] > 0:
        y = 1 - y
    return x, y


def _located(facts: SeriesFacts, panel: Panel, points: Array, y: Array) -> SeriesFacts:
    """Adds the tick labels nearest to the ends and extremes; a second vertical axis makes heights ambiguous."""
    height = _tick(panel.y or panel.right) if panel.y is None or panel.right is None else None
    across = _tick(panel.x)
    top, low = points[int(np.argmax(y))], points[int(np.argmin(y))]
    if height is not None:
        facts = replace(
            facts, start=height(points[0][1]), end=height(points[-1][1]), top_y=height(top[1]), low_y=height(low[1])
        )
    return facts if across is None else replace(facts, top_x=across(top[0]), low_x=across(low[0]))


def _tick(axis: Axis | None) -> Callable[[float], Reading] | None:
    return None if axis is None else axis.reading


def _bar_groups(marks: Marks, legend: Legend | None) -> list[list[Shape]]:
    """Bars by colour; colours that only tell categories apart are one group."""
    groups: dict[Colour | None, list[Shape]] = defaultdict(list)
    for shape in marks.bars:
        groups[shape.colour].append(shape)
    bound = legend is not None and sum(
        any(same_colour(colour, entry.colour) for entry in legend.entries) for colour in groups
    )
    single = all(len(group) == 1 for group in groups.values())
    if len(groups) > 1 and single and (not bound or not marks.stacked):
        return [marks.bars]
    return list(groups.values())


def _bars(panel: Panel, group: Sequence[Shape], marks: Marks) -> SeriesFacts:
    k = 1 if marks.horizontal else 0
    along, across = (panel.y, panel.x) if marks.horizontal else (panel.x, panel.y or panel.right)
    bars = sorted(group, key=lambda shape: shape.centre[k])
    lengths = np.array([shape.w if marks.horizontal else shape.h for shape in bars])
    facts = SeriesFacts(
        kind="histogram" if _is_histogram(bars, along, k) else "bars",
        colour=_name(group[0].colour) if len({shape.colour for shape in group}) == 1 else "",
        num_marks=len(bars),
        horizontal=marks.horizontal,
        trend="" if marks.stacked else trend.bar_trend(lengths),
    )
    if marks.stacked or len(bars) < 2:
        return facts
    top, low = bars[int(np.argmax(lengths))], bars[int(np.argmin(lengths))]
    unique = np.sort(lengths)
    if along is not None and unique[-1] - unique[-2] > 0.3:
        facts = replace(facts, top_x=along.reading(top.centre[k]))
    if along is not None and unique[1] - unique[0] > 0.3:
        facts = replace(facts, low_x=along.reading(low.centre[k]))
    if across is not None:
        end = 2 if marks.horizontal else 1
        facts = replace(facts, top_y=across.reading(top.box[end]), low_y=across.reading(low.box[end]))
    return facts


def _is_histogram(bars: Sequence[Shape], along: Axis | None, k: int) -> bool:
    """Neighbouring bars touch, and they stand on numbers."""
    if len(bars) < 5 or along is None or not along.is_numeric:
        return False
    widths = [shape.box[2 + k] - shape.box[k] for shape in bars]
    gaps = [b.box[k] - a.box[2 + k] for a, b in itertools.pairwise(bars)]
    return float(np.median(gaps)) < TOUCHING * float(np.median(widths))


def _named(drawn: list[tuple[SeriesFacts, Colour | None, str]], legend: Legend | None) -> tuple[SeriesFacts, ...]:
    """Binds series to entries of the legend and puts them into its order."""
    if legend is None:
        return tuple(facts for facts, _, _ in drawn)
    free = list(range(len(legend.entries)))
    result: list[tuple[int, SeriesFacts]] = []
    for facts, colour, form in drawn:
        fitting = [index for index in free if same_colour(legend.entries[index].colour, colour)]
        if len(fitting) > 1:
            fitting = [i for i in fitting if legend.entries[i].form == form] or fitting
        kind = [i for i in fitting if _suits(legend.entries[i], facts)]
        chosen = (kind or fitting)[:1]
        if chosen:
            free.remove(chosen[0])
            facts = replace(facts, name=legend.entries[chosen[0]].label.text)
        result.append((chosen[0] if chosen else len(legend.entries), facts))
    return tuple(facts for _, facts in sorted(result, key=lambda pair: pair[0]))


def _suits(entry: Entry, facts: SeriesFacts) -> bool:
    return entry.has_line == (facts.kind == "line")


def _name(colour: Colour | None) -> str:
    return "" if colour is None else colours.name(colour)
