"""The pieces of text inside a crop, as a person sees them: words that stand side by side are one label.

Programs that draw charts place text in many ways: one operator per string, per word, or per glyph, with blanks or
without. So labels are made from where the characters stand:

1. Characters of one run without a blank between them are an *atom*; the run's own blanks are trusted.
2. Atoms along one direction are joined from left to right. A gap of up to `WORD_GAP` em is none, up to `LINE_GAP` em is
   a blank, more begins a new label. Two numbers side by side are joined only if nearly touching: they may be the ticks
   of an axis.
3. A smaller atom above the base line is a superscript: `10^3`. Subscripts are written as they are: `CO2`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.records import Box

WORD_GAP = 0.2
LINE_GAP = 0.8
NUMBER_GAP = 0.4
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


@dataclass
class _Atom:
    text: str
    u0: float
    u1: float
    v: float
    size: float
    box: Box
    run: int
    bold: bool


@dataclass
class _Joined:
    """A label in the making; `raised` while its last atom is a superscript."""

    atoms: list[_Atom]
    text: str
    u1: float
    v: float
    size: float
    raised: bool = False
    pieces: list[Piece] = field(default_factory=list)


def labels_in(content: PageContent, box: Box) -> list[Label]:
    """The labels whose characters have their centre inside the box, from top to bottom and left to right."""
    labels: list[Label] = []
    for angle, atoms in _atoms(content, box).items():
        labels += [_finish(joined, angle) for joined in _join(atoms)]
    return sorted(labels, key=lambda label: (round(label.box[1]), label.box[0]))


def _atoms(content: PageContent, box: Box) -> dict[int, list[_Atom]]:
    """Step 1, by direction."""
    chars, runs = content.chars, content.runs
    centres = (chars.boxes[:, :2] + chars.boxes[:, 2:]) / 2
    inside = ((centres >= box[:2]) & (centres <= box[2:])).all(axis=1)
    wanted = [i for i in np.flatnonzero(inside).tolist() if int(chars.codes[i]) not in _BLANKS]
    found: dict[int, list[_Atom]] = defaultdict(list)
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


def _atom(content: PageContent, part: list[int], run: int, angle: int) -> _Atom:
    boxes, size = content.chars.boxes[part], float(content.runs.size[run])
    text = "".join(chr(int(code)) for code in content.chars.codes[part])
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
    return _Atom(text, u0, u1, float(origin @ across), size, hull, run, font.is_bold)


def _directions(angle: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the page along the text and down from it (y points down the page)."""
    radians = math.radians(angle)
    return np.array([math.cos(radians), -math.sin(radians)]), np.array([math.sin(radians), math.cos(radians)])


def _join(atoms: Iterable[_Atom]) -> list[_Joined]:
    """Step 2. Labels are looked up by height, so that pages full of text are not compared pair by pair."""
    open_at: dict[int, list[_Joined]] = defaultdict(list)
    done: list[_Joined] = []
    for atom in sorted(atoms, key=lambda a: (a.u0, a.v)):
        key = round(atom.v / 4)
        near = [joined for offset in range(-3, 4) for joined in open_at[key + offset] if _belongs(joined, atom)]
        if near:
            _append(min(near, key=lambda joined: abs(joined.v - atom.v) + abs(joined.u1 - atom.u0)), atom)
        else:
            joined = _Joined([atom], atom.text, atom.u1, atom.v, atom.size, pieces=[Piece(atom.text, atom.box)])
            open_at[key].append(joined)
            done.append(joined)
    return done


def _belongs(joined: _Joined, atom: _Atom) -> bool:
    large = max(joined.size, atom.size)
    gap = (atom.u0 - joined.u1) / large
    offset = abs(atom.v - joined.v) / large
    if not -0.35 <= gap <= LINE_GAP or offset > 0.65:
        return False
    if offset > 0.12:  # a script, which must be smaller and near
        return min(joined.size, atom.size) <= 0.87 * large and gap <= 0.45
    last = joined.atoms[-1]
    both = _NUMERIC.fullmatch(last.text) and _NUMERIC.fullmatch(atom.text)
    if both and gap > 0.3 and last.run != atom.run:
        return gap <= NUMBER_GAP
    return max(joined.size, atom.size) <= 1.6 * min(joined.size, atom.size)


def _append(joined: _Joined, atom: _Atom) -> None:
    if atom.size > joined.size * 1.15:  # what came before was a script on the left
        joined.v, joined.size = atom.v, atom.size
    gap = (atom.u0 - joined.u1) / max(joined.size, atom.size)
    raised = atom.size <= 0.87 * joined.size and joined.v - atom.v > 0.15 * joined.size
    same_run = joined.atoms[-1].run == atom.run
    signed = joined.text in _SIGNS and atom.text[0].isdigit()
    digits = atom.text[0].isdigit() and joined.text[-1].isdigit()  # a narrow 1 has wide margins
    blank = (
        " " if (gap > (0.3 if digits else WORD_GAP) or same_run) and not (raised and gap < 0.35) and not signed else ""
    )
    mark = "^" if raised and not joined.raised else ""
    joined.text += blank + mark + atom.text
    joined.raised = raised
    joined.u1 = max(joined.u1, atom.u1)
    joined.atoms.append(atom)
    joined.pieces.append(Piece(blank + mark + atom.text, atom.box))


def _finish(joined: _Joined, angle: int) -> Label:
    boxes = np.array([piece.box for piece in joined.pieces])
    along, across = _directions(angle)
    first = min(atom.u0 for atom in joined.atoms)
    ends = [along * u + across * joined.v for u in (first, joined.u1)]
    letters = sum(len(atom.text) for atom in joined.atoms)
    return Label(
        text=joined.text.replace("\ufffe", "-"),
        box=(*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()),
        size=joined.size,
        angle=angle,
        start=(float(ends[0][0]), float(ends[0][1])),
        end=(float(ends[1][0]), float(ends[1][1])),
        bold=2 * sum(len(atom.text) for atom in joined.atoms if atom.bold) > letters,
        pieces=tuple(joined.pieces),
    )


def part_of(label: Label, pieces: Sequence[Piece]) -> Label:
    """A label of some pieces of an upright one."""
    x0, y0 = min(piece.box[0] for piece in pieces), min(piece.box[1] for piece in pieces)
    x1, y1 = max(piece.box[2] for piece in pieces), max(piece.box[3] for piece in pieces)
    text = "".join(piece.text for piece in pieces).strip()
    ends = (x0, label.start[1]), (x1, label.end[1])
    return replace(label, text=text, box=(x0, y0, x1, y1), start=ends[0], end=ends[1], pieces=tuple(pieces))
