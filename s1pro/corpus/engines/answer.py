"""What an engine answers for one page, and its validation: nothing of an answer is used before all of it fits.

    {"elements": [{"type": "figure", "box": [0.1, 0.2, 0.6, 0.5], "score": 0.98,
                   "text": "...", "label": "Figure 3", "caption": "Yield against time."}],
     "words":    [{"text": "Figure", "box": [0.1, 0.52, 0.16, 0.535]}]}

Boxes are `[x0, y0, x1, y1]` as shares of width and height of the picture that was sent, origin at the top left corner.
`type` is one of figure, chart, table, formula, scheme, algorithm, other. Of an element only type and box are needed.
`text` is what the engine read inside the box (cells, LaTeX); `label` and `caption` are taken where no caption is found
among the words. A word may also be a whole line. Both lists may be left out; other fields are ignored, so that an
engine may say more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

from s1pro.base.errors import InputError
from s1pro.corpus.engines.settings import AnswerLimits
from s1pro.corpus.importers.json_file import Field
from s1pro.corpus.records import Box, ElementType

_SLACK = 0.02
_TYPES: tuple[ElementType, ...] = get_args(ElementType)


@dataclass(frozen=True, kw_only=True)
class EngineElement:
    """An element; the box is in shares of the page."""

    type: ElementType
    box: Box
    score: float = 1.0
    text: str = ""
    label: str = ""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class EngineWord:
    """A word or a line of text; the box is in shares of the page."""

    text: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class EngineAnswer:
    """One page."""

    elements: tuple[EngineElement, ...] = ()
    words: tuple[EngineWord, ...] = ()


def read_answer(value: Any, limits: AnswerLimits) -> EngineAnswer:
    """The answer in a JSON value.

    Raises:
        InputError: it is not as described above; the message names the field and the value.
    """
    root = Field("answer", "", value)
    if not isinstance(value, dict) or not {"elements", "words"}.intersection(value):
        raise root.wrong("expected an object with elements or words")
    elements, words = list(root.list_of("elements")), list(root.list_of("words"))
    for name, found, most in (("elements", elements, limits.max_elements), ("words", words, limits.max_words)):
        if len(found) > most:
            raise InputError(f"answer: {len(found)} {name}; the limit is {most} (layout.limits.max_{name})")
    read = [
        EngineWord(text=text, box=_box(item.need("box")))
        for item in words
        if (text := " ".join(_text(item, "text", limits, needed=True).split()))
    ]
    count = sum(len(word.text) for word in read)
    if count > limits.max_chars:
        raise InputError(
            f"answer: {count} characters in words; the limit is {limits.max_chars} (layout.limits.max_chars)"
        )
    return EngineAnswer(elements=tuple(_element(item, limits) for item in elements), words=tuple(read))


def _element(item: Field, limits: AnswerLimits) -> EngineElement:
    kind = item.need("type")
    if kind.text() not in _TYPES:
        raise kind.wrong(f"expected one of {', '.join(_TYPES)}")
    score = item.get("score")
    if score is not None and not 0 <= score.number() <= 1:
        raise score.wrong("expected a number from 0 to 1")
    return EngineElement(
        type=kind.value,
        box=_box(item.need("box")),
        score=1.0 if score is None else score.number(),
        text=_text(item, "text", limits),
        label=" ".join(_text(item, "label", limits).split()),
        caption=" ".join(_text(item, "caption", limits).split()),
    )


def _text(item: Field, name: str, limits: AnswerLimits, *, needed: bool = False) -> str:
    found = item.need(name) if needed else item.get(name)
    if found is None:
        return ""
    if len(found.text()) > limits.max_text:
        raise InputError(f"answer: {found.path}: {len(found.value)} characters; the limit is {limits.max_text}")
    return "".join(sign if sign >= " " or sign in "\n\t" else " " for sign in found.text()).strip()


def _box(place: Field) -> Box:
    values = place.numbers(4)
    if not all(math.isfinite(value) and -_SLACK <= value <= 1 + _SLACK for value in values):
        raise place.wrong("expected shares of the page from 0 to 1")
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in values)
    if x1 <= x0 or y1 <= y0:
        raise place.wrong("expected x0 < x1 and y0 < y1")
    return x0, y0, x1, y1
