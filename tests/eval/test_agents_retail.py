"""tau2's retail domain by command line: a customer, an agent that changes an order, and a judge of the conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.cli import main
from tests.fake_endpoint import FakeEndpoint, Reply
from tests.tau2_shop import shop_task, write_shop

CANCEL = ("cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})


def behave(number: int, path: str, body: dict[str, Any]) -> Reply | str:
    system, last = str(body["messages"][0]["content"]), str(body["messages"][-1]["content"])
    if "You play a customer" in system:
        return "###STOP###" if "cancelled" in last else "Please cancel #W1."
    if "<tool_response>" in last:
        return "It is cancelled."
    return f"<tool_call>{json.dumps({'name': CANCEL[0], 'arguments': CANCEL[1]})}</tool_call>"


def test_a_judge_reads_the_conversation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statements = {"kept": ["cancelled"], "broken": ["cancelled", "refused"], "away": ["nobody knows"], "plain": None}
    tasks = [shop_task(name, [CANCEL], nl_assertions=some) for name, some in statements.items()]
    folder = write_shop(tmp_path / "retail", tasks)
    away = [True]

    def judge(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        statement = str(body["messages"]).rpartition("Statement: ")[2]
        if "nobody" in statement and away:
            return Reply(status=400, body="too busy")
        return "B" if "refused" in statement else "A"

    with FakeEndpoint(behave) as server, FakeEndpoint(judge) as second:
        run = ["eval", "--url", server.url, "--model", "m", "--tau2", str(folder), "--output", str(tmp_path / "run")]
        assert main(run) == 2
        assert "tau2-retail needs a judge: give --judge-url" in capsys.readouterr().err
        run += ["--judge-url", second.url, "--judge-model", "j"]
        assert main(run) == 0
        found = read(tmp_path / "run")
        assert {name: line["score"] for name, line in found.items()} == {"kept": 1, "broken": 0, "away": 0, "plain": 1}
        assert found["broken"]["extraction"]["judge"] == ["A", "B"] and found["broken"]["parts"]["strict.DB"] == 1
        assert found["away"]["status"] == "failed" and "the judge failed" in found["away"]["error"]
        assert json.loads((tmp_path / "run" / "results.json").read_text())["judge"]["read"] == 2
        away.clear()
        assert main([*run, "--retry-failed"]) == 0
        assert read(tmp_path / "run")["away"]["score"] == 1
    capsys.readouterr()


def read(folder: Path) -> dict[str, Any]:
    lines = (folder / "answers" / "tau2-retail.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}
