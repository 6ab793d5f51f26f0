"""Runs against a server that fails, hangs and dies: every item ends answered or marked, and the scores are those of a
clean run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointRefusedError, EndpointSettings, RetrySettings
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Sampling
from s1pro.eval.cache import CompletionCache
from s1pro.eval.results import Prices
from s1pro.eval.runner import EvalSettings, RunOptions, TaskResult, run, run_async
from s1pro.tasks.own import OwnTask
from tests.fake_endpoint import FakeEndpoint, Reply, chat_answer


def answer_to(body: Mapping[str, Any]) -> Reply:
    """Depends on the question alone: two thirds are right, and every 50th prompt is refused."""
    number = int(str(body["messages"][-1]["content"]).split()[-1])
    if number % 50 == 49:
        return Reply(status=400, body='{"error": "no"}')
    return chat_answer("no idea" if number % 3 == 0 else f"it is {2 * number}", prompt=10, tokens=5)


def steady(number: int, path: str, body: dict[str, Any]) -> Reply:
    return answer_to(body)


def rough(number: int, path: str, body: dict[str, Any]) -> Reply:
    """10 % fail, in several ways, and 1 % hang; which ones is decided by the number of the request."""
    draw = int.from_bytes(hashlib.blake2b(str(number).encode(), digest_size=4).digest(), "big") % 1000
    if draw < 10:
        return Reply(mode="hang")
    if draw < 110:
        kinds = (
            Reply(status=500, body="broken"),
            Reply(status=429, body="slow down", headers={"Retry-After": "0"}),
            Reply(mode="close"),
            Reply(body="no json"),
        )
        return kinds[draw % 4]
    return answer_to(body)


def questions(folder: Path, count: int) -> Path:
    path = folder / "doubles.jsonl"
    lines = [json.dumps({"id": f"d{i}", "question": f"Double {i}", "answer": 2 * i}) for i in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def client(url: str, *, attempts: int = 6, timeout_s: float = 100.0) -> HttpClient:
    retries = RetrySettings(attempts=attempts, first_s=0.01, longest_s=0.05)
    settings = EndpointSettings(
        base_url=url, model="m", concurrency=16, timeout_s=timeout_s, retries=retries, breaker_cooldown_s=0.05
    )
    return HttpClient(settings)


def answers(folder: Path) -> list[dict[str, Any]]:
    path = folder / "answers" / "doubles.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def numbers(result: TaskResult) -> tuple[Any, ...]:
    return result.score, result.num_valid, result.num_failed, result.metrics, result.num_tokens, result.score_of_valid


def check_complete(folder: Path, count: int) -> None:
    found = answers(folder)
    assert sorted(line["id"] for line in found) == sorted(f"d{i}" for i in range(count))
    marked = {line["id"] for line in found if line["status"] == "failed"}
    assert marked == {f"d{i}" for i in range(count) if i % 50 == 49}
    assert all("HTTP 400" in line["error"] for line in found if line["id"] in marked)


def clean(task: OwnTask, folder: Path) -> TaskResult:
    with FakeEndpoint(steady) as server:
        [result] = run([task], client(server.url), folder)
    return result


def test_a_rough_server_and_an_interrupted_run_change_no_score(tmp_path: Path) -> None:
    count = 250
    task = OwnTask(questions(tmp_path, count), "number")
    folder = tmp_path / "rough"

    async def interrupted(server: FakeEndpoint) -> None:
        running = asyncio.create_task(run_async([task], client(server.url, timeout_s=2.0), folder))
        while len(server.requests) < 120:
            await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with FakeEndpoint(rough) as server:
        asyncio.run(interrupted(server))
        kept = len(answers(folder))
        assert 0 < kept < count
        path = folder / "answers" / "doubles.jsonl"
        path.write_bytes(path.read_bytes()[:-9])  # killed in the middle of a line
        [result] = run([task], client(server.url, timeout_s=2.0), folder)
    check_complete(folder, count)
    assert numbers(result) == numbers(clean(task, tmp_path / "clean"))
    assert result.num_failed == count // 50
    assert result.score_of_valid is not None and result.score_of_valid.num_items == result.num_valid


def test_an_outage_longer_than_the_patience_of_the_client_is_asked_once_more(tmp_path: Path) -> None:
    """With one attempt per request, whatever met the outage fails at first."""
    task = OwnTask(questions(tmp_path, 60), "number")

    def outage(number: int, path: str, body: dict[str, Any]) -> Reply:
        return Reply(mode="close") if 20 <= number < 25 else answer_to(body)

    with FakeEndpoint(outage) as server:
        [result] = run([task], client(server.url, attempts=1), tmp_path / "run")
        assert len(server.requests) == 65
    check_complete(tmp_path / "run", 60)
    assert result.num_failed == 1


def test_what_failed_is_marked_and_asked_again_on_demand(tmp_path: Path) -> None:
    task = OwnTask(questions(tmp_path, 6), "number")
    with FakeEndpoint(lambda *_: Reply(status=500, body="broken")) as server:
        [result] = run([task], client(server.url, attempts=2), tmp_path / "run")
    assert (result.num_failed, result.num_valid, result.score.value) == (6, 0, 0.0)
    assert all(line["error"].startswith("EndpointError: ") for line in answers(tmp_path / "run"))
    with FakeEndpoint(steady) as server:
        [same] = run([task], client(server.url), tmp_path / "run")
        assert same == result and not server.requests
        [repaired] = run([task], client(server.url), tmp_path / "run", retry_failed=True)
    assert numbers(repaired) == numbers(clean(task, tmp_path / "clean"))


def test_a_wrong_key_ends_the_run(tmp_path: Path) -> None:
    task = OwnTask(questions(tmp_path, 6), "number")
    with (
        FakeEndpoint(lambda *_: Reply(status=401, body="who are you")) as server,
        pytest.raises(EndpointRefusedError, match="check the API key"),
    ):
        run([task], client(server.url), tmp_path / "run")
    assert answers(tmp_path / "run") == []


def test_repeats_give_pass_at_k_and_go_on(tmp_path: Path) -> None:
    """Every question is answered right every second time that it is asked."""
    task = OwnTask(questions(tmp_path, 4), "number")
    asked: dict[str, int] = {}

    def alternating(number: int, path: str, body: dict[str, Any]) -> Reply:
        text = str(body["messages"][-1]["content"])
        asked[text] = asked.get(text, 0) + 1
        return chat_answer(str(2 * int(text.split()[-1])) if asked[text] % 2 else "no idea")

    settings = EvalSettings(sampling=Sampling(temperature=1.0, seed=5))
    with FakeEndpoint(alternating) as server:
        run([task], client(server.url), tmp_path / "run", settings=settings, repeats=2)
        [result] = run([task], client(server.url), tmp_path / "run", settings=settings, repeats=4)
        seeds = sorted(body["seed"] for _, _, body in server.requests)
    assert seeds == [5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8, 8, 8, 8]
    assert result.repeats == 4 and result.score.num_items == 4
    found = {name: value for name, value in result.metrics.items() if "@" in name}
    assert found == pytest.approx(
        {"avg@4": 0.5, "pass@1": 0.5, "pass@2": 5 / 6, "pass@4": 1.0, "all@1": 0.5, "all@2": 1 / 6, "all@4": 0.0}
    )


def test_a_cache_answers_for_the_server_but_never_for_another_model(tmp_path: Path) -> None:
    task = OwnTask(questions(tmp_path, 5), "number")
    cache = CompletionCache(folder=tmp_path / "cache", model="a")
    with FakeEndpoint(steady) as server:
        [first] = run([task], client(server.url), tmp_path / "one", cache=cache)
        [second] = run([task], client(server.url), tmp_path / "two", cache=cache)
        assert len(server.requests) == 5
        assert first == second and first.num_tokens == 25
        other = CompletionCache(folder=tmp_path / "cache", model="b")
        run([task], client(server.url), tmp_path / "three", cache=other)
        warm = EvalSettings(sampling=Sampling(temperature=0.5))
        run([task], client(server.url), tmp_path / "four", settings=warm, cache=cache)
        assert len(server.requests) == 15


def test_tokens_and_costs_are_counted_once_over_sessions(tmp_path: Path) -> None:
    task, prices = OwnTask(questions(tmp_path, 10), "number"), Prices(prompt=1e6, completion=2e6)
    with FakeEndpoint(steady) as server:
        run([task], client(server.url), tmp_path / "run", limit=4, prices=prices)
        [result] = run([task], client(server.url), tmp_path / "run", prices=prices)
    assert (result.num_prompt_tokens, result.num_tokens, result.cost) == (100, 50, 200.0)
    saved = json.loads((tmp_path / "run" / "results.json").read_text())
    assert saved["session"]["requests"] == 6 and saved["tasks"][0]["cost"] == 200.0


def test_reasoning_of_a_server_is_scored_like_that_of_a_folder(tmp_path: Path) -> None:
    task = OwnTask(questions(tmp_path, 2), "number")

    def thinking(number: int, path: str, body: dict[str, Any]) -> Reply:
        if str(body["messages"][-1]["content"]).endswith("1"):
            return chat_answer("it is 2", reasoning_content="maybe 7")
        return chat_answer("", reasoning_content="is it 0", finish_reason="length")

    with FakeEndpoint(thinking) as server:
        run([task], client(server.url), tmp_path / "run")
    responses = {line["id"]: (line["response"], line["score"], line["valid"]) for line in answers(tmp_path / "run")}
    assert responses == {"d0": ("is it 0</think>", 0.0, False), "d1": ("maybe 7</think>it is 2", 1.0, True)}


def test_repeats_need_a_temperature() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        RunOptions(repeats=0)


def evaluate(arguments: Sequence[object]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "s1pro", "eval", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])


@pytest.mark.slow
def test_two_thousand_items_a_killed_server_and_a_killed_run(tmp_path: Path) -> None:
    count, folder = 2000, tmp_path / "rough"
    file = questions(tmp_path, count)

    def arguments(server: FakeEndpoint, output: Path) -> list[object]:
        places = ("--url", server.url, "--model", "m", "--file", file, "--metric", "number", "--output", output)
        return [*places, "--timeout", 5, "--concurrency", 16, "--attempts", 8]

    with FakeEndpoint(rough) as server:
        running = evaluate(arguments(server, folder))
        while len(server.requests) < 500:
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        assert 0 < len(answers(folder)) < count
        running = evaluate(arguments(server, folder))
        while len(server.requests) < 1200:
            time.sleep(0.02)
        port = server.port
    assert running.poll() is None  # the server is gone, the run waits
    time.sleep(2)
    with FakeEndpoint(rough, port=port):
        _, errors = running.communicate(timeout=900)
    assert running.returncode == 0, errors.decode()
    check_complete(folder, count)
    with FakeEndpoint(steady) as server:
        running = evaluate(arguments(server, tmp_path / "clean"))
        _, errors = running.communicate(timeout=900)
    assert running.returncode == 0, errors.decode()
    check_complete(tmp_path / "clean", count)
    rough_result, clean_result = (
        json.loads((place / "results.json").read_text())["tasks"][0] for place in (folder, tmp_path / "clean")
    )
    assert rough_result == clean_result
    assert clean_result["num_failed"] == count // 50
