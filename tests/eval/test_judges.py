"""A judge in a run: its own endpoint, its record, and a run that was judged later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.cli import main
from s1pro.eval.answers import Answer
from s1pro.eval.results import task_result
from s1pro.eval.runner import run as run_tasks
from s1pro.tasks.benchmarks.spec import BenchmarkTask
from s1pro.tasks.benchmarks.with_judge import SFE
from s1pro.tasks.judging import Judge
from s1pro.tasks.task import Item, Score
from tests.fake_endpoint import FakeEndpoint, Reply

PICTURE = "iVBORw0KGgo" + "A" * 80
REPLIES = {"Q0": "B", "Q1": "the animal howls", "Q2": "it purrs"}


def model(number: int, path: str, body: dict[str, Any]) -> Reply | str:
    text = body["messages"][-1]["content"][-1]["text"]
    return REPLIES[text.split("\n")[0]]


def judge(number: int, path: str, body: dict[str, Any]) -> Reply | str:
    return "B" if "howls" in str(body["messages"]) else "It is neither."


def results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


def test_a_judge_reads_what_rules_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["index\tquestion\tA\tB\tanswer\timage", *(f"{i}\tQ{i}\tfox\twolf\tB\t{PICTURE}" for i in range(3))]
    (tmp_path / "MicroVQA.tsv").write_text("\n".join(rows))
    with FakeEndpoint(model) as asked, FakeEndpoint(judge) as second:
        run = ["eval", "--url", asked.url, "--model", "m", "--benchmark", "microvqa", "--data", str(tmp_path)]
        run += ["--output", str(tmp_path / "run")]
        assert main(run) == 0
        assert results(tmp_path / "run")["tasks"][0]["metrics"]["compat"] == pytest.approx(100 / 3)
        judged = [*run, "--judge-url", second.url, "--judge-model", "j/1"]
        for _ in range(2):  # the second time nobody is asked
            assert main(judged) == 0
            assert (len(asked.requests), len(second.requests)) == (3, 2)
        found = results(tmp_path / "run")
        metrics = found["tasks"][0]["metrics"]
        assert metrics["compat"] == pytest.approx(200 / 3) and metrics["strict"] == pytest.approx(100 / 3)
        assert (metrics["judge.asked"], metrics["judge.unreadable"], metrics["judge.failed"]) == (2, 1, 0)
        assert found["judge"] == {
            "model": "j/1", "read": 1, "unreadable": 1, "failed": 0, "num_prompt_tokens": 20, "num_tokens": 10,
        }  # fmt: skip
        assert "Judge j/1: 1 verdicts, 1 unreadable, 0 failed" in capsys.readouterr().out
        lines = [json.loads(line) for line in (tmp_path / "run" / "judge" / "j-1.jsonl").read_text().splitlines()]
        assert {line["status"] for line in lines} == {"read", "unreadable"} and all(line["prompt"] for line in lines)
        facts = found["tasks"][0]["facts"]
        assert not any("upstream asks a judge" in defect for defect in facts["defects"])
        assert any("judge: j/1" in note for note in facts["notes"])


def test_own_questions_are_judged_and_failures_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.csv").write_text("question,answer\nWhy is it red?,heat\nWhy is it blue?,cold\nWhy?,rain\n")
    away = [True]

    def says(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        text = str(body["messages"])
        if "red" in text and away:
            return Reply(status=400, body="too busy")
        return "A" if "red" in text or "blue" in text else "I would say so"

    with FakeEndpoint(lambda number, path, body: "because of it") as asked, FakeEndpoint(says) as second:
        run = ["eval", "--url", asked.url, "--model", "m", "--file", str(tmp_path / "own.csv"), "--metric", "judge"]
        assert main([*run, "--output", str(tmp_path / "run")]) == 2
        assert "own needs a judge" in capsys.readouterr().err
        run += ["--judge-url", second.url, "--judge-model", "j", "--output", str(tmp_path / "run")]
        assert main(run) == 0
        metrics = results(tmp_path / "run")["tasks"][0]["metrics"]
        assert metrics["score"] == pytest.approx(1 / 3)
        assert (metrics["judge.asked"], metrics["judge.unreadable"], metrics["judge.failed"]) == (3, 1, 1)
        away.clear()
        assert main(run) == 0
        found = results(tmp_path / "run")
        assert found["tasks"][0]["metrics"]["score"] == found["tasks"][0]["score"]["value"] == pytest.approx(2 / 3)
        assert (found["judge"]["failed"], found["judge"]["read"]) == (0, 2) and len(asked.requests) == 3
    command = ["eval", "--file", str(tmp_path / "own.csv"), "--metric", "judge", "--lm-eval", str(tmp_path / "t")]
    assert main(command) == 2 and "cannot be handed over" in capsys.readouterr().err


class Counting:
    """A judge that gives full marks, or a model that is away, and counts what it is asked."""

    def __init__(self, reply: str | None) -> None:
        self.reply, self.asked = reply, 0

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.asked += 1
        if self.reply is None:
            raise EndpointError("away")
        return Completion(text=self.reply, finish_reason="stop")

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        raise AssertionError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise AssertionError


class AsksAboutSilence(BenchmarkTask):
    """A task that has everything judged, even nothing."""

    async def score(self, item: Item, response: str) -> Score:
        if self.judge is not None:
            await self.judge.ask(f"How good is {response or '(nothing)'}?", str, (0.0,))
        return self.grade(item, response)


def open_questions(kind: type[BenchmarkTask], judge: Counting) -> BenchmarkTask:
    records = [
        {"id": i, "question": "Why?", "question_type": "open_ended", "answer": "heat", "image": PICTURE}
        for i in range(2)
    ]
    task = kind(SFE, SFE.subtasks[0], records)
    task.judge = Judge(client=judge, model="j")
    return task


def test_what_never_came_is_not_judged(tmp_path: Path) -> None:
    second = Counting("9")
    task = open_questions(AsksAboutSilence, second)
    [result] = run_tasks([task], Counting(None), tmp_path / "run")
    assert (result.num_failed, result.num_valid, result.score.value, second.asked) == (2, 0, 0.0, 0)
    assert (result.metrics["judge.asked"], result.metrics["compat"], result.metrics["strict"]) == (0, 0, 0)
    assert task.judge is not None and not task.judge.verdicts


def test_what_an_answer_file_marks_as_failed_is_not_judged() -> None:
    second = Counting("9")
    task = open_questions(BenchmarkTask, second)
    common: dict[str, Any] = {"prompt": [], "score": 0.0, "extraction": None, "parts": {}, "num_tokens": 0}
    common |= {"valid": False, "finish_reason": "abort"}
    answers = [
        Answer(id="0", response="It is hot.", **common),
        Answer(id="1", response="Half a sent", status="failed", error="cut", **common),
    ]
    result = asyncio.run(task_result(task, task.items(), [answers]))
    assert (second.asked, result.num_failed, result.num_valid) == (1, 1, 1)
    assert (result.metrics["judge.asked"], result.metrics["n_total"]) == (1, 2)
    assert result.score.value == 0.5 and result.metrics["compat"] == 50.0
    assert task.judge is not None and task.judge.totals.read == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "sfe/en"], "sfe/en needs a judge: give --judge-url and --judge-model"),
        (
            ["--benchmark", "aime-2025", "--judge-url", "http://h/v1", "--judge-model", "j"],
            "none of these tasks asks a judge",
        ),
        (["--benchmark", "sfe/en", "--judge-url", "http://h/v1"], "--judge-url and --judge-model belong together"),
    ],
)
def test_what_does_not_go_together(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = "index\tquestion\tquestion_type\tanswer\timage\n0\tWhy?\topen_ended\theat\t"
    (tmp_path / "SFE.tsv").write_text(fields + PICTURE)
    (tmp_path / "aime2025.jsonl").write_text(json.dumps({"question": "x?", "answer": "3"}) + "\n")
    common = ["eval", "--url", "http://localhost:1/v1", "--model", "m", "--data", str(tmp_path)]
    assert main([*common, *arguments, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
