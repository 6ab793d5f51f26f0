"""What the lines of a page are: running text, headings, furniture (page numbers, running heads, notes), or free.

Figures and tables are found between blocks of running text, so the question here is which lines certainly are text.

1. **Size of the body**: the size of most characters in long lines, of this page and of the pages before (`Style`).
2. **Columns**: long lines leave gutters that hardly any of them crosses.
3. **Blocks**: lines of one size below each other.
4. **Roles**: a block of lines that fill their column and consist of words is body; so is a short block in the font of
   the body that starts at the edge of its column with nothing beside it. Bold or larger lines at the edge are headings.
   What stands alone at the very top or bottom is furniture. All else is free: labels of figures, cells of tables.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.pdf.columns import Style, find_columns
from s1pro.corpus.pdf.labels import LABEL
from s1pro.corpus.pdf.view import FOOT, HORIZONTAL, TOP, Index, View

FREE, BODY, HEADING, CAPTION, FURNITURE, FORMULA, CODE = range(7)
_WORD = re.compile(r"[^\W\d_]{2,}")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBERED = re.compile(r"^(?:\d{1,2}(?:\.\d{1,2})*\.?|[A-Z]\.|[IVX]{1,4}\.)\s+\S")
_BULLET = re.compile(r"^(?:[•·▪◦‣●○–—*-]|\(?\d{1,2}[.)]|\(?[a-z][.)])\s+\S")
_HEADINGS = re.compile(
    r"^(?:abstract|introduction|methods?|materials and methods|results?|discussion|conclusions?|references|"
    r"acknowledge?ments?|bibliography|appendix|supplementary|background|related work|experiments?|"
    r"摘要|引言|结论|参考文献)\b",
    re.IGNORECASE,
)


@dataclass
class Layout:
    """Roles of the lines of a view. `blocks` are indices of lines from top to bottom."""

    body_size: float
    columns: list[tuple[float, float]]
    roles: NDArray[np.int8]
    blocks: list[list[int]]
    block_of: Index
    body_sizes: tuple[float, ...]
    leading: float
    words: Index
    mates: NDArray[np.bool_]
    body_font: str

    def column_of(self, x0: float, x1: float) -> tuple[float, float]:
        """The column that holds most of a span, or the range of all columns if the span crosses a gutter by far."""
        for before, after in zip(self.columns, self.columns[1:], strict=False):
            if x0 < before[1] - 8 and x1 > after[0] + 8:
                return self.columns[0][0], self.columns[-1][1]
        best = max(self.columns, key=lambda column: min(column[1], x1) - max(column[0], x0))
        inside = min(best[1], x1) - max(best[0], x0)
        if inside < 0.8 * (x1 - x0) and x1 - x0 > 0.5 * (best[1] - best[0]):
            return self.columns[0][0], self.columns[-1][1]
        return best

    def gutter_between(self, left: float, right: float) -> bool:
        """Whether a gutter lies between two places on one row."""
        pairs = zip(self.columns, self.columns[1:], strict=False)
        return any(left <= before[1] + 3 and right >= after[0] - 3 for before, after in pairs)


def words_in(text: str) -> int:
    """Words of letters; characters of Chinese, Japanese and Korean count half a word each."""
    cjk = len(_CJK.findall(text))
    return cjk // 2 if cjk > 4 else len(_WORD.findall(text))


def lay_out(view: View, style: Style) -> Layout:
    """Finds columns, blocks and roles, and adds what it sees to the style."""
    words = np.array([words_in(text) for text in view.texts], dtype=np.int64)
    body_size, body_sizes = _body_size(view, words, style)
    long = (words >= 4) & (np.abs(view.sizes - body_size) < 0.3 * body_size) if len(words) else np.zeros(0, dtype=bool)
    columns = find_columns(view, long, body_sizes, style)
    leading = _leading(view, long, columns)
    blocks, block_of = _blocks(view, max(0.95, leading + 0.3))
    body_font = style.fonts.most_common(1)[0][0] if style.fonts else ""
    count = len(view.lines)
    roles, mates = np.zeros(count, dtype=np.int8), np.zeros(count, dtype=bool)
    layout = Layout(body_size, columns, roles, blocks, block_of, body_sizes, leading, words, mates, body_font)
    if view.lines:
        _furniture(view, layout, style)
        layout.mates = _row_mates(view, layout)
        for block in blocks:
            assign_role(view, layout, block)
        _footnotes(view, layout)
    return layout


def _body_size(view: View, words: Index, style: Style) -> tuple[float, tuple[float, ...]]:
    """The size of most running text, and all sizes with a large share of this page (abstract, notes, references)."""
    here: Counter[float] = Counter()
    for i in np.flatnonzero(words >= 5).tolist():
        line = view.lines[i]
        here[round(line.size * 4) / 4] += len(line.text)
        style.fonts[line.font.name] += len(line.text)
    style.sizes.update(here)
    if not style.sizes:
        size = float(np.median(view.sizes)) if view.lines else 10.0
        return size, (size,)
    total = sum(here.values())
    usual = here if here and here.most_common(1)[0][1] > 0.6 * total and total > 800 else style.sizes
    size = usual.most_common(1)[0][0]
    return size, (size, *[other for other, count in here.items() if count > 0.25 * total and other != size])


def _leading(view: View, long: NDArray[np.bool_], columns: list[tuple[float, float]]) -> float:
    """The usual white between lines of running text, in heights: manuscripts are set with double spacing."""
    gaps: list[float] = []
    for left, right in columns:
        inside = long & (view.boxes[:, 0] > left - 6) & (view.boxes[:, 2] < right + 6) if len(long) else long
        boxes, sizes = view.boxes[inside], view.sizes[inside]
        if len(boxes) > 4:
            gaps.extend(((boxes[1:, 1] - boxes[:-1, 3]) / np.maximum(sizes[1:], 1e-6)).tolist())
    close = [gap for gap in gaps if 0.0 < gap < 2.2]
    return float(np.median(close)) if len(close) > 4 else 0.3


def _blocks(view: View, reach: float) -> tuple[list[list[int]], Index]:
    """Lines below each other with one size and a common range, nearest first; a window over recent blocks."""
    blocks: list[list[int]] = []
    block_of = np.zeros(len(view.lines), dtype=np.int64)
    live: list[int] = []
    boxes, sizes = view.boxes.tolist(), view.sizes.tolist()
    for i, (x0, y0, x1, _) in enumerate(boxes):
        size = sizes[i]
        best, best_gap = -1, 1e9
        keep = []
        for b in live:
            last = blocks[b][-1]
            u0, _, u1, v1 = boxes[last]
            gap = y0 - v1
            if gap > 2.5 * max(size, sizes[last]):
                continue
            keep.append(b)
            overlap = min(x1, u1) - max(x0, u0)
            near = -0.45 * size < gap < reach * size and boxes[last][1] < y0 - 0.4 * size
            alike = abs(size - sizes[last]) < 0.13 * size
            if near and alike and overlap > 0.3 * min(x1 - x0, u1 - u0) and gap < best_gap:
                best, best_gap = b, gap
        live = keep[-80:]
        if best < 0:
            best = len(blocks)
            blocks.append([])
            live.append(best)
        blocks[best].append(i)
        block_of[i] = best
    return blocks, block_of


def _furniture(view: View, layout: Layout, style: Style) -> None:
    """Running heads and page numbers: alone in the outermost strip, or seen at the same place before."""
    high, low = TOP * view.height, FOOT * view.height
    edges = [i for i, box in enumerate(view.boxes.tolist()) if box[3] < high or box[1] > low]
    for i in edges:
        x0, y0, x1, y1 = view.boxes[i].tolist()
        if LABEL.match(view.texts[i]):
            continue
        text = re.sub(r"\d+", "#", view.texts[i]).strip()
        key = f"{text}|{round(y0 / 8)}"
        top = y1 < high
        others = np.delete(view.boxes, i, axis=0)
        inner = others[(others[:, 1] > y1 - 1)] if top else others[(others[:, 3] < y0 + 1)]
        gap = (inner[:, 1].min() - y1 if top else y0 - inner[:, 3].max()) if len(inner) else 1e9
        drawn = view.art[view.kind != HORIZONTAL]
        near_art = len(drawn) > 0 and bool(
            ((drawn[:, 0] < x1) & (drawn[:, 2] > x0) & (drawn[:, 1] < y1 + 25) & (drawn[:, 3] > y0 - 25)).any()
        )
        page_number = bool(re.fullmatch(r"[-– ]*(?:page )?#(?: of #)?[-– ]*", text, re.IGNORECASE))
        alone = gap > max(0.9, layout.leading + 0.3) * view.lines[i].size
        title = view.lines[i].size > 1.15 * layout.body_size
        if key in style.heads or (alone and not near_art and not title) or (page_number and alone):
            layout.roles[i] = FURNITURE
        style.heads.add(key)


def assign_role(view: View, layout: Layout, lines: list[int]) -> None:
    """Gives lines that are one block, and are no furniture, their role."""
    rest = [i for i in lines if layout.roles[i] not in (FURNITURE, CAPTION, FORMULA)]
    if rest:
        layout.roles[rest] = _role(view, layout, rest)


def _row_mates(view: View, layout: Layout) -> NDArray[np.bool_]:
    """Whether another piece of text stands beside a line at the same height, not farther than a wide table has it."""
    count = len(view.lines)
    mates = np.zeros(count, dtype=bool)
    boxes, sizes = view.boxes.tolist(), view.sizes.tolist()
    for i in range(count):
        x0, y0, x1, y1 = boxes[i]
        middle = (y0 + y1) / 2
        for j in range(i + 1, min(count, i + 24)):
            u0, v0, u1, v1 = boxes[j]
            if v0 > middle:
                break
            left, right = min(x1, u1), max(x0, u0)
            level = abs(middle - (v0 + v1) / 2) < 0.45 * sizes[i]
            if level and right - left < 60 and not layout.gutter_between(left, right):
                mates[i] = mates[j] = True
    return mates


@dataclass(frozen=True)
class _Block:
    """Numbers of one block of lines: how it lies in its column, how large its type is, how wordy it is."""

    text: str
    count: int
    filled: float
    even: float
    inset: float
    span: float
    size: float
    typical: float
    total: int
    alone: bool
    bold: bool
    mono: bool


def _measure(view: View, layout: Layout, lines: list[int]) -> _Block:
    boxes = view.boxes[lines].tolist()
    widths = sorted(box[2] - box[0] for box in boxes)
    x0, x1 = min(box[0] for box in boxes), max(box[2] for box in boxes)
    left, right = layout.column_of(x0, x1)
    span = max(1.0, right - left)
    words = sorted(layout.words[lines].tolist())
    first, last = view.lines[lines[0]], view.lines[lines[-1]]
    return _Block(
        text=view.texts[lines[0]], count=len(lines), filled=_quantile(widths, 0.5 if len(lines) < 3 else 0.6) / span,
        even=_quantile(widths, 0.35) / span, inset=abs(x0 - left), span=span,
        size=_quantile(sorted(view.lines[i].size for i in lines), 0.5), typical=_quantile(words, 0.5), total=sum(words),
        alone=not layout.mates[lines].any(), bold=first.bold > 0.8, mono=first.font.is_mono and last.font.is_mono,
    )  # fmt: skip


def _quantile(ordered: list[float], share: float) -> float:
    """As numpy's, for short lists."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _role(view: View, layout: Layout, lines: list[int]) -> int:
    block = _measure(view, layout, lines)
    if block.mono and layout.body_font != view.lines[lines[0]].font.name:
        return CODE if block.count >= 2 and block.alone else FREE
    small = block.size <= 0.93 * min(layout.body_sizes)
    solid = block.count >= 2 and block.filled > 0.6 and block.typical >= 4
    if solid and (not small or (block.count >= 5 and block.even > 0.8)):
        return BODY
    if not block.alone:
        return FREE
    if block.count <= 3 and _is_heading(block, block.size / layout.body_size):
        return HEADING
    near = min(abs(block.size / body - 1.0) for body in layout.body_sizes)
    usual = near < (0.06 if view.lines[lines[0]].font.name == layout.body_font else 0.04)
    return BODY if usual and _is_sentence(block) else FREE


def _is_heading(block: _Block, relative: float) -> bool:
    """Bold or larger type at the edge of the column."""
    loud = (relative > 1.12 or block.bold) and relative > 0.88
    if not loud or block.total < 1 or len(block.text) <= 3 or block.inset >= 0.12 * block.span:
        return False
    if _NUMBERED.match(block.text) or _HEADINGS.match(block.text) or relative > 1.12:
        return True
    return block.typical >= 1 and block.filled < 0.9 and block.inset < 3


def _is_sentence(block: _Block) -> bool:
    """A short piece of running text in the type of the body: at the edge of the column, or an item of a list."""
    item = _BULLET.match(block.text) is not None
    if item and block.total >= 4 and block.inset < 0.12 * block.span:
        return True
    closed = block.text.rstrip().endswith((".", ":"))
    return block.typical >= 3 and (block.inset < 26 or item) and (block.filled > 0.35 or block.total >= 8 or closed)


def _footnotes(view: View, layout: Layout) -> None:
    """Small text below a short rule at the foot of a column."""
    rules = view.art[(view.kind == HORIZONTAL)]
    for x0, y0, x1, _ in rules.tolist():
        column = layout.column_of(x0, x1)
        if y0 < 0.6 * view.height or abs(x0 - column[0]) > 6 or x1 - x0 > 0.6 * (column[1] - column[0]):
            continue
        notes: list[int] = []
        bottom = y0
        for i in range(len(view.lines)):
            u0, v0, u1, v1 = view.boxes[i].tolist()
            if v0 < y0 - 2 or u0 > column[1] or u1 < column[0]:
                continue
            if v0 > bottom + 1.6 * view.sizes[i] or LABEL.match(view.texts[i]):
                break
            notes.append(i)
            bottom = max(bottom, v1)
        twin = (np.abs(rules[:, 0] - x0) < 4) & (np.abs(rules[:, 2] - x1) < 4) & (rules[:, 1] > y0 + 3)
        if twin.any() or (notes and layout.mates[notes].mean() > 0.4):
            continue
        if notes and bool((view.sizes[notes] < 0.97 * layout.body_size).mean() > 0.6):
            layout.roles[notes] = FURNITURE
