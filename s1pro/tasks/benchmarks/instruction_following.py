"""IFEval and IFBench: prompts with instructions that a program can check.

A record has `key`, `prompt`, `instruction_id_list` and `kwargs` (one object per instruction; entries that are null are
left out, zeros are kept). Strict takes the reply as it is; loose takes the best of eight variants: without the first
line, without the last, without both, each with and without asterisks. Four numbers come of it, prompts (all
instructions hold) and instructions, strict and loose; the score of both benchmarks here is their mean, as IFBench has
it.

Checkers are in `instruction_checks`. An instruction without one, or without the data that it needs, counts as not
followed, and the report says how many there were (`unsupported`), so the number is a lower bound.

Compat keeps of the reasoning what the run's post-processor leaves, and has upstream's checkers where they do something
else (`instruction_checks.UPSTREAM_CHECKS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, upstream_visible
from s1pro.tasks.benchmarks.instruction_checks import CHECKS, UPSTREAM_CHECKS, unsupported
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, Pair, Profile, Record, Subtask, user_prompt

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "key": (int, str), "prompt": str, "instruction_id_list": list, "kwargs": list,
}  # fmt: skip


def variants(reply: str) -> list[str]:
    """The eight readings of the loose score; the first is the reply itself."""
    lines = reply.split("\n")
    texts = [reply, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return [*texts, *(text.replace("*", "") for text in texts)]


def gold(record: Record) -> list[dict[str, Any]]:
    """Instructions with their arguments. Raises `InputError` for lists of different lengths."""
    names, arguments = record["instruction_id_list"], record["kwargs"]
    if len(names) != len(arguments):
        raise InputError(f"the field 'kwargs' has {len(arguments)} entries for {len(names)} instructions")
    return [
        {
            "id": str(name),
            "kwargs": {k: v for k, v in (some or {}).items() if v is not None},
            "prompt": record["prompt"],
        }
        for name, some in zip(names, arguments, strict=True)
    ]


Checks = Mapping[str, Callable[..., bool]]


def follows(instruction: Mapping[str, Any], reply: str, checks: Checks = CHECKS) -> bool:
    """Whether one reading follows one instruction. Empty replies follow none."""
    if unsupported(instruction["id"]) or not reply.strip():
        return False
    check = checks[instruction["id"]]
    arguments = dict(instruction["kwargs"])
    if instruction["id"] == "combination:repeat_prompt":
        arguments.setdefault("prompt_to_repeat", instruction["prompt"])
    try:
        return bool(check(reply, **arguments))
    except TypeError as error:
        raise InputError(f"the instruction {instruction['id']} has wrong arguments {arguments} ({error})") from error


def verdicts(
    instructions: Sequence[Mapping[str, Any]], reply: str, checks: Checks = CHECKS
) -> tuple[list[bool], list[bool]]:
    """Strict and loose, per instruction."""
    readings = variants(reply)
    loose = [any(follows(instruction, reading, checks) for reading in readings) for instruction in instructions]
    return [follows(instruction, reply, checks) for instruction in instructions], loose


def metric(pairs: Sequence[Pair], *, checks: Checks = CHECKS) -> Mapping[str, float]:
    """The four accuracies times 100, and how many instructions have no checker."""
    both = [verdicts(p.gold, p.prediction or "", checks) for p in pairs]
    numbers = {}
    for place, name in enumerate(("strict", "loose")):
        lists = [pair[place] for pair in both]
        numbers[f"prompt_{name}"] = 100.0 * float(np.mean([all(some) for some in lists]))
        single = [held for some in lists for held in some]
        numbers[f"instruction_{name}"] = 100.0 * float(np.mean(single)) if single else 0.0
    unchecked = sum(unsupported(instruction["id"]) for p in pairs for instruction in p.gold)
    return {"score": float(np.mean(list(numbers.values()))), **numbers, "unsupported": float(unchecked)}


def _value(instructions: Sequence[Mapping[str, Any]], reply: str, *, checks: Checks = CHECKS) -> float:
    held = verdicts(instructions, reply, checks)[0]
    return sum(held) / len(held) if held else 1.0


def _benchmark(name: str, title: str, files: tuple[str, ...], source: str, published: float | None) -> Benchmark:
    compat = Profile(
        extract=lambda response, record: upstream_visible(response),
        value=partial(_value, checks=UPSTREAM_CHECKS),
        metric=partial(metric, checks=UPSTREAM_CHECKS),
    )
    strict = Profile(extract=lambda response, record: answer_part(response) or None, value=_value, metric=metric)
    subtask = Subtask(
        name="test",
        files=files,
        fields=FIELDS,
        prompt=lambda record: user_prompt(record["prompt"]),
        gold=gold,
        compat=compat,
        strict=strict,
        defects=(
            "instructions without a checker here count as not followed",
            "lm-eval drops arguments that are 0",
            "keywords are regular expressions, so a.b is found in a-b; IT'S are two words in capitals",
            "text in capital or small letters must be English to langdetect, which is often wrong about a few words",
        ),
    )
    return Benchmark(
        name=name, title=title, subtasks=(subtask,), aggregate=MEAN, source=source, licence="Apache-2.0",
        published=published,
    )  # fmt: skip


IFEVAL = _benchmark(
    "ifeval",
    "IFEval",
    ("ifeval*.jsonl", "input_data.jsonl", "*.parquet"),
    "google/IFEval on the Hugging Face Hub",
    None,
)
IFBENCH = _benchmark(
    "ifbench", "IFBench", ("IFBench_test.jsonl", "*.parquet"), "allenai/IFBench_test on the Hugging Face Hub", 71.2
)
