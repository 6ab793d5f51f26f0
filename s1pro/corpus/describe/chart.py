"""The facts of a figure with axes, from the shapes and labels inside its crop.

    labels, shapes -> axes -> panels -> legends -> titles -> marks -> series -> ChartFacts

Every label is used once: as a tick, an entry of a legend, a title, the label of a panel, or a note inside one. What is
left goes back to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from s1pro.corpus.describe.axes import Axis, find_ticked, with_offset
from s1pro.corpus.describe.facts import AxisFacts, ChartFacts, ColourBarFacts, PanelFacts
from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.legend import Legend, find_legends, legend_of
from s1pro.corpus.describe.marks import sort_marks
from s1pro.corpus.describe.panels import Panel, find_panels
from s1pro.corpus.describe.separate import separate
from s1pro.corpus.describe.series import find_series
from s1pro.corpus.describe.shapes import Shape
from s1pro.corpus.describe.titles import name_axes, name_panels, split_unit, title_text
from s1pro.corpus.describe.unticked import find_unticked
from s1pro.corpus.describe.wording import count
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.records import Box

NARROW = 0.16
MOST_NOTES = 12


@dataclass(frozen=True)
class Chart:
    """Facts, and the labels that belong to none of its parts."""

    facts: ChartFacts
    rest: tuple[Label, ...]


def find_chart(content: PageContent, box: Box, shapes: Sequence[Shape], labels: Sequence[Label]) -> Chart | None:
    """None if there are no axes inside the box."""
    labels = [label for label in separate(labels, shapes) if not label.is_endless]
    claimed: set[int] = set()
    axes = find_unticked(shapes, labels, find_ticked(shapes, labels, claimed), claimed)
    axes = [with_offset(axis, labels, claimed) for axis in axes]
    panels = find_panels(shapes, axes)
    if not panels:
        return None
    used = {id(label) for axis in axes for label in axis.labels} | {id(a.offset) for a in axes if a.offset is not None}
    legends = find_legends(shapes, labels, used, panels)
    name_axes(panels, labels, used)
    name_panels(panels, labels, used)
    bars = [panel for panel in panels if _is_colour_bar(panel, panels, shapes, content)]
    panels = [panel for panel in panels if panel not in bars]
    if not panels:
        return None
    facts = [_panel(panel, panels, legends, shapes, labels, used, content, box) for panel in panels]
    title, rest = _main_title(panels, [label for label in labels if id(label) not in used])
    return Chart(
        ChartFacts(panels=tuple(facts), title=title, colour_bars=tuple(_colour_bar(panel) for panel in bars)),
        tuple(rest),
    )


def _panel(
    panel: Panel,
    panels: Sequence[Panel],
    legends: Sequence[Legend],
    shapes: Sequence[Shape],
    labels: Sequence[Label],
    used: set[int],
    content: PageContent,
    box: Box,
) -> PanelFacts:
    legend, own = legend_of(panel, panels, legends)
    samples = {id(shape) for one in legends for entry in one.entries for shape in entry.samples}
    samples |= {id(one.frame) for one in legends if one.frame is not None}
    colours = [] if legend is None else [entry.colour for entry in legend.entries if entry.colour is not None]
    marks = sort_marks(panel, shapes, samples, colours)
    series = () if marks.cells else find_series(panel, marks, legend)
    if legend is not None and not own and not (series and all(one.name for one in series)):
        legend, series = None, tuple(replace(one, name="") for one in series)
    notes = [label for label in labels if id(label) not in used and panel.contains(label.box)]
    used.update(id(label) for label in notes)
    pictures = sum(panel.contains(tuple(image)) for image in content.images.boxes.tolist())
    return PanelFacts(
        label="" if panel.label is None else panel.label.text,
        title=title_text(panel.title),
        place=_place(panel, panels),
        x=_axis(panel.x, shared=0 in panel.shared),
        y=_axis(panel.y, shared=1 in panel.shared),
        right=_axis(panel.right),
        series=() if pictures else series,
        legend=() if legend is None else tuple(entry.label.text for entry in legend.entries),
        legend_title="" if legend is None or legend.title is None else legend.title.text,
        notes=tuple(label.text for label in notes[:MOST_NOTES]),
        pictures=pictures,
        cells=marks.cells,
        stacked=marks.stacked,
        error_bars=marks.error_bars,
        bands=marks.bands,
        reference_lines=marks.reference_lines,
    )


def _axis(axis: Axis | None, *, shared: bool = False) -> AxisFacts | None:
    if axis is None:
        return None
    title = title_text(axis.title)
    quantity, unit = split_unit(title)
    ticks = [label.text for label in axis.labels]
    if axis.values is not None:
        order = sorted(range(len(ticks)), key=axis.values.__getitem__)
        ticks = [ticks[i] for i in order]
    return AxisFacts(
        title=title,
        quantity=quantity,
        unit=unit,
        scale=axis.scale,
        ticks=tuple(ticks),
        low=ticks[0],
        high=ticks[-1],
        factor="" if axis.offset is None else axis.offset.text,
        shared=shared,
    )


def _place(panel: Panel, panels: Sequence[Panel]) -> str:
    """Where a panel stands among the others."""
    if len(panels) < 2:
        return ""
    rows = _clusters([p.frame[1] for p in panels])
    columns = _clusters([p.frame[0] for p in panels])
    row, column = _position(panel.frame[1], rows), _position(panel.frame[0], columns)
    names = {1: [""], 2: ["upper", "lower"], 3: ["upper", "middle", "lower"]}.get(len(rows), [])
    sides = {1: [""], 2: ["left", "right"], 3: ["left", "central", "right"]}.get(len(columns), [])
    if not names or not sides:
        return f"row {count(row + 1)}, column {count(column + 1)}"
    return f"{names[row]} {sides[column]}".strip()


def _clusters(values: Sequence[float], tolerance: float = 12.0) -> list[float]:
    starts: list[float] = []
    for value in sorted(values):
        if not starts or value - starts[-1] > tolerance:
            starts.append(value)
    return starts


def _position(value: float, starts: Sequence[float]) -> int:
    return max(i for i, start in enumerate(starts) if value >= start - 0.01)


def _is_colour_bar(panel: Panel, panels: Sequence[Panel], shapes: Sequence[Shape], content: PageContent) -> bool:
    """Narrow, with one labelled axis along it, filled by a picture or by strips of many colours."""
    x0, y0, x1, y1 = panel.frame
    narrow, long = min(x1 - x0, y1 - y0), max(x1 - x0, y1 - y0)
    if narrow > NARROW * long or len(own_axes(panel)) != 1 or len(panels) < 2:
        return False
    inside = [shape for shape in shapes if shape.fill is not None and panel.contains(shape.clipped)]
    pictures = any(panel.contains(tuple(image)) for image in content.images.boxes.tolist())
    return pictures or len({shape.fill for shape in inside}) >= 6


def own_axes(panel: Panel) -> list[Axis]:
    """Without those that stand at another panel."""
    shared = [panel.x] if 0 in panel.shared else []
    shared += [panel.y] if 1 in panel.shared else []
    return [axis for axis in panel.axes if axis not in shared]


def _colour_bar(panel: Panel) -> ColourBarFacts:
    axis = _axis(own_axes(panel)[0])
    assert axis is not None
    return ColourBarFacts(title=axis.title, low=axis.low, high=axis.high)


def _main_title(panels: Sequence[Panel], rest: list[Label]) -> tuple[str, list[Label]]:
    """The title of the whole figure: above all panels, in their middle."""
    if len(panels) < 2:
        return "", rest
    top = min(panel.frame[1] for panel in panels)
    left, right = min(panel.frame[0] for panel in panels), max(panel.frame[2] for panel in panels)
    for label in rest:
        centred = abs(label.centre[0] - (left + right) / 2) < 0.12 * (right - left)
        if label.is_upright and centred and 0 <= top - label.box[3] <= 5 * label.size:
            return label.text, [other for other in rest if other is not label]
    return "", rest
