from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.cli import main
from s1pro.rl.config import RLRun
from s1pro.rl.system.config import RAY_ONLY, SystemConfig
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.train.resume import FREE_TO_CHANGE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"worker_cpus": 2.0}, "worker_cpus has no effect with system.mode=local"),
        ({"mode": "ray", "workers": 3, "shards": 2}, "would be idle: there are shards=2 pieces per round and 1 rounds"),
        ({"max_staleness": 2}, "no effect without system.schedule=asynchronous"),
        ({"schedule": "one_step_off", "under_way": "keep"}, "no effect without system.schedule=asynchronous"),
        ({"mode": "ray", "schedule": "one_step_off", "colocated": True}, "colocated needs schedule=synchronous"),
        ({"shards": 0}, "system.shards must be at least 1, got 0"),
        ({"mode": "ray", "worker_gpus": -1.0}, "system.worker_gpus must not be negative"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SystemConfig(**settings)


def test_staleness() -> None:
    assert SystemConfig().staleness == 0
    assert SystemConfig(schedule="one_step_off").staleness == 1
    assert SystemConfig(schedule="asynchronous", max_staleness=3).staleness == 3


def test_what_changes_no_number_may_change_when_a_run_goes_on() -> None:
    free = {name.removeprefix("system.") for name in FREE_TO_CHANGE if name.startswith("system.")}
    assert free == {"mode", *RAY_ONLY}
    assert {field.name for field in dataclasses.fields(SystemConfig)} - free == {
        "schedule", "max_staleness", "under_way", "shards",
    }  # fmt: skip


def test_the_command_line_names_mode_and_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rl", "--model", str(tmp_path), "--tasks", "mass_from_smiles", "--show"]
    assert main([*arguments, "--mode", "ray", "--workers", "3"]) == 0
    system = json.loads(capsys.readouterr().out)["system"]
    assert (system["mode"], system["workers"], system["shards"]) == ("ray", 3, 3)
    assert main([*arguments, "--workers", "3"]) == 2
    assert "--workers 3 has no effect in one process; use --mode ray" in capsys.readouterr().err


def test_tools_do_not_wait_for_the_trainer(tmp_path: Path) -> None:
    """In one process a call under way would stand still during a step, and its time would run out."""
    going_on = SystemConfig(schedule="asynchronous", under_way="keep")
    with pytest.raises(ValueError, match="agent needs system"):
        RLRun(folder=tmp_path, agent=AgentConfig(), system=going_on)
    RLRun(folder=tmp_path, agent=AgentConfig(), system=dataclasses.replace(going_on, under_way="finish"))
    RLRun(folder=tmp_path, agent=AgentConfig(), system=dataclasses.replace(going_on, mode="ray"))
