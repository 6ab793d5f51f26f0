"""Figures without axes: what is written in them, in which boxes, the arrows, pictures and colours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from s1pro.corpus.describe import colours
from s1pro.corpus.describe.facts import Facts
from s1pro.corpus.describe.labels import Label
from s1pro.corpus.describe.panels import BARE_LETTER, PANEL_LABEL
from s1pro.corpus.describe.shapes import Shape, Shapes
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.records import Box

MOST_TEXTS = 60
MOST_COLOURS = 4
_NUMBER = re.compile(r"\((?:[A-Z]\.?)?\d+(?:\.\d+)*[a-z]?\)")


def drawing_facts(content: PageContent, box: Box, found: Shapes, labels: Sequence[Label], *, formula: bool) -> Facts:
    """Facts of a figure or formula without axes and cells."""
    number = next((label.text for label in labels if formula and _NUMBER.fullmatch(label.text)), "")
    sizes = sorted(label.size for label in labels)
    usual = sizes[len(sizes) // 2] if sizes else 0.0
    parts = [label for label in labels if _is_part(label, usual)] if not formula else []
    texts = [label for label in labels if label.text != number and label not in parts]
    return Facts(
        texts=tuple(label.text for label in texts[:MOST_TEXTS]),
        panel_labels=tuple(dict.fromkeys(label.text for label in parts)) if len(parts) > 1 else (),
        pictures=pictures_in(content, box),
        boxes=tuple(label.text for label in texts[:MOST_TEXTS] if not formula and _is_boxed(label, found.shapes, box)),
        arrows=0 if formula else sum(_is_head(shape, found.shapes) for shape in found.shapes),
        colours=main_colours(found.shapes),
        number=number,
        truncated=found.truncated,
    )


def _is_part(label: Label, usual: float) -> bool:
    """ "(a)", or a bold letter larger than most text."""
    if PANEL_LABEL.fullmatch(label.text):
        return True
    return bool(BARE_LETTER.fullmatch(label.text)) and label.bold and label.size >= usual


def pictures_in(content: PageContent, box: Box) -> tuple[str, ...]:
    """Where raster images stand in the crop: "whole", "left", "upper right", "centre"."""
    places = []
    for x0, y0, x1, y1 in content.images.boxes.tolist():
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if not (box[0] <= x <= box[2] and box[1] <= y <= box[3]):
            continue
        w, h = box[2] - box[0], box[3] - box[1]
        if x1 - x0 > 0.85 * w and y1 - y0 > 0.8 * h:
            places.append("whole")
            continue
        across = "left" if x < box[0] + 0.4 * w else "right" if x > box[0] + 0.6 * w else ""
        down = "upper" if y < box[1] + 0.4 * h else "lower" if y > box[1] + 0.6 * h else ""
        names = {("", ""): "centre", ("upper", ""): "top", ("lower", ""): "bottom"}
        places.append(names.get((down, across), f"{down} {across}".strip()))
    return tuple(places)


def _is_boxed(label: Label, shapes: Sequence[Shape], box: Box) -> bool:
    """A drawn outline stands around the label, and not around everything."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    for shape in shapes:
        b = shape.box
        around = (
            b[0] <= label.box[0] + 1
            and b[1] <= label.box[1] + 1
            and b[2] >= label.box[2] - 1
            and b[3] >= label.box[3] - 1
        )
        if shape.kind in ("rectangle", "closed") and around and shape.w * shape.h < 0.3 * area:
            white = shape.stroke is None and shape.fill == (255, 255, 255)
            if not white:
                return True
    return False


def _is_head(shape: Shape, shapes: Sequence[Shape]) -> bool:
    """A small filled triangle (or notched one) at the end of a line."""
    corners = {(round(float(x), 1), round(float(y), 1)) for x, y in shape.points}
    if shape.kind != "closed" or shape.fill is None or not shape.is_small or shape.curved or len(corners) not in (3, 4):
        return False
    reach = max(shape.w, shape.h) * 0.8 + 1
    x, y = shape.centre
    for line in shapes:
        if line.kind in ("line", "segment") and line.stroke is not None and max(line.w, line.h) > 4:
            for px, py in (line.points[0], line.points[-1]):
                if abs(px - x) <= reach and abs(py - y) <= reach:
                    return True
    return False


def main_colours(shapes: Sequence[Shape]) -> tuple[str, ...]:
    """Names of the colours of most shapes, without black, white and grey."""
    counts: Counter[str] = Counter()
    for shape in shapes:
        if shape.colour is not None and not colours.is_grey(shape.colour):
            counts[colours.name(shape.colour)] += 1
    return tuple(name for name, _ in counts.most_common(MOST_COLOURS))
