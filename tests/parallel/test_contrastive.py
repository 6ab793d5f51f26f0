"""Contrastive training on several ranks equals that on one: losses, gradients, weights, negatives across ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.data.pairs import PairBatch, collate_pairs, part_bounds
from s1pro.model.contrastive import ContrastiveModel, Form
from s1pro.parallel.config import ParallelConfig
from s1pro.parallel.mesh import Ranks, join
from s1pro.train.contrastive import ContrastiveRun, PairDataConfig, build_contrastive, pair_loader, train_contrastive
from s1pro.train.contrastive_loss import ContrastiveLoss
from s1pro.train.loop import Trainer
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from s1pro.train.setup import place
from tests.parallel.ranks import run_ranks
from tests.train import shapes

PAIRS = 7  # of a batch: parts of unequal size on every number of ranks


def small_run(folder: Path, **changes: Any) -> ContrastiveRun:
    run = ContrastiveRun(
        folder=folder,
        model=shapes.model_config(),
        steps=4,
        accumulation=2,
        data=PairDataConfig(patches_per_batch=400, max_pairs=PAIRS),
        optimizer=OptimizerConfig(lr=3e-3, eps=1e-4),
        checkpoint_every=2,
        tensorboard=False,
        progress=False,
        export=False,
        peak_tflops=0.1,
        device="cpu",
    )
    return dataclasses.replace(run, **changes)


def trained(rank: int, run: ContrastiveRun) -> dict[str, Any]:
    result = train_contrastive(run, sources=[shapes.pairs(copies=2)], validation=[shapes.pairs(held_out=True)])
    weights = {name: tensor.clone() for name, tensor in result.network.state_dict().items()}
    return {"weights": weights, "validation": dict(result.validation), "tokens": result.tokens}


def distance(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest difference, relative to the largest number of the same tensor."""
    assert actual.keys() == expected.keys()
    return max(float((actual[n] - expected[n]).abs().max() / expected[n].abs().max().clamp(min=1e-6)) for n in expected)


@pytest.mark.parametrize(("ranks", "form"), [(2, "sigmoid"), (3, "softmax")])
def test_a_run_on_many_ranks_is_the_run_on_one(tmp_path: Path, ranks: int, form: Form) -> None:
    changes = {"model": shapes.model_config(form=form)}
    alone = trained(0, small_run(tmp_path / "one", **changes))
    found = run_ranks(trained, ranks, small_run(tmp_path / "many", **changes), timeout=120.0)
    for one in found:
        assert all(torch.equal(tensor, found[0]["weights"][name]) for name, tensor in one["weights"].items())
        assert one["validation"] == found[0]["validation"] and one["tokens"] == alone["tokens"]
    assert distance(found[0]["weights"], alone["weights"]) < 2e-5
    single, many = (read_metrics(tmp_path / name, "train") for name in ("one", "many"))
    assert len(single) == len(many) == 4
    for ours, theirs in zip(many, single, strict=True):
        assert ours["tokens"] == theirs["tokens"] and ours["source_tokens"] == theirs["source_tokens"]
        for key in ("loss", "grad_norm", "scale", "batch_recall"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key


def test_muon_takes_the_same_step(tmp_path: Path) -> None:
    """As far as its bfloat16 iterations allow: directions that hold only round-off come out as large as the others."""
    changes = {"optimizer": OptimizerConfig(kind="muon", lr=1e-2), "steps": 1}
    run = small_run(tmp_path / "one", **changes)
    start = build_contrastive(run).state_dict()
    alone = trained(0, run)["weights"]
    for found in run_ranks(trained, 2, small_run(tmp_path / "many", **changes), timeout=120.0):
        for name, before in start.items():
            moved, should = found["weights"][name] - before, alone[name] - before
            assert float((moved - should).norm()) <= 0.05 * float(should.norm()), name


def gradients(rank: int, form: Form, size: int) -> dict[str, Tensor]:
    """Of one batch of seven pairs, three of which share a caption over the borders of all parts; float64."""
    ranks = Ranks() if size == 1 else join(ParallelConfig(dp_replicate=size), "cpu")
    model = ContrastiveModel(shapes.model_config(form=form, width=16, out=16), seed=2).double()
    source = shapes.pairs()
    pairs = [source.pair(i) for i in range(PAIRS)]
    for i in (3, 6):
        pairs[i] = dataclasses.replace(pairs[i], caption_ids=pairs[0].caption_ids)
    start, stop = part_bounds(PAIRS, size)[rank : rank + 2]
    batch = collate_pairs(pairs[start:stop], num_whole=PAIRS)
    loss = ContrastiveLoss(ranks)
    output = loss(model, batch, dataclasses.replace(loss.totals([batch]), weight=float(PAIRS)))
    output.loss.backward()
    ranks_sum = {name: param.grad for name, param in model.named_parameters() if param.grad is not None}
    if size > 1:
        ranks.add_tensors(list(ranks_sum.values()))
    return {"loss": torch.tensor(ranks.add([output.loss.item()])), **ranks_sum}


@pytest.mark.parametrize("form", ["sigmoid", "softmax"])
def test_gradients_are_those_of_one_process_with_all_pairs(form: Form) -> None:
    alone = gradients(0, form, 1)
    for size in (2, 4):
        for found in run_ranks(gradients, size, form, size):
            assert distance(found, alone) < 1e-12


def test_without_the_pictures_of_other_ranks_it_is_another_loss() -> None:
    """The check above fails for a loss whose negatives stay on their rank."""
    alone = gradients(0, "sigmoid", 1)
    model = ContrastiveModel(shapes.model_config(width=16, out=16), seed=2).double()
    source, total = shapes.pairs(), 0.0
    for start, stop in ((0, 3), (3, PAIRS)):
        batch = collate_pairs([source.pair(i) for i in range(start, stop)])
        loss = ContrastiveLoss()
        total += float(loss(model, batch, dataclasses.replace(loss.totals([batch]), weight=float(PAIRS))).loss)
    assert abs(total - float(alone["loss"])) > 0.05


def stopped_and_resumed(rank: int, run: ContrastiveRun) -> None:
    ranks = join(ParallelConfig(dp_replicate=torch.distributed.get_world_size()), "cpu")
    trainer: Trainer[ContrastiveModel, PairBatch] = Trainer(
        run,
        place(build_contrastive(run), run),
        pair_loader([shapes.pairs(copies=2)], [1.0], run.data, seed=run.seed, ranks=ranks),
        loss=ContrastiveLoss(ranks),
        ranks=ranks,
    )
    take = trainer.stepper.step

    def step(*args: Any, **named: Any) -> Any:
        if trainer.steps_done == 3:
            raise RuntimeError("killed")
        return take(*args, **named)

    trainer.stepper.step = step  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="killed"):
        trainer.train()


def test_a_run_killed_on_three_ranks_goes_on_in_one_process(tmp_path: Path) -> None:
    whole = trained(0, small_run(tmp_path / "whole"))
    run = small_run(tmp_path / "broken")
    run_ranks(stopped_and_resumed, 3, run, timeout=120.0)
    resumed = trained(0, run)
    assert distance(resumed["weights"], whole["weights"]) < 2e-5
    losses = [[record["loss"] for record in read_metrics(tmp_path / name, "train")] for name in ("whole", "broken")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def refused(rank: int, run: ContrastiveRun) -> str:
    with pytest.raises(InputError) as error:
        train_contrastive(run, sources=[shapes.pairs()])
    return str(error.value)


def test_more_ranks_than_pairs_are_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path, data=PairDataConfig(patches_per_batch=400, max_pairs=2))
    assert run_ranks(refused, 3, run) == ["max_pairs must be at least 3, got 2"] * 3


def test_parts_are_cut_evenly_and_whole() -> None:
    for count, parts in ((7, 3), (8, 4), (3, 3), (10, 1)):
        bounds = part_bounds(count, parts)
        sizes = np.diff(bounds)
        assert bounds[0] == 0 and bounds[-1] == count and sizes.min() >= 1 and sizes.max() - sizes.min() <= 1
