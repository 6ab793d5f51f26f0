"""Panels of a figure: cut along white gaps, guided by the labels "(a)", "b", "C".

1. The letters of panels are short pieces of text that stand alone and form a beginning of the alphabet.
2. The figure is cut recursively at its widest white gap (XY-cut on the boxes of graphics and text). With letters, a
   part with one letter is not cut any more and a part without one joins its nearest neighbour. Without letters only
   wide gaps between parts of comparable size count.
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


@dataclass
class PanelFound:
    """One panel; `label` as printed, empty if there is none."""

    box: Box
    label: str


def find_panels(box: Box, art: Array, texts: list[tuple[str, Box]]) -> list[PanelFound]:
    """Panels of a figure from its graphics (N, 4) and the pieces of text inside; empty if it has only one."""
    if not len(art):
        return []
    letters = _letters(texts)
    content = np.concatenate([art, np.array([b for _, b in texts]).reshape(-1, 4)])
    content = content[(content[:, 2] - content[:, 0] < 0.97 * (box[2] - box[0])) | (
        content[:, 3] - content[:, 1] < 0.97 * (box[3] - box[1]))]  # fmt: skip
    solid = np.array([True] * len(art) + [False] * len(texts))[: len(content)]
    if len(content) > 6000 or not len(content):
        return []
    del solid
    parts = _cut(content, letters, art, depth=0)
    panels = _merge(parts, letters, art)
    return panels if 2 <= len(panels) <= MAX_PANELS else []


def _letters(texts: list[tuple[str, Box]]) -> list[tuple[str, Box]]:
    """The letters of panels, if they form a beginning of the alphabet in one style."""
    styles: dict[str, dict[str, tuple[str, Box]]] = {}
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
    best: list[tuple[str, Box]] = []
    for found in styles.values():
        run = []
        for code in range(ord("a"), ord("z") + 1):
            if chr(code) not in found:
                break
            run.append(found[chr(code)])
        if len(run) >= 2 and len(run) > len(best):
            best = run
    return best


def _gap(boxes: Array, axis: int) -> tuple[float, float]:
    """The widest white gap along an axis: its width and middle."""
    order = np.argsort(boxes[:, axis], kind="stable")
    low, high = boxes[order, axis], boxes[order, axis + 2]
    reach = np.maximum.accumulate(high)
    gaps = low[1:] - reach[:-1]
    if not len(gaps):
        return 0.0, 0.0
    best = int(np.argmax(gaps))
    return float(gaps[best]), float((low[1:][best] + reach[:-1][best]) / 2)


def _inside(letters: list[tuple[str, Box]], box: Box) -> list[tuple[str, Box]]:
    return [
        letter for letter in letters
        if box[0] - 1 <= (letter[1][0] + letter[1][2]) / 2 <= box[2] + 1
        and box[1] - 1 <= (letter[1][1] + letter[1][3]) / 2 <= box[3] + 1
    ]  # fmt: skip


def _hull(boxes: Array) -> Box:
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _cut(boxes: Array, letters: list[tuple[str, Box]], art: Array, depth: int) -> list[Array]:
    """Parts between white gaps."""
    hull = _hull(boxes)
    inside = _inside(letters, hull)
    if depth >= 8 or len(boxes) < 2 or (letters and len(inside) <= 1):
        return [boxes]
    choices = []
    for axis in (0, 1):
        width, middle = _gap(boxes, axis)
        choices.append((width, axis, middle))
    width, axis, middle = max(choices)
    least = 3.0 if letters else max(9.0, 0.025 * (hull[axis + 2] - hull[axis]))
    if width < least:
        return [boxes]
    first = boxes[:, axis + 2] <= middle
    return [*_cut(boxes[first], letters, art, depth + 1), *_cut(boxes[~first], letters, art, depth + 1)]


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _drawn(part: Array, art: Array) -> float:
    """Area of the hull of the graphics of a part."""
    hull = _hull(part)
    middle = (art[:, :2] + art[:, 2:]) / 2
    inside = (middle >= np.array(hull[:2]) - 0.5).all(axis=1) & (middle <= np.array(hull[2:]) + 0.5).all(axis=1)
    return _area(_hull(art[inside])) if inside.any() else 0.0


def _merge(parts: list[Array], letters: list[tuple[str, Box]], art: Array) -> list[PanelFound]:
    """Small parts and parts without a letter join their nearest neighbour."""
    hulls = [_hull(part) for part in parts]
    drawn = [_drawn(part, art) for part in parts]
    if letters:
        labelled = [bool(_inside(letters, hull)) for hull in hulls]
        keep = _keep_lettered(hulls, drawn, labelled)
    else:
        most = max(drawn, default=0.0)
        keep = [area > 0.2 * most and area > 600 for area in drawn]
        if sum(keep) < 2:
            return []
    kept = [list(hull) for hull, flag in zip(hulls, keep, strict=True) if flag]
    if len(kept) < 2:
        return []
    for hull, flag in zip(hulls, keep, strict=True):
        if not flag:
            nearest = min(kept, key=lambda other: _apart(hull, other))
            nearest[:2] = [min(nearest[0], hull[0]), min(nearest[1], hull[1])]
            nearest[2:] = [max(nearest[2], hull[2]), max(nearest[3], hull[3])]
    panels = []
    for x0, y0, x1, y1 in sorted(kept, key=lambda hull: (round(hull[1] / 20), hull[0])):
        mine = _inside(letters, (x0, y0, x1, y1))
        panels.append(PanelFound((x0, y0, x1, y1), mine[0][0] if mine else ""))
    return panels


def _keep_lettered(hulls: list[Box], drawn: list[float], labelled: list[bool]) -> list[bool]:
    """A letter cut off from its drawing is no panel: the drawing is, and the letter joins it."""
    if all(area > 0 for area, flag in zip(drawn, labelled, strict=True) if flag):
        return labelled
    most = max(drawn, default=0.0)
    return [area > 0.15 * most for area in drawn] if hulls else []


def _apart(first: Box, second: list[float]) -> float:
    across = max(first[0] - second[2], second[0] - first[2], 0.0)
    along = max(first[1] - second[3], second[1] - first[3], 0.0)
    return across + along
