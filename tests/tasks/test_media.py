from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.science.media import Choice, Formula, Reading
from s1pro.science.media_families import media_families
from s1pro.science.molecules import Molecule
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain
from s1pro.tasks import registry
from s1pro.tasks.chemistry import TASKS
from s1pro.tasks.media import MediaTask
from s1pro.tasks.task import HasBaselines

NAMES = tuple(
    name
    for name in registry.names("image", "video", "signal")
    if name != "trend_in_recording" or importlib.util.find_spec("statsmodels")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def tasks(molecules: tuple[Molecule, ...], folder: Path) -> dict[str, MediaTask]:
    found = {name: registry.get(name, molecules=molecules, num_items=24, folder=folder) for name in NAMES}
    assert all(isinstance(task, MediaTask) for task in found.values())
    return found  # type: ignore[return-value]


def test_the_table_names_every_task_once_and_every_science() -> None:
    table = registry.table()
    assert len({entry.name for entry in table}) == len(table) and registry.names() == tuple(e.name for e in table)
    assert registry.names("text") == tuple(TASKS)
    assert {entry.name: entry.domain for entry in table if entry.modality == "text"} == dict.fromkeys(
        TASKS, "chemistry"
    )
    assert {entry.modality for entry in table} == {"text", "image", "video", "signal"}
    domains = {entry.domain for entry in table}
    assert domains == {"chemistry", "materials", "life", "earth", "physics", "pictures"}
    assert set(NAMES) <= set(registry.names()) and set(registry.names()) == {*TASKS, *media_families()}


@pytest.mark.parametrize("name", NAMES)
def test_items_have_media_on_disk_and_right_answers_score_one(
    name: str, tasks: dict[str, MediaTask], molecules: tuple[Molecule, ...], folder: Path
) -> None:
    task = tasks[name]
    assert len({item.id for item in task.items()}) == len(task.items()) <= 24
    again = registry.get(name, molecules=molecules, num_items=24, folder=folder)
    assert again.items() == task.items()
    seen = set()
    for item in task.items():
        prompt = task.prompt(item)
        assert prompt == again.prompt(item) and prompt.media == ()
        system, user = prompt.messages
        assert (system.role, system.content) == ("system", SYSTEM_PROMPTS[group_of_domain(task.family.domain)])
        medium, text = user.content
        kind = {"image": "image", "video": "video", "signal": "time_series"}[task.family.modality]
        assert medium["type"] == kind and text["type"] == "text" and user.text == text["text"]
        path = Path(medium[kind])
        assert path.is_absolute() and path.is_relative_to(folder.resolve()) and path.is_file()
        assert not isinstance(task.family.answer, Choice) or task.expected(item) in task.family.answer.labels
        seen.add((path.name, tuple((k, v) for k, v in item.asked.items() if k != "medium")))
        score = asyncio.run(task.score(item, task.expected(item)))
        assert score.value == 1.0 and score.valid
        wordy = task.grade(item.answer, f"<think>hm</think>I would say {task.expected(item)}.")
        assert wordy.value == 1.0
    assert len(seen) == len(task.items())


@pytest.mark.parametrize("name", NAMES)
def test_baselines_are_weak_and_cover_every_item(name: str, tasks: dict[str, MediaTask]) -> None:
    task = tasks[name]
    assert isinstance(task, HasBaselines)
    baselines = task.baselines()
    assert set(baselines) == {"constant"} | ({"constant by kind"} if task.family.kind else set())
    assert len(set(baselines["constant"].values())) == 1 and baselines == task.baselines()
    for answers in baselines.values():
        assert set(answers) == {item.id for item in task.items()}
        values = [task.grade(item.answer, answers[item.id]).value for item in task.items()]
        assert np.mean(values) <= 0.55


def test_wordings_are_held_out_where_asked(tasks: dict[str, MediaTask], folder: Path) -> None:
    family = tasks["chirp_in_signal"].family
    other = MediaTask(family, folder, num_items=8, held_out_wordings=True)
    for item in other.items():
        question = other.prompt(item).messages[1].text
        assert any(template.parse(question) is not None for template in family.questions.held_out)
        assert all(template.parse(question) is None for template in family.questions.training)
    assert [i.asked for i in other.items()] == [i.asked for i in tasks["chirp_in_signal"].items()[:8]]


def test_metrics_of_labels_need_all_scores(tasks: dict[str, MediaTask]) -> None:
    task = tasks["chirp_in_signal"]
    right = [task.grade(item.answer, item.answer["text"]) for item in task.items()]
    assert task.aggregate(right) == {"valid": 1.0, "accuracy": 1.0, "macro F1": 1.0, "MCC": 1.0}
    constant = task.aggregate([task.grade(item.answer, "rising") for item in task.items()])
    assert constant["accuracy"] == pytest.approx(1 / 3) and constant["MCC"] == 0
    assert constant["macro F1"] == pytest.approx(1 / 6)
    unread = task.aggregate([task.grade(item.answer, "rising or falling") for item in task.items()])
    assert unread["valid"] == unread["accuracy"] == unread["macro F1"] == 0


def test_readings_counts_and_formulas_are_graded(tasks: dict[str, MediaTask]) -> None:
    plot = tasks["value_in_plot"]
    assert isinstance(plot.family.answer, Reading)
    answer = {"text": "2.50 g/cm3", "value": 2.5, "tolerance": 0.02}
    grades = [plot.grade(answer, text) for text in ("2.504 g/cm3", "about 2.515 g/cm3", "2.53 g/cm3", "none")]
    assert [(g.value, g.parts["close"], g.valid) for g in grades] == [
        (1, 1, True),
        (1, 0, True),
        (0, 0, True),
        (0, 0, False),
    ]
    rings = tasks["rings_in_depiction"]
    assert [rings.grade({"text": "1"}, text).value for text in ("one ring", "2", "C6H6")] == [1, 0, 0]
    assert rings.grade({"text": "1"}, "2").parts == {"within one": 1.0}
    formula = tasks["formula_in_depiction"]
    assert isinstance(formula.family.answer, Formula)
    grade = formula.grade({"text": "C2H6O"}, "C2H4O")
    assert grade.value == 0 and grade.parts["elements"] == pytest.approx(2 / 3)
    assert not formula.grade({"text": "C2H6O"}, "?").valid


@settings(max_examples=60, deadline=None)
@given(response=st.text(max_size=60) | st.text(alphabet="0123456789.eE+-risngfal yeo,", max_size=40))
def test_no_response_breaks_a_task(response: str, tasks: dict[str, MediaTask]) -> None:
    for task in tasks.values():
        score = task.grade(task.items()[0].answer, response)
        assert 0 <= score.value <= 1 and (score.valid or score.value == 0)


def test_training_examples_are_not_asked_about(tasks: dict[str, MediaTask], folder: Path) -> None:
    with pytest.raises(InputError, match="held-out"):
        MediaTask(tasks["chirp_in_signal"].family, folder, split="train")
    with pytest.raises(InputError, match="held-out"):
        registry.get("chirp_in_signal", split="train", folder=folder)
    few = registry.get("recording_in_signal", num_items=10_000, folder=folder)
    assert 10 < len(few.items()) < 2_000
