from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.eval.answers import AnswerFile
from s1pro.eval.prompts import digest
from s1pro.eval.runner import EvalSettings, run
from s1pro.tasks.task import Item, Prompt, Score


class Doubling:
    """Answer a number with its double; wrong but numeric answers are valid, words are not."""

    def __init__(self, name: str = "doubling", count: int = 12, wording: str = "Double") -> None:
        self.name, self.count, self.wording = name, count, wording

    def items(self) -> Sequence[Item]:
        return [make_item(i) for i in range(self.count)]

    def prompt(self, item: Item) -> Prompt:
        return Prompt(messages=(Message(role="user", content=f"{self.wording} {item.id}"),))

    async def score(self, item: Item, response: str) -> Score:
        valid = response.isdigit()
        right = valid and int(response) == 2 * int(item.id)
        return Score(value=float(right), extraction=int(response) if valid else None, valid=valid, parts={})

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {"right": float(sum(s.value for s in scores))}

    def baselines(self) -> Mapping[str, Mapping[str, str]]:
        return {
            "constant": {item.id: "4" for item in self.items()},
            "copy": {item.id: item.id for item in self.items()},
        }


def make_item(i: int) -> Item:
    return Item(id=str(i))


class Model:
    """Doubles correctly below `skill`; can break down after some answers."""

    def __init__(self, skill: int, breaks_after: int | None = None) -> None:
        self.skill, self.breaks_after = skill, breaks_after
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        number = int(str(messages[-1].content).split()[-1])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
            raise ConnectionError("gone")
        self.asked.append(str(number))
        return Completion(
            text=str(2 * number) if number < self.skill else "no idea", finish_reason="stop", token_ids=(1, 2)
        )

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        raise AssertionError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise AssertionError


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_scores_and_results(tmp_path: Path) -> None:
    good, bad = Model(skill=9), Model(skill=3)
    [result] = run([Doubling()], good, tmp_path, reference=bad, concurrency=4)
    assert good.most_at_once == 4
    assert result.score.value == 9 / 12 and result.num_valid == 9
    assert result.metrics == {"right": 9.0}
    assert result.reference is not None and result.reference.value == 3 / 12
    assert result.difference is not None and result.difference.wins == 6 and result.difference.significant
    answers = lines(tmp_path / "answers" / "doubling.jsonl")
    assert sorted(int(a["id"]) for a in answers) == list(range(12))
    assert next(a for a in answers if a["id"] == "3") == {
        "id": "3",
        "prompt": [{"role": "user", "content": "Double 3"}],
        "response": "6",
        "score": 1.0,
        "valid": True,
        "extraction": 6,
        "parts": {},
        "finish_reason": "stop",
        "num_tokens": 2,
        "num_prompt_tokens": 0,
        "status": "answered",
        "error": "",
        "digest": digest([{"role": "user", "content": "Double 3"}]),
    }
    assert {name: baseline.value for name, baseline in result.baselines.items()} == {"constant": 1 / 12, "copy": 1 / 12}
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["tasks"][0]["score"]["value"] == 0.75
    assert saved["settings"]["sampling"]["temperature"] == 0.0
    score = result.task_score("untrained")
    assert score.beats_baselines and list(score.baselines) == ["untrained", "constant", "copy"]


def test_an_interrupted_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    first = Model(skill=9, breaks_after=5)
    with pytest.raises(ConnectionError, match="gone"):
        run([Doubling()], first, tmp_path, concurrency=2)
    path = tmp_path / "answers" / "doubling.jsonl"
    kept = lines(path)
    assert len(kept) == 5
    data = path.read_bytes()
    path.write_bytes(data[:-7])  # killed in the middle of a line
    second = Model(skill=9)
    [result] = run([Doubling()], second, tmp_path)
    assert sorted([*(a["id"] for a in kept[:4]), *second.asked], key=int) == [str(i) for i in range(12)]
    clean = run([Doubling()], Model(skill=9), tmp_path / "clean")
    assert [result] == clean


def test_reading_leaves_a_line_that_is_being_written_alone(tmp_path: Path) -> None:
    run([Doubling()], Model(skill=9), tmp_path)
    path = tmp_path / "answers" / "doubling.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    before = path.read_bytes()
    assert len(AnswerFile(path).answers) == 11
    assert path.read_bytes() == before


def test_a_larger_limit_only_asks_for_more(tmp_path: Path) -> None:
    model = Model(skill=9)
    assert run([Doubling()], model, tmp_path, limit=4)[0].score.num_items == 4
    assert run([Doubling()], model, tmp_path)[0].score.num_items == 12
    assert len(model.asked) == 12


def test_other_settings_are_refused_unless_overwritten(tmp_path: Path) -> None:
    run([Doubling()], Model(skill=9), tmp_path)
    warm = EvalSettings(sampling=Sampling(temperature=0.5))
    with pytest.raises(InputError, match=r"sampling.temperature: 0.0 there, 0.5 now"):
        run([Doubling()], Model(skill=2), tmp_path, settings=warm)
    [result] = run([Doubling()], Model(skill=2), tmp_path, settings=warm, overwrite=True)
    assert result.score.value == 2 / 12
    shutil.rmtree(tmp_path / "answers")
    (tmp_path / "answers").mkdir()
    run([Doubling()], Model(skill=9), tmp_path)  # no answers left: the folder is free


def test_changed_questions_are_refused(tmp_path: Path) -> None:
    run([Doubling()], Model(skill=9), tmp_path)
    with pytest.raises(InputError, match="another prompt"):
        run([Doubling(wording="Twice")], Model(skill=9), tmp_path)


@pytest.mark.parametrize("line", ["no json\n", '{"id": "1"}\n', "[]\n", "\udcff\n"])
def test_damaged_answer_files_are_errors_that_name_the_line(tmp_path: Path, line: str) -> None:
    run([Doubling()], Model(skill=9), tmp_path)
    path = tmp_path / "answers" / "doubling.jsonl"
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line)
    with pytest.raises(InputError, match=r"doubling.jsonl, line 13"):
        run([Doubling()], Model(skill=9), tmp_path)


def test_two_answers_to_one_item_are_an_error(tmp_path: Path) -> None:
    run([Doubling()], Model(skill=9), tmp_path)
    path = tmp_path / "answers" / "doubling.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="second answer"):
        run([Doubling()], Model(skill=9), tmp_path)


@pytest.mark.parametrize(("settings", "message"), [({"limit": 0}, "limit"), ({"concurrency": 0}, "concurrency")])
def test_bad_numbers_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run([Doubling()], Model(skill=9), tmp_path, **settings)


def test_a_task_without_items_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no items"):
        run([Doubling(count=0)], Model(skill=9), tmp_path)
