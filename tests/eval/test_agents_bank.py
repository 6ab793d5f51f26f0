"""tau2's bank by command line: an agent that reads documents, and a customer who sees the tools that the task says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.cli import main
from tests.fake_endpoint import FakeEndpoint, Reply
from tests.fake_endpoint import tool_call as call
from tests.tau2_bank import bank_task, write_bank

DEPOSIT = {"discoverable_tool_name": "deposit_check_3847"}
CHECK = {**DEPOSIT, "arguments": '{"account_id": "chk_ann", "check_amount": 50}'}


def behave(number: int, path: str, body: dict[str, Any]) -> Reply | str:
    """The customer has a check, the agent searches what to do with it and gives the tool."""
    system, last = str(body["messages"][0]["content"]), str(body["messages"][-1]["content"])
    if "You play a customer" in system:
        assert "call_discoverable_user_tool" in system and "submit_referral" not in system
        if "have the tool" in last:
            return call("call_discoverable_user_tool", **CHECK)
        return "Thanks. ###STOP###" if "$1300.00" in last else "I have a check of $50."
    assert "Be kind." in system and "Search." in system and "KB_search" in system and '"grep"' not in system
    if "I have a check" in last:
        return call("KB_search", query="deposit a check")
    if "doc_checks_001" in last:
        return call("give_discoverable_user_tool", **DEPOSIT)
    return "You have the tool now."


def test_a_check_is_deposited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = [("assistant", "give_discoverable_user_tool", DEPOSIT), ("user", "call_discoverable_user_tool", CHECK)]
    tasks = [bank_task("a", golden, user_tools=["call_discoverable_user_tool"])]
    folder, output = write_bank(tmp_path / "bank", tasks), tmp_path / "run"
    with FakeEndpoint(behave) as server:
        run = ["eval", "--url", server.url, "--model", "m", "--tau2", str(folder), "--knowledge", "bm25"]
        assert main([*run, "--output", str(output)]) == 0
    [line] = (output / "answers" / "tau2-banking_knowledge-bm25.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert (found["score"], found["parts"]["compat"], found["parts"]["strict.DB"]) == (1.0, 1.0, 1.0)
    assert found["response"].endswith("[user_stop]")
    capsys.readouterr()


def test_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["eval", "--url", "http://127.0.0.1:9", "--model", "m", "--output", str(tmp_path / "run")]
    assert main([*model, "--knowledge", "bm25"]) == 2
    assert "--knowledge is of --tau2" in capsys.readouterr().err
    folder = write_bank(tmp_path / "bank", [bank_task("a", [])])
    assert main([*model, "--tau2", str(folder), "--knowledge", "alltools"]) == 2
    assert "an embedding service, a judging model or a shell is not here" in capsys.readouterr().err
    assert main([*model, "--tau2", str(folder), "--solo"]) == 2
    assert "no task has a ticket" in capsys.readouterr().err
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "db.json").write_text('{"products": {}, "users": {}, "orders": {}}', encoding="utf-8")
    (shop / "tasks.json").write_text("[]", encoding="utf-8")
    assert main([*model, "--tau2", str(shop), "--knowledge", "bm25"]) == 2
    assert "--knowledge is of banking_knowledge" in capsys.readouterr().err
