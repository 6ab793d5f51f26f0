"""Titles of axes and panels, and the units in them: steps 3 and 4 of `panels`.

A unit is what stands in brackets at the end ("Voltage (mV)", "T [K]"), or after a slash or comma where it is one
("E / eV"). Brackets with something else in them ("Accuracy (higher is better)") are part of the quantity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from s1pro.corpus.describe.axes import Axis
from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.panels import PANEL_LABEL, Panel, is_number, is_panel_label

REACH = 3.2
LONGEST_TITLE = 300
LABEL_AND_TITLE = re.compile(rf"({PANEL_LABEL.pattern})(?:\s+(.*)|$)")
_BRACKETS = re.compile(
    r"(?P<quantity>.*\S)\s*(?:\((?P<round>[^()]*(?:\([^()]*\)[^()]*)*)\)|\[(?P<square>[^\[\]]+)\])\s*"
)
_SLASH = re.compile(r"(?P<quantity>.*\S)\s*(?:\s/\s|,\s|\sin\s)(?P<unit>\S.*)")
_NO_UNIT = re.compile(
    r"[a-zA-Z]?|log(?:[-_ ]?scale|10|_10|arithmic)?|linear|n\s?=.*|(?:higher|lower|more|less|larger|smaller)\b.*|"
    r".*\bbetter|[ivx]+|\d+|.*=.*|see .*|e\.g\..*|normali[sz]ed|left|right|top|bottom",
    re.IGNORECASE,
)
_LETTER_UNITS = frozenset("smgAKVWJNCFTHLhMÅΩ°µ")
_KNOWN = re.compile(
    r"(?:[yzafpnuµμmcdhkMGTPEZY]?(?:m|s|g|A|K|V|W|J|N|Pa|Hz|C|F|T|H|L|l|eV|Å|Ω|bar|mol|cd|lm|Bq|Sv|b|B|bp|Da|M|cal|rad|"
    r"sr|h|d|yr|min|u|G|Wb|S|atm|Torr|psi|ppm|ppb|dB|kg)|%|°C|°F|°|a\.u\.|arb\. units?|counts?|years?|days?|hours?|"
    r"minutes?|seconds?|months?|weeks?|px|pixels?|USD|km)"
    r"(?:\^?[-−⁻]?[\d⁰¹²³⁴⁵⁶⁷⁸⁹]+)?"
)


def split_unit(title: str) -> tuple[str, str]:
    """(quantity, unit); the unit is empty if there is none."""
    title = title[:LONGEST_TITLE]
    match = _BRACKETS.fullmatch(title.strip())
    if match:
        unit = (match["round"] or match["square"] or "").strip()
        is_letter = len(unit) == 1 and unit in _LETTER_UNITS
        if (is_letter or not _NO_UNIT.fullmatch(unit)) and len(unit.split()) <= 4 and len(unit) <= 30:
            return match["quantity"].strip(), unit
        return title.strip(), ""
    match = _SLASH.fullmatch(title.strip())
    if match and all(_KNOWN.fullmatch(part) for part in re.split(r"[\s·*/]+", match["unit"].strip())):
        return match["quantity"].strip(), match["unit"].strip()
    return title.strip(), ""


def title_text(lines: Sequence[Label]) -> str:
    """Lines of a title in reading order as one line."""
    return " ".join(line.text for line in lines)


def name_axes(panels: Sequence[Panel], labels: Sequence[Label], used: set[int]) -> None:
    """Step 3 for all panels; labels that become titles are added to `used`."""
    named: dict[int, Axis] = {}
    own = [(panel, axis) for panel in panels for axis in panel.axes if not _is_shared(panel, axis)]
    for panel, axis in own:
        lines = _title_of(axis, panel, labels, used, axis.extent)
        named[id(axis)] = replace(axis, title=tuple(lines))
    for _, axis in own:
        if not named[id(axis)].title:
            row = [other for _, other in own if other.k == axis.k and other.outward == axis.outward]
            row = [other for other in row if abs(other.height - axis.height) < 4] or row
            if len(row) > 1 and not any(named[id(other)].title for other in row):
                _shared_title(row, named, labels, used)
    for panel in panels:
        panel.x, panel.y, panel.right = (
            None if axis is None else named.get(id(axis), axis) for axis in (panel.x, panel.y, panel.right)
        )


def _is_shared(panel: Panel, axis: Axis) -> bool:
    return (axis is panel.x and 0 in panel.shared) or (axis is panel.y and 1 in panel.shared)


def _shared_title(row: list[Axis], named: dict[int, Axis], labels: Sequence[Label], used: set[int]) -> None:
    extent = (min(axis.extent[0] for axis in row), max(axis.extent[1] for axis in row))
    lines = _title_of(row[-1], None, labels, used, extent)
    if lines:
        for axis in row:
            named[id(axis)] = replace(named[id(axis)], title=tuple(lines))


def _title_of(
    axis: Axis, panel: Panel | None, labels: Sequence[Label], used: set[int], extent: tuple[float, float]
) -> list[Label]:
    """The free labels beyond the tick labels whose middle lies along the axis, nearest first."""
    k, edge = axis.k, axis.outer_edge()
    near = []
    for label in labels:
        low, high = label.box[1 - k], label.box[3 - k]
        gap = (low - edge if axis.outward > 0 else edge - high) / label.size
        middle = (label.box[k] + label.box[2 + k]) / 2
        off = abs(middle - sum(extent) / 2) / max(extent[1] - extent[0], 1.0)
        fits = label.is_upright if k == 0 else label.angle in (90, 270) or (label.is_upright and off < 0.1)
        aside = off > 0.5 or (panel is not None and is_panel_label(label, panel.frame))
        if id(label) in used or not fits or aside or not -0.6 <= gap <= REACH or is_number(label):
            continue
        near.append((off > 0.12, gap, label))
    if not near:
        return []
    first = min(near, key=lambda entry: entry[:2])[2]
    lines = _continued(first, axis, labels, used)
    used.update(id(line) for line in lines)
    return lines


def _continued(first: Label, axis: Axis, labels: Sequence[Label], used: set[int]) -> list[Label]:
    """More lines of a title, in reading order: those of rotated text begin farthest from the axis on the left."""
    lines, k = [first], axis.k
    outwards = True
    while outwards and len(lines) < 4:
        last = lines[-1]
        outwards = False
        for label in labels:
            if id(label) in used or label in lines or label.angle != first.angle or abs(label.size - first.size) > 0.3:
                continue
            gap = label.box[1 - k] - last.box[3 - k] if axis.outward > 0 else last.box[1 - k] - label.box[3 - k]
            centred = abs((label.box[k] + label.box[2 + k]) - (last.box[k] + last.box[2 + k])) / 2 < 2.5
            if -0.3 * label.size <= gap <= 0.8 * label.size and centred:
                lines.append(label)
                outwards = True
                break
    left_first = first.angle == 90 and axis.outward < 0
    return lines[::-1] if left_first or (first.angle == 270 and axis.outward > 0) else lines


def name_panels(panels: Sequence[Panel], labels: Sequence[Label], used: set[int]) -> None:
    """Step 4 for all panels."""
    for panel in panels:
        for label in labels:
            if id(label) not in used and is_panel_label(label, panel.frame):
                panel.label = label
                used.add(id(label))
                break
    for panel in panels:
        top = panel.frame[1]
        if panel.x is not None and panel.x.outward < 0 and 0 not in panel.shared:
            top = panel.x.outer_edge()
        lines = [label for label in labels if id(label) not in used and _is_above(label, panel, top)]
        lines.sort(key=lambda label: label.box[1])
        if lines:
            nearest = lines[-1]
            panel.title = [line for line in lines if abs(line.size - nearest.size) < 0.5]
            used.update(id(line) for line in panel.title)
            _split_label(panel)


def _split_label(panel: Panel) -> None:
    """A title "(a) Results" is a label and a title."""
    first = panel.title[0]
    match = LABEL_AND_TITLE.match(first.text)
    if panel.label is None and match:
        panel.label = replace(first, text=match[1])
        rest = (match[2] or "").strip()
        panel.title = [replace(first, text=rest), *panel.title[1:]] if rest else panel.title[1:]


def _left_of(axis: Axis) -> float:
    """How far to the left an axis reaches with its labels and title."""
    return min(label.box[0] for label in (*axis.labels, *axis.title))


def _is_above(label: Label, panel: Panel, top: float) -> bool:
    x0, _, x1, _ = panel.frame
    gap = (top - label.box[3]) / label.size
    centred = abs(label.centre[0] - (x0 + x1) / 2) < 0.08 * (x1 - x0)
    left = x0 if panel.y is None or 1 in panel.shared else min(_left_of(panel.y), x0)
    at_start = left - 6 <= label.box[0] <= x0 + 4 and label.box[2] <= x1
    inside = label.box[0] >= left - 0.3 * (x1 - x0) and label.box[2] <= x1 + 0.3 * (x1 - x0)
    reach = 6.0 if at_start and LABEL_AND_TITLE.match(label.text) else 2.2  # a legend may stand between
    return label.is_upright and -0.3 <= gap <= reach and (centred or at_start) and inside and not is_number(label)
