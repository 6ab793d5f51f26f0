"""Sentences that cite figures and tables, and the titles of sections.

The running text of a page is put together column by column and cut into sentences; a sentence that the page break cuts
is finished on the next page. "Figs. 2a–c and 4" cites figures 2 and 4, "Tables 1 to 3" three tables. Since elements are
delivered page by page, a citation on a later page cannot be in the row yet: `PageResult.citations` has them all, and
`attach_mentions` joins them at the end of a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from s1pro.corpus.pdf.captions import join_lines
from s1pro.corpus.pdf.labels import key_of_label, label_key
from s1pro.corpus.pdf.layout import BODY, HEADING, Layout
from s1pro.corpus.pdf.view import View
from s1pro.corpus.records import ElementRow, Mention

MAX_SENTENCE = 800
MAX_MENTIONS = 40
_SHORT = "".join(
    rf"(?<!\b{word}\.)"
    for word in (
        "Fig",
        "Figs",
        "Tab",
        "Eq",
        "Eqs",
        "al",
        "Ref",
        "Refs",
        "vs",
        "ca",
        "Sec",
        "No",
        r"e\.g",
        r"i\.e",
        "cf",
    )
)
_END = re.compile(
    _SHORT + r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\b[A-Z]\.)(?<=[.!?])[\"”’)]?\s+(?=[A-Z0-9“\"(\[])|(?<=[。！？])"
)
_CITE = re.compile(
    r"(?P<prefix>(?:extended\s+data|supplementary|supplemental|supporting|appendix)\s+)?"
    r"(?<![A-Za-z])(?P<kind>fig(?:ure|s|ures)?\b\.?|tables?\b|tab\.|schemes?\b|charts?\b|algorithms?\b|listings?\b|图|圖|図|그림|表|표)\s*"
    r"(?P<first>[\[(（]?(?:[A-Z]{1,2}\.?)?\d{1,3}(?:\.\d{1,3})?|[IVXL]{1,6}\b)(?P<letters>[a-zA-Z]?(?![a-z]))"
    r"(?P<rest>(?:\s*(?:,|and|&|to|–|-|−|und|,\s*and)\s*(?:fig(?:s|ures?)?\.?\s*|tables?\s*)?(?:S?\d{1,3}[a-zA-Z]?|[a-zA-Z])(?![\w.]\w))*)",
    re.IGNORECASE,
)
_STEM = {"f": "figure", "t": "table", "s": "scheme", "c": "chart", "a": "algorithm", "l": "algorithm"}
_FOREIGN = {"图": "figure", "圖": "figure", "図": "figure", "그림": "figure", "表": "table", "표": "table"}


@dataclass(frozen=True)
class Citation:
    """A sentence that cites the element with this key (`captions.label_key`)."""

    key: str
    mention: Mention


@dataclass
class Reading:
    """What is carried from page to page: the open sentence, and the section."""

    tail: str = ""
    tail_page: int = 0
    section: str = ""


def keys_in(sentence: str) -> list[str]:
    """Keys of everything that a sentence cites."""
    keys: list[str] = []
    for match in _CITE.finditer(sentence):
        name = match.group("kind")
        kind = _FOREIGN.get(name) or _STEM[name[0].lower()]
        if kind not in _FOREIGN.values() and name[0].islower() and name[0] not in "ft":
            continue
        prefix = match.group("prefix") or ""
        numbers = [match.group("first").strip("[(（")]
        for sign, number in re.findall(r"(,|and|&|to|–|-|−|und)?\s*(S?\d{1,3})", match.group("rest")):
            start, stop = re.sub(r"\D", "", numbers[-1]), re.sub(r"\D", "", number)
            if sign in ("to", "–", "-", "−") and start and stop and 0 < int(stop) - int(start) < 12:
                head = "S" if number.startswith("S") or numbers[-1].startswith("S") else ""
                numbers.extend(f"{head}{n}" for n in range(int(start) + 1, int(stop)))
            numbers.append(number)
        keys.extend(label_key(kind, prefix, number) for number in numbers)
    return list(dict.fromkeys(keys))


def read_citations(view: View, layout: Layout, page: int, state: Reading) -> list[Citation]:
    """Citations in the running text of a page, in reading order; moves the open sentence on."""
    text = running_text(view, layout)
    if not text:
        return []
    head_page = page
    if state.tail:
        head_page = state.tail_page
        joint = state.tail[:-1] if state.tail.endswith("-") else state.tail + " "
        text = joint + text
    sentences = [part.strip() for part in _END.split(text) if part and part.strip()]
    state.tail, state.tail_page = "", page
    if sentences and not re.search(r"[.!?。！？][\"”’)]?$", sentences[-1]):
        state.tail = sentences.pop()[-MAX_SENTENCE:]
        state.tail_page = page if sentences or not head_page else head_page
    found = []
    for n, sentence in enumerate(sentences):
        for key in keys_in(sentence):
            found.append(Citation(key, Mention(page=head_page if n == 0 else page, text=sentence[:MAX_SENTENCE])))
    return found


def finish_citations(state: Reading) -> list[Citation]:
    """Citations in the sentence that is open at the end of the document."""
    tail, state.tail = state.tail, ""
    return [Citation(key, Mention(page=state.tail_page, text=tail)) for key in keys_in(tail)]


def reading_order(view: View, layout: Layout, role: int) -> list[int]:
    """Lines of one role, column by column; lines across columns stand where they are between."""
    lines = np.flatnonzero(layout.roles == role).tolist()
    starts = [column[0] for column in layout.columns]

    def place(i: int) -> tuple[int, float, float]:
        x0, y0 = view.boxes[i, :2].tolist()
        column = max(k for k, start in enumerate(starts) if k == 0 or x0 >= start - 12)
        return column, y0, x0

    return sorted(lines, key=place)


def running_text(view: View, layout: Layout) -> str:
    """The running text of a page."""
    return join_lines(view, reading_order(view, layout, BODY))


def section_of(view: View, layout: Layout, state: Reading, x0: float, y0: float) -> str:
    """The last heading before a place of the page, else the section that the page begins in."""
    title, place = state.section, (-1, -1.0)
    starts = [column[0] for column in layout.columns]
    here = (max(k for k, start in enumerate(starts) if k == 0 or x0 >= start - 12), y0)
    for i, text in headings(view, layout):
        u0, v0 = view.boxes[i, :2].tolist()
        there = (max(k for k, start in enumerate(starts) if k == 0 or u0 >= start - 12), v0)
        if place < there <= here:
            title, place = text, there
    return title


def headings(view: View, layout: Layout) -> list[tuple[int, str]]:
    """Headings of a page in reading order: first line and whole text."""
    result: list[tuple[int, str]] = []
    last = -2
    for i in reading_order(view, layout, HEADING):
        if result and layout.block_of[i] == layout.block_of[last]:
            result[-1] = (result[-1][0], f"{result[-1][1]} {view.texts[i].strip()}")
        else:
            result.append((i, view.texts[i].strip()))
        last = i
    return result


def attach_mentions(elements: Iterable[ElementRow], citations: Iterable[Citation]) -> list[ElementRow]:
    """Elements of one document with the sentences of all its pages that cite them."""
    by_key: dict[str, list[Mention]] = {}
    for citation in citations:
        by_key.setdefault(citation.key, []).append(citation.mention)
    rows = []
    for row in elements:
        key = key_of_label(row.label) if row.label and not row.parent_id else ""
        mentions = tuple(dict.fromkeys(by_key.get(key, [])))[:MAX_MENTIONS] if key else ()
        rows.append(replace(row, mentions=mentions) if mentions else row)
    return rows
