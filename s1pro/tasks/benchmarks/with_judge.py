"""Benchmarks whose answers only a judge model can read: SFE, IMO-Answer-Bench.

**SFE** (VLMEvalKit, `sfebench.py`). Questions about scientific pictures, of three types: `exact_match`, `mcq` with
options A to O, `open_ended`. `<image>` in a question says where a picture stands. compat: a judge gives one digit from
0 to 9 for every answer; the score is the mean over 9, times 100, so it depends on the judge. strict: a letter or an
exact answer is right or wrong by itself, and only what is open is graded.

**IMO-Answer-Bench.** Olympiad problems with a short answer. compat: a judge says whether reply and gold agree, by the
first capital A or B of its reply. strict: what math-verify takes for equal is right; for the rest the judge's letter
counts if it is plain.

The judge is asked in our words (`judged`), so numbers are not upstream's to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.tasks.benchmarks.choices import options_of, strict_choice
from s1pro.tasks.benchmarks.extract import answer_part, boxed
from s1pro.tasks.benchmarks.general_text import same_mathematics
from s1pro.tasks.benchmarks.judged import first_capital, graded_by_digit, plain_verdict, same_answer
from s1pro.tasks.benchmarks.pictures import sources
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, Pair, Profile, Record, Subtask, user_prompt
from s1pro.tasks.task import Prompt

TYPES: Mapping[str, str] = {
    "exact_match": "Reply with the answer alone, as short as possible, without an explanation.",
    "mcq": "Reply with the letter of the right option, nothing else.",
    "open_ended": "Answer in one or a few sentences.",
}
_MARK = "<image>"


def credit(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Mean credit times 100; what could not be graded is 0."""
    return {"score": 100.0 * float(np.mean([0.0 if p.prediction is None else p.prediction for p in pairs]))}


# SFE


def sfe_question(record: Record) -> str:
    """Question and options in words."""
    text = str(record["question"]).replace(_MARK, "").strip()
    if record["question_type"] == "mcq":
        options = (f"{letter}. {option}" for letter, option in options_of(record).items())
        text = "\n".join([text, "Choices are:", *options])
    return text


def sfe_prompt(record: Record) -> Prompt:
    """Pictures where the question has its marks; those without a mark stand before it."""
    kind = record["question_type"]
    discipline = str(record.get("field") or record.get("category") or "science")
    pieces = str(record["question"]).split(_MARK)
    pictures = [{"type": "image", "image": source} for source in sources(record)]
    unmarked = max(len(pictures) - (len(pieces) - 1), 0)
    parts: list[dict[str, Any]] = [*pictures[:unmarked]]
    for number, piece in enumerate(pieces):
        parts += pictures[unmarked + number - 1 : unmarked + number] if number else []
        parts += [{"type": "text", "text": piece}] if piece.strip() else []
    options = [f"{letter}. {option}" for letter, option in options_of(record).items()] if kind == "mcq" else []
    rule = "\n".join([*(["", "Choices are:", *options] if options else []), "", TYPES[kind]])
    role = f"You are an expert in {discipline}. Answer the following question."
    return Prompt(messages=(Message(role="user", content=[{"type": "text", "text": role}, *parts,
                                                          {"type": "text", "text": rule}]),))  # fmt: skip


def sfe_record(record: Record) -> Record:
    """Raises `InputError` for an unknown type, and for an option that is none."""
    if record["question_type"] not in TYPES:
        raise InputError(f"the field 'question_type' is {record['question_type']!r}, expected {', '.join(TYPES)}")
    if record["question_type"] == "mcq" and str(record["answer"]).strip().upper() not in options_of(record):
        raise InputError(f"the answer is {record['answer']!r}, offered are {', '.join(options_of(record))}")
    return record


def sfe_by_rule(response: str, record: Record) -> float | None:
    """Credit that needs no judge; None for what is open."""
    if record["question_type"] == "mcq":
        return float(strict_choice(response, options_of(record)) == str(record["answer"]).strip().upper())
    if record["question_type"] == "exact_match":
        return float(_folded(answer_part(response)) == _folded(str(record["answer"])))
    return None


def _folded(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .").casefold()


def _given(gold: Any, prediction: float) -> float:
    return prediction


def _sfe(name: str, files: tuple[str, ...]) -> Subtask:
    return Subtask(
        name=name,
        files=files,
        fields={"index": (str, int), "question": str, "answer": (str, int, float), "question_type": str},
        prompt=sfe_prompt,
        gold=lambda record: str(record["answer"]),
        compat=Profile(extract=lambda response, record: None, value=_given, metric=credit),
        strict=Profile(extract=sfe_by_rule, value=_given, metric=credit),
        prepare=sfe_record,
        judged=graded_by_digit(sfe_question, lambda record: str(record["answer"])),
        defects=("all types are graded by the judge, letters too; a judge that never gives a bare digit gives 0",),
    )


SFE = Benchmark(
    name="sfe",
    title="SFE",
    subtasks=(_sfe("en", ("SFE.tsv",)), _sfe("zh", ("SFE-zh.tsv",))),
    aggregate=MEAN,
    source="InternScience/SFE on the Hugging Face Hub (SFE.tsv, SFE-zh.tsv)",
    licence="MIT",
    published=52.7,
    status="needs a judge",
    notes=("which of its languages the published number is of is not known; here the mean of both",),
)


# IMO-Answer-Bench


def imo_prompt(record: Record) -> Prompt:
    return user_prompt(f"{record['Problem']}\n\nPut your final answer within \\boxed{{}}.")


def imo_by_rule(response: str, record: Record) -> str | None:
    """ "A" where math-verify takes the last box for the gold."""
    found = boxed(answer_part(response))
    return "A" if found and same_mathematics(str(record["Short Answer"]), found[-1]) else None


def imo_verdict(reply: str) -> dict[str, str | None] | None:
    """A or B, as each profile reads it; None if neither can."""
    found = {"compat": first_capital(reply), "strict": plain_verdict(reply)}
    return found if any(found.values()) else None


def _agrees(gold: Any, prediction: str) -> float:
    return float(prediction == "A")


def agreement(pairs: Sequence[Pair]) -> Mapping[str, float]:
    return {"score": 100.0 * float(np.mean([p.prediction == "A" for p in pairs]))}


IMO_ANSWER_BENCH = Benchmark(
    name="imo-answer-bench",
    title="IMO-Answer-Bench",
    subtasks=(
        Subtask(
            name="test",
            files=("answerbench*.csv", "*.csv", "*.jsonl"),
            fields={"Problem": str, "Short Answer": (str, int, float)},
            prompt=imo_prompt,
            gold=lambda record: str(record["Short Answer"]),
            compat=Profile(extract=lambda response, record: None, value=_agrees, metric=agreement),
            strict=Profile(extract=imo_by_rule, value=_agrees, metric=agreement),
            judged=same_answer(
                lambda record: record["Problem"],
                lambda record: str(record["Short Answer"]),
                profiles=("compat", "strict"),
                read=imo_verdict,
                required=True,
            ),
            defects=("the first capital A or B of the judge's reply decides, also in the word Because",),
        ),
    ),
    aggregate=MEAN,
    source="google-deepmind/superhuman (IMO-Bench, answerbench.csv; names of columns not verified)",
    licence="CC-BY-4.0 (not verified)",
    published=77.3,
    status="needs a judge",
)
