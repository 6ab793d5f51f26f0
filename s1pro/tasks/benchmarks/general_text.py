"""General text benchmarks: MMLU-Pro, GPQA, AIME-2025.

**MMLU-Pro.** compat is lm-eval's: the first "answer is (X)", J at most, no reasoning cut, mean over all questions;
`category_mean` is the plain mean of the 14 categories that the paper's harness takes. Upstream's prompt has five worked
examples; here there is none.

**GPQA.** The four options are turned by the number of the row (BCDA for the first, then CDAB, DABC, ABCD), so the right
one is not always A. compat reads the first "ANSWER: X", bare and in a capital letter (a small one is wrong); where
there is none, a judge says which option is meant.

**AIME-2025.** compat is lm-eval's comparison of strings (`mathematical_text`), in which 042 is not 42; strict asks
math-verify whether the answers are equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.tasks.benchmarks.choices import LETTERS, strict_choice, upstream_choice
from s1pro.tasks.benchmarks.extract import answer_part, boxed, upstream_visible
from s1pro.tasks.benchmarks.judged import which_option
from s1pro.tasks.benchmarks.mathematical_text import same_text, upstream_answer
from s1pro.tasks.benchmarks.metrics import accuracy, equality, mean_of
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, Metric, Pair, Profile, Record, Subtask, user_prompt
from s1pro.tasks.judging import Judged
from s1pro.tasks.task import Prompt

_ANSWER_IS = re.compile(r"answer is \(?([A-J])\)?")
_ANSWER_LINE = re.compile(r"ANSWER\s*:\s*([A-D])", re.IGNORECASE)
ROTATIONS = ("ABCD", "BCDA", "CDAB", "DABC")
_ASK_LETTER = (
    "Think step by step, and let the last line of your reply be 'ANSWER: X', where X is the letter of one option."
)


# MMLU-Pro


def mmlu_options(record: Record) -> dict[str, str]:
    return {letter: str(text) for letter, text in zip(LETTERS, record["options"], strict=False)}


def lettered(question: str, options: Mapping[str, str], rule: str) -> str:
    """A question, its options by letter, and how to answer."""
    return "\n".join([question.strip(), "", *(f"{k}) {v}" for k, v in options.items()), "", rule])


def mmlu_prompt(record: Record) -> Prompt:
    rule = 'Think step by step and finish with "the answer is (X)", where X is the letter of one option.'
    return user_prompt(lettered(record["question"], mmlu_options(record), rule))


def mmlu_gold(record: Record) -> str:
    letter = str(record["answer"]).strip().upper()
    if letter not in mmlu_options(record):
        raise InputError(
            f"the field 'answer' is {record['answer']!r:.60}, expected a letter of {len(record['options'])}"
        )
    return letter


def upstream_answer_is(response: str, record: Record) -> str | None:
    """The first match in the whole reply, reasoning and all."""
    found = _ANSWER_IS.search(response)
    return found[1] if found else None


def category_accuracy(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Over all items, the plain mean over categories, and each category."""
    groups: dict[str, list[float]] = {}
    for pair in pairs:
        groups.setdefault(str(pair.record.get("category", "")), []).append(float(pair.gold == pair.prediction))
    means = {name: 100.0 * float(np.mean(values)) for name, values in sorted(groups.items())}
    everything = [value for values in groups.values() for value in values]
    return {"score": 100.0 * float(np.mean(everything)), "category_mean": float(np.mean(list(means.values()))), **means}


# GPQA


def gpqa_options(record: Record) -> dict[str, str]:
    """Turned by the number of the row (`_row`, from 1)."""
    texts = [record["Correct Answer"], *(record[f"Incorrect Answer {i}"] for i in (1, 2, 3))]
    turned = ROTATIONS[int(record.get("_row", 1)) % 4]
    return {letter: str(texts[ord(source) - ord("A")]).strip() for letter, source in zip("ABCD", turned, strict=True)}


def gpqa_gold(record: Record) -> str:
    options = gpqa_options(record)
    return next(letter for letter, text in options.items() if text == str(record["Correct Answer"]).strip())


def gpqa_prompt(record: Record) -> Prompt:
    return user_prompt(lettered(record["Question"], gpqa_options(record), _ASK_LETTER))


def upstream_answer_line(response: str, record: Record) -> str | None:
    found = _ANSWER_LINE.search(upstream_visible(response))
    return found[1] if found else None


# AIME


def aime_prompt(record: Record) -> Prompt:
    return user_prompt(f"{record['question']}\nPut your final answer within \\boxed{{}}.")


def strict_boxed(response: str, record: Record) -> str | None:
    """The last box that holds something, without a full stop at its end."""
    found = [content.strip().rstrip(". ") for content in boxed(answer_part(response))]
    return next(filter(None, reversed(found)), None)


def same_mathematics(gold: str, prediction: str) -> float:
    """1 if math-verify takes both for equal."""
    try:
        import math_verify
    except ImportError as error:
        raise MissingExtraError("math-verify", "eval") from error
    if len(prediction) > 2000:
        return 0.0
    sides = [math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (str(gold), prediction)]
    return float(bool(sides[1]) and math_verify.verify(sides[0], sides[1], timeout_seconds=None))


def _one(name: str, *, title: str, fields: Mapping[str, Any], prompt: Any, gold: Any, compat: Profile, strict: Profile,
         files: tuple[str, ...], source: str, licence: str, published: float | None, defects: tuple[str, ...],
         judged: Judged | None = None) -> Benchmark:  # fmt: skip
    subtask = Subtask(
        name="test", files=files, fields=fields, prompt=prompt, gold=gold, compat=compat, strict=strict,
        defects=defects, judged=judged,
    )  # fmt: skip
    return Benchmark(
        name=name, title=title, subtasks=(subtask,), aggregate=MEAN, source=source, licence=licence, published=published
    )  # fmt: skip


def _letters(read: Any, options: Any, metric: Metric) -> tuple[Profile, Profile]:
    return (
        Profile(extract=read, value=equality, metric=metric),
        Profile(
            extract=lambda response, record: strict_choice(response, options(record)), value=equality, metric=metric
        ),
    )


_FORM_ONLY = "only the first 'ANSWER: X' is read, as it is written; upstream has a judge for the rest"
_MMLU = _letters(upstream_answer_is, mmlu_options, category_accuracy)
_GPQA = _letters(upstream_answer_line, gpqa_options, accuracy())
MMLU_PRO = _one(
    "mmlu-pro", title="MMLU-Pro", fields={"question": str, "options": list, "answer": str, "category": str},
    prompt=mmlu_prompt, gold=mmlu_gold, compat=_MMLU[0], strict=_MMLU[1], files=("*test*.parquet", "*test*.jsonl"),
    source="TIGER-Lab/MMLU-Pro on the Hugging Face Hub", licence="MIT", published=86.6,
    defects=(
        "the first 'answer is (X)' counts, also inside the reasoning",
        "upstream's harness has a judge, lm-eval none",
    ),
)  # fmt: skip
GPQA = _one(
    "gpqa", title="GPQA-diamond",
    fields={"Question": str, "Correct Answer": str, **{f"Incorrect Answer {i}": str for i in (1, 2, 3)}},
    prompt=gpqa_prompt, gold=gpqa_gold, compat=_GPQA[0], strict=_GPQA[1], files=("gpqa_diamond.csv", "*.csv"),
    source="Idavidrein/gpqa on the Hugging Face Hub (gated)", licence="CC-BY-4.0 (not verified), do not publish items",
    published=None, defects=(_FORM_ONLY,), judged=which_option(gpqa_options, upstream_choice, (_FORM_ONLY,)),
)  # fmt: skip
AIME_2025 = _one(
    "aime-2025", title="AIME-2025", fields={"question": str, "answer": (str, int)}, prompt=aime_prompt,
    gold=lambda record: str(record["answer"]).strip(),
    compat=Profile(extract=upstream_answer, value=same_text, metric=mean_of(same_text, scale=100.0)),
    strict=Profile(extract=strict_boxed, value=same_mathematics, metric=mean_of(same_mathematics, scale=100.0)),
    files=("aime2025*.jsonl", "*.jsonl", "*.parquet"), source="AIME 2025 I and II, 30 problems", licence="not stated",
    published=93.1,
    defects=(
        "strings are compared: 042 is not 42, nor is 42.",
        "without a box the whole reply is the answer, or what stands between its first and last dollar sign",
        "a box that opens but does not close is none; \\fbox is never read",
        "the paper's harness asks a judge where math-verify says no",
    ),
)  # fmt: skip
