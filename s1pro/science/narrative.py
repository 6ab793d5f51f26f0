"""A molecule as a short text: a few sentences in varying order, from which every value can be read back.

The order varies because a model learns to predict what comes later from what came before: only texts in which the
formula follows the name, others in which it follows the SMILES, and so on, teach all directions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from s1pro.science import slots
from s1pro.science.molecules import Molecule
from s1pro.science.questions import ASKED_FEATURES, ASKED_GROUPS, feature_count
from s1pro.science.templates import Bank, SlotKind, parse_document

# Share of texts that list the groups; the others say of a few groups whether they are there.
LISTED_SHARE = 0.3
NUM_CHECKS = 4

_KINDS: Mapping[str, SlotKind] = {
    "name": slots.TEXT,
    "synonym": slots.TEXT,
    "smiles": slots.SMILES,
    "formula": slots.FORMULA,
    "mass": slots.MASS,
    "carbon": slots.counted("carbon atom"),
    "rings": slots.counted("ring"),
    "nitrogen": slots.counted("nitrogen atom"),
    "oxygen": slots.counted("oxygen atom"),
    "groups": slots.GROUPS,
    "group": slots.GROUP,
    "checks": slots.CHECKS,
}

# The sentence that says what the text is about: by its name, or by its SMILES.
NAME_FIRST = Bank(
    _KINDS,
    "{name}[, also called {synonym},] (is|is written|has the SMILES|has the structure) {smiles}.",
    "(The compound|The molecule|The substance) {name} (is|is written|has the SMILES|has the structure) {smiles}.",
    "{name} (has|shows) the (molecular |)formula {formula}; (its|the) SMILES is {smiles}.",
    "(The formula of|As a formula,) {name} is {formula}, (and |)its SMILES {smiles}.",
    "(The SMILES of|Written as SMILES,) {name} is {smiles}.",
)
SMILES_FIRST = Bank(
    _KINDS,
    "{smiles} is (called|named|the SMILES of) {name}[ or {synonym}].",
    "(The molecule|The structure|The compound) {smiles} is (called |named |){name}.",
    "{smiles} (has|shows) the (molecular |)formula {formula} and is called {name}.",
    "{smiles} stands for {name}.",
)
FORMULA = Bank(
    _KINDS,
    "(Its|The) (molecular |chemical |)formula is {formula}.",
    "(It|The molecule) (has|shows) the (molecular |)formula {formula}.",
    "Formula: {formula}.",
)
MASS = Bank(
    _KINDS,
    "(Its|The) (molar|molecular) mass is {mass}.",
    "(It|The molecule) (weighs|has a molar mass of) {mass}.",
    "(The formula|A mole of) {formula} (has a mass of|weighs) {mass}.",
    "{formula}, {mass}.",
)
GROUPS = Bank(
    _KINDS,
    "(It|The molecule|The structure) (contains|has|carries|includes) {groups}.",
    "(One finds|There is|We see) {groups}.",
    "Functional groups: {groups}.",
)
CHECKS = Bank(
    _KINDS,
    "(Groups:|Checked:|Looked for:|Is it there?) {checks}.",
    "(What it has|Functional groups): {checks}.",
    "{checks}.",
)
COUNTS = Bank(
    _KINDS,
    "(It|The molecule) has {carbon} and {rings}.",
    "(Counted|Count): {carbon}, {nitrogen}, {oxygen}, {rings}.",
    "One counts {rings}(,| and) {carbon}.",
    "(It has|Atoms:) {oxygen}, {nitrogen} and {carbon}.",
)
# A closing sentence, for texts that tell first and name last.
LAST = Bank(
    _KINDS,
    "(This is|An example is|One such molecule is) {smiles}(,| with the name) {name}.",
    "(This is|Its name is) {name}, (that is|as SMILES) {smiles}.",
    "SMILES: {smiles}. Name: {name}.",
)
CONSTRAINT = Bank(
    _KINDS,
    "(A molecule|A structure|Something) with {carbon} and {group}: {smiles}.",
    "{carbon} and {group}: {smiles}(, called| is) {name}.",
    "(With|Having) {group} and {carbon}, (there is|one has|take) {smiles}.",
)
BANKS = (NAME_FIRST, SMILES_FIRST, FORMULA, MASS, GROUPS, CHECKS, COUNTS, LAST, CONSTRAINT)


def narrate(molecule: Molecule, random_generator: random.Random) -> str:
    """The text. Raises `ValueError` if the name makes a sentence ambiguous."""
    record = {**narrative_record(molecule), "checks": some_checks(molecule, random_generator)}
    groups = GROUPS if molecule.groups and random_generator.random() < LISTED_SHARE else CHECKS
    details = [FORMULA, MASS, COUNTS, groups]
    random_generator.shuffle(details)
    lead = random_generator.choice((NAME_FIRST, NAME_FIRST, SMILES_FIRST, SMILES_FIRST, LAST, CONSTRAINT))
    asked = [group for group in molecule.groups if group in ASKED_GROUPS]
    if lead is CONSTRAINT and asked and "C" in molecule.atoms:
        record["group"] = random_generator.choice(asked)
        banks = (CONSTRAINT, *details)
    else:
        banks = (*details, LAST) if lead in (LAST, CONSTRAINT) else (lead, *details)
    text = " ".join(bank.render(record, random_generator) for bank in banks)
    if parse_narrative(text) is None:
        raise ValueError(f"a text that cannot be read back: {text!r}")
    return text


def some_checks(molecule: Molecule, random_generator: random.Random) -> tuple[tuple[str, bool], ...]:
    """A few groups that the molecule has and about as many that it lacks, in random order."""
    present = [group for group in ASKED_GROUPS if group in molecule.groups]
    absent = [group for group in ASKED_GROUPS if group not in molecule.groups]
    chosen = random_generator.sample(present, min(3, len(present)))
    chosen += random_generator.sample(absent, min(NUM_CHECKS - len(chosen), len(absent)))
    random_generator.shuffle(chosen)
    return tuple((group, group in molecule.groups) for group in chosen)


def parse_narrative(text: str) -> dict[str, Any] | None:
    """The values in a text of `narrate`, typed; None for other texts and for texts that contradict themselves."""
    return parse_document(text, BANKS)


def narrative_record(molecule: Molecule) -> dict[str, Any]:
    """The values that sentences about a molecule can use; an empty list of groups counts as missing."""
    return {
        "name": molecule.name,
        "synonym": molecule.synonym,
        "smiles": molecule.smiles,
        "formula": molecule.formula,
        "mass": molecule.mass,
        "groups": molecule.groups or None,
        **{feature: feature_count(molecule, feature) for feature in ASKED_FEATURES},
    }
