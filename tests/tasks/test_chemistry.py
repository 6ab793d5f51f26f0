from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.science.molecules import Molecule
from s1pro.science.questions import QUESTIONS, answer_text
from s1pro.science.split import select
from s1pro.science.system_prompts import SYSTEM_PROMPTS
from s1pro.tasks import registry
from s1pro.tasks.chemistry import TASKS, ChemistryTask
from s1pro.tasks.task import HasBaselines, Item


def item(task: ChemistryTask, **asked: object) -> Item:
    return Item(id="x", asked=asked, answer=task.items()[0].answer)


@pytest.fixture(scope="module")
def tasks(molecules: Sequence[Molecule]) -> dict[str, ChemistryTask]:
    return {name: registry.get(name, molecules=molecules, num_items=40) for name in registry.names("text")}


def mean(task: ChemistryTask, answers: dict[str, str]) -> float:
    return sum(task.grade(i, answers[i.id]).value for i in task.items()) / len(task.items())


@pytest.mark.parametrize("name", TASKS)
def test_the_right_answer_scores_one(name: str, tasks: dict[str, ChemistryTask]) -> None:
    task = tasks[name]
    assert len({i.id for i in task.items()}) == len(task.items()) == 40
    for one in task.items():
        score = asyncio.run(task.score(one, answer_text(task.family, one.answer)))
        assert score.value == 1.0 and score.valid
        prompt = task.prompt(one)
        assert prompt == task.prompt(one)
        system, user = prompt.messages
        assert (system.role, system.content, user.role) == ("system", SYSTEM_PROMPTS["science"], "user")
        assert QUESTIONS[task.family].parse(str(user.content)) == one.asked


@pytest.mark.parametrize("name", TASKS)
def test_only_held_out_molecules_are_asked_about(name: str, molecules: Sequence[Molecule]) -> None:
    task = registry.get(name, molecules=molecules, num_items=40)
    test_names = {m.name for m in select(molecules, "test")}
    assert {i.answer["name"] for i in task.items()} <= test_names
    shuffled = random.Random(1).sample(molecules, len(molecules))
    assert registry.get(name, molecules=shuffled, num_items=40).items() == task.items()
    assert registry.get(name, molecules=molecules, num_items=40, seed=1).items() != task.items()
    other = registry.get(name, molecules=molecules, num_items=40, held_out_wordings=True)
    held_out = QUESTIONS[task.family].held_out
    for one in other.items():
        assert any(template.parse(str(other.prompt(one).messages[1].content)) for template in held_out)


@pytest.mark.parametrize("name", TASKS)
def test_baselines_are_weak_and_cover_every_item(name: str, tasks: dict[str, ChemistryTask]) -> None:
    task = tasks[name]
    assert isinstance(task, HasBaselines)
    baselines = task.baselines()
    assert {"constant", "copy"} <= set(baselines)
    assert len(set(baselines["constant"].values())) == 1
    for answers in baselines.values():
        assert set(answers) == {i.id for i in task.items()}
        assert mean(task, dict(answers)) <= (0.7 if name == "group_in_smiles" else 0.5)
    assert mean(task, dict(baselines["copy"])) <= 0.05
    assert task.baselines() == baselines


def test_wrong_answers_and_their_parts(tasks: dict[str, ChemistryTask]) -> None:
    task = tasks["formula_from_name"]
    one = Item(id="x", asked={"name": "ethanol"}, answer={"atoms": {"C": 2, "H": 6, "O": 1}})
    score = task.grade(one, "C2H4O")
    assert score.value == 0 and score.valid and score.parts == {"elements": pytest.approx(2 / 3), "carbon": 1.0}
    assert task.grade(one, "ethanol").valid is False
    one = Item(id="x", answer={"mass": 100.0})
    grades = [tasks["mass_from_smiles"].grade(one, f"{mass} g/mol") for mass in (100.9, 104.9, 105.2)]
    assert [(g.value, g.parts["within 1 %"]) for g in grades] == [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
    grade = tasks["count_in_smiles"].grade(Item(id="x", answer={"count": 4}), "5")
    assert grade.value == 0 and grade.parts == {"within one": 1.0}


def test_generated_molecules_must_be_readable_and_meet_both_constraints(tasks: dict[str, ChemistryTask]) -> None:
    task = tasks["smiles_with_group"]
    one = Item(id="x", asked={"carbon": 3, "group": "alcohol"})
    good = task.grade(one, "<SMILES>CCCO</SMILES>")
    assert good.value == 1 and good.parts["carbon"] == good.parts["group"] == 1
    assert task.grade(one, "OCCC").extraction == "OCCC"
    for response, parts in (
        ("<SMILES>CCO</SMILES>", {"carbon": 0.0, "group": 1.0}),
        ("<SMILES>CCC</SMILES>", {"carbon": 1.0, "group": 0.0}),
    ):
        score = task.grade(one, response)
        assert score.value == 0 and score.valid and {k: score.parts[k] for k in parts} == parts
    for response in ("<SMILES>CCC(</SMILES>", "CC.CO", "[CH2]CCO", "[NH4+]", "3", "", "C3H8O", "an alcohol"):
        score = task.grade(one, response)
        assert score.value == 0 and not score.valid


@settings(max_examples=60, deadline=None)
@given(response=st.text(max_size=60) | st.text(alphabet="CNO()=#[]123+-<>/SMILES.", max_size=60))
def test_no_response_breaks_a_task(response: str, tasks: dict[str, ChemistryTask]) -> None:
    for task in tasks.values():
        score = task.grade(task.items()[0], response)
        assert 0 <= score.value <= 1


def test_hostile_responses_cost_little(tasks: dict[str, ChemistryTask]) -> None:
    start = time.process_time()
    for response in ("C1" * 200, "(" * 100_000, "<SMILES>" * 10_000, "C" * 399, "9" * 10_000, "c1ccccc1" * 49):
        for task in tasks.values():
            task.grade(task.items()[0], response)
    assert time.process_time() - start < 20  # an explosion, not a speed


def test_aggregates_are_means(tasks: dict[str, ChemistryTask]) -> None:
    task = tasks["count_in_smiles"]
    scores = [task.grade(i, str(i.answer["count"] + n % 2)) for n, i in enumerate(task.items())]
    assert task.aggregate(scores) == {"valid": 1.0, "within one": 1.0}
    with pytest.raises(ValueError, match="nothing to aggregate"):
        task.aggregate([])


def test_bad_requests_are_named(molecules: Sequence[Molecule]) -> None:
    with pytest.raises(InputError, match="no such task: 'colour'; known: formula_from_name"):
        registry.get("colour", molecules=molecules)
    with pytest.raises(InputError, match="held-out"):
        registry.get("count_in_smiles", molecules=molecules, split="train")
    with pytest.raises(InputError, match="in the training and the test split"):
        ChemistryTask("count_in_smiles", test=molecules, train=molecules)
    with pytest.raises(InputError, match="give only"):
        registry.get("mass_from_smiles", molecules=molecules, num_items=10_000)
