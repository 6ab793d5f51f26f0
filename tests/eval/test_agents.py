"""tau2's mock domain by command line, against our own server (its engine is a script) and against a rough endpoint."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from s1pro.cli import main
from tests.fake_endpoint import FakeEndpoint, Reply, chat_answer
from tests.serve.http.running import scripted

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "tau2_mock"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the files of tau2's mock domain are not here")


def act(text: str) -> str:
    """Both sides of `update_task_1`, by what stands in the prompt; all other tasks are only talked about."""
    if "You play a customer" in text:
        return "###STOP###" if "It is done" in text else "Mark task_1 as completed, if you please."
    if "<tool_response>" in text:
        return "It is done."
    if "Mark task_1" in text:
        arguments = '{"task_id": "task_1", "status": "completed"}'
        return f'<tool_call>{{"name": "update_task_status", "arguments": {arguments}}}</tool_call>'
    return "I do not know."


def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
    text = "\n".join(str(message["content"]) for message in body["messages"])
    # the first lines of a system message hold the words that `act` looks for in what was said later
    return chat_answer(act(text))


def lines(folder: Path) -> dict[str, Any]:
    path = folder / "answers" / "tau2-mock.jsonl"
    return {line["id"]: line for line in map(json.loads, path.read_text(encoding="utf-8").split("\n")[:-1])}


def play(url: str, folder: Path, *more: object) -> int:
    places = ("eval", "--url", url, "--model", "tiny", "--tau2", SAMPLES, "--output", folder, "--timeout", 20)
    return main([str(one) for one in (*places, *more)])


def check(folder: Path) -> None:
    found = lines(folder)
    assert len(found) == 10
    assert found["update_task_1"]["score"] == 1.0 and found["update_task_1"]["parts"]["compat"] == 1.0
    assert found["create_task_1"]["score"] == 0.0 and found["create_task_1"]["parts"]["strict.DB"] == 0.0
    assert {line["extraction"]["ending"] for line in found.values()} == {"user_stop"}
    assert found["update_task_1"]["response"].splitlines()[-1] == "[user_stop]"
    assert "tool (assistant): " in found["update_task_1"]["response"]
    right = [name for name, line in found.items() if line["score"] == 1.0]
    # praise is not checked without a judge: whoever ends the conversation earns it
    assert sorted(right) == ["create_task_1_nl_eval", "update_task_1"]


def test_the_domain_runs_against_our_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(act) as (url, engine):
        assert play(f"{url}/v1", tmp_path / "run", "--no-thinking") == 0
        asked = len(engine.prompts)
        check(tmp_path / "run")
        assert play(f"{url}/v1", tmp_path / "run", "--no-thinking") == 0  # resumed: nothing is left to ask
        assert len(engine.prompts) == asked
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"tau2-mock", page)
    capsys.readouterr()


def test_trials_and_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rough(number: int, path: str, body: dict[str, Any]) -> Reply:
        if "Delete" in str(body["messages"][0]["content"]) or "delete all" in str(body["messages"][0]["content"]):
            return Reply(status=400, body="no")
        return Reply(status=500) if number % 9 == 4 else behave(number, path, body)

    with FakeEndpoint(rough) as server:
        assert play(server.url, tmp_path / "run", "--repeats", 2, "--temperature", 1, "--json") == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["num_failed"] == 2 and result["repeats"] == 2
    assert result["metrics"]["all@2"] == pytest.approx(0.2) and result["metrics"]["compat"] == pytest.approx(0.2)
    assert lines(tmp_path / "run")["impossible_task_1"]["status"] == "failed"
