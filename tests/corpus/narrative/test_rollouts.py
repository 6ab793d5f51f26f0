"""A scripted model in place of a server: what is kept, what is rejected and why, and that nothing is asked twice."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.cli import corpus_narrative
from s1pro.corpus.narrative.build import make_tasks, split_records
from s1pro.corpus.narrative.judging import chain_of, choose, pass_at_k
from s1pro.corpus.narrative.rollouts import (
    ANSWERED,
    RolloutReport,
    RolloutSettings,
    read_attempts,
    rollout_folder,
)
from s1pro.corpus.narrative.sources import Loaded
from s1pro.corpus.write import check_isolation
from s1pro.data.samples import read_samples
from s1pro.science.facts.forms import Task
from s1pro.science.facts.grammar import Grammar
from tests.corpus.narrative.test_sources import write_table
from tests.science.facts.alloys import ALLOYS, alloy_records, alloy_schema

LOADED = Loaded(schema=alloy_schema(), records=tuple(alloy_records(200)), read=200)
CHAIN = "The table lists castings of one melt, and among them the one that is asked for; its row is read off with care."
Reply = Callable[[Task, int], Completion]


def all_tasks(settings: RolloutSettings) -> dict[str, Task]:
    """Tasks by prompt, made again on our own."""
    grammar = Grammar(LOADED.schema)
    records = split_records(LOADED.records)["train"]
    share = -(-settings.tasks // len(settings.forms))
    made = [t for form in settings.forms for t in make_tasks(grammar, form, records, share, "train", settings.seed)]
    return {task.prompt: task for task in made}


class Scripted:
    """Answers by a function of task and number of the call for it."""

    def __init__(self, settings: RolloutSettings, reply: Reply, *, fail_after: int | None = None) -> None:
        self.tasks, self.reply, self.fail_after = all_tasks(settings), reply, fail_after
        self.calls: list[tuple[str, Sampling]] = []
        self.seen: dict[str, int] = {}
        self.under_way = self.most = 0

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise ConnectionError("the server is gone")
        assert [m.role for m in messages] == ["system", "user"] and messages[0].text == "You are a scientist."
        prompt = messages[1].text.split("\n\nReason step by step")[0]
        task = self.tasks[prompt]
        assert task.answer not in messages[1].text or task.form in ("mcq", "comparison", "ranking", "inverse")
        self.calls.append((prompt, sampling))
        number = self.seen[prompt] = self.seen.get(prompt, -1) + 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return self.reply(task, number)


def run(folder: Path, client: Scripted, settings: RolloutSettings) -> RolloutReport:
    return asyncio.run(rollout_folder(folder, LOADED, client, settings))


def said(text: str, finish: str = "stop", reasoning: str | None = None) -> Completion:
    return Completion(text=text, finish_reason=finish, reasoning_content=reasoning)  # type: ignore[arg-type]


def test_only_right_and_honest_answers_are_kept(tmp_path: Path) -> None:
    settings = RolloutSettings(tasks=21, samples=6, ks=(1, 2, 6), keep=2)

    def reply(task: Task, number: int) -> Completion:
        return [
            said(f"{CHAIN}\nAnswer: {task.answer}"),
            said(f"Answer: {task.answer}"),
            said(f"{CHAIN}\nAnswer: {task.answer}", "length"),
            said(f"The answer is {task.answer}. {CHAIN * 3}\nAnswer: {task.answer}"),
            said(f"{CHAIN}\nAnswer: 0.123 furlong"),
            said(f"Answer: {task.answer}", reasoning=CHAIN + " Another way of telling it, at more length than before."),
        ][number]

    client = Scripted(settings, reply)
    report = run(tmp_path, client, settings)
    assert report.tasks == 21 and report.attempts == report.asked == 126 == sum(report.reasons.values())
    assert report.reasons["right"] == 42 and report.reasons["cut_off"] == 21 and report.reasons["no_reasoning"] == 21
    assert report.reasons["answer_first"] == 21 and report.solved == 21 and report.kept == 42
    assert report.pass_at["pass@1"] == pytest.approx(2 / 6) and report.pass_at["pass@6"] == 1.0
    assert report.pass_at["pass@2"] == pytest.approx(1 - math.comb(4, 2) / math.comb(6, 2))
    assert client.most <= settings.concurrency
    samples = list(read_samples(tmp_path / "rollouts" / "train.parquet"))
    assert len(samples) == 42
    tasks = all_tasks(settings)
    for sample in samples:
        check_isolation(sample)
        assert sample.messages is not None
        _, user, assistant = sample.messages
        assert assistant.content == tasks[user.text].answer and assistant.reasoning_content is not None
        assert assistant.reasoning_content.startswith(CHAIN) and "Answer:" not in assistant.reasoning_content
        assert sample.meta["answer_conditioned"] is False and sample.meta["solved"] == 2
    seeds = {sampling.seed for _, sampling in client.calls}
    assert len(seeds) == 126  # every sample is drawn on its own, and again the same in another run


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    settings = RolloutSettings(tasks=14, samples=3, concurrency=2)

    def reply(task: Task, number: int) -> Completion:
        return said(f"{CHAIN}\nAnswer: {task.answer if number else 'unknown'}")

    broken = Scripted(settings, reply, fail_after=20)
    with pytest.raises(ConnectionError):
        run(tmp_path, broken, settings)
    log = tmp_path / "rollouts" / "attempts.jsonl"
    known = len(read_attempts(log))
    assert 18 <= known <= 20
    log.write_bytes(log.read_bytes()[:-30])  # killed while the last line was written
    client = Scripted(settings, lambda task, number: said(f"{CHAIN}\nAnswer: {task.answer}"))
    report = run(tmp_path, client, settings)
    assert report.asked == len(client.calls) == 42 - (known - 1) and report.attempts == 42
    again = Scripted(settings, reply)
    repeated = run(tmp_path, again, settings)
    assert again.calls == [] and repeated.asked == 0
    assert {**vars(repeated), "asked": 0} == {**vars(report), "asked": 0}
    log.write_text("{}\n" + log.read_text())
    with pytest.raises(InputError, match=r"attempts\.jsonl, line 1: not an attempt"):
        run(tmp_path, again, settings)


def test_nothing_right_leaves_no_file(tmp_path: Path) -> None:
    settings = RolloutSettings(tasks=7, samples=1, ks=(1, 4))
    report = run(tmp_path, Scripted(settings, lambda task, number: said("I do not know.")), settings)
    assert report.kept == report.solved == 0 and report.pass_at == {"pass@1": 0.0}
    assert not (tmp_path / "rollouts" / "train.parquet").exists()
    assert len((tmp_path / "rollouts" / "attempts.jsonl").read_text().splitlines()) == 7


def test_pass_at_k_against_all_subsets() -> None:
    from itertools import combinations

    for right in range(6):
        outcomes = [True] * right + [False] * (5 - right)
        for k in range(1, 6):
            drawn = list(combinations(outcomes, k))
            assert pass_at_k(5, right, k) == pytest.approx(sum(map(any, drawn)) / len(drawn))
    with pytest.raises(ValueError, match="needs at least"):
        pass_at_k(2, 1, 3)


def test_choice_by_length_and_difference() -> None:
    chains = [(0, "a b c d e"), (1, "a b c d e f"), (2, "x y z u v w q r"), (3, "a b c d e f g h i j k l")]
    assert choose(chains, 1) == [1] and choose(chains, 2) == [1, 2] and choose([], 2) == []
    assert sorted(choose(chains, 9)) == [0, 1, 2, 3]


def test_chains() -> None:
    assert chain_of("Step one.\nStep two.\nAnswer: 3 eV") == "Step one.\nStep two."
    assert chain_of("<think>Inner.</think>\nAnswer: 3 eV").strip() == "Inner."
    assert chain_of("Answer: 3 eV", "Apart.") == "Apart." and chain_of("Answer: 3 eV") == ""


def test_wrong_settings() -> None:
    for wrong in ({"samples": 0}, {"tasks": 0}, {"keep": 0}, {"concurrency": 0}, {"forms": ("description",)}):
        with pytest.raises(InputError):
            RolloutSettings(**wrong)  # type: ignore[arg-type]
    settings = RolloutSettings(tasks=1)
    empty = Loaded(schema=LOADED.schema, records=(), read=0)
    with pytest.raises(InputError, match="no tasks"):
        asyncio.run(rollout_folder(Path("unused"), empty, Scripted(settings, lambda t, n: said("")), settings))


def test_attempts_are_json_lines(tmp_path: Path) -> None:
    settings = RolloutSettings(tasks=7, samples=2)
    run(tmp_path, Scripted(settings, lambda task, n: said(f"{CHAIN}\n\nZeile 2 µ\nAnswer: {task.answer}")), settings)
    lines = (tmp_path / "rollouts" / "attempts.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 14 and {json.loads(line)["reason"] for line in lines} == {"right"}


class Server(BaseHTTPRequestHandler):
    """Answers every chat with the same words."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        assert json.loads(self.rfile.read(length))["model"] == "m"
        message = {"role": "assistant", "content": f"{CHAIN}\nAnswer: A"}
        body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_command_with_an_endpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "alloys.csv", 120)
    (tmp_path / "alloys.json").write_text(json.dumps(ALLOYS))
    parser = argparse.ArgumentParser()
    corpus_narrative.add(parser.add_subparsers())
    few = [word for form in ANSWERED for word in ("--set", f"tasks.{form}=5")]
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        args = parser.parse_args(
            [
                "narrative", str(table), "--schema", str(tmp_path / "alloys.json"), "--folder", str(tmp_path / "out"),
                "--endpoint", f"http://127.0.0.1:{server.server_port}/v1", "--model", "m", "--rollouts", "14",
                "--samples", "2", "--json", "--set", "passes=0", *few,
            ]
        )  # fmt: skip
        assert args.run(args) == 0
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    rollouts = json.loads(capsys.readouterr().out)["rollouts"]
    assert rollouts["asked"] == rollouts["attempts"] == 28 and rollouts["tasks"] == 14
    assert rollouts["reasons"]["no_number"] > 0
