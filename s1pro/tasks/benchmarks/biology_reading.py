"""Answers and golds of Biology-Instructions: classes, numbers, objects of numbers, names; upstream's reading and
ours."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import (
    after_think,
    answer_part,
    boxed,
    final_number,
    final_yes_no,
    upstream_boxed,
    upstream_numbers,
    upstream_visible,
)
from s1pro.tasks.benchmarks.spec import Record

UPSTREAM_CLASSES: Mapping[str, bool] = {"positive": True, "yes": True, "negative": False, "no": False}
_YES, _NO = ("yes", "positive", "true", "1"), ("no", "negative", "false", "0")


def last_box(response: str) -> str | None:
    """Content of the last box after the reasoning, `\\text{}` unwrapped, backslashes removed. None for an empty one."""
    found = upstream_boxed(after_think(upstream_visible(response)))
    if not found:
        return None
    return re.sub(r"\\(.)", r"\1", re.sub(r"\\text\{([^}]*)\}", r"\1", found[-1])) or None


def upstream_class(response: str, record: Record) -> bool | None:
    return UPSTREAM_CLASSES.get((last_box(response) or "").lower())


def _strict_box(response: str) -> str | None:
    found = boxed(answer_part(response))
    return re.sub(r"\\(?:text|mathrm)\{([^{}]*)\}", r"\1", found[-1]).replace("\\", "").strip() if found else None


def strict_class(response: str, record: Record) -> bool | None:
    text = (_strict_box(response) or answer_part(response)).strip().strip(".").lower()
    if text in _YES + _NO:
        return text in _YES
    return final_yes_no(response)


def upstream_number(response: str, record: Record) -> float | None:
    """The last number in a tag or box anywhere in the reply."""
    found = upstream_numbers(upstream_visible(response))
    return found[-1] if found else None


def strict_number(response: str, record: Record) -> float | None:
    return final_number(response)


def upstream_dict(response: str, record: Record) -> dict[str, float | None] | None:
    """The last braces without inner ones, as JSON or as a Python literal; keys as in the gold. A value that is no
    number is None, the others count."""
    found = re.findall(r"\{[^{}]*\}", after_think(upstream_visible(response)))
    return _numbers_of(found[-1], record) if found and "..." not in found[-1] else None


def strict_dict(response: str, record: Record) -> dict[str, float | None] | None:
    """The last braces after the reasoning that hold the keys of the gold."""
    for text in reversed(re.findall(r"\{[^{}]*\}", answer_part(response))):
        numbers = _numbers_of(text, record)
        if numbers is not None:
            return numbers
    return None


def _numbers_of(text: str, record: Record) -> dict[str, float | None] | None:
    value: Any = None
    for read in (json.loads, ast.literal_eval):  # literal_eval builds constants only, it runs nothing
        try:
            value = read(text)
            break
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    if not isinstance(value, dict) or not value or set(value) != set(record["ground_truth"]):
        return None
    return {str(key): _number(item) for key, item in value.items()}


def _number(item: Any) -> float | None:
    try:
        number = float(item)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def strict_text(response: str, record: Record) -> str | None:
    return _strict_box(response) or answer_part(response) or None


def gold_class(record: Record) -> bool:
    label = UPSTREAM_CLASSES.get(str(record["ground_truth"]).lower())
    if label is None:
        raise InputError(f"ground_truth is {record['ground_truth']!r}, expected positive or negative, or yes or no")
    return label


def gold_number(record: Record) -> float:
    number = _number(record["ground_truth"])
    if number is None:
        raise InputError(f"ground_truth is {record['ground_truth']!r:.60}, expected a number")
    return number


def gold_dict(record: Record) -> dict[str, float]:
    truth = record["ground_truth"]
    numbers = {str(key): _number(value) for key, value in truth.items()} if isinstance(truth, dict) else {}
    if not numbers or None in numbers.values():
        raise InputError(f"ground_truth is {truth!r:.60}, expected an object of numbers")
    return {key: number for key, number in numbers.items() if number is not None}


def gold_text(record: Record) -> str:
    return str(record["ground_truth"]).strip()
