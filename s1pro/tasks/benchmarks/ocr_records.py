"""Records of OCRBench V2: what their cells hold, read once when they are loaded.

Cells are Python or JSON; `without eval`, `without bbox` and `without content` stand in empty ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.ocr_reading import Spot, gold_pairs, literal
from s1pro.tasks.benchmarks.spec import Record

HOW = ("multiple choice", "case sensitive")
COUNTED = ("exact match", "regression")


def prepared(record: Record) -> Record:
    """With `answers` and `eval`, and what its kind needs: `chart`, `pairs`, `bbox` or `spots`. Raises `InputError`."""
    answers = _field(record, "answer")
    if answers in ([], (), {}):
        raise InputError("the field 'answer' is empty")
    more = _BY_KIND.get(record["category"], _plain)(record, answers)
    return {**record, "answers": answers, "eval": _told(record, "eval"), **more}


def _plain(record: Record, answers: Any) -> dict[str, Any]:
    return {}


def question(record: Record, answers: Any) -> dict[str, Any]:
    how = _told(record, "eval")
    if how not in (None, *HOW):
        raise InputError(f"the field 'eval' is {how!r}, expected {' or '.join(HOW)}")
    return {"answers": answers if isinstance(answers, list) or how != HOW[0] else [answers]}


def _count(record: Record, answers: Any) -> dict[str, Any]:
    if _told(record, "eval") not in COUNTED:
        raise InputError(f"the field 'eval' is {record.get('eval')!r}, expected {' or '.join(COUNTED)}")
    return {}


def _table(record: Record, answers: Any) -> dict[str, Any]:
    asked = str(record["question"]).lower()
    if "html" not in asked and "markdown" not in asked:
        raise InputError("the field 'question' asks for neither HTML nor Markdown")
    return {}


def _chart(record: Record, answers: Any) -> dict[str, Any]:
    chart = literal(answers[0]) if isinstance(answers[0], str) else answers[0]
    if not isinstance(chart, dict):
        raise InputError(f"the field 'answer' is {str(answers)!r:.60}, expected a dictionary")
    return {"chart": chart}


def _pairs(record: Record, answers: Any) -> dict[str, Any]:
    return {"pairs": gold_pairs(answers[0] if isinstance(answers, list) else answers)}


def _place(record: Record, answers: Any) -> dict[str, Any]:
    return {"answers": _box(answers, "answer")}


def _placed(record: Record, answers: Any) -> dict[str, Any]:
    return {"bbox": _box(_field(record, "bbox"), "bbox")}


def _spots(record: Record, answers: Any) -> dict[str, Any]:
    """The rectangle around each; quotation marks around a text are not part of it."""
    boxes, texts = _field(record, "bbox"), _field(record, "content")
    if not isinstance(boxes, list) or not isinstance(texts, list) or len(boxes) != len(texts):
        raise InputError("the fields 'bbox' and 'content' are not two lists of one length")
    spots: list[Spot] = []
    for box, text in zip(boxes, texts, strict=True):
        across, down = [float(x) for x in box[0::2]], [float(y) for y in box[1::2]]
        quoted = re.fullmatch(r'\s*"(.*)"\s*', str(text))
        spots.append(((min(across), min(down), max(across), max(down)), quoted[1] if quoted else str(text)))
    return {"spots": spots}


def _told(record: Record, field: str) -> Any:
    value = record.get(field)
    return None if value in (None, "", "nan", f"without {field}") else value


def _field(record: Record, field: str) -> Any:
    value = _told(record, field)
    if value is None:
        raise InputError(f"the field {field!r} is missing")
    if not isinstance(value, str):
        return value
    try:
        return literal(value)
    except ValueError as error:
        raise InputError(f"the field {field!r}: {error}") from error


def _box(numbers: Any, field: str) -> list[float]:
    try:
        box = [float(number) for number in numbers]
    except (TypeError, ValueError):
        box = []
    if len(box) != 4:
        raise InputError(f"the field {field!r} is {numbers!r:.60}, expected four numbers")
    return box


_QUESTIONS = (
    "APP agent en", "ASCII art classification en", "math QA en", "reasoning VQA en", "science QA en",
    "text recognition en", "document classification en", "cognition VQA en", "diagram QA en", "cognition VQA cn",
    "reasoning VQA cn",
)  # fmt: skip
_BY_KIND: Mapping[str, Callable[[Record, Any], dict[str, Any]]] = {
    **dict.fromkeys(_QUESTIONS, question),
    "text counting en": _count,
    "table parsing en": _table,
    "chart parsing en": _chart,
    "key information extraction en": _pairs,
    "key information mapping en": _pairs,
    "key information extraction cn": _pairs,
    "text grounding en": _place,
    "VQA with position en": _placed,
    "text spotting en": _spots,
}
