"""Environments of others: made, asked and checked behind walls, in InternBootcamp's shape."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks import registry
from s1pro.tasks.confined.parent import Walls
from s1pro.tasks.generated.foreign import ForeignTask, located
from s1pro.tasks.judges.pool import JudgeConfig, JudgePool
from tests.tasks.confined.test_confined import needs_walls

SOURCE = """
import random
import time

from beside import SECRET


class Sums:
    def case_generator(self):
        return {"a": random.randint(0, 999), "b": random.randint(0, 999), "secret": SECRET}

    @staticmethod
    def prompt_func(case):
        return f"{case['a']} + {case['b']} = ? Put the answer in [[ ]]."

    @staticmethod
    def extract_output(output):
        return output.split("[[")[-1].split("]]")[0] if "[[" in output else None

    @classmethod
    def verify_score(cls, model_output, identity, format_score=0, short_penalty=True, short_threshold=99,
                     format_penalty=True):
        if "hang" in model_output:
            time.sleep(600)
        if "crash" in model_output:
            import ctypes
            ctypes.string_at(0)
        if "leak" in model_output:
            x = bytearray(1 << 34)
        if "raise" in model_output:
            raise RuntimeError(model_output)
        if "spy" in model_output:
            open("/etc/passwd").read()
        if "huge" in model_output:
            return 7.0
        answer = cls.extract_output(model_output)
        score = float(answer is not None and answer.strip() == str(identity["a"] + identity["b"]))
        if short_penalty and len(model_output) < short_threshold:
            score *= len(model_output) / short_threshold
        if format_penalty and not model_output.startswith("<think>"):
            score -= 1
        return score


def make_sums():
    return Sums()


class Silent:
    def case_generator(self):
        return {"x": object()}

    def prompt_func(self, case):
        return ""

    def verify_score(self, output, case):
        return 0
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environments")
    (folder / "sums.py").write_text(SOURCE, encoding="utf-8")
    (folder / "beside.py").write_text("SECRET = 5\n", encoding="utf-8")
    return folder / "sums.py"


@needs_walls
def test_an_environment_is_asked_and_answers_are_checked(file: Path) -> None:
    task = ForeignTask(f"{file}:Sums", num_items=12, walls=Walls(seconds=5.0, memory_mb=256))
    assert len(task.items()) == 12
    item = task.items()[0]
    case = item.asked["case"]
    assert case["secret"] == 5 and task.prompt(item).messages[-1].text.startswith(f"{case['a']} + {case['b']}")
    right = f"[[{case['a'] + case['b']}]]"

    def score(response: str) -> tuple[float, bool, float]:
        found = asyncio.run(task.score(item, response))
        return found.value, found.valid, found.parts["verified"]

    assert score(right) == (1.0, True, 1.0)  # its own terms for length and form are switched off
    assert score(f"<think>[[1]]</think>{right}") == (1.0, True, 1.0)
    assert score("[[-1]]") == (0.0, True, 1.0)
    assert score("no idea") == (0.0, False, 1.0)
    assert score("huge") == (1.0, False, 1.0)
    for trouble in ("hang", "crash", "leak", "raise", "spy"):
        assert score(trouble) == (0.0, False, 0.0), trouble
    assert score(right) == (1.0, True, 1.0)  # nobody else pays
    again = ForeignTask(f"{file}:make_sums", num_items=12)
    assert len(again.items()) == 12


@needs_walls
def test_cases_stay_and_splits_do_not_meet(file: Path) -> None:
    name = f"{file}:Sums"
    learned = registry.for_learning(name, num_items=40, seed=3)
    held_out = registry.get(name, num_items=10, seed=3)
    assert [i.asked for i in registry.get(name, num_items=10, seed=3).items()] == [i.asked for i in held_out.items()]
    asked = [{str(item.asked["case"]) for item in task.items()} for task in (learned, held_out)]
    assert [len(some) for some in asked] == [40, 10] and not asked[0] & asked[1]


@needs_walls
def test_judges_in_processes_can_score_it(file: Path) -> None:
    """Walls inside a limited process: the task is pickled, and starts its own confined one there."""
    task = ForeignTask(f"{file}:Sums", num_items=2)
    item = pickle.loads(pickle.dumps(task)).items()[0]  # noqa: S301
    pool = JudgePool({task.name: task}, JudgeConfig(processes=1, seconds=100.0))
    right = f"[[{item.asked['case']['a'] + item.asked['case']['b']}]]"

    async def verdicts() -> list[float | None]:
        found = [await pool.score(task.name, item, response) for response in (right, "raise", "[[0]]")]
        return [None if verdict.score is None else verdict.score.value for verdict in found]

    try:
        assert asyncio.run(verdicts()) == [1.0, 0.0, 0.0]
    finally:
        pool.close()


@needs_walls
def test_what_makes_no_cases_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"makes no cases.*not JSON serializable"):
        ForeignTask(f"{file}:Silent")
    with pytest.raises(InputError, match=r"makes no cases.*has no attribute 'Nothing'"):
        ForeignTask(f"{file}:Nothing")


def test_names(tmp_path: Path) -> None:
    assert located("json.decoder:JSONDecoder") == ("json.decoder:JSONDecoder", None)
    (tmp_path / "a-b.py").write_text("", encoding="utf-8")
    for name, message in (
        ("missing.py:A", "there is no file"),
        (f"{tmp_path}/a-b.py:A", "cannot be imported; rename it"),
        ("no_such_package.x:A", "there is no package 'no_such_package'"),
        ("json:", "name an environment as"),
        (":A", "name an environment as"),
    ):
        with pytest.raises(InputError, match=message):
            located(name)


@needs_walls
def test_cases_that_are_no_objects_are_named(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        "class Bare:\n"
        "    def case_generator(self): return 5\n"
        "    def prompt_func(self, case): return 'x'\n"
        "    @classmethod\n"
        "    def verify_score(cls, output, case): return 1.0\n"
    )
    with pytest.raises(InputError, match="gave no JSON object that belongs to the split"):
        ForeignTask(f"{tmp_path / 'bare.py'}:Bare")
