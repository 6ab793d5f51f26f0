"""Lines of text from the characters of a page.

1. Characters without blanks are cut into pieces wherever PDFium saw the end of a line, the direction changes, the base
   line jumps or the gap is wider than `PIECE_GAP` heights (cells of a table, columns of a page).
2. Pieces side by side at the same height are joined again if they are closer than a wide space: superscripts and
   changes of font are separate pieces to PDFium, but one line to a reader. So are pieces whose letters stand in the
   gaps of each other: some programs draw a word font by font, "R sults" first and its "e" later.
3. Texts, boxes and shares of fonts of all lines are computed at once, with `reduceat` over the joined order. Numbers
   that nearly touch are told apart by the advance of their digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.glyphs import Array, Chars, Font, Line, Runs

PIECE_GAP = 1.6
JOIN_GAP = 0.7
WORD_GAP = 0.15
HYPHENS = (2, 0xFFFE)
LEAST_STEPS, EQUAL_STEPS, MOSTLY = 4, 0.01, 0.6
MOST_WOVEN = 120
"""Letters of a piece that may stand between those of another."""
Index = NDArray[np.int64]


@dataclass
class _Piece:
    """Characters along one direction; u runs with the text, v across it (downwards for upright text)."""

    index: list[int]
    angle: int
    u0: float
    u1: float
    v0: float
    v1: float
    size: float


def build_lines(chars: Chars, runs: Runs, fonts: tuple[Font, ...]) -> list[Line]:
    """All lines of a page, in drawing order."""
    index = _visible(chars)
    if not len(index):
        return []
    turn = quarter(runs.angle)
    along = _along(chars.boxes, turn[chars.run])
    return _describe(chars, runs, fonts, _join(_pieces(chars, runs, index, turn, along), along), along)


def quarter(angle: Array) -> Index:
    """Angles to the nearest quarter turn; -1 where the text is slanted by more than 3 degrees."""
    turn = np.rint(angle / 90.0)
    straight = np.abs(angle - turn * 90.0) < 3.0
    return np.where(straight, (turn % 4) * 90, -1).astype(np.int64)


def _along(boxes: Array, turn: Index) -> Array:
    """Boxes (u0, v0, u1, v1) as a reader of the text sees them who turns the page."""
    if not turn.any():
        return boxes
    x0, y0, x1, y1 = boxes.T
    choices = [turn == 90, turn == 180, turn == 270]
    u0, u1 = np.select(choices, [-y1, -x1, y0], x0), np.select(choices, [-y0, -x0, y1], x1)
    v0, v1 = np.select(choices, [x0, -y1, -x1], y0), np.select(choices, [x1, -y0, -x0], y1)
    return np.stack([u0, v0, u1, v1], axis=1)


def blanks(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which code points leave no ink. (The hyphen at the end of a line has a code of its own in PDFium.)"""
    low = (codes <= 32) & (codes != HYPHENS[0])
    return low | (codes == 0xA0) | ((codes >= 0x2000) & (codes <= 0x200B)) | (codes == 0x3000)


def _visible(chars: Chars) -> Index:
    x0, y0, x1, y1 = chars.boxes.T
    return np.flatnonzero(~blanks(chars.codes) & (x1 >= x0) & (y1 >= y0) & ((x1 > x0) | (y1 > y0)))


def _pieces(chars: Chars, runs: Runs, index: Index, turns: Index, along: Array) -> list[_Piece]:
    run = chars.run[index]
    size, turn, box = runs.size[run], turns[run], along[index]
    ends = np.cumsum((chars.codes == 10) | (chars.codes == 13))[index]
    tall = np.maximum(size[1:], size[:-1])
    gap = box[1:, 0] - box[:-1, 2]
    apart = np.minimum(box[1:, 3], box[:-1, 3]) < np.maximum(box[1:, 1], box[:-1, 1]) - 0.25 * tall
    straight = (ends[1:] != ends[:-1]) | (gap > PIECE_GAP * tall) | (gap < -tall) | apart
    slanted = run[1:] != run[:-1]
    cut = (turn[1:] != turn[:-1]) | np.where(turn[1:] < 0, slanted, straight)
    starts = np.concatenate([[0], np.flatnonzero(cut) + 1])
    low = np.minimum.reduceat(box[:, :2], starts).tolist()
    high = np.maximum.reduceat(box[:, 2:], starts).tolist()
    largest = np.maximum.reduceat(size, starts).tolist()
    begin, where, angles = [*starts.tolist(), len(index)], index.tolist(), turn[starts].tolist()
    return [
        _Piece(where[begin[i] : begin[i + 1]], angles[i], low[i][0], high[i][0], low[i][1], high[i][1], largest[i])
        for i in range(len(starts))
    ]


def _join(pieces: list[_Piece], along: Array) -> list[_Piece]:
    """Step 2; windows over the sorted pieces keep it from being quadratic."""
    order = sorted((p for p in pieces if p.angle >= 0), key=lambda p: (p.angle, p.v0))
    for position, piece in enumerate(order):
        while other := _neighbour(order, position, piece, along):
            first, second = (piece, other) if piece.u0 <= other.u0 else (other, piece)
            woven = second.u0 < first.u1 - 0.3 * piece.size
            piece.index = first.index + second.index
            if woven:
                piece.index.sort(key=lambda i: float(along[i, 0]))
            piece.u0, piece.u1 = min(piece.u0, other.u0), max(piece.u1, other.u1)
            piece.v0, piece.v1 = min(piece.v0, other.v0), max(piece.v1, other.v1)
            piece.size = max(piece.size, other.size)
            other.index = []
    return [piece for piece in pieces if piece.index]


def _neighbour(order: Sequence[_Piece], position: int, piece: _Piece, along: Array, reach: int = 64) -> _Piece | None:
    if not piece.index:
        return None
    for other in order[position + 1 : position + 1 + reach]:
        if other.v0 > piece.v1 or other.angle != piece.angle:
            return None
        if not other.index:
            continue
        gap = max(piece.u0, other.u0) - min(piece.u1, other.u1)
        if gap >= JOIN_GAP * piece.size or (gap <= -0.3 * piece.size and not _woven(piece, other, along)):
            continue
        overlap = min(piece.v1, other.v1) - max(piece.v0, other.v0)
        small = min(piece.size, other.size)
        near = JOIN_GAP if max(piece.size, other.size) < 1.6 * small else 0.3
        if overlap >= 0.4 * min(piece.v1 - piece.v0, other.v1 - other.v0) and gap < near * small:
            return other
    return None


def _woven(piece: _Piece, other: _Piece, along: Array) -> bool:
    """Whether one of two pieces of one size lies within the other, and no letter stands on another."""
    inner, outer = (piece, other) if piece.u1 - piece.u0 < other.u1 - other.u0 else (other, piece)
    if inner.u0 < outer.u0 or inner.u1 > outer.u1:
        return False
    if max(len(piece.index), len(other.index)) > MOST_WOVEN or abs(piece.size - other.size) > 0.1 * piece.size:
        return False
    a, b = along[piece.index], along[other.index]
    common = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    narrow = np.minimum((a[:, 2] - a[:, 0])[:, None], (b[:, 2] - b[:, 0])[None, :])
    return bool((common < 0.35 * narrow + 0.05).all())


def _describe(chars: Chars, runs: Runs, fonts: tuple[Font, ...], pieces: list[_Piece], along: Array) -> list[Line]:
    """Step 3."""
    order = np.concatenate([np.array(piece.index) for piece in pieces])
    lengths = np.array([len(piece.index) for piece in pieces])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    run = chars.run[order]
    low = np.minimum.reduceat(chars.boxes[order, :2], starts).tolist()
    high = np.maximum.reduceat(chars.boxes[order, 2:], starts).tolist()
    bold = np.array([font.is_bold for font in fonts])[runs.font][run]
    math = np.array([font.is_math for font in fonts])[runs.font][run]
    shares = np.add.reduceat(np.stack([bold, math], axis=1).astype(np.float64), starts) / lengths[:, None]
    main = _main_runs(run, starts)
    blank = _blank_before(chars, runs, order, along) | _next_number(chars, runs, order, starts)
    texts = _texts(chars, order, starts, blank)
    gaps = _gaps(chars, runs, order, along, starts)
    wide, widest = gaps > WORD_GAP, np.maximum.reduceat(gaps, starts)
    count = np.add.reduceat(wide.astype(np.float64), starts)
    rest = np.add.reduceat(np.where(wide, gaps, 0.0), starts) - np.where(count > 0, widest, 0.0)
    usual = np.where(count > 1, rest / np.maximum(count - 1, 1), 0.0)
    last = chars.codes[order[starts + lengths - 1]]
    lines = []
    for i, piece in enumerate(pieces):
        owner = int(main[i])
        lines.append(
            Line(
                text=texts[i], box=(low[i][0], low[i][1], high[i][0], high[i][1]),
                size=float(runs.size[owner]), font=fonts[runs.font[owner]],
                angle=float(piece.angle) if piece.angle >= 0 else float(runs.angle[owner]),
                index=order[starts[i] : starts[i] + lengths[i]], bold=float(shares[i, 0]), math=float(shares[i, 1]),
                gap=float(widest[i]),
                blank=float(usual[i]),
                hyphen=bool(last[i] in HYPHENS), invisible=bool(runs.invisible[owner]),
            )
        )  # fmt: skip
    return lines


def _gaps(chars: Chars, runs: Runs, order: Index, along: Array, starts: Index) -> Array:
    """The blank before each character, in heights; none at the start of a line."""
    box, size = along[order], runs.size[chars.run[order]]
    gap = np.zeros(len(order))
    gap[1:] = (box[1:, 0] - box[:-1, 2]) / np.maximum(size[1:], 1e-6)
    gap[starts] = 0.0
    return gap


def _main_runs(run: NDArray[np.int32], starts: Index) -> NDArray[np.int32]:
    """The longest stretch of one run in each line."""
    line = np.zeros(len(run), dtype=np.int64)
    line[starts[1:]] = 1
    line = np.cumsum(line)
    new = np.flatnonzero(np.concatenate([[True], (run[1:] != run[:-1]) | (line[1:] != line[:-1])]))
    length = np.diff(np.concatenate([new, [len(run)]]))
    order = np.lexsort((length, line[new]))
    last = np.flatnonzero(np.concatenate([np.diff(line[new][order]) != 0, [True]]))
    return run[new[order[last]]]


def _blank_before(chars: Chars, runs: Runs, order: Index, along: Array) -> NDArray[np.bool_]:
    """Whether a blank stands before each of these characters: one in the text, or a gap where pieces were joined."""
    size, box = runs.size[chars.run[order]], along[order]
    count = np.cumsum(blanks(chars.codes))
    step = np.diff(order)
    gap = box[1:, 0] - box[:-1, 2]
    between = (step > 1) & (count[order[1:]] > count[order[:-1]])
    wide = gap > WORD_GAP * np.minimum(size[1:], size[:-1])
    # a blank in the text counts if there is any room for it: PDFium also adds the end of a line before a superscript
    room = (gap > 0.08 * np.minimum(size[1:], size[:-1])) | (step == 2)
    return np.concatenate([[False], np.where(step == 1, False, np.where(between, room, (step != 1) & wide))])


def _next_number(chars: Chars, runs: Runs, order: Index, starts: Index) -> NDArray[np.bool_]:
    """Where a digit begins a number although it nearly touches the one before: tick labels that stand too close.

    Programs that place every glyph by itself put the digits of one number exactly an advance apart, and fonts give all
    digits the same advance. So a line with enough such steps, nearly all of which are equal, has its advance; a step
    that is longer leads to another number.
    """
    run, codes, first = chars.run[order], chars.codes[order], np.zeros(len(order), dtype=bool)
    first[starts] = True
    size, origin, upright = runs.size[run], runs.origin[run], np.abs((runs.angle[run] + 180) % 360 - 180) < 1
    alone = np.bincount(chars.run[order], minlength=len(runs.size))[run] == 1
    digit = (codes >= 48) & (codes <= 57) & alone & upright
    same = np.abs(np.diff(size)) < 1e-3
    pair = digit[1:] & digit[:-1] & same & ~first[1:]
    step = np.where(pair, np.diff(origin[:, 0]) / np.maximum(size[1:], 1e-6), np.nan)
    found = np.zeros(len(order), dtype=bool)
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        steps = step[begin : end - 1]
        near = steps[steps < 1.0]
        if len(near) < LEAST_STEPS:
            continue
        usual = float(np.median(near))
        if (np.abs(near - usual) < EQUAL_STEPS).sum() >= MOSTLY * len(near):
            found[begin + 1 : end] = steps > usual + 2 * EQUAL_STEPS
    return found


def _texts(chars: Chars, order: Index, starts: Index, blank: NDArray[np.bool_]) -> list[str]:
    codes = chars.codes[order]
    codes = np.where(np.isin(codes, HYPHENS), ord("-"), codes)
    broken = ((codes >= 0xD800) & (codes < 0xE000)) | (codes > 0x10FFFF) | (codes == 0)
    codes = np.where(broken, 0xFFFD, codes).astype("<u4")
    blank = blank.copy()
    blank[starts] = False
    where = np.flatnonzero(blank)
    text = np.insert(codes, where, 32).tobytes().decode("utf-32-le")
    shift = np.concatenate([[0], np.cumsum(blank)])
    edges = [*(starts + shift[starts]).tolist(), len(text)]
    return [text[edges[i] : edges[i + 1]] for i in range(len(starts))]
