"""Multiple-choice questions: reading which option a reply chose, upstream's way and ours.

**compat** (VLMEvalKit's inference, in its order)

1. a refusal is the option Z, which is never right
2. a single option letter among the tokens of the reply (punctuation removed) that stands within the last four of them;
   then the verbose forms "answer is X", `\\boxed{X}`, `**X**`
3. the only option whose text occurs in the reply
4. otherwise upstream asks a judge, and without one draws at random: here that is wrong, and counted (`uninferred`)

**strict**: after the reasoning, the last clear statement of a letter; a reply that is the text of one option; nothing
else. A letter that is not offered is not read.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, boxed
from s1pro.tasks.benchmarks.spec import Pair, Profile, Record

REFUSALS = (
    "sorry, i can't help with images of people yet.", "i can't process this file.", "i'm sorry, but without the image",
    "cannot determine the answer",
)  # fmt: skip
LETTERS = string.ascii_uppercase
_STATED = (
    r"answer\s*(?:is|:)?\s*:?\s*\**\(?([A-Z])\)?(?![A-Za-z])",
    r"\\boxed\{\s*(?:\\text\{)?\s*\(?([A-Z])\)?",
    r"\*\*\s*\(?([A-Z])\)?[.:)]?\s*\*\*",
    r"(?:option|choice)\s*\(?([A-Z])\)?(?![A-Za-z])",
    r"^\s*\(?([A-Z])\)?\s*[.:)]?\s*$",
    r"^\s*\(?([A-Z])[.:)]\s+\S",
)


def options_of(record: Record) -> dict[str, str]:
    """Options by letter, of the columns A, B, …; empty cells are not offered."""
    found = {}
    for letter in LETTERS:
        value = record.get(letter)
        if value is None or str(value).strip() in ("", "nan", "None"):
            continue
        found[letter] = str(value)
    return found


def upstream_choice(text: str, options: Mapping[str, str]) -> str | None:
    """A letter, "Z" for a refusal, or None where upstream would ask a judge."""
    if any(refusal in text.lower() for refusal in REFUSALS):
        return "Z"
    return _by_letter(text, options) or _by_content(text, options)


def _by_letter(text: str, options: Mapping[str, str]) -> str | None:
    plain = text
    for mark in ".()[],:;!*#{}":
        plain = plain.replace(mark, " ")
    tokens = plain.split()
    present = [letter for letter in options if letter in tokens]
    if len(present) == 1:
        letter = present[0]
        if letter == "A" and len(tokens) > 3:  # the article
            present = []
        elif tokens.index(letter) > len(tokens) - 5:
            return letter
    for pattern in _STATED[:3]:
        found = [letter for letter in re.findall(pattern, text, re.IGNORECASE) if letter.upper() in options]
        if found:
            return str(found[-1]).upper()
    return None


def _by_content(text: str, options: Mapping[str, str]) -> str | None:
    lower = text.lower()
    found = [letter for letter, option in options.items() if option.lower() in lower]
    return found[0] if len(found) == 1 else None


def strict_choice(response: str, options: Mapping[str, str]) -> str | None:
    """The last clear statement of an offered letter, or the option whose text the reply is."""
    text = answer_part(response)
    best: tuple[int, str] | None = None
    for pattern in _STATED:
        for match in re.finditer(pattern, text, re.IGNORECASE | re.MULTILINE):
            letter = match[1].upper()
            if letter in options and match[1].isupper() and (best is None or match.start() >= best[0]):
                best = (match.start(), letter)
    if best is not None:
        return best[1]
    bare = _plain(boxed(text)[-1] if boxed(text) else text)
    same = [letter for letter, option in options.items() if _plain(option) == bare]
    return same[0] if len(same) == 1 else None


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .*`\"'").lower()


def choice_accuracy(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Share of right letters times 100; replies without one are wrong and counted."""
    right = [p.prediction == p.gold for p in pairs]
    return {"score": 100.0 * float(np.mean(right)), "uninferred": float(sum(p.prediction is None for p in pairs))}


def by_category(field: str) -> Any:
    """Mean over the categories of a field, and over all items (`micro`)."""

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        groups: dict[str, list[float]] = {}
        for pair in pairs:
            groups.setdefault(str(pair.record.get(field, "")), []).append(float(pair.prediction == pair.gold))
        macro = float(np.mean([np.mean(values) for values in groups.values()]))
        micro = float(np.mean([value for values in groups.values() for value in values]))
        missing = float(sum(p.prediction is None for p in pairs))
        return {"score": 100.0 * macro, "micro": 100.0 * micro, "uninferred": missing}

    return metric


def _equal(gold: str, prediction: str) -> float:
    return float(gold == prediction)


def choice_profiles(metric: Any = choice_accuracy) -> tuple[Profile, Profile]:
    """For records with their options in columns A, B, …"""
    return (
        Profile(
            extract=lambda response, record: upstream_choice(answer_part(response), options_of(record)),
            value=_equal,
            metric=metric,
        ),
        Profile(
            extract=lambda response, record: strict_choice(response, options_of(record)), value=_equal, metric=metric
        ),
    )


def gold_letter(record: Record) -> str:
    """Raises `InputError` for an answer that is no offered letter."""
    letter = str(record["answer"]).strip().upper()
    if letter not in options_of(record):
        raise InputError(f"the answer is {record['answer']!r}, offered are {', '.join(options_of(record))}")
    return letter


# -- several letters (XLRS-Bench) ---------------------------------------------------------------------------------------


def upstream_letter_set(response: str, record: Record) -> str | None:
    """Letters in brackets, else lone letters, else any of A to E: sorted and joined."""
    text = answer_part(response)
    for pattern in (r"\(([A-E])\)", r"(?<![A-Za-z])([A-E])(?![A-Za-z])", r"([A-E])"):
        found = re.findall(pattern, text)
        if found:
            return "".join(sorted(set(found)))
    return None


def strict_letter_set(response: str, record: Record) -> str | None:
    """Letters of the last line that has any, standing alone; the article is no letter."""
    for line in reversed(answer_part(response).splitlines()):
        found = re.findall(r"(?<![A-Za-z])([A-E])(?![A-Za-z])", re.sub(r"\bA (?=[a-z])", "", line))
        if found:
            return "".join(sorted(set(found)))
    return None


def letter_set(text: str) -> str:
    return "".join(sorted(set(re.findall(r"[A-E]", text.upper()))))
