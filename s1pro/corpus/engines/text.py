"""The text of a page for linking captions: from its text layer, or from what an engine read.

Words that an engine read become the same structures that the reader of PDFs makes, so the finder of captions and the
finder of citations work on them as they are. What OCR does not know is filled in: words side by side are a line, its
characters share the width evenly, and the sizes of lines that differ by less than 15 % are one size (the height of a
word depends on its letters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from s1pro.corpus.engines.answer import EngineWord
from s1pro.corpus.pdf.captions import find_captions
from s1pro.corpus.pdf.columns import Style
from s1pro.corpus.pdf.content import Images, PageContent, Paths
from s1pro.corpus.pdf.glyphs import Chars, Font, Runs
from s1pro.corpus.pdf.layout import lay_out
from s1pro.corpus.pdf.mentions import Citation, Reading, finish_citations, read_citations
from s1pro.corpus.pdf.view import view_of
from s1pro.corpus.records import Box, ElementType

_GAP, _SAME_SIZE = 1.5, 0.15
_LINE_END = 10


@dataclass(frozen=True, kw_only=True)
class TextLine:
    """A line of text with its box in points."""

    text: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class TextCaption:
    """A caption with its box in points."""

    kind: ElementType
    label: str
    text: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class PageText:
    """What the text of a page says."""

    lines: tuple[TextLine, ...] = ()
    captions: tuple[TextCaption, ...] = ()
    citations: tuple[Citation, ...] = ()
    num_chars: int = 0


def page_text(content: PageContent) -> PageText:
    """Lines, captions and citations of upright text; the text without ink behind a scan counts if there is hardly any
    other."""
    runs = content.runs
    if len(runs.invisible) and runs.invisible.mean() > 0.5:
        content = replace(content, runs=replace(runs, invisible=np.zeros_like(runs.invisible)))
    view = view_of(content)
    layout = lay_out(view, Style())
    captions = find_captions(view, layout)
    state = Reading()
    citations = read_citations(view, layout, content.number, state)
    return PageText(
        lines=tuple(TextLine(text=line.text, box=_rounded(line.box)) for line in view.lines),
        captions=tuple(TextCaption(kind=c.kind, label=c.label, text=c.text, box=_rounded(c.box)) for c in captions),
        citations=(*citations, *finish_citations(state)),
        num_chars=int((content.chars.codes > 32).sum()),
    )


def content_of_words(number: int, width: float, height: float, words: Sequence[EngineWord]) -> PageContent:
    """A page that has nothing but these words."""
    scale = np.array([width, height, width, height])
    lines = _lines([(word.text, (np.array(word.box) * scale).tolist()) for word in words])
    sizes = _snapped([max(box[3] - box[1] for _, box in line) for line in lines])
    codes: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    run: list[int] = []
    for place, line in enumerate(lines):
        bottom = max(box[3] for _, box in line)
        top = min(box[1] for _, box in line)
        for text, (x0, _, x1, _) in line:
            step = (x1 - x0) / len(text)
            codes += [ord(sign) for sign in text] + [32]
            boxes += [(x0 + k * step, top, x0 + (k + 1) * step, bottom) for k in range(len(text))]
            boxes.append((x1, top, x1, bottom))
            run += [place] * (len(text) + 1)
        codes[-1] = _LINE_END
    count = len(lines)
    return PageContent(
        number=number, width=width, height=height, rotation=0,
        chars=Chars(
            np.array(codes, dtype=np.uint32), np.array(boxes, dtype=np.float64).reshape(-1, 4),
            np.array(run, dtype=np.int32),
        ),
        runs=Runs(
            font=np.zeros(count, dtype=np.int32), size=np.array(sizes, dtype=np.float64), angle=np.zeros(count),
            origin=np.array([(line[0][1][0], line[0][1][3]) for line in lines], dtype=np.float64).reshape(-1, 2),
            invisible=np.zeros(count, dtype=bool),
        ),
        fonts=(Font("", 0, 0),),
        paths=Paths(
            np.zeros((0, 4)), np.zeros((0, 4), dtype=np.uint8), np.zeros((0, 4), dtype=np.uint8), np.zeros(0),
            np.zeros(0, dtype=np.int32), np.zeros(0, dtype=bool),
        ),
        images=Images(np.zeros((0, 4)), np.zeros(0, dtype=np.int32)),
    )  # fmt: skip


def without(words: Sequence[EngineWord], boxes: Sequence[Box]) -> list[EngineWord]:
    """The words whose middle lies in none of the boxes."""
    if not boxes:
        return list(words)
    low, high = np.array(boxes)[:, :2], np.array(boxes)[:, 2:]

    def outside(word: EngineWord) -> bool:
        middle = np.array([(word.box[0] + word.box[2]) / 2, (word.box[1] + word.box[3]) / 2])
        return not bool(((middle >= low).all(axis=1) & (middle <= high).all(axis=1)).any())

    return [word for word in words if outside(word)]


_Word = tuple[str, list[float]]


def _lines(words: Sequence[_Word]) -> list[list[_Word]]:
    """Words side by side, in the order in which the engine gives them."""
    lines: list[list[_Word]] = []
    for text, box in words:
        if lines:
            last = lines[-1][-1][1]
            tall = max(last[3] - last[1], box[3] - box[1])
            level = abs(last[1] + last[3] - box[1] - box[3]) < tall
            if level and -0.5 * tall < box[0] - last[2] < _GAP * tall:
                lines[-1].append((text, box))
                continue
        lines.append([(text, box)])
    return lines


def _snapped(sizes: Sequence[float]) -> list[float]:
    """Sizes with those close to a frequent one set to it."""
    result, left = list(sizes), set(range(len(sizes)))
    while left:
        values = np.array([sizes[k] for k in sorted(left)])
        near = np.abs(values[:, None] - values[None, :]) < _SAME_SIZE * values[:, None] if len(values) <= 2000 else None
        centre = float(np.median(values)) if near is None else float(values[int(near.sum(axis=1).argmax())])
        group = [k for k in left if abs(sizes[k] - centre) < _SAME_SIZE * centre]
        for k in group:
            result[k] = round(centre, 2)
        left.difference_update(group)
    return result


def _rounded(box: Box) -> Box:
    x0, y0, x1, y1 = (round(value, 2) for value in box)
    return x0, y0, x1, y1
