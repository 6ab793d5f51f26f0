"""Captions: which lines begin one, and how far it goes.

A caption begins with a label ("Figure 3", "TABLE IV", "Extended Data Fig. 2", "图 5", "[그림 4-5]"). So do sentences
("Figure 3 shows that", and any line of a paragraph may happen to start with "Table 2."). Points are given for what only
captions have: a separator after the number, bold type, smaller type, a new block; and taken for what running text has:
a line above that it continues, a verb or a comma behind the number. The label may stand on a line of its own.

Lists of figures are told by dots before a page number, and by labels right below each other.

The text goes on with the lines below of the same size, until the gap grows, a rule or several cells side by side come,
another label begins, or a full stop ends a short line and running text follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from s1pro.corpus.pdf.labels import LABEL, kind_of, label_key
from s1pro.corpus.pdf.layout import BODY, CAPTION, FORMULA, FREE, FURNITURE, HEADING, Layout
from s1pro.corpus.pdf.view import HORIZONTAL, View
from s1pro.corpus.records import Box, ElementType

_SEPARATOR = re.compile(r"^\s*(?:[:：|｜.．。—–\-﹣]|\)|\]|】|>|》|〉|）)")
_CONTINUED = re.compile(
    r"^\s*[(\[]?\s*(?:continued|cont(?:inued|\.|’d|'d)?|forts\.|续|続)\b[^)\]]{0,20}[)\]]?\.?", re.IGNORECASE
)
_CJK_VERBS = re.compile(
    r"^\s*(?:[，。、；）)]|(?:中|所示|显示|为|是|和|与|可知|给出|表明|列出|可以|的|及|至|の|は|に|と|を|에|은|는|의|와|과))"
)
_CJK_TITLE = re.compile(r"^\s*[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_VERBS = re.compile(
    r"^\s*(?:shows?|showed|shown|presents?|illustrates?|depicts?|compares?|gives?|lists?|reports?|summari[sz]es?|is|are|was|"
    r"were|and|or|of|in|for|that|which|we|can|also|has|have|contains?|displays?|demonstrates?|indicates?|provides?|"
    r"describes?|plots?|reveals?|suggests?|explains?|to|with|at|on|as|by|from|below|above|refers?|represents?|includes?|"
    r"where|when|but|it|the|this|there|respectively)\b"
)
_LEADERS = re.compile(r"(?:[.·…]\s*){4,}\d{0,4}\s*$|…\s*\d{1,4}\s*$")
THRESHOLD = 1.6


@dataclass
class CaptionFound:
    """A caption on a page.

    Attributes:
        kind: what it says that it belongs to.
        key: the label without spelling ("table:S1"), which mentions and continued tables are compared by.
        lines: indices of its lines in the view.
    """

    kind: ElementType
    label: str
    key: str
    text: str
    box: Box
    lines: list[int]
    size: float
    score: float
    continued: bool


def find_captions(view: View, layout: Layout) -> list[CaptionFound]:
    """All captions of a view from top to bottom; their lines get the role `CAPTION`."""
    starts: list[tuple[int, re.Match[str], float]] = []
    for i, text in enumerate(view.texts):
        match = LABEL.match(text) if layout.roles[i] != FURNITURE else None
        if match is None or not _plausible(match) or _LEADERS.search(text):
            continue
        score = _score(view, layout, i, match)
        if score >= THRESHOLD:
            starts.append((i, match, score))
    starts = [start for start in starts if not _listed(view, start[0], [other[0] for other in starts])]
    heads = {i for i, _, _ in starts}
    found = []
    for i, match, score in starts:
        lines = _extent(view, layout, i, heads, own_line=not view.texts[i][match.end() :].strip(" .:|"))
        layout.roles[lines] = CAPTION
        found.append(_caption(view, lines, match, score))
    return found


def _listed(view: View, i: int, starts: list[int]) -> bool:
    """An entry in a list of figures: labels with one left edge right above and below each other, three or more."""
    box, size = view.boxes[i], float(view.sizes[i])
    column = [j for j in starts if abs(view.boxes[j, 0] - box[0]) < 2 and abs(view.boxes[j, 1] - box[1]) < 6 * size]
    near = sorted(float(view.boxes[j, 1]) for j in column)
    return len(near) >= 3 and max(b - a for a, b in pairwise(near)) < 2.6 * size


def _plausible(match: re.Match[str]) -> bool:
    """Roman numerals and lower case only in forms that labels have."""
    number, label = match.group("number"), match.group("label")
    if label[0].islower():
        return False
    return not (number.isalpha() and number != number.upper())


def _score(view: View, layout: Layout, i: int, match: re.Match[str]) -> float:
    line, rest = view.lines[i], view.texts[i][match.end() :]
    points = 0.0
    after = _CONTINUED.sub("", rest)
    separator = bool(_SEPARATOR.match(rest)) or after != rest
    points += 2.0 if separator and not match.group("open") else 2.6 if separator else 0.0
    if not rest.strip(" .:|"):
        points += 1.2
    elif rest.lstrip()[:1] in (",", ";", ")") and not match.group("open"):
        points -= 3.0
    elif not separator and _CJK_TITLE.match(rest):
        points += -2.5 if _CJK_VERBS.match(rest) else 1.0
    elif not separator:
        points += -2.5 if _VERBS.match(rest) else 0.9 if rest.strip()[:1].isupper() or rest.startswith("  ") else 0.0
    bold = _bold_label(view, i, match.end())
    points += 1.4 * bold
    points += 0.8 if line.size < 0.965 * layout.body_size else 0.0
    points += 0.5 if line.font.is_italic and not bold else 0.0
    points += _position(view, layout, i, bold)
    return points


def _bold_label(view: View, i: int, stop: int) -> float:
    """1 if the label is bold and the text behind is not, half of it if everything is bold."""
    line = view.lines[i]
    return 1.0 if 0.0 < line.bold < 0.9 and stop <= 0.95 * len(line.text) else 0.5 if line.bold >= 0.9 else 0.0


def _position(view: View, layout: Layout, i: int, bold: float) -> float:
    """A new block speaks for a caption; a line in the middle of a paragraph speaks against it."""
    block = layout.blocks[layout.block_of[i]]
    where = block.index(i)
    if where == 0:
        return 0.7
    above = block[where - 1]
    gap = view.boxes[i, 1] - view.boxes[above, 3]
    pitch = _pitch(view, block)
    x0, x1 = float(view.boxes[block, 0].min()), float(view.boxes[block, 2].max())
    full = view.boxes[above, 2] > x1 - 0.12 * (x1 - x0)
    ended = view.texts[above].rstrip().endswith((".", "?", "!", "。", ")", ":"))
    if gap > pitch + 0.25 * view.sizes[i] or abs(view.sizes[above] - view.sizes[i]) > 0.04 * view.sizes[i]:
        return 0.5
    if layout.roles[above] in (BODY, HEADING) or len(block) > 2:
        return -2.5 if full and not ended else -1.2 if not bold else -0.2
    return -0.3


def _pitch(view: View, block: list[int]) -> float:
    """The usual gap between lines of a block."""
    if len(block) < 2:
        return 0.4 * float(view.sizes[block[0]])
    tops, bottoms = view.boxes[block, 1], view.boxes[block, 3]
    return float(np.median(tops[1:] - bottoms[:-1]))


def _extent(view: View, layout: Layout, start: int, heads: set[int], own_line: bool) -> list[int]:
    """The lines of a caption that starts here."""
    lines = [*_same_row(view, layout, start, heads)]
    hull = _hull(view, lines)
    rules = view.art[view.kind == HORIZONTAL]
    bold_all = all(view.lines[i].bold > 0.9 for i in lines)
    gaps: list[float] = []
    while len(lines) < 120:
        row = _next_row(view, layout, lines, hull, own_line and not gaps)
        if not row or any(i in heads or layout.roles[i] in (FURNITURE, FORMULA) for i in row):
            break
        top = min(view.boxes[i, 1] for i in row)
        gap = float(top - view.boxes[lines[-1], 3])
        if _stops(view, layout, lines, row, gap, gaps, own_line, bold_all) or _crossed(rules, hull, top):
            break
        gaps.append(gap)
        lines.extend(row)
        hull = _hull(view, lines)
    return lines


def _hull(view: View, lines: list[int]) -> Box:
    part = view.boxes[lines]
    low, high = part[:, :2].min(axis=0), part[:, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _same_row(view: View, layout: Layout, start: int, heads: set[int]) -> list[int]:
    """The label and what follows it on its row after a wide blank."""
    row = [start]
    middle = view.boxes[start, [1, 3]].mean()
    for i in range(max(0, start - 6), min(len(view.lines), start + 12)):
        gap = view.boxes[i, 0] - view.boxes[row[-1], 2]
        close = abs(view.boxes[i, [1, 3]].mean() - middle) < 0.35 * view.sizes[start]
        reach = 2.6 * view.sizes[start] if not layout.gutter_between(view.boxes[row[-1], 2], view.boxes[i, 0]) else 0.0
        if i != start and i not in heads and close and 0 < gap < reach:
            row.append(i)
    return row


def _next_row(view: View, layout: Layout, lines: list[int], hull: Box, loose: bool) -> list[int]:
    """The pieces of the next line of text below, within reach of the caption."""
    size = float(view.sizes[lines[0]])
    bottom = float(view.boxes[lines[-1], 3])
    last = max(lines)
    reach = max(1.6 if loose else 1.05, layout.leading + 0.25) * size
    row: list[int] = []
    for i in range(min(lines), min(len(view.lines), last + 40)):
        x0, y0, x1, y1 = view.boxes[i].tolist()
        if i in lines or y0 < bottom - 0.45 * size or (y0 + y1) / 2 < bottom:
            continue
        if y0 - bottom > reach:
            break
        if min(x1, hull[2]) - max(x0, hull[0]) < 0.3 * min(x1 - x0, hull[2] - hull[0]):
            continue
        if row and abs((y0 + y1) / 2 - view.boxes[row[0], [1, 3]].mean()) > 0.5 * size:
            continue
        row.append(i)
    return row


def _stops(
    view: View, layout: Layout, lines: list[int], row: list[int], gap: float, gaps: list[float], own_line: bool,
    bold_all: bool,
) -> bool:  # fmt: skip
    """Whether the next row is not part of the caption any more."""
    size, first = float(view.sizes[lines[0]]), row[0]
    title = own_line and not gaps
    ratio = float(np.median(view.sizes[row])) / size
    if abs(ratio - 1.0) > (0.35 if title else 0.07):
        return True
    if gaps and gap > max(gaps) + 0.3 * size:
        return True
    if title:
        return len(row) > 1
    if len(row) > 1 and _cells(view, row, size):
        return True
    if _is_row_of_cells(view, row, lines):
        return True
    if all(view.lines[i].bold > 0.9 for i in row) and view.lines[lines[-1]].bold < 0.5:
        return True
    width = max(view.boxes[i, 2] - view.boxes[i, 0] for i in lines)
    last = lines[-1]
    ended = view.texts[last].rstrip().endswith((".", "。", "?", "!", ")"))
    short = view.boxes[last, 2] < max(view.boxes[i, 2] for i in lines) - 0.08 * width
    wider = view.boxes[first, 2] - view.boxes[first, 0] > 1.12 * width
    indented = abs(view.boxes[first, 0] - view.boxes[last, 0]) > 0.8 * size
    is_body = layout.roles[first] in (BODY, HEADING)
    if ended and is_body and (short or wider or indented or gap > 0.62 * size) and abs(size - layout.body_size) < 0.3:
        return True
    same_size = abs(size - layout.body_size) < 0.3
    if bold_all and view.lines[first].bold < 0.1 and is_body and same_size:
        return True
    few = layout.words[row].sum() < 7
    return bool(layout.roles[first] == FREE and wider and few and len(lines) == 1 and not _centred(view, first, last))


def _is_row_of_cells(view: View, row: list[int], lines: list[int]) -> bool:
    """One line with blanks much wider than the others in it, or than those of the caption so far."""
    line = max((view.lines[i] for i in row), key=lambda line: line.gap)
    usual = max(view.lines[i].gap for i in lines)
    uneven = line.blank > 0 and line.gap > 2.2 * line.blank and line.gap > 1.3 * usual
    return line.gap > 0.95 and (uneven or line.gap > 2.5 * usual)


def _centred(view: View, first: int, second: int) -> bool:
    return bool(abs(view.boxes[first, [0, 2]].mean() - view.boxes[second, [0, 2]].mean()) < view.sizes[first])


def _cells(view: View, row: list[int], size: float) -> bool:
    """Pieces with wide blanks between them."""
    order = sorted(row, key=lambda i: view.boxes[i, 0])
    return any(view.boxes[b, 0] - view.boxes[a, 2] > 1.5 * size for a, b in pairwise(order))


def _crossed(rules: np.ndarray, hull: Box, top: float) -> bool:
    """A rule between the caption and the next row."""
    if not len(rules):
        return False
    between = (rules[:, 1] > hull[3] - 3) & (rules[:, 3] < top + 3)
    overlap = np.minimum(rules[:, 2], hull[2]) - np.maximum(rules[:, 0], hull[0])
    return bool((between & (overlap > 0.3 * (hull[2] - hull[0]))).any())


def join_lines(view: View, lines: list[int]) -> str:
    """The text of lines, words that a hyphen broke made whole."""
    text, hyphen = "", False
    for i in lines:
        part = view.texts[i].strip()
        broken = text.endswith("-") and text[-2:-1].isalpha() and part[:1].isalpha()
        if broken and hyphen and part[:1].islower():
            text = text[:-1] + part
        elif broken or (text and text[-1] > "\u2e80" and part[:1] > "\u2e80"):
            text += part
        else:
            text = f"{text} {part}" if text else part
        hyphen = view.lines[i].hyphen
    return text


def _caption(view: View, lines: list[int], match: re.Match[str], score: float) -> CaptionFound:
    text = join_lines(view, lines)
    again = LABEL.match(text) or match
    rest = text[again.end() :]
    continued = _CONTINUED.match(_SEPARATOR.sub("", rest)) or _CONTINUED.match(rest)
    rest = _SEPARATOR.sub("", rest)
    rest = _SEPARATOR.sub("", rest) if match.group("open") else rest
    if continued:
        rest = _SEPARATOR.sub("", _CONTINUED.sub("", rest.strip()))
    kind = kind_of(match)
    return CaptionFound(
        kind=kind, label=re.sub(r"\s+", " ", match.group("label")).strip(),
        key=label_key(kind, match.group("prefix") or "", match.group("number")), text=rest.strip(),
        box=_hull(view, lines), lines=lines, size=float(view.sizes[lines[0]]), score=score, continued=bool(continued),
    )  # fmt: skip
