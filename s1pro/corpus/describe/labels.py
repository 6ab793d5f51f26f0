"""The pieces of text inside a crop, as a person sees them: words that stand side by side are one label.

Programs that draw charts place text in many ways: one operator per string, per word, or per glyph, with blanks or
without. So labels are made from where the characters stand:

1. Characters of one run without a blank between them are an *atom*; the run's own blanks are trusted.
2. Atoms that were drawn one after another and touch are a chain. It keeps labels apart that overlap on the page.
3. Chains along one direction are joined from left to right. A gap of up to `WORD_GAP` em is none, up to `LINE_GAP` em
   is a blank, more begins a new label. Two numbers are joined only if one was drawn right after the other and they
   nearly touch: they may be the ticks of an axis.
4. A smaller part above the base line is a superscript: `10^3`. Subscripts are written as they are: `CO2`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.records import Box

WORD_GAP = 0.2
LINE_GAP = 0.8
NUMBER_GAP = 0.4
DIGIT_GAP = 0.26
LONGEST_NUMBER = 16
_BLANKS = frozenset({0x20, 0xA0, 0x3000, 0xFFFE, *range(0x2000, 0x200C), *range(32)})
_SIGNS = ("-", "−", "–", "+", "±")
_NUMERIC = re.compile(r"[-+−±\d.,^%]+")


@dataclass(frozen=True)
class Piece:
    """A part of a label: its text with the blank or mark before it, and where it stands."""

    text: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class Label:
    """One piece of text.

    Attributes:
        text: superscripts marked by `^`.
        box: on the page; `size` is the em in points.
        angle: direction of reading in degrees, counter-clockwise, rounded; 0 is upright.
        start, end: where its base line begins and ends on the page.
        bold: most of it is in a bold font.
        pieces: what it was joined from, in order.
    """

    text: str
    box: Box
    size: float
    angle: int
    start: tuple[float, float]
    end: tuple[float, float]
    bold: bool = False
    pieces: tuple[Piece, ...] = ()

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def is_upright(self) -> bool:
        return self.angle == 0

    @property
    def is_endless(self) -> bool:
        """Digits that run on: numbers that stand so close that nobody can tell them apart."""
        return len(self.text) > LONGEST_NUMBER and self.text.isdigit()


@dataclass
class _Part:
    """A label in the making; `raised` while its last piece is a superscript."""

    text: str
    u0: float
    u1: float
    v: float
    size: float
    run: int
    pieces: list[Piece]
    letters: int
    bold: int
    first_run: int
    raised: bool = False


def labels_in(content: PageContent, box: Box) -> list[Label]:
    """The labels whose characters have their centre inside the box, from top to bottom and left to right."""
    labels: list[Label] = []
    for angle, atoms in _atoms(content, box).items():
        labels += [_finish(part, angle) for part in _legible(_join(_chains(atoms)))]
    return sorted(labels, key=lambda label: (round(label.box[1]), label.box[0]))


def _atoms(content: PageContent, box: Box) -> dict[int, list[_Part]]:
    """Step 1, by direction, in the order of drawing."""
    chars, runs = content.chars, content.runs
    centres = (chars.boxes[:, :2] + chars.boxes[:, 2:]) / 2
    inside = ((centres >= box[:2]) & (centres <= box[2:])).all(axis=1)
    wanted = [i for i in np.flatnonzero(inside).tolist() if int(chars.codes[i]) not in _BLANKS]
    found: dict[int, list[_Part]] = defaultdict(list)
    start = 0
    for position in range(1, len(wanted) + 1):
        if position < len(wanted) and _continues(content, wanted[position - 1], wanted[position]):
            continue
        part = wanted[start:position]
        run = int(chars.run[part[0]])
        if not runs.invisible[run]:
            angle = round(float(runs.angle[run])) % 360
            found[angle].append(_atom(content, part, run, angle))
        start = position
    return found


def _continues(content: PageContent, before: int, after: int) -> bool:
    return after == before + 1 and content.chars.run[before] == content.chars.run[after]


def _atom(content: PageContent, part: list[int], run: int, angle: int) -> _Part:
    boxes, size = content.chars.boxes[part], float(content.runs.size[run])
    text = readable("".join(chr(int(code)) for code in content.chars.codes[part]))
    hull = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    along, across = _directions(angle)
    origin = content.runs.origin[run]
    if angle % 90 == 0:
        corners = np.array([[hull[0], hull[1]], [hull[2], hull[3]]]) @ along
        u0, u1 = float(corners.min()), float(corners.max())
    else:
        middles = ((boxes[:, :2] + boxes[:, 2:]) / 2) @ along
        u0, u1 = float(middles.min()) - 0.3 * size, float(middles.max()) + 0.3 * size
    font = content.fonts[int(content.runs.font[run])]
    bold = len(text) if font.is_bold else 0
    return _Part(text, u0, u1, float(origin @ across), size, run, [Piece(text, hull)], len(text), bold, run)


def readable(text: str) -> str:
    """Halves of surrogate pairs joined, what stands alone replaced (U+FFFD), no control characters."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return "".join(character for character in whole if character.isprintable()) or "\ufffd"


def _directions(angle: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the page along the text and down from it (y points down the page)."""
    radians = math.radians(angle)
    return np.array([math.cos(radians), -math.sin(radians)]), np.array([math.sin(radians), math.cos(radians)])


def _chains(atoms: Sequence[_Part]) -> list[_Part]:
    """Step 2: what was drawn one after another and touches."""
    chains: list[_Part] = []
    for atom in atoms:
        last = chains[-1] if chains else None
        if last is not None:
            size = max(last.size, atom.size)
            gap = (atom.u0 - last.u1) / size
            level = abs(atom.v - last.v) < 0.1 * size and abs(atom.size - last.size) < 0.05 * size
            if level and -0.2 <= gap <= 0.3 and (gap <= DIGIT_GAP or not _both_numeric(last.text, atom.text)):
                _append(last, atom)
                continue
        chains.append(atom)
    return chains


def _join(parts: Iterable[_Part]) -> list[_Part]:
    """Step 3. Labels are looked up by height, so that pages full of text are not compared pair by pair."""
    open_at: dict[int, list[_Part]] = defaultdict(list)
    done: list[_Part] = []
    for part in sorted(parts, key=lambda p: (p.u0, p.v)):
        key = round(part.v / 4)
        near = [other for offset in range(-3, 4) for other in open_at[key + offset] if _belongs(other, part)]
        if near:
            _append(min(near, key=lambda other: abs(other.v - part.v) + abs(other.u1 - part.u0)), part)
        else:
            open_at[key].append(part)
            done.append(part)
    return done


def _belongs(label: _Part, part: _Part) -> bool:
    large = max(label.size, part.size)
    gap = (part.u0 - label.u1) / large
    offset = abs(part.v - label.v) / large
    if not -0.35 <= gap <= LINE_GAP or offset > 0.65:
        return False
    if offset > 0.12:  # a script, which must be smaller and near
        return min(label.size, part.size) <= 0.87 * large and gap <= 0.45
    if label.run != part.run and _both_numeric(label.text, part.text):
        following = part.first_run - label.run == 1 or label.text in _SIGNS
        return -0.2 <= gap <= NUMBER_GAP and following
    return max(label.size, part.size) <= 1.6 * min(label.size, part.size)


def _legible(parts: Sequence[_Part]) -> list[_Part]:
    """Without text that other text is printed over: nobody can read it."""
    rows: dict[int, list[_Part]] = defaultdict(list)
    for part in parts:
        rows[round(part.v)].append(part)
    crossed: set[int] = set()
    for row in rows.values():
        row.sort(key=lambda part: part.u0)
        for a, b in itertools.pairwise(row):
            if b.u0 < a.u1 - 0.25 * min(a.size, b.size):
                crossed |= {id(a), id(b)}
    return [part for part in parts if id(part) not in crossed]


def _both_numeric(a: str, b: str) -> bool:
    return bool(_NUMERIC.fullmatch(a) and _NUMERIC.fullmatch(b))


def _append(label: _Part, part: _Part) -> None:
    if part.size > label.size * 1.15:  # what came before was a script on the left
        label.v, label.size = part.v, part.size
    gap = (part.u0 - label.u1) / max(label.size, part.size)
    raised = part.size <= 0.87 * label.size and label.v - part.v > 0.15 * label.size
    same_run = label.run == part.run
    signed = label.text in _SIGNS and part.text[0].isdigit()
    digits = part.text[0].isdigit() and label.text[-1].isdigit()  # a narrow 1 has wide margins
    wide = gap > (0.3 if digits else WORD_GAP) or same_run
    blank = " " if wide and not (raised and gap < 0.35) and not signed else ""
    mark = "^" if raised and not label.raised else ""
    label.text += blank + mark + part.text
    label.raised = raised
    label.u0, label.u1 = min(label.u0, part.u0), max(label.u1, part.u1)
    label.run = part.run
    label.pieces.append(Piece(blank + mark + part.pieces[0].text, part.pieces[0].box))
    label.pieces += part.pieces[1:]
    label.letters += part.letters
    label.bold += part.bold


def _finish(part: _Part, angle: int) -> Label:
    boxes = np.array([piece.box for piece in part.pieces])
    along, across = _directions(angle)
    ends = [along * u + across * part.v for u in (part.u0, part.u1)]
    return Label(
        text=part.text.replace("\ufffe", "-"),
        box=(*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()),
        size=part.size,
        angle=angle,
        start=(float(ends[0][0]), float(ends[0][1])),
        end=(float(ends[1][0]), float(ends[1][1])),
        bold=2 * part.bold > part.letters,
        pieces=tuple(part.pieces),
    )


def part_of(label: Label, pieces: Sequence[Piece]) -> Label:
    """A label of some pieces of an upright one."""
    x0, y0 = min(piece.box[0] for piece in pieces), min(piece.box[1] for piece in pieces)
    x1, y1 = max(piece.box[2] for piece in pieces), max(piece.box[3] for piece in pieces)
    text = "".join(piece.text for piece in pieces).strip()
    ends = (x0, label.start[1]), (x1, label.end[1])
    return replace(label, text=text, box=(x0, y0, x1, y1), start=ends[0], end=ends[1], pieces=tuple(pieces))
