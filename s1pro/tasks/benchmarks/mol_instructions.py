"""Mol-Instructions (chemistry, six tasks), as the paper's harness scores it, and as it should be.

Records come in one JSONL file per task; the conversation of a record holds question and answer: `dialogs[0].content`
and `dialogs[1].content`. Molecules are SELFIES. The system message names the chemist and the task, the question follows
the rule for the form of the answer.

* reagents, design, forward, retrosynthesis: Tanimoto of Morgan 2/2048; upstream a tagged prediction makes both sides
  SELFIES, an untagged one makes both SMILES; strict decodes SELFIES on both sides
* property (Hartree): compat reads the last number in a box or NUMBER tag, unreadable is 0.0; strict takes the last
  number with sign and exponent, and unreadable errs at worst
* description: METEOR on words split at blanks

The published mean of six forgets to multiply METEOR by 100; both means are given.

Source: OpenCompass `datasets/mol_instructions_chem.py` as described in the specification, section 2.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import (
    answer_part,
    final_number,
    number_in,
    tagged,
    upstream_numbers,
    upstream_visible,
)
from s1pro.tasks.benchmarks.metrics import errors_with_penalty, mean_of, upstream_mae
from s1pro.tasks.benchmarks.molecules import selfies_to_smiles, strict_molecule, tanimoto, upstream_molecule
from s1pro.tasks.benchmarks.smolinstruct import nearness, words_meteor
from s1pro.tasks.benchmarks.spec import Benchmark, Profile, Record, Subtask, user_prompt
from s1pro.tasks.task import Prompt

FIELDS: Mapping[str, type | tuple[type, ...]] = {"dialogs": list}
_SELFIES = "Give the molecule as SELFIES in <SELFIES> and </SELFIES> tags."
ASKED: Mapping[str, tuple[str, str]] = {
    "reagent_prediction": ("find the reagents of a reaction", _SELFIES),
    "description_guided_molecule_design": ("design a molecule that fits a description", _SELFIES),
    "forward_reaction_prediction": ("predict the product of a reaction", _SELFIES),
    "retrosynthesis": ("propose what a molecule can be made from", _SELFIES),
    "property_prediction": ("compute a quantum-chemical property", "Give the number in \\boxed{}."),
    "molecular_description_generation": ("describe a molecule", "Answer in plain sentences."),
}


def turn(record: Record, number: int) -> str:
    """Text of a turn of the conversation. Raises `InputError` where there is none."""
    try:
        return str(record["dialogs"][number]["content"])
    except (IndexError, KeyError, TypeError) as error:
        raise InputError(f"dialogs[{number}].content is missing in the record {str(dict(record))[:80]}") from error


def prompt_of(task: str) -> Callable[[Record], Prompt]:
    aim, form = ASKED[task]
    system = f"You are an expert chemist. Your task is to {aim}."
    return lambda record: user_prompt(f"{form}\nQuestion: {turn(record, 0)}\nAnswer: ", system=system)


def upstream_selfies(response: str, record: Record) -> dict[str, Any]:
    """The last tag, or the whole text if there is none or nothing in it, and whether there was one."""
    text = upstream_visible(response)
    found = tagged(text, ("SELFIES",))
    content = found[-1][1] if found else ""
    return {"text": content or text, "tagged": bool(content)}


def upstream_similarity(gold: str, prediction: Mapping[str, Any]) -> float:
    """Both sides are decoded if the prediction has a tag, and none of them if it has not."""
    sides = [gold, prediction["text"]]
    if prediction["tagged"]:
        decoded = [selfies_to_smiles(side) for side in sides]
        if None in decoded:
            return 0.0
        sides = [side or "" for side in decoded]
    a, b = (upstream_molecule(side) for side in sides)
    return 0.0 if a is None or b is None else tanimoto(a, b)


def strict_selfies(response: str, record: Record) -> str | None:
    """The last tag after the reasoning, else a text that is one word in brackets."""
    text = answer_part(response)
    found = tagged(text, ("SELFIES",), ignore_case=True)
    if found:
        return found[-1][1] or None
    return text if re.fullmatch(r"(?:\[[^\[\]\s]+\]|\.)+", text) else None


def strict_similarity(gold: str, prediction: str) -> float:
    a, b = (strict_molecule(selfies_to_smiles(side) or "") for side in (gold, prediction))
    return 0.0 if a is None or b is None else tanimoto(a, b)


def upstream_property(response: str, record: Record) -> float | None:
    """The last number in a box or tag."""
    found = upstream_numbers(upstream_visible(response))
    return found[-1] if found else None


def gold_text(record: Record) -> str:
    return turn(record, 1).strip()


def gold_selfies(record: Record) -> str:
    """Of a tag if the record has one."""
    found = tagged(turn(record, 1), ("SELFIES",))
    return (found[-1][1] if found else "") or gold_text(record)


def gold_number(record: Record) -> float:
    number = number_in(turn(record, 1))
    if number is None:
        raise InputError(f"dialogs[1].content is {turn(record, 1)!r:.60}, expected a number")
    return number


SIMILAR = (
    Profile(extract=upstream_selfies, value=upstream_similarity, metric=mean_of(upstream_similarity, scale=100.0)),
    Profile(extract=strict_selfies, value=strict_similarity, metric=mean_of(strict_similarity, scale=100.0)),
)
PROPERTY = (
    Profile(extract=upstream_property, value=nearness(3.0), metric=upstream_mae()),
    Profile(extract=lambda response, _: final_number(response), value=nearness(3.0), metric=errors_with_penalty()),
)
DESCRIPTION = (
    Profile(
        extract=lambda response, _: upstream_visible(response),
        value=words_meteor,
        metric=mean_of(words_meteor),
    ),
    Profile(
        extract=lambda response, _: answer_part(response) or None, value=words_meteor, metric=mean_of(words_meteor)
    ),
)


def _subtask(task: str, profiles: tuple[Profile, Profile], gold: Any, *defects: str) -> Subtask:
    return Subtask(
        name=task,
        files=(f"{task}.jsonl",),
        fields=FIELDS,
        prompt=prompt_of(task),
        gold=gold,
        compat=profiles[0],
        strict=profiles[1],
        defects=defects,
    )


_UNTAGGED = "without a tag both sides are read as SMILES: [C][C][O] is then a molecule, and [C][=C] is none"
SUBTASKS = (
    *(
        _subtask(task, SIMILAR, gold_selfies, _UNTAGGED)
        for task in (
            "reagent_prediction",
            "description_guided_molecule_design",
            "forward_reaction_prediction",
            "retrosynthesis",
        )
    ),
    _subtask("property_prediction", PROPERTY, gold_number, "an unreadable answer is 0.0, which scores about 92 points"),
    _subtask(
        "molecular_description_generation",
        DESCRIPTION,
        gold_text,
        "METEOR is not multiplied by 100 in the mean, so that 83.5 is the most one can reach",
        "METEOR without synonyms here: not above the published numbers",
    ),
)


def _points(scores: Mapping[str, float]) -> dict[str, float]:
    return {**scores, "property_prediction": 100.0 * max((3.0 - scores["property_prediction"]) / 3.0, 0.0)}


def upstream_aggregate(scores: Mapping[str, float]) -> float:
    """Mean of the six, METEOR as it is."""
    return sum(_points(scores)[subtask.name] for subtask in SUBTASKS) / len(SUBTASKS)


def corrected_aggregate(scores: Mapping[str, float]) -> float:
    """Mean of the six in points."""
    description = "molecular_description_generation"
    return upstream_aggregate({**scores, description: 100.0 * scores[description]})


MOL_INSTRUCTIONS = Benchmark(
    name="mol-instructions",
    title="Mol-Instructions",
    subtasks=SUBTASKS,
    aggregate={"compat": upstream_aggregate, "strict": corrected_aggregate},
    source="zjunlp/Mol-Instructions on the Hugging Face Hub, in the layout of OpenCompass",
    licence="CC-BY-4.0",
    published=48.8,
)
