from __future__ import annotations

import random
from collections import Counter

import pytest

from s1pro.base.errors import InputError
from s1pro.science.molecules import Loaded
from s1pro.science.narrative import narrate, narrative_record, parse_narrative
from s1pro.science.questions import (
    ANSWERS,
    ASKED_GROUPS,
    FAMILIES,
    MAX_ASKED_NAME,
    QUESTIONS,
    Family,
    feature_count,
    make_questions,
)
from s1pro.science.slots import write_mass


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_and_answers_are_invertible(family: Family, loaded: Loaded) -> None:
    for held_out in (False, True):
        for question in make_questions(family, loaded.molecules, count=150, seed=3):
            text = question.text(random.Random(0), held_out=held_out)
            assert QUESTIONS[family].parse(text) == question.asked
            found = ANSWERS[family].parse(question.answer_text())
            assert found is not None
            assert found | {"mass": 0} == dict(question.answer) | {"mass": 0}
            assert "mass" not in found or str(found["mass"]) == write_mass(question.molecule.mass)


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_are_true_different_and_stable(family: Family, loaded: Loaded) -> None:
    questions = make_questions(family, loaded.molecules, count=100, seed=1)
    assert make_questions(family, loaded.molecules[::-1], count=100, seed=1) == questions
    assert make_questions(family, loaded.molecules, count=100, seed=2) != questions
    assert len({(*q.asked.values(), q.molecule.smiles) for q in questions}) == 100
    for question in questions:
        asked, answer, molecule = question.asked, question.answer, question.molecule
        if family == "formula":
            assert answer["formula"] == molecule.formula and len(asked["name"]) <= MAX_ASKED_NAME
        elif family == "count":
            assert answer["count"] == feature_count(molecule, asked["feature"])
        elif family == "smiles":
            assert asked["group"] in molecule.groups and asked["carbon"] == molecule.atoms["C"]
        elif family == "group":
            assert answer["check"] == ((asked["group"], asked["group"] in molecule.groups),)
        else:
            assert answer == {"formula": molecule.formula, "mass": molecule.mass}


def test_yes_and_no_are_balanced(loaded: Loaded) -> None:
    questions = make_questions("group", loaded.molecules, count=600)
    truths = Counter(q.answer["check"][0][1] for q in questions)
    assert truths == {True: 300, False: 300}
    assert {q.asked["group"] for q in questions} == set(ASKED_GROUPS)


def test_no_constant_count_is_frequent(loaded: Loaded) -> None:
    counts = Counter(q.answer["count"] for q in make_questions("count", loaded.molecules, count=500))
    assert counts.most_common(1)[0][1] < 0.4 * 500 and len(counts) > 8


@pytest.mark.parametrize("family", FAMILIES)
def test_there_are_dozens_of_wordings(family: Family, loaded: Loaded) -> None:
    [question] = make_questions(family, loaded.molecules, count=1)
    wordings = {question.text(random.Random(seed)) for seed in range(400)}
    assert len(wordings) >= 20
    assert not wordings & {question.text(random.Random(seed), held_out=True) for seed in range(20)}


def test_too_many_questions_are_refused(loaded: Loaded) -> None:
    with pytest.raises(InputError, match="give only"):
        make_questions("mass", loaded.molecules[:5], count=6)
    assert len(make_questions("mass", loaded.molecules[:5], count=6, at_most=True)) == 5
    with pytest.raises(InputError, match="give only 0"):
        make_questions("mass", [], count=1, at_most=True)


def test_every_description_is_read_back(loaded: Loaded) -> None:
    for molecule in loaded.molecules[:400]:
        for seed in range(2):
            text = narrate(molecule, random.Random(seed))
            found = parse_narrative(text)
            assert found is not None
            record = narrative_record(molecule)
            for slot, value in found.items():
                if slot == "checks":
                    assert all((group in molecule.groups) == truth for group, truth in value)
                elif slot == "group":
                    assert value in molecule.groups
                elif slot == "mass":
                    assert str(value) == write_mass(molecule.mass)
                else:
                    assert value == record[slot], text
            assert {"smiles", "mass"} <= set(found)


def test_descriptions_tell_in_all_directions(loaded: Loaded) -> None:
    texts = [narrate(m, random.Random(m.smiles)) for m in loaded.molecules[:300]]
    places = [text.index("<SMILES>") / len(text) for text in texts]
    assert min(places) == 0 and max(places) > 0.7
    assert len({text.partition("<SMILES>")[0].split(" ")[-2:][0] for text in texts}) > 10


def test_foreign_text_is_no_description() -> None:
    assert parse_narrative("Water is wet.") is None
    assert parse_narrative("x" * 5000) is None
