from __future__ import annotations

import random

import pytest

from s1pro.science.facts.forms import FORMS, Form, Forms, Task
from s1pro.science.facts.grammar import Grammar
from s1pro.science.facts.lint import lint_text
from s1pro.science.facts.quantities import Quantity
from s1pro.science.facts.verify import verify
from tests.science.facts.alloys import alloy_records, alloy_schema

FORMS_OF = Forms(Grammar(alloy_schema()))
RECORDS = alloy_records(60)
BY_NAME = {record.entity: record for record in RECORDS}


def tasks(form: Form, count: int = 60, seed: int = 0) -> list[Task]:
    return list(FORMS_OF.make(form, RECORDS, count, random.Random(seed)))


@pytest.mark.parametrize("form", FORMS)
def test_prompts_and_answers_come_back(form: Form) -> None:
    made = tasks(form)
    assert len(made) == 60 and made == tasks(form)
    for task in made:
        assert FORMS_OF.parse(form, task.column, task.prompt) == task.asked
        assert FORMS_OF.parse_answer(form, task.column, task.answer) == task.answered
        assert lint_text(task.prompt.replace("_____", "Y")) == [] and lint_text(task.answer) == []
        assert all(task.groups[i] == BY_NAME[e].group for i, e in enumerate(task.entities))
        if form != "description":
            assert verify(f"It follows.\nAnswer: {task.answer}", task.gold, accepted=task.accepted).right


def test_answers_are_true() -> None:
    """Against the records, not against the code that made them."""
    for task in tasks("comparison"):
        a, b = (BY_NAME[name].values[task.column] for name in task.entities)
        larger = task.entities[0] if _size(a) > _size(b) else task.entities[1]
        smaller = next(name for name in task.entities if name != larger)
        assert task.gold == (larger if "larger" in task.prompt else smaller)
        assert BY_NAME[task.entities[0]].values["temp"] == BY_NAME[task.entities[1]].values["temp"]
    for task in tasks("ranking"):
        sizes = [_size(BY_NAME[name].values[task.column]) for name in task.gold]
        assert sizes == sorted(sizes, reverse="largest" in task.prompt) and len(set(sizes)) == len(sizes)
    for task in tasks("inverse"):
        low, high = task.asked["low"].number, task.asked["high"].number
        having = [r for r in RECORDS if r.values[task.column] is not None]
        fitting = {r.entity for r in having if low <= r.values[task.column].number <= high}
        assert task.gold in fitting and set(task.accepted) == fitting and len(fitting) < len(RECORDS)
    for task in tasks("qa"):
        true = BY_NAME[task.entities[0]].values[task.column]
        if isinstance(true, Quantity) and isinstance(task.gold, Quantity) and task.gold.unit == true.unit:
            assert task.gold == true


def test_distractors_are_of_the_same_range() -> None:
    for task in tasks("mcq"):
        options = [task.asked[f"option{letter}"] for letter in "abcd"]
        assert len({str(option) for option in options}) == 4
        true = BY_NAME[task.entities[0]].values[task.column]
        assert options["ABCD".index(task.gold)] == true
        if isinstance(true, Quantity):
            values = [r.values[task.column] for r in RECORDS]
            spread = sorted({value.number for value in values if value is not None})
            places = [spread.index(option.number) for option in options]
            assert max(places) - min(places) <= 24
    letters = [task.gold for task in tasks("mcq", 100)]
    assert all(letters.count(letter) > 10 for letter in "ABCD")


def test_few_records_give_few_tasks() -> None:
    rng = random.Random(0)
    assert list(FORMS_OF.make("mcq", RECORDS[:2], 10, rng)) == []
    assert list(FORMS_OF.make("comparison", RECORDS[:1], 10, rng)) == []
    assert list(FORMS_OF.make("qa", [], 10, rng)) == []
    assert 0 < len(list(FORMS_OF.make("qa", RECORDS[:1], 50, rng))) < 50


def _size(value: object) -> object:
    return value.number if isinstance(value, Quantity) else value
