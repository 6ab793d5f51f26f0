"""MatBench as the paper's harness runs it: fold 0 of four tasks, `{problem, answer}`, the problem is the prompt.

Upstream a judge model extracts the answer, and a post-processor reads the judge's reply (`judged_number`, the first
capital A or B). Without a judge the strict reader plays it in the compat profile, and then upstream's post-processor
reads what it found, so the defects stay (an integer loses its sign, an exponent is cut off) and the numbers are
labelled judge-free. The strict profile keeps sign, exponent and unit.

The mean is not clipped upstream: one silly number can make it strongly negative. The strict mean clips at 0.

Source: OpenCompass `matbench` as described in the specification, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import (
    LARGEST,
    final_number,
    final_number_text,
    final_yes_no,
    number_in,
    upstream_visible,
)
from s1pro.tasks.benchmarks.judged import first_capital, same_answer, which_number
from s1pro.tasks.benchmarks.metrics import accuracy, equality, errors_with_penalty, upstream_mae
from s1pro.tasks.benchmarks.smolinstruct import nearness
from s1pro.tasks.benchmarks.spec import Benchmark, Profile, Record, Subtask, user_prompt

FIELDS: Mapping[str, type | tuple[type, ...]] = {"problem": str, "answer": (str, float, int, bool)}
LIMITS: Mapping[str, float] = {"matbench_expt_gap": 2.0, "matbench_steels": 2000.0}
"""Errors that give 0 points."""
_UPSTREAM = re.compile(r"[-+]?\d*\.\d+|\d+\.\d*|\d+")
_TRUE, _FALSE = ("true", "yes", "1", "a"), ("false", "no", "0", "b")


def judged_number(reply: str) -> float:
    """What upstream reads in the reply of a judge: the first number; none is 0, integers lose their sign."""
    found = _UPSTREAM.search(reply)
    return min(max(float(found[0]), -LARGEST), LARGEST) if found else 0.0


def judged_choice(reply: str) -> str | None:
    """What upstream reads in the verdict of a judge: the first capital A or B anywhere; None is "not attempted"."""
    found = re.search(r"[AB]", reply)
    return found[0] if found else None


def judged_label(reply: str, record: Record) -> bool | None:
    """What an answer was, if a judge says A (it agrees with the gold) or B."""
    verdict = judged_choice(reply)
    return None if verdict is None else gold_choice(record) == (verdict == "A")


def upstream_number(response: str, record: Record) -> float | None:
    """The strict reader's number as a judge would write it, read by upstream."""
    place = final_number_text(upstream_visible(response))
    return None if place is None else judged_number(place)


def strict_number(response: str, record: Record) -> float | None:
    return final_number(response)


def upstream_choice(response: str, record: Record) -> bool | None:
    """A clear yes or no, which a judge would find."""
    return final_yes_no(response)


def strict_choice(response: str, record: Record) -> bool | None:
    return final_yes_no(response)


def gold_number(record: Record) -> float:
    number = number_in(str(record["answer"]))
    if number is None:
        raise InputError(f"the field 'answer' is {record['answer']!r:.60}, expected a number")
    return number


def gold_choice(record: Record) -> bool:
    text = str(record["answer"]).strip().lower()
    if text not in _TRUE + _FALSE:
        raise InputError(f"the field 'answer' is {record['answer']!r}, expected a yes or no")
    return text in _TRUE


def _subtask(name: str, profiles: tuple[Profile, Profile], gold: Any, *defects: str) -> Subtask:
    return Subtask(
        name=name,
        files=(f"matbench_base_fold_0_{name}_test.json", f"{name}.json", f"{name}.jsonl"),
        fields=FIELDS,
        prompt=lambda record: user_prompt(record["problem"]),
        gold=gold,
        compat=profiles[0],
        strict=profiles[1],
        defects=defects,
        judged=_BY_NUMBER if gold is gold_number else _BY_VERDICT,
    )


_FREE = "upstream has a judge; judge-free here (without --judge-url)"
_BY_NUMBER = which_number(judged_number, (_FREE,))
_BY_VERDICT = replace(
    same_answer(
        lambda record: record["problem"], lambda record: str(record["answer"]), profiles=("compat",),
        read=first_capital, always=True, replaces=(_FREE,),
    ),
    read=lambda reply, record: judged_label(reply, record),
)  # fmt: skip


def _regression(name: str) -> Subtask:
    value = nearness(LIMITS[name])
    profiles = (
        Profile(extract=upstream_number, value=value, metric=upstream_mae()),
        Profile(extract=strict_number, value=value, metric=errors_with_penalty()),
    )
    return _subtask(
        name,
        profiles,
        gold_number,
        "no number is 0",
        "the sign of integers and all exponents are lost",
        _FREE,
    )


def _classification(name: str) -> Subtask:
    profiles = (
        Profile(extract=upstream_choice, value=equality, metric=accuracy()),
        Profile(extract=strict_choice, value=equality, metric=accuracy()),
    )
    return _subtask(name, profiles, gold_choice, "the first capital A or B of the judge's reply decides", _FREE)


SUBTASKS = (
    _regression("matbench_steels"),
    _regression("matbench_expt_gap"),
    _classification("matbench_expt_is_metal"),
    _classification("matbench_glass"),
)


def upstream_aggregate(scores: Mapping[str, float]) -> float:
    """Errors in points without a floor."""
    points = {**scores, **{name: 100.0 * (limit - scores[name]) / limit for name, limit in LIMITS.items()}}
    return sum(points[subtask.name] for subtask in SUBTASKS) / len(SUBTASKS)


def clipped_aggregate(scores: Mapping[str, float]) -> float:
    """The same with a floor of 0 for each task."""
    return upstream_aggregate({**scores, **{name: min(scores[name], limit) for name, limit in LIMITS.items()}})


MATBENCH = Benchmark(
    name="matbench",
    title="MatBench",
    subtasks=SUBTASKS,
    aggregate={"compat": upstream_aggregate, "strict": clipped_aggregate},
    source="matbench v0.1 in the layout of OpenCompass (matbench_base_fold_0_*_test.json)",
    licence="MIT (not verified)",
    published=72.8,
)
