"""tau2's telecom domain by command line: a customer who acts on the phone, and an agent alone with all tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.cli import main
from tests.fake_endpoint import FakeEndpoint, Reply
from tests.fake_endpoint import tool_call as call
from tests.tau2_carrier import MINE, telecom_task, write_carrier

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "tau2_mock"


def both(number: int, path: str, body: dict[str, Any]) -> Reply | str:
    """The agent asks, the customer switches mobile data on and says what the phone shows."""
    system, last = str(body["messages"][0]["content"]), str(body["messages"][-1]["content"])
    if "You play a customer" in system:
        assert "toggle_data" in system and "resume_line" not in system
        if "switch" in last:
            return call("toggle_data")
        return f"Done. {last} ###STOP###" if "<tool_response>" in last else "My data does not work."
    assert "resume_line" in system and "toggle_data" not in system
    assert "main_policy.md" in system and "tech_support_manual.md" in system
    return "Please switch mobile data on."


def alone(number: int, path: str, body: dict[str, Any]) -> Reply | str:
    system, said = str(body["messages"][0]["content"]), [str(message["content"]) for message in body["messages"]]
    assert "You play a customer" not in system and "main_policy_solo.md" in system
    assert "toggle_data" in system and "resume_line" in system and "no mobile data" in system
    assert said[1] == "(Begin.)"
    if "talks" in system:
        return "Hello, Ann!"
    if len(said) == 2:
        return call("resume_line", **MINE)
    if len(said) == 4:
        assert "The line is active again." in said[3]
        return call("toggle_data")
    assert "Data Enabled" in said[5]
    return call("reboot_device") + call("done") if "beside" in system else call("done")


def run(folder: Path, output: Path, behave: Any, *more: str) -> dict[str, Any]:
    with FakeEndpoint(behave) as server:
        given = ["eval", "--url", server.url, "--model", "m", "--tau2", str(folder), "--output", str(output), *more]
        assert main(given) == 0
    [path] = (output / "answers").iterdir()
    return {line["id"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def test_the_customer_has_a_phone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = telecom_task("fixed", [("user", "turn_data_off", {})], [("user", "toggle_data")])
    other = telecom_task("other", [("user", "unseat_sim_card", {})], [("user", "reseat_sim_card")])
    folder = write_carrier(tmp_path / "telecom", [fixed, other])
    found = run(folder, tmp_path / "run", both)
    assert {name: (line["score"], line["parts"]["compat"]) for name, line in found.items()} == {
        "fixed": (1.0, 1.0),
        "other": (0.0, 0.0),
    }
    assert "tool (user): Mobile data is ON." in found["fixed"]["response"]
    assert found["fixed"]["response"].endswith("[user_stop]")
    capsys.readouterr()


def test_the_agent_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = [("user", "turn_data_off", {}), ("assistant", "suspend_line", {**MINE, "reason": "x"})]
    golden = [("user", "toggle_data")]
    tasks = [telecom_task(name, broken, golden) for name in ("done", "beside", "talks")]
    unstaged = telecom_task("ticketless", broken, golden, ticket=None)
    folder = write_carrier(tmp_path / "telecom", [*tasks, unstaged])
    found = run(folder, tmp_path / "run", alone, "--solo")
    assert "1 of 4 tasks need a customer and are left out" in capsys.readouterr().err
    assert {name: line["score"] for name, line in found.items()} == {"done": 1.0, "beside": 1.0, "talks": 0.0}
    assert {name: line["extraction"]["ending"] for name, line in found.items()} == {
        "done": "agent_stop", "beside": "agent_stop", "talks": "agent_error",
    }  # fmt: skip
    assert "restarted" not in found["beside"]["response"]  # what stands beside `done` is not done
    assert found["done"]["prompt"][0]["content"] == "Ann Li, 555-1: no mobile data (done)."
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [one["task"] for one in results["tasks"]] == ["tau2-telecom-solo"]


def test_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = telecom_task("x", [], [], ticket=None)
    folder = write_carrier(tmp_path / "telecom", [task])
    model = ["eval", "--url", "http://127.0.0.1:9/v1", "--model", "m"]
    assert main([*model, "--solo"]) == 2
    assert "--solo is of --tau2" in capsys.readouterr().err
    assert main([*model, "--tau2", str(folder), "--solo"]) == 2
    assert "no task has a ticket" in capsys.readouterr().err
    user = ["--user-url", "http://127.0.0.1:9/v1", "--user-model", "u"]
    assert main([*model, "--tau2", str(folder), "--solo", *user]) == 2
    assert "--user-url has no effect with --solo" in capsys.readouterr().err
    assert main([*model, "--tau2", str(folder), "--split", "small"]) == 2
    assert "split_tasks.json: No such file" in capsys.readouterr().err


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the files of tau2's mock domain are not here")
def test_mock_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def behave(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        if len(body["messages"]) > 2:
            return call("done")
        return call("create_task", user_id="user_1", title="Important Meeting")

    found = run(SAMPLES, tmp_path / "run", behave, "--solo")
    assert "2 of 10 tasks need a customer" in capsys.readouterr().err
    assert len(found) == 8 and found["create_task_1"]["score"] == 1.0 and found["update_task_1"]["score"] == 0.0
