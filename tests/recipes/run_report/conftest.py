"""Small real runs, made once: training on two sources from a copied model, reinforcement learning, an evaluation."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from s1pro.base.records import Completion, Sampling
from s1pro.checkpoint.expansion import expand_network
from s1pro.checkpoint.expansion_plan import ExpansionConfig
from s1pro.eval import report as evaluation
from s1pro.eval.runner import EvalSettings, run
from s1pro.model.config import RouterConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.rl.loop import train_rl
from s1pro.tasks.own import OwnTask
from s1pro.train.config import DataConfig, TrainRun
from s1pro.train.contrastive import ContrastiveRun, PairDataConfig, train_contrastive
from s1pro.train.copies import copy_similarity
from s1pro.train.optim import OptimizerConfig
from s1pro.train.stage import train
from tests.rl.letters import Letters, policy, run_in, tasks
from tests.train import shapes
from tests.train.conftest import CopySource

SOURCES = ("plain", "digit_in_scan")


def training(folder: Path, **changes: Any) -> TrainRun:
    made = TrainRun(
        folder=folder,
        model=tiny(vocab_size=16),
        steps=40,
        data=DataConfig(tokens_per_batch=120, max_length=32, lookahead=4),
        optimizer=OptimizerConfig(lr=3e-3),
        eval_every=10,
        router_every=5,
        tensorboard=False,
        progress=False,
        peak_tflops=0.1,
    )
    return replace(made, **changes)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 steps on two sources, with validation and a stored model; the data files of its configuration are gone."""
    folder = tmp_path_factory.mktemp("reports") / "trained"
    stage = training(folder)
    train(
        stage,
        sources={name: CopySource(name, seed=i) for i, name in enumerate(SOURCES)},
        validation={name: CopySource(name, 40, seed=5 + i) for i, name in enumerate(SOURCES)},
    )
    return folder


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 steps at another rate from an expanded model, whose copies are watched."""
    above = tmp_path_factory.mktemp("grown")
    config = tiny(vocab_size=16)
    router = RouterConfig(num_experts=8, top_k=2)
    small = Network(replace(config, text=replace(config.text, router=router)), seed=2)
    large, origins = expand_network(small, ExpansionConfig(factor=2, groups=4, strategy="A"))
    start = {"origins": origins.tolist(), "copies": copy_similarity(large, origins)}
    (above / "expanded").mkdir()
    (above / "expanded" / "expansion.json").write_text(json.dumps(start))
    stage = training(
        above / "run",
        steps=20,
        export=False,
        model=None,
        init_from=above / "expanded",
        optimizer=OptimizerConfig(lr=1e-2),
    )
    train(
        stage,
        network=large,
        processor=Letters(),
        sources={name: CopySource(name, seed=i) for i, name in enumerate(SOURCES)},
        validation={"plain": CopySource("plain", 40, seed=5)},
    )
    return above / "run"


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rounds of reinforcement learning."""
    folder = tmp_path_factory.mktemp("rl") / "learned"
    train_rl(run_in(folder, steps=6), tasks=tasks(), network=policy(), processor=Letters())  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="session")
def contrasted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of contrastive training, with both towers stored."""
    run = ContrastiveRun(
        folder=tmp_path_factory.mktemp("contrastive") / "towers",
        model=shapes.model_config(),
        steps=4,
        eval_every=2,
        data=PairDataConfig(patches_per_batch=200, max_pairs=6),
        tensorboard=False,
        progress=False,
        peak_tflops=0.1,
    )
    train_contrastive(run, sources=[shapes.pairs()], validation=[shapes.pairs(held_out=True)])
    return run.folder


@pytest.fixture(scope="session")
def examined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of four own questions with a picture, two answered right."""
    folder = tmp_path_factory.mktemp("eval")
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "red.png")
    rows = [{"question": f"Is {i} even?", "answer": "yes" if i % 2 == 0 else "no"} for i in range(4)]
    (folder / "even.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    class Yes:
        async def chat(self, messages: Any, sampling: Sampling) -> Completion:
            await asyncio.sleep(0)
            return Completion(text="yes", finish_reason="stop", token_ids=(1,))

    task = OwnTask(folder / "even.jsonl", "exact")
    settings = EvalSettings(model="yes-man", sampling=Sampling(max_new_tokens=4))
    results = run([task], Yes(), folder / "out", settings=settings)  # type: ignore[arg-type]
    evaluation.write_run(folder / "out", results, [task])
    return folder / "out"
