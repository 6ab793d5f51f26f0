"""The whole way on one folder: papers, molecules and signals -> corpus -> training -> expansion -> released layout ->
engine -> evaluation -> an update of reinforcement learning -> a model that its engine agrees with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1pro.cli import main
from s1pro.train.metrics import read_metrics
from tests.recipes.test_demo import run


@pytest.mark.slow
def test_from_papers_to_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "demo"
    run(made)
    found = json.loads((made / "papers" / "found.json").read_text())
    assert found["figures_found"] > 0 and found["samples"] > 0
    capsys.readouterr()

    folder = tmp_path / "rl"
    arguments = ["--tasks", "group_in_smiles", "--steps", "1", "--validation", "4", "--folder", str(folder)]
    small = ["--set", "rollout.prompts=3", "--set", "rollout.group_size=3", "--set", "rollout.max_new_tokens=8"]
    assert main(["rl", "--model", str(made / "model"), *arguments, *small, "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["steps"] == 1 and set(outcome["after"]["tasks"]) == {"group_in_smiles"}
    (rollout,) = read_metrics(folder, "rollout")
    assert rollout["mismatch"]["k3"] < 1e-6 and rollout["replayed"] == 1.0

    assert main(["parity", outcome["model"], "--prompts", "6", "--tokens", "6", "--longest", "40"]) == 0
    assert "engine and trainer agree" in capsys.readouterr().out
    assert main(["eval", outcome["model"], "--tasks", "group_in_smiles", "--limit", "4", "--json"]) == 0
    assert capsys.readouterr().out
