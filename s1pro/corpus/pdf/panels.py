"""Panels of a figure: cut along white gaps, guided by the labels "(a)", "b", "C".

1. The letters of panels are short pieces of text that stand alone and form a beginning of the alphabet.
2. The figure is cut recursively at white gaps (XY-cut on the boxes of graphics and text). With letters, a gap counts if
   both sides have a letter and something drawn, however narrow it is; the widest of them is taken, and a part with one
   letter is not cut any more. Without letters only wide gaps between parts of comparable size count, or narrow ones
   that leave a regular grid; the parts must tile the figure, as the boxes of a diagram and molecules do not.
3. A panel is a child of its figure: the figure stays whole, since the caption speaks of all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from s1pro.corpus.pdf.glyphs import Array
from s1pro.corpus.records import Box

_LETTER = re.compile(r"^(?:\(([a-zA-Z])\)|([a-zA-Z])\)|([a-zA-Z])[.:]?|\[([a-zA-Z])\])(?=$|\s)")
MAX_PANELS = 36
TILED = 0.4
Letter = tuple[str, Box]


@dataclass
class PanelFound:
    """One panel; `label` as printed, empty if there is none."""

    box: Box
    label: str


def find_panels(box: Box, art: Array, texts: list[Letter]) -> list[PanelFound]:
    """Panels of a figure from its graphics (N, 4) and the pieces of text inside; empty if it has only one."""
    if not len(art):
        return []
    letters = _letters(texts)
    content = np.concatenate([art, np.array([b for _, b in texts]).reshape(-1, 4)])
    content = content[(content[:, 2] - content[:, 0] < 0.97 * (box[2] - box[0])) | (
        content[:, 3] - content[:, 1] < 0.97 * (box[3] - box[1]))]  # fmt: skip
    if len(content) > 6000 or not len(content):
        return []
    if letters:
        panels = [_panel(part, letters) for part in _cut_lettered(content, letters, art, depth=0)]
    else:
        panels = _without_letters(content, art, np.array([b for _, b in texts]).reshape(-1, 4))
    panels.sort(key=lambda panel: (round(panel.box[1] / 20), panel.box[0]))
    return panels if 2 <= len(panels) <= MAX_PANELS else []


def _letters(texts: list[Letter]) -> list[Letter]:
    """The letters of panels, if they form a beginning of the alphabet in one style."""
    styles: dict[str, dict[str, Letter]] = {}
    for text, box in texts:
        match = _LETTER.match(text.strip())
        if match is None:
            continue
        letter = next(group for group in match.groups() if group)
        bare = match.group(3) is not None
        if bare and len(text.strip()) > 2:
            continue
        style = ("bare" if bare else "framed") + ("upper" if letter.isupper() else "lower")
        styles.setdefault(style, {}).setdefault(letter.lower(), (match.group(0).strip(), box))
    best: list[Letter] = []
    for found in styles.values():
        run = []
        for code in range(ord("a"), ord("z") + 1):
            if chr(code) not in found:
                break
            run.append(found[chr(code)])
        if len(run) >= 2 and len(run) > len(best):
            best = run
    return best


def _gaps(boxes: Array, axis: int, least: float) -> list[tuple[float, int, float]]:
    """White gaps along an axis: width, axis and middle."""
    order = np.argsort(boxes[:, axis], kind="stable")
    low, reach = boxes[order, axis][1:], np.maximum.accumulate(boxes[order, axis + 2])[:-1]
    wide = np.flatnonzero(low - reach >= least)
    return [(float(low[k] - reach[k]), axis, float((low[k] + reach[k]) / 2)) for k in wide.tolist()]


def _inside(letters: list[Letter], box: Box) -> list[Letter]:
    return [
        letter for letter in letters
        if box[0] - 1 <= (letter[1][0] + letter[1][2]) / 2 <= box[2] + 1
        and box[1] - 1 <= (letter[1][1] + letter[1][3]) / 2 <= box[3] + 1
    ]  # fmt: skip


def _hull(boxes: Array) -> Box:
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _cut(boxes: Array, floor: float, share: float, depth: int) -> list[Array]:
    """Parts between white gaps of at least `floor`, and of a share of the part."""
    if depth >= 10 or len(boxes) < 2:
        return [boxes]
    hull = _hull(boxes)
    choices = []
    for axis in (0, 1):
        choices += _gaps(boxes, axis, max(floor, share * (hull[axis + 2] - hull[axis])))[:400]
    if not choices:
        return [boxes]
    _, axis, middle = max(choices)
    first = boxes[:, axis + 2] <= middle
    return [*_cut(boxes[first], floor, share, depth + 1), *_cut(boxes[~first], floor, share, depth + 1)]


def _cut_lettered(boxes: Array, letters: list[Letter], art: Array, depth: int) -> list[Array]:
    """Parts with one letter each: cut at gaps that leave a letter and something drawn on both sides."""
    mine = _inside(letters, _hull(boxes))
    if depth >= 12 or len(mine) <= 1:
        return [boxes]
    hull = np.array(_hull(boxes))
    middle = (art[:, :2] + art[:, 2:]) / 2
    drawn = art[(middle >= hull[:2] - 0.5).all(axis=1) & (middle <= hull[2:] + 0.5).all(axis=1)]
    for source, least in ((boxes, 1.0), (drawn, 3.0)):
        choices = [gap for axis in (0, 1) for gap in _gaps(source, axis, least)]
        choices = [gap for gap in sorted(choices, reverse=True)[:60] if _divides(mine, drawn, *gap[1:])]
        if choices:
            _, axis, at = max(choices, key=lambda gap: min(gap[0], 20.0) - _unlike(boxes, mine, *gap[1:]))
            first = (boxes[:, axis] + boxes[:, axis + 2]) / 2 <= at
            if 0 < first.sum() < len(boxes):
                return [*_cut_lettered(boxes[first], mine, drawn, depth + 1),
                        *_cut_lettered(boxes[~first], mine, drawn, depth + 1)]  # fmt: skip
    return [boxes]


def _divides(letters: list[Letter], drawn: Array, axis: int, at: float) -> bool:
    """A letter and a drawing of some size on both sides of a cut."""
    first = sum((box[axis] + box[axis + 2]) / 2 <= at for _, box in letters)
    if not 0 < first < len(letters):
        return False
    side = (drawn[:, axis] + drawn[:, axis + 2]) / 2 <= at
    return all(part.any() and _area(_hull(drawn[part])) > 200 for part in (side, ~side))


def _unlike(boxes: Array, letters: list[Letter], axis: int, at: float) -> float:
    """How differently the letters stand in the two parts of a cut, from their near end or their far end, up to 15."""
    first = (boxes[:, axis] + boxes[:, axis + 2]) / 2 <= at
    if first.all() or not first.any():
        return 15.0
    ends = np.array([[box[axis], box[axis + 2]] for _, box in letters])
    before = ends.mean(axis=1) <= at
    places = []
    for part, inside in ((boxes[first], ends[before]), (boxes[~first], ends[~before])):
        low, high = part[:, axis].min(), part[:, axis + 2].max()
        places.append((inside[:, 0].min() - low, high - inside[:, 1].max()))
    return min(15.0, *(abs(a - b) for a, b in zip(*places, strict=True)))


def _panel(part: Array, letters: list[Letter]) -> PanelFound:
    hull = _hull(part)
    mine = _inside(letters, hull)
    return PanelFound(hull, mine[0][0] if mine else "")


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _drawn(part: Array, art: Array) -> float:
    """Area of the hull of the graphics of a part."""
    hull = _hull(part)
    middle = (art[:, :2] + art[:, 2:]) / 2
    inside = (middle >= np.array(hull[:2]) - 0.5).all(axis=1) & (middle <= np.array(hull[2:]) + 0.5).all(axis=1)
    return _area(_hull(art[inside])) if inside.any() else 0.0


def _without_letters(content: Array, art: Array, texts: Array) -> list[PanelFound]:
    """Parts between wide gaps, or between narrow ones if that gives more parts and all of them are alike."""
    coarse = _merge(_cut(content, 9.0, 0.025, depth=0), art)
    fine = _merge(_cut(content, 3.5, 0.0, depth=0), art)
    best = fine if len(fine) > len(coarse) and _alike(fine, art, texts) else coarse
    return [PanelFound(box, "") for box in best]


def _alike(boxes: list[Box], art: Array, texts: Array) -> bool:
    """Drawings of one size, each of several strokes, or pictures: a grid of charts, not the boxes of a diagram."""
    middle = (art[:, :2] + art[:, 2:]) / 2
    words = (texts[:, :2] + texts[:, 2:]) / 2
    sizes = []
    for box in boxes:
        held = art[(middle >= box[:2]).all(axis=1) & (middle <= box[2:]).all(axis=1)]
        lettered = ((words >= box[:2]).all(axis=1) & (words <= box[2:]).all(axis=1)).any()
        if not len(held) or (len(held) < 3 and lettered):
            return False
        hull = _hull(held)
        sizes.append((hull[2] - hull[0], hull[3] - hull[1]))
    usual = np.median(np.array(sizes), axis=0)
    return bool((np.abs(np.array(sizes) / np.maximum(usual, 1.0) - 1.0) < 0.2).all())


def _merge(parts: list[Array], art: Array) -> list[Box]:
    """Parts of comparable size; small ones join their nearest neighbour."""
    hulls = [_hull(part) for part in parts]
    drawn = [_drawn(part, art) for part in parts]
    most = max(drawn, default=0.0)
    keep = [area > 0.2 * most and area > 600 for area in drawn]
    kept = [list(hull) for hull, flag in zip(hulls, keep, strict=True) if flag]
    whole = _area(_hull(np.array(hulls)))
    if len(kept) < 2 or sum(area for area, flag in zip(drawn, keep, strict=True) if flag) < TILED * whole:
        return []
    for hull, flag in zip(hulls, keep, strict=True):
        if not flag:
            nearest = min(kept, key=lambda other: _apart(hull, other) * (0.4 if _owns(other, hull) else 1.0))
            nearest[:2] = [min(nearest[0], hull[0]), min(nearest[1], hull[1])]
            nearest[2:] = [max(nearest[2], hull[2]), max(nearest[3], hull[3])]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in kept]


def _owns(drawing: list[float], small: Box) -> bool:
    """Lettering stands to the left of and below what it belongs to: ticks, axis titles, sub-captions."""
    level = min(small[3], drawing[3]) > max(small[1], drawing[1])
    over = min(small[2], drawing[2]) > max(small[0], drawing[0])
    return (level and small[2] <= drawing[0] + 1) or (over and small[1] >= drawing[3] - 1)


def _apart(first: Box, second: list[float]) -> float:
    across = max(first[0] - second[2], second[0] - first[2], 0.0)
    along = max(first[1] - second[3], second[1] - first[3], 0.0)
    return across + along
