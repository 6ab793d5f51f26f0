"""Questions about molecules: five families, each with a bank of wordings and one form of answer.

| family | question | answer |
|---|---|---|
| `formula` | molecular formula of a name | `C3H8O` |
| `count` | how many atoms of an element, or rings, in a SMILES | `7` |
| `smiles` | a molecule with so many carbon atoms and a given group | `<SMILES>CCCO</SMILES>` |
| `mass` | molar mass of a SMILES | `C3H8O, 60.1 g/mol` |
| `group` | whether a SMILES has a functional group | `amine: yes` |

Training data (`corpus/`) and tasks (`tasks/`) ask with the same banks. Every bank has held-out wordings that training
never uses, so that a task can also ask in words that the model has not seen.

The mass is answered through the formula: counting first and adding after is a short chain of reasoning that a reader
can check, and it is how one computes a mass.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from s1pro.base.errors import InputError
from s1pro.science import slots
from s1pro.science.molecules import Molecule
from s1pro.science.templates import Bank, SlotKind

Family = Literal["formula", "count", "smiles", "mass", "group"]

_KINDS: Mapping[str, SlotKind] = {
    "name": slots.TEXT,
    "smiles": slots.SMILES,
    "formula": slots.FORMULA,
    "mass": slots.MASS,
    "count": slots.COUNT,
    "carbon": slots.counted("carbon atom"),
    "feature": slots.FEATURE,
    "group": slots.GROUP,
    "check": slots.CHECKS,
}

QUESTIONS: Mapping[Family, Bank] = {
    "formula": Bank(
        _KINDS,
        "What is the (molecular |chemical |)formula of {name}?",
        "(Give|Tell me|Write|State|Find) the (molecular |chemical |)formula of {name}[, please].",
        "(Formula|Molecular formula|Sum formula) of {name}?",
        "(What|Which) (molecular |)formula (does {name} have|belongs to {name})?",
        "{name}: (formula|molecular formula|which formula)?",
        "Write {name} as a (molecular |)formula.",
        held_out=("I need the sum formula of {name}.", "Which atoms, and how many of each, are in {name}?"),
    ),
    "count": Bank(
        _KINDS,
        "How many {feature} (are in|are there in|does one find in|has|do you count in) {smiles}?",
        "(Count|Count all|Count the|Find the number of|Give the number of) {feature} (in|of) {smiles}.",
        "(What is the number of|Number of|Total of|How large is the number of) {feature} in {smiles}?",
        "{smiles}: how many {feature}?",
        "{smiles} has how many {feature}?",
        held_out=("Look at {smiles}. How many {feature} do you see?", "{feature} in {smiles}, as a number:"),
    ),
    "smiles": Bank(
        _KINDS,
        "(Write|Give|Draw|Propose|Design|Name) a molecule with {carbon} and {group}.",
        "(Write|Give|Show) the SMILES of a molecule (with|that has) {carbon} and {group}.",
        "(Which|What) molecule has {carbon} and {group}?",
        "{carbon} and {group}: (write|give) a (molecule|SMILES).",
        "A (molecule|compound) with {group} and {carbon}(, please.|?)",
        held_out=("Make up a structure that has {carbon} and {group}.",),
    ),
    "mass": Bank(
        _KINDS,
        "What is the (molar|molecular) mass of {smiles}?",
        "(Give|Tell me|Find|Compute|State|Estimate) the (molar|molecular) mass of {smiles}[, please].",
        "(Molar|Molecular) mass of {smiles}?",
        "{smiles}: (molar mass|molecular mass|which molar mass)?",
        "(What does|How much does) a mole of {smiles} weigh?",
        "How heavy is {smiles}?",
        held_out=("I weigh one mole of {smiles}. What do I read?", "Give the molecular weight of {smiles}."),
    ),
    "group": Bank(
        _KINDS,
        "(Does|Would) {smiles} (contain|have|carry|include) {group}?",
        "Is there {group} in {smiles}?",
        "Has {smiles} {group}?",
        "(Tell me|Say|Decide) whether {smiles} (has|contains) {group}.",
        "{smiles}: (does it have|does it contain|is there) {group}?",
        "{group} in {smiles}: yes or no?",
        held_out=("Can one find {group} in {smiles}?", "Say yes or no: {smiles} contains {group}."),
    ),
}

ANSWERS: Mapping[Family, Bank] = {
    "formula": Bank(_KINDS, "{formula}"),
    "count": Bank(_KINDS, "{count}"),
    "smiles": Bank(_KINDS, "{smiles}"),
    "mass": Bank(_KINDS, "{formula}, {mass}"),
    "group": Bank(_KINDS, "{check}"),
}
FAMILIES: tuple[Family, ...] = tuple(QUESTIONS)

# Names up to this length are asked for their formula; longer ones occur in descriptions only.
MAX_ASKED_NAME = 24
ELEMENTS: Mapping[str, str] = {
    "carbon": "C",
    "nitrogen": "N",
    "oxygen": "O",
    "fluorine": "F",
    "chlorine": "Cl",
    "hydrogen": "H",
}
ASKED_FEATURES = ("carbon", "nitrogen", "oxygen", "rings")
ASKED_GROUPS = (
    "alcohol",
    "carboxylic acid",
    "ester",
    "amide",
    "ketone",
    "aldehyde",
    "amine",
    "nitrile",
    "nitro group",
    "halide",
    "ether",
    "alkene",
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about a molecule.

    Attributes:
        asked: values of the slots of the question.
        answer: values of the slots of the answer.
        molecule: what it was made from.
    """

    family: Family
    asked: Mapping[str, Any]
    answer: Mapping[str, Any]
    molecule: Molecule

    def text(self, random_generator: random.Random, *, held_out: bool = False) -> str:
        """The question in one of its wordings."""
        return question_text(self.family, self.asked, random_generator, held_out=held_out)

    def answer_text(self) -> str:
        """The answer in the form of the family."""
        return answer_text(self.family, self.answer)


def question_text(
    family: Family, asked: Mapping[str, Any], random_generator: random.Random, *, held_out: bool = False
) -> str:
    """A question in one of its wordings; with `held_out` in one that training data never uses."""
    return QUESTIONS[family].render(asked, random_generator, held_out=held_out)


def answer_text(family: Family, answer: Mapping[str, Any]) -> str:
    """An answer in the form of its family."""
    return ANSWERS[family].render(answer, random.Random(0))


def make_questions(
    family: Family, molecules: Sequence[Molecule], *, count: int, seed: int = 0, at_most: bool = False
) -> list[Question]:
    """`count` questions, the same for the same molecules in any order; no question (without its wording) twice.

    The answers are spread on purpose, so that no constant answer does well: yes and no take turns, whatever the group;
    counts are drawn with the square root of their frequency.

    Args:
        at_most: give fewer questions, but at least one, where the molecules do not allow `count` different ones.

    Raises:
        InputError: the molecules do not allow that many different questions; says how many there are.
    """
    random_generator = random.Random(f"{family} {seed}")
    pool = sorted(molecules, key=lambda molecule: (molecule.smiles, molecule.name))
    drawing = _DRAWINGS[family](pool)
    found: dict[tuple[Any, ...], Question] = {}
    missed = 0
    while drawing is not None and len(found) < count and missed < _PATIENCE * (len(found) + 100):
        question = drawing(random_generator, len(found))
        key = (*question.asked.values(), question.molecule.smiles)
        missed += key in found
        found.setdefault(key, question)
    if len(found) < (min(1, count) if at_most else count):
        raise InputError(
            f"{len(pool)} molecules give only {len(found)} questions of the family {family!r}, not {count}"
        )
    return list(found.values())


# So many repetitions per question found, on average, before the molecules count as used up.
_PATIENCE = 3
# Draws one question; the number of those found so far comes along.
_Drawing = Callable[[random.Random, int], Question]


def feature_count(molecule: Molecule, feature: str) -> int:
    """What the question `count` asks for."""
    if feature == "rings":
        return molecule.rings
    return molecule.heavy_atoms if feature == "heavy" else molecule.atoms.get(ELEMENTS[feature], 0)


def _draw_formula(pool: Sequence[Molecule]) -> _Drawing | None:
    short = [molecule for molecule in pool if len(molecule.name) <= MAX_ASKED_NAME]

    def draw(random_generator: random.Random, number: int) -> Question:
        molecule = random_generator.choice(short)
        return Question(
            family="formula", asked={"name": molecule.name}, answer={"formula": molecule.formula}, molecule=molecule
        )

    return draw if short else None


def _draw_mass(pool: Sequence[Molecule]) -> _Drawing | None:
    def draw(random_generator: random.Random, number: int) -> Question:
        molecule = random_generator.choice(pool)
        answer = {"formula": molecule.formula, "mass": molecule.mass}
        return Question(family="mass", asked={"smiles": molecule.smiles}, answer=answer, molecule=molecule)

    return draw if pool else None


def _draw_count(pool: Sequence[Molecule]) -> _Drawing | None:
    by_count: dict[str, dict[int, list[Molecule]]] = {feature: {} for feature in ASKED_FEATURES}
    for molecule in pool:
        for feature, counts in by_count.items():
            counts.setdefault(feature_count(molecule, feature), []).append(molecule)

    def draw(random_generator: random.Random, number: int) -> Question:
        feature = random_generator.choice(ASKED_FEATURES)
        count, having = _spread(by_count[feature], random_generator)
        molecule = random_generator.choice(having)
        asked = {"feature": feature, "smiles": molecule.smiles}
        return Question(family="count", asked=asked, answer={"count": count}, molecule=molecule)

    return draw if pool else None


def _draw_group(pool: Sequence[Molecule]) -> _Drawing | None:
    having = {group: [m for m in pool if group in m.groups] for group in ASKED_GROUPS}
    lacking = {group: [m for m in pool if group not in m.groups] for group in ASKED_GROUPS}
    groups = [group for group in ASKED_GROUPS if having[group] and lacking[group]]

    def draw(random_generator: random.Random, number: int) -> Question:
        group, truth = random_generator.choice(groups), number % 2 == 0
        molecule = random_generator.choice((having if truth else lacking)[group])
        asked = {"smiles": molecule.smiles, "group": group}
        return Question(family="group", asked=asked, answer={"check": ((group, truth),)}, molecule=molecule)

    return draw if groups else None


def _draw_smiles(pool: Sequence[Molecule]) -> _Drawing | None:
    having: dict[str, dict[int, list[Molecule]]] = {}
    for molecule in pool:
        for group in molecule.groups:
            if group in ASKED_GROUPS and "C" in molecule.atoms:
                having.setdefault(group, {}).setdefault(molecule.atoms["C"], []).append(molecule)
    groups = sorted(having)

    def draw(random_generator: random.Random, number: int) -> Question:
        group = random_generator.choice(groups)
        carbon, molecules = _spread(having[group], random_generator)
        molecule = random_generator.choice(molecules)
        asked = {"carbon": carbon, "group": group}
        return Question(family="smiles", asked=asked, answer={"smiles": molecule.smiles}, molecule=molecule)

    return draw if groups else None


def _spread(by_count: Mapping[int, list[Molecule]], random_generator: random.Random) -> tuple[int, list[Molecule]]:
    """A count and the molecules that have it, drawn with the square root of their number."""
    counts = sorted(by_count.items())
    return random_generator.choices(counts, [math.sqrt(len(having)) for _, having in counts])[0]


_DRAWINGS: Mapping[Family, Callable[[Sequence[Molecule]], _Drawing | None]] = {
    "formula": _draw_formula,
    "count": _draw_count,
    "smiles": _draw_smiles,
    "mass": _draw_mass,
    "group": _draw_group,
}
