"""`recipes.reinforcement`: what is asked, what is held out, and what a run gives back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.checkpoint.released import load_network, save_network
from s1pro.model import presets
from s1pro.model.network import Network
from s1pro.recipes.reinforcement import learn, small_run
from s1pro.rl.config import RLRun
from s1pro.rl.loop import registry_tasks
from s1pro.tasks import registry
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.train.metrics import read_metrics
from tests.serve.http import running


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    save_network(Network(presets.tiny(384), seed=1), folder)
    running.processor().save_pretrained(folder)
    return folder


def small(model: Path, folder: Path) -> RLRun:
    run = small_run(model, ["count_in_smiles", "group_in_smiles", "count_in_smiles"], folder=folder)
    rollout = replace(run.rollout, prompts=4, group_size=2, max_new_tokens=6)
    return replace(run, steps=2, eval_every=1, rollout=rollout, progress=False, export=False, peak_tflops=0.1)


def test_names_of_tasks_are_checked_and_asked_once(model: Path) -> None:
    assert [task.name for task in small(model, Path("x")).tasks] == ["count_in_smiles", "group_in_smiles"]
    with pytest.raises(InputError, match=r"--tasks: mass_from_smile cannot be learned; choose from .*mass_from_smiles"):
        small_run(model, ["mass_from_smile"])
    agent = AgentConfig(tools=("calculator",))
    plain, tools = (small_run(model, ["mass_from_smiles"], agent=a).rollout.max_new_tokens for a in (None, agent))
    assert tools > plain


def test_no_molecule_is_learned_from_and_held_out(model: Path) -> None:
    pytest.importorskip("rdkit")
    run = small(model, Path("x"))
    asked = {item.asked["smiles"] for task in registry_tasks(run).values() for item in task.items()}
    held_out = {
        item.asked["smiles"]
        for config in run.tasks
        for item in registry.get(config.name, split="test", num_items=100).items()
    }
    assert len(asked) > 500 and len(held_out) > 50 and not asked & held_out


def test_a_run_gives_what_was_before_and_after_and_goes_on(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    run = small(model, tmp_path / "run")
    result, before = learn(run, validation_items=5)
    steps = read_metrics(run.folder, "validation")
    assert [record["step"] for record in steps] == [0, 1, 2]
    assert before == steps[0] and result.steps == 2 and result.reason == "done"
    assert before["tasks"].keys() == {"count_in_smiles", "group_in_smiles"}
    assert all(found["num_items"] == 5 for record in steps for found in record["tasks"].values())
    assert result.validation["accuracy"] == steps[-1]["accuracy"]
    again, same = learn(run, validation_items=5)
    assert (again.steps, same) == (2, before), "a run that is complete begins no other"


def test_a_network_in_memory_needs_a_tokenizer(model: Path, tmp_path: Path) -> None:
    run = replace(small(model, tmp_path), init_from=None)
    with pytest.raises(InputError, match="init_from is missing: name the model folder"):
        learn(run, validation_items=5, network=load_network(model))
