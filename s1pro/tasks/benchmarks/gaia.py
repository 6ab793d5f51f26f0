"""GAIA: the question-accuracy scorer, to the letter.

* the gold is a number: the prediction loses `$`, `%` and commas and is compared as a number; what is none is infinite
* the gold holds `,` or `;`: both are split there, the parts must be as many and agree in order, numbers as numbers and
  text without white space and in small letters, but with its punctuation
* else text without white space and punctuation, in small letters

A missing prediction is the text "None". The same rule is the strict profile, after the reasoning and behind the words
FINAL ANSWER. The data are gated and must not be passed on.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from s1pro.tasks.benchmarks.extract import answer_part, upstream_visible
from s1pro.tasks.benchmarks.metrics import mean_of
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, Profile, Record, Subtask, user_prompt
from s1pro.tasks.task import Prompt

FIELDS: Mapping[str, type | tuple[type, ...]] = {"Question": str, "Final answer": str}
_RULE = (
    "Reason step by step, then finish with FINAL ANSWER: followed by a number, as few words as possible, or a list of "
    "these separated by commas; numbers without thousands separators and without units unless they are asked for."
)
_MARK = re.compile(r"FINAL ANSWER\s*:?\**", re.IGNORECASE)


def question_accuracy(gold: str, prediction: str | None) -> bool:
    """See the module docstring."""
    said = "None" if prediction is None else prediction
    if _is_float(gold):
        return _number(said) == float(gold)
    if "," in gold or ";" in gold:
        parts, answers = re.split("[,;]", gold), re.split("[,;]", said)
        if len(parts) != len(answers):
            return False
        return all(
            _number(answer) == float(part)
            if _is_float(part)
            else _plain(part, marks=True) == _plain(answer, marks=True)
            for part, answer in zip(parts, answers, strict=True)
        )
    return _plain(gold) == _plain(said)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    try:
        return float(re.sub("[$%,]", "", text))
    except ValueError:
        return float("inf")


def _plain(text: str, *, marks: bool = False) -> str:
    """Without white space, in small letters, and without punctuation unless `marks`."""
    text = re.sub(r"\s", "", text).lower()
    return text if marks else text.translate(str.maketrans("", "", string.punctuation))


def final_answer(text: str) -> str | None:
    """What stands behind the last FINAL ANSWER, up to the end of the line."""
    found = list(_MARK.finditer(text))
    if not found:
        return None
    lines = text[found[-1].end() :].strip().splitlines()
    return lines[0].strip().strip("*").strip() if lines else None


def upstream_answer(response: str, record: Record) -> str:
    """Without the words FINAL ANSWER the whole reply is the answer."""
    text = upstream_visible(response)
    return final_answer(text) or text


def strict_answer(response: str, record: Record) -> str | None:
    return final_answer(answer_part(response))


def prompt(record: Record) -> Prompt:
    return user_prompt(f"{_RULE}\n\n{record['Question']}")


def _value(gold: str, prediction: str) -> float:
    return float(question_accuracy(gold, prediction))


GAIA = Benchmark(
    name="gaia",
    title="GAIA (text only)",
    subtasks=(
        Subtask(
            name="test",
            files=("*.jsonl", "*.parquet"),
            fields=FIELDS,
            prompt=prompt,
            gold=lambda record: str(record["Final answer"]),
            compat=Profile(extract=upstream_answer, value=_value, metric=mean_of(_value, scale=100.0)),
            strict=Profile(extract=strict_answer, value=_value, metric=mean_of(_value, scale=100.0)),
            keep=lambda record: not record.get("file_name"),
            defects=(
                "text of list elements keeps its punctuation, other text loses it",
                "a number with a unit is wrong",
            ),
        ),
    ),
    aggregate=MEAN,
    source="gaia-benchmark/GAIA on the Hugging Face Hub (gated)",
    licence="gated, do not redistribute",
    published=77.4,
    notes=("the published number is of an agent with tools; here a question is answered in one turn",),
)
