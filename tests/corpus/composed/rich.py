"""Rich text for the reportlab generator: runs of fonts, wrapped into lines, with superscripts and Chinese."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.corpus.composed.pen import CJK, Pen, text_width

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV")


@dataclass(frozen=True)
class Run:
    """A piece of text in one font; `rise` lifts it (superscripts) and makes it smaller."""

    text: str
    font: str
    rise: float = 0.0


@dataclass(frozen=True)
class Word:
    text: str
    font: str
    rise: float
    space: bool  # a space goes before it

    def size(self, size: float) -> float:
        return size * 0.7 if self.rise else size


Line = list[Word]


def split_words(runs: list[Run]) -> list[Word]:
    """Words of all runs; Chinese characters are words of their own without spaces."""
    words: list[Word] = []
    space = False
    for run in runs:
        for piece in re.findall(r"\s+|[^\s]+", run.text):
            if piece.isspace():
                space = True
                continue
            if run.font == CJK:
                for part in re.findall(r"[\x21-\x7e]+|.", piece):
                    words.append(Word(part, run.font, run.rise, space and part.isascii()))
                    space = False
            else:
                words.append(Word(piece, run.font, run.rise, space))
                space = False
    return words


def wrap(runs: list[Run], size: float, width: float, first_indent: float = 0.0) -> list[Line]:
    """Lines no wider than `width`; words that belong together (no space between) may still part in Chinese."""
    lines: list[Line] = [[]]
    used = first_indent
    for word in split_words(runs):
        gap = text_width(" ", word.font, size) if word.space and lines[-1] else 0.0
        wide = text_width(word.text, word.font, word.size(size))
        breakable = word.space or word.font == CJK
        if lines[-1] and used + gap + wide > width and breakable:
            lines.append([])
            used, gap = 0.0, 0.0
        lines[-1].append(word)
        used += gap + wide
    return lines


def line_width(line: Line, size: float) -> float:
    total = 0.0
    for i, word in enumerate(line):
        total += text_width(" ", word.font, size) if i and word.space else 0.0
        total += text_width(word.text, word.font, word.size(size))
    return total


def draw_line(pen: Pen, line: Line, x: float, baseline: float, size: float, stretch: float = 0.0) -> None:
    """Draws one line; `stretch` is added to every space (justified text)."""
    at = x
    pending, font, start = "", "", x
    for i, word in enumerate(line):
        if i and word.space:
            at += text_width(" ", word.font, size) + stretch
        plain = not stretch and not word.rise and word.font == font and pending
        if plain:
            pending += (" " if word.space else "") + word.text
        else:
            if pending:
                pen.text(start, baseline, pending, font, size)
            pending, font, start = word.text, word.font, at
            if word.rise:
                pen.text(at, baseline - word.rise * size, word.text, word.font, word.size(size))
                pending = ""
        at += text_width(word.text, word.font, word.size(size))
    if pending:
        pen.text(start, baseline, pending, font, size)


def draw_lines(
    pen: Pen,
    lines: list[Line],
    x: float,
    y: float,
    width: float,
    size: float,
    leading: float,
    *,
    align: str = "left",
    first_indent: float = 0.0,
    last: bool = True,
) -> float:
    """Draws lines from y (top of the first) down; y below them. `align` is left, center or justify."""
    for i, line in enumerate(lines):
        indent = first_indent if i == 0 else 0.0
        wide = line_width(line, size)
        spaces = sum(word.space for word in line[1:])
        stretch = 0.0
        final = last and i == len(lines) - 1
        if align == "justify" and spaces and not final and width - indent - wide < 0.35 * width:
            stretch = (width - indent - wide) / spaces
        left = x + (width - wide) / 2 if align == "center" else x + indent
        draw_line(pen, line, left, y + 0.8 * leading, size, stretch)
        y += leading
    return y


def plain(runs: list[Run]) -> str:
    """The words of the runs as one string."""
    return "".join(run.text for run in runs).strip()
