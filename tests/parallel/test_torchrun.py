"""The command line under torchrun: same numbers as one process, one voice, a signal stops all ranks together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s1pro.base.config import config_to_json
from s1pro.base.stamp import write_json
from s1pro.checkpoint.contrastive import load_contrastive
from s1pro.checkpoint.released import load_network
from s1pro.checkpoint.training_state import latest_state
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model.presets import tiny
from s1pro.recipes.vision_language import VisionStage, contrastive_recipe
from s1pro.train.config import DataConfig, SourceConfig, TrainRun
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig

REPOSITORY = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "s1pro")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A run of 12 steps over a text file, as `--recipe` takes it."""
    texts = [f"Compound {n} has {n % 7} carbon atoms and {n % 3} rings. " * (1 + n % 4) for n in range(80)]
    samples = [{"source": "t", "prompt_group": "general", "text": text} for text in texts]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    tokenizer = train_tokenizer(texts, smiles=["CCO", "CCN"], vocab_size=280, science_sizes={"SMILES": 8})
    Processor(tokenizer).save_pretrained(tmp_path / "tokenizer")
    source = SourceConfig(name="t", path=tmp_path / "data.jsonl")
    run = TrainRun(
        folder=tmp_path / "run",
        model=tiny(vocab_size=tokenizer.vocab_size),
        tokenizer=tmp_path / "tokenizer",
        data=DataConfig(
            sources=(source,),
            validation=(source,),
            tokens_per_batch=256,
            max_length=64,
            prefetch=1,
            cache=tmp_path / "cache",
        ),
        optimizer=OptimizerConfig(lr=3e-3, eps=1e-4),
        schedule=ScheduleConfig(kind="constant", warmup=0.0),
        steps=12,
        accumulation=2,
        peak_tflops=0.1,
        tensorboard=False,
    )
    write_json(tmp_path / "recipe.json", config_to_json(run))
    return tmp_path / "recipe.json"


@contextmanager
def started(*command: object) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own; whatever happens, nothing of it is left."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=REPOSITORY,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in (*children(process.pid), process.pid):  # torchrun gives each rank a session of its own
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(timeout=30)


def children(pid: int) -> list[int]:
    """All descendants."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(path.parent.name)
            found += [child, *children(child)]
    return found


def finish(*command: object) -> tuple[int, str, str]:
    with started(*command) as process:
        out, err = process.communicate(timeout=400)
        return process.returncode, out, err


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(folder, "train")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_write_what_one_process_writes(recipe: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = ["train", "--recipe", recipe, "--folder", two, "--set", "parallel.ep=2", "--json"]
    code, out, err = finish(*TORCHRUN, *arguments)
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)  # one rank speaks
    assert (result["steps"], result["reason"]) == (12, "done")
    code, _, err = finish("-m", "s1pro", "train", "--recipe", recipe, "--folder", one)
    assert code == 0, err
    assert len(losses(two)) == 12 and losses(two) == pytest.approx(losses(one), rel=1e-5)
    validation = [read_metrics(folder, "validation")[-1]["loss"] for folder in (one, two)]
    assert validation[0] == pytest.approx(validation[1], rel=1e-5)
    weights = [load_network(folder / "model").state_dict() for folder in (one, two)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])
    code, out, err = finish(*TORCHRUN, "train", "--recipe", recipe, "--folder", two, "--set", "accumulation=3")
    assert code != 0 and "accumulation=3 micro-batches per step cannot be divided among 2 ranks" in err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_signal_to_the_launcher_saves_on_all_ranks(recipe: Path, tmp_path: Path) -> None:
    """The checkpoint is of one step, and one process goes on from it as if nothing had happened."""
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    with started(*TORCHRUN, "train", "--recipe", recipe, "--set", "steps=400", "--folder", folder) as process:
        deadline = time.monotonic() + 400
        while len(losses(folder)) < 5:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=200) != 0
    newest, done = latest_state(folder / "checkpoints"), len(losses(folder))
    assert newest is not None and newest.name == f"step-{done:08d}" and 5 <= done < 400
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"steps": done + 3})
    for target in (folder, whole):
        code, _, err = finish(
            "-m", "s1pro", "train", "--recipe", recipe, "--folder", target, "--set", f"steps={done + 3}"
        )
        assert code == 0, err
    assert losses(folder) == pytest.approx(losses(whole), rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_contrastive_training_with_the_negatives_of_both_ranks(tmp_path: Path) -> None:
    from tests.recipes.test_vision_language import TOWER, drawings, language_model, settings, write_pairs

    for part, held_out in (("train", False), ("validation", True)):
        write_pairs(tmp_path / "data" / part, drawings(held_out=held_out, seed=int(held_out)))
    texts = [caption for _, caption in drawings(held_out=False, seed=0)]
    language_model(tmp_path / "language", texts, tower=TOWER, pixels=(32 * 32, 64 * 64))
    run = contrastive_recipe(tmp_path, settings(tmp_path, contrastive=VisionStage(steps=4, lr=1e-3, eval_every=4)))
    run = replace(run, optimizer=OptimizerConfig(lr=1e-3, eps=1e-4), tensorboard=False, peak_tflops=0.1, device="cpu")
    write_json(tmp_path / "recipe.json", config_to_json(run))
    one, two = tmp_path / "one", tmp_path / "two"
    code, out, err = finish(*TORCHRUN, "train", "--recipe", tmp_path / "recipe.json", "--folder", two, "--json")
    assert code == 0, err
    assert json.loads(out)["steps"] == 4
    code, _, err = finish("-m", "s1pro", "train", "--recipe", tmp_path / "recipe.json", "--folder", one)
    assert code == 0, err
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    towers = [load_contrastive(folder / "model").state_dict() for folder in (one, two)]
    assert all(torch.allclose(towers[0][name], towers[1][name], atol=1e-5) for name in towers[0])
