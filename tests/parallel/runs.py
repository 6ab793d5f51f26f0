"""A small training run that any number of ranks can take: documents of unequal length, sizes that do not divide."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s1pro.base.region import Region
from s1pro.data.sequence import TokenSequence
from s1pro.model.config import ModelConfig, RouterConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.parallel.mesh import Ranks, join
from s1pro.train.config import DataConfig, TrainRun
from s1pro.train.loop import Trainer
from s1pro.train.losses import LanguageModelLoss, LossConfig
from s1pro.train.optim import OptimizerConfig
from s1pro.train.setup import build_loader, prepare_network, validation_batches

VOCABULARY = 30
"""Rows of embedding and head: 8, 8, 8 and 6 on four ranks."""

MICRO_BATCHES = 4


class Documents:
    """Document i counts up from a random token; between 5 and 60 tokens."""

    def __init__(self, name: str = "documents", size: int = 300, seed: int = 0) -> None:
        self.name = name
        draw = np.random.default_rng(seed)
        self._lengths, self._starts = draw.integers(5, 61, size), draw.integers(0, VOCABULARY, size)

    def __len__(self) -> int:
        return len(self._lengths)

    def num_rows(self, index: int) -> int:
        return int(self._lengths[index])

    def is_conversation(self, index: int) -> bool:
        return False

    def sequence(self, index: int) -> TokenSequence:
        ids = (self._starts[index] + np.arange(self._lengths[index] + 1)) % VOCABULARY
        weights = np.ones(len(ids), np.float32)
        return TokenSequence(token_ids=ids.astype(np.int32), loss_weights=weights, prompt_group="general")


def small_model(*, grouped: bool = True) -> ModelConfig:
    """Eight experts: four groups with one choice each, or two choices of all."""
    config = tiny(vocab_size=VOCABULARY)
    router = RouterConfig(num_experts=8, top_k=4, num_groups=4) if grouped else RouterConfig(num_experts=8, top_k=2)
    return replace(config, text=replace(config.text, router=router, hidden_size=32, moe_intermediate_size=24))


def small_run(folder: Path, **changes: Any) -> TrainRun:
    run = TrainRun(
        folder=folder,
        model=small_model(),
        steps=3,
        accumulation=MICRO_BATCHES,
        data=DataConfig(tokens_per_batch=96, max_length=64, lookahead=6),
        optimizer=OptimizerConfig(lr=3e-3, eps=1e-4),  # AdamW's g / |g| would blow the round-off of tiny gradients up
        loss=LossConfig(balance=0.01, z=0.001),
        tensorboard=False,
        progress=False,
        export=False,
        peak_tflops=0.1,
        router_every=1,
    )
    return replace(run, **changes)


def small_trainer(run: TrainRun, ranks: Ranks, *, network: Network | None = None) -> Trainer[Any, Any]:
    assert run.model is not None
    network = prepare_network(network or Network(run.model, seed=run.seed), run, ranks)
    return Trainer(
        run,
        network,
        build_loader([Documents()], [1.0], run.data, seed=run.seed, ranks=ranks),
        loss=LanguageModelLoss(run.loss, ranks),
        validation=validation_batches([Documents("held out", 15, seed=1)], run.data),
        ranks=ranks,
    )


@dataclass
class Parts:
    """What one rank holds of named tensors, and where it belongs."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    regions: dict[str, Region] = field(default_factory=dict)

    @staticmethod
    def of(trainer: Trainer[Any, Any], tensors: dict[str, Tensor]) -> Parts:
        ranks, places = trainer.ranks, trainer.optimizer.places
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return Parts(copies, {name: places[name].region(ranks, ranks.rank) for name in tensors})


def assembled(parts: list[Parts]) -> dict[str, Tensor]:
    """The whole tensors. Every number must have been written, and copies of it must be equal."""
    whole: dict[str, Tensor] = {}
    written: dict[str, Tensor] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            region = part.regions[name]
            assert tuple(tensor.shape) == region.size, name
            box = region.inside(Region.whole(region.shape))
            target = whole.setdefault(name, torch.zeros(region.shape, dtype=tensor.dtype))[box]
            known = written.setdefault(name, torch.zeros(region.shape, dtype=torch.bool))[box]
            assert bool((~known | (target == tensor)).all()), f"copies of {name} differ"
            target.copy_(tensor)
            known.fill_(True)
    assert all(bool(mask.all()) for mask in written.values())
    return whole


@dataclass
class History:
    """What a run did, as seen by one rank."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    reports: list[Any] = field(default_factory=list)
    gradients: Parts = field(default_factory=Parts)
    weights: Parts = field(default_factory=Parts)
    validation: dict[str, Any] = field(default_factory=dict)


def take_steps(trainer: Trainer[Any, Any], steps: int) -> History:
    """Steps without folder, checkpoints and metrics. Keeps the gradients of the first step."""
    from s1pro.parallel.regions import local_part

    history = History()
    optimizer, update = trainer.optimizer, trainer.optimizer.step

    def remember(scale: float) -> None:
        if not history.gradients.tensors:
            grads = {name: p.grad for name, p in optimizer._params.items() if p.grad is not None}
            history.gradients = Parts.of(trainer, grads)
        update(scale)

    optimizer.step = remember  # type: ignore[method-assign]
    for _ in range(steps):
        batches = [next(trainer.loader) for _ in range(trainer._accumulation)]
        report = trainer.stepper.step(batches, 1.0, router_statistics=True)
        history.losses.append(report.loss)
        history.norms.append(report.grad_norm)
        history.reports.append(report)
    history.validation = trainer.evaluate()
    weights = {name: local_part(tensor) for name, tensor in trainer.network.state_dict().items()}
    history.weights = Parts.of(trainer, weights)
    return history


def run_on_this_rank(rank: int, runs: list[TrainRun], steps: int) -> list[History]:
    """For `run_ranks`: several runs one after another in the same process group."""
    return [take_steps(small_trainer(run, join(run.parallel, "cpu")), steps) for run in runs]
