"""Multiple-choice questions: reading which option a reply chose, upstream's way and ours.

**compat** (VLMEvalKit's inference, in its order)

1. a refusal (as spelled) is the option Z, which is never right; a lone Z too
2. a single option letter among the tokens of the reply (punctuation removed) that stands within the last four of them;
   then "answer is X", which upstream knows for A to D only
3. the only option whose text occurs in the reply, unless the reply is more than twice as long as all options together
4. otherwise upstream asks a judge, and without one gives Z or draws at random: here that is wrong, and counted
   (`uninferred`)

**strict**: after the reasoning, the last clear statement of a letter; a reply that is the text of one option; nothing
else. A letter that is not offered is not read.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, boxed, upstream_visible
from s1pro.tasks.benchmarks.spec import Metric, Pair, Profile, Record

REFUSALS = (
    "Sorry, I can't help with images of people yet.", "I can't process this file.",
    "I'm sorry, but without the image provided", "Cannot determine the answer",
)  # fmt: skip
API_FAILURE = "Failed to obtain answer via API"
_VERBOSE = re.compile(r"answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
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
    return _by_letter(text, options) or _by_content(text, options)


def _by_letter(text: str, options: Mapping[str, str]) -> str | None:
    if API_FAILURE in text:
        return None
    if any(refusal in text for refusal in REFUSALS):
        return "Z"
    tokens = re.sub(r"[.()\[\],:;!*#{}]", " ", text).split()
    present = [letter for letter in options if letter in tokens]
    if len(present) == 1 and tokens.index(present[0]) > len(tokens) - 5:
        return present[0]
    if not present and "Z" in tokens:
        return "Z"
    verbose = _VERBOSE.search(text)
    return verbose[1].upper() if verbose and verbose[1].upper() in options else None


def _by_content(text: str, options: Mapping[str, str]) -> str | None:
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    found = [letter for letter, option in options.items() if option.lower() in text.lower()]
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


def by_category(*fields: str) -> Metric:
    """Mean over the categories of some fields (`macro`, the score), and over all items (`micro`)."""

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        groups: dict[str, list[float]] = {}
        for pair in pairs:
            name = "/".join(str(pair.record.get(field, "")) for field in fields)
            groups.setdefault(name, []).append(float(pair.prediction == pair.gold))
        macro = float(np.mean([np.mean(values) for values in groups.values()]))
        micro = float(np.mean([value for values in groups.values() for value in values]))
        missing = float(sum(p.prediction is None for p in pairs))
        return {"score": 100.0 * macro, "macro": 100.0 * macro, "micro": 100.0 * micro, "uninferred": missing}

    return metric


def _equal(gold: str, prediction: str) -> float:
    return float(gold == prediction)


def choice_profiles(metric: Metric = choice_accuracy) -> tuple[Profile, Profile]:
    """For records with their options in columns A, B, …"""
    return (
        Profile(
            extract=lambda response, record: upstream_choice(upstream_visible(response), options_of(record)),
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


_PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer",
    "The best option isThe correct option is", "Best answer:Best option:",
)  # fmt: skip


def upstream_letter_set(response: str, record: Record) -> str | None:
    """Several letters (XLRS-Bench): those in brackets, else every letter from a to e of either case, anywhere.

    Upstream means lone letters in the second place, but all borders of its pattern are optional; and it reads nothing
    where no capital from A to E stands.
    """
    text = upstream_visible(response)
    for prefix in _PREFIXES:
        text = text.replace(prefix, "")
    if not re.search("[ABCDE]", text):
        return None
    found = re.findall(r"\(([a-eA-E])\)", text) or re.findall(r"[a-eA-E]", text)
    return "".join(sorted({letter.upper() for letter in found}))


def strict_letter_set(response: str, record: Record) -> str | None:
    """Letters of the last line that has any, standing alone; the article is no letter."""
    for line in reversed(answer_part(response).splitlines()):
        found = re.findall(r"(?<![A-Za-z])([A-E])(?![A-Za-z])", re.sub(r"\bA (?=[a-z])", "", line))
        if found:
            return "".join(sorted(set(found)))
    bare = re.sub(r"[\s.,]", "", answer_part(response))
    return "".join(sorted(set(bare))) if re.fullmatch("[A-E]{1,5}", bare) else None


def gold_letter_set(record: Record) -> str:
    """Raises `InputError` for an answer without letters from A to E."""
    letters = "".join(sorted(set(str(record["answer"]).strip().upper()) - set(" ,;()")))
    if not re.fullmatch("[A-E]{1,5}", letters):
        raise InputError(f"the field 'answer' is {record['answer']!r:.60}, expected letters from A to E")
    return letters


def letter_set_profiles(metric: Metric) -> tuple[Profile, Profile]:
    return (
        Profile(extract=upstream_letter_set, value=_equal, metric=metric),
        Profile(extract=strict_letter_set, value=_equal, metric=metric),
    )


# The last line that begins with "Answer:" (MMMU-Pro with reasoning).


def after_answer_line(text: str) -> str:
    """What upstream leaves of a reply with a chain of thought: the only capital behind the last "Answer:", or the
    tail."""
    lines = [line.strip() for line in text.strip().split("\n")]
    tails = [line.removeprefix("Answer:") for line in lines if line.startswith("Answer:")]
    if not tails:
        return text
    capitals = {letter for letter in tails[-1] if letter in LETTERS}
    return capitals.pop() if len(capitals) == 1 else tails[-1]
