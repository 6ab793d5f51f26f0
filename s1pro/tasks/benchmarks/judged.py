"""What judges are asked, benchmark by benchmark, and how their replies are read.

The wording is ours; upstream's replies are read as upstream reads them:

* **options** (VLMEvalKit): where no letter can be inferred, the judge says which option the reply means, or Z.
* **digit** (SFE): a bare digit from 0 to 9, else another try at a higher temperature; never a digit is 0.
* **number, A or B** (OpenCompass): the first number, or the first capital A or B, *anywhere* in the reply of the judge.
  `plain_verdict` is the same done right: the reply is the letter and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from s1pro.tasks.benchmarks.extract import answer_part
from s1pro.tasks.judging import Judged

Record = Mapping[str, Any]
DIGIT_TEMPERATURES = (0.0, 0.5, 1.0)
_LONGEST = 20_000


def which_option(options: Callable[[Record], Mapping[str, str]], read: Callable[[str, Mapping[str, str]], Any],
                 replaces: tuple[str, ...]) -> Judged:  # fmt: skip
    """The letter that a wordy reply means."""

    def prompt(record: Record, response: str) -> str:
        offered = "\n".join(f"{letter}. {text}" for letter, text in options(record).items())
        question = record.get("question") or record.get("Question", "")
        return (
            "Somebody answered a multiple-choice question in their own words. Which option do they mean? Reply with "
            "one letter and nothing else. If they mean none of the options, or more than one, reply with Z.\n\n"
            f"Question: {question}\nOptions:\n{offered}\n\nAnswer: {_shown(response)}\n\nLetter:"
        )

    return Judged(
        prompt=prompt,
        read=lambda reply, record: read(reply, {**options(record), "Z": "none of the options"}),
        replaces=replaces,
    )


def graded_by_digit(question: Callable[[Record], str], gold: Callable[[Record], str]) -> Judged:
    """Credit from 0 to 1 in ninths."""

    def prompt(record: Record, response: str) -> str:
        return (
            "Grade an answer to a scientific question with one digit: 9 if it says what the reference says, 0 if it "
            "is wrong or missing, digits between for answers that are right in part. Reply with the digit and nothing "
            f"else.\n\nQuestion: {question(record)}\n\nReference: {gold(record)}\n\n"
            f"Answer: {_shown(response)}\n\nDigit:"
        )

    return Judged(
        prompt=prompt,
        read=lambda reply, record: digit_credit(reply),
        profiles=("compat", "strict"),
        temperatures=DIGIT_TEMPERATURES,
        required=True,
    )


def digit_credit(reply: str) -> float | None:
    """A reply that is one digit and nothing else, over 9."""
    return int(reply.strip()) / 9 if re.fullmatch(r"\s*[0-9]\s*", reply) else None


def same_answer(question: Callable[[Record], str], gold: Callable[[Record], str], *, profiles: tuple[str, ...],
                read: Callable[[str], Any], always: bool = False, required: bool = False,
                replaces: tuple[str, ...] = ()) -> Judged:  # fmt: skip
    """Whether an answer agrees with the gold: A yes, B no."""

    return Judged(
        prompt=lambda record, response: agreement_question(question(record), gold(record), response),
        read=lambda reply, record: read(reply),
        profiles=profiles,
        always=always,
        required=required,
        replaces=replaces,
    )


def agreement_question(question: str, gold: str, response: str) -> str:
    return (
        "Compare the final answer of a reply with the reference. Do not solve the question yourself. Equal values in "
        "another form agree; a reply without a final answer does not. Reply A if they agree and B if not, nothing "
        f"else.\n\nQuestion: {question}\n\nReference: {gold}\n\nReply: {_shown(response)}\n\nA or B:"
    )


def first_capital(reply: str) -> str | None:
    """Upstream: the first capital A or B, wherever it stands ("Because …" is a B)."""
    found = re.search("[AB]", reply)
    return found[0] if found else None


def plain_verdict(reply: str) -> str | None:
    """The letter, alone or as the last word of the reply."""
    found = re.search(r"(?<![A-Za-z])([AB])\W*\Z", reply)
    return found[1] if found else None


def which_number(read: Callable[[str], float | None], replaces: tuple[str, ...]) -> Judged:
    """The one number that a reply gives as its answer."""

    def prompt(record: Record, response: str) -> str:
        return (
            "Which number does this reply give as its final answer? Reply with the number alone, as a plain decimal "
            f"without a unit, and with 0 if there is none.\n\nQuestion: {record['problem']}\n\n"
            f"Reply: {_shown(response)}\n\nNumber:"
        )

    return Judged(prompt=prompt, read=lambda reply, record: read(reply), always=True, replaces=replaces)


def _shown(response: str) -> str:
    """What a judge sees of a response: no reasoning, and of very long ones the end."""
    return answer_part(response).strip()[-_LONGEST:] or "(nothing)"
