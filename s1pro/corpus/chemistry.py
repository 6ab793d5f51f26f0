"""Molecules as training data: descriptions to read, and conversations to learn answering from.

    Molecule -> descriptions(...)    documents: every value of a molecule, in varying sentences and orders
             -> conversations(...)   one to `max_turns` questions of the five families under the science system prompt

Both say what `science` says: the sentences come from its invertible banks, the questions from the banks that the
tasks use too, without the held-out wordings. Several questions in one conversation are about different molecules and
give nothing away. They save a third of the tokens, but the chat format shows earlier answers without the empty
reasoning block that the last answer has; a tiny model that is asked single questions learns more from single questions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.science.molecules import Molecule
from s1pro.science.narrative import narrate
from s1pro.science.questions import Family, Question, make_questions
from s1pro.science.system_prompts import SYSTEM_PROMPTS

DOMAIN = "chemistry"
# Families that are harder to learn are asked more often.
SHARES: Mapping[Family, int] = MappingProxyType({"formula": 5, "count": 6, "smiles": 7, "mass": 6, "group": 5})


def descriptions(molecules: Sequence[Molecule], *, seed: int = 0, passes: int = 1) -> Iterator[Sample]:
    """`passes` documents per molecule, each in other words. Deterministic per molecule, whatever the others are."""
    if passes < 1:
        raise InputError(f"passes must be at least 1, got {passes}")
    for number in range(passes):
        for molecule in molecules:
            wording = random.Random(f"{seed} {number} {molecule.cas} {molecule.smiles}")
            yield Sample(
                source="chemistry-descriptions",
                prompt_group="science",
                text=narrate(molecule, wording),
                entity=molecule.cluster,
                meta={"domain": DOMAIN, "cas": molecule.cas},
            )


def conversations(
    molecules: Sequence[Molecule],
    *,
    num_questions: int,
    shares: Mapping[Family, int] = SHARES,
    max_turns: int = 1,
    seed: int = 0,
) -> Iterator[Sample]:
    """Conversations of one to `max_turns` questions, `num_questions` in all, families mixed by `shares`.

    A family whose different questions run out is asked again in other words.

    Raises:
        InputError: no molecule suits one of the families.
    """
    if max_turns < 1 or num_questions < 1:
        raise InputError(f"need at least one turn and one question, got {max_turns} and {num_questions}")
    random_generator = random.Random(f"conversations {seed}")
    questions = _mixed_questions(molecules, num_questions, shares, random_generator, seed)
    start = 0
    while start < len(questions):
        turns = questions[start : start + random_generator.randint(1, max_turns)]
        start += len(turns)
        yield _conversation(turns, random_generator)


def _mixed_questions(
    molecules: Sequence[Molecule],
    count: int,
    shares: Mapping[Family, int],
    random_generator: random.Random,
    seed: int,
) -> list[Question]:
    total = sum(shares.values())
    questions: list[Question] = []
    for family, share in shares.items():
        wanted = -(-count * share // total)
        questions += _repeated(make_questions(family, molecules, count=wanted, seed=seed, at_most=True), wanted)
    random_generator.shuffle(questions)
    return questions[:count]


def _repeated(questions: list[Question], count: int) -> list[Question]:
    return (questions * -(-count // len(questions)))[:count] if count else []


def _conversation(turns: Sequence[Question], random_generator: random.Random) -> Sample:
    messages = [Message(role="system", content=SYSTEM_PROMPTS["science"])]
    for question in turns:
        messages.append(Message(role="user", content=question.text(random_generator)))
        messages.append(Message(role="assistant", content=question.answer_text()))
    meta: dict[str, Any] = {
        "domain": DOMAIN,
        "families": [question.family for question in turns],
        "clusters": [question.molecule.cluster for question in turns],
    }
    return Sample(
        source="chemistry-questions",
        prompt_group="science",
        messages=tuple(messages),
        entity=turns[0].molecule.cluster,
        meta=meta,
    )
