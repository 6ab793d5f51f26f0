"""The loop: it learns, resumes exactly, stops when it should, and refuses folders of other runs."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from s1pro.base.config import config_from_json
from s1pro.base.errors import InputError
from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.train.config import DataConfig, TrainRun
from s1pro.train.guards import GuardConfig, TrainingStoppedError
from s1pro.train.loop import Trainer
from s1pro.train.losses import LanguageModelLoss, LossConfig, LossOutput, StepTotals
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig
from s1pro.train.setup import build_loader, prepare_network, validation_batches
from s1pro.train.stage import train

MakeRun = Callable[..., TrainRun]
MakeSource = Callable[..., Any]
TIMES = ("seconds", "tokens_per_second", "mfu")


def curve(folder: Path) -> list[dict[str, Any]]:
    """Metrics without the times."""
    return [{k: v for k, v in record.items() if k not in TIMES} for record in read_metrics(folder)]


def same_weights(a: Network, b: Network) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def build(run: TrainRun, source: Any, **options: Any) -> Trainer[Network, PackedBatch]:
    assert run.model is not None
    network = prepare_network(Network(run.model, seed=run.seed), run)
    loader = build_loader([source], [1.0], run.data, seed=run.seed)
    return Trainer(run, network, loader, **{"loss": LanguageModelLoss(run.loss), **options})


def stop_after(trainer: Trainer[Any, Any], steps: int) -> None:
    """Behaves like a kill right after `steps` steps: no checkpoint, nothing cleaned up."""

    class Killed(Exception):
        pass

    take = trainer.stepper.step

    def step(*args: Any, **options: Any) -> Any:
        if trainer.steps_done == steps:
            raise Killed
        return take(*args, **options)

    trainer.stepper.step = step  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trainer.train()


def test_a_tiny_model_learns_to_copy(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    run = tiny_run(
        steps=150,
        data=DataConfig(tokens_per_batch=1200, max_length=32),
        optimizer=OptimizerConfig(lr=5e-3),
        eval_every=100,
        router_every=50,
    )
    result = train(run, sources={"copy": copy_source()}, validation={"held_out": copy_source("held_out", 50, seed=1)})
    assert (result.reason, result.steps, result.skipped) == ("done", 150, 0)
    batch = validation_batches([copy_source("held_out", 100, seed=1)], run.data)[0]
    with torch.no_grad():
        output = result.network(batch.input_ids_T, batch.position_ids_T, PackedContext(cu_seqlens=batch.cu_seqlens))
    learned = batch.targets_T >= 0
    assert output.logits is not None
    accuracy = (output.logits.argmax(-1) == batch.targets_T)[learned].double().mean().item()
    assert accuracy > 0.95
    assert result.validation["loss"] < 0.2 and set(result.validation["source_loss"]) == {"held_out"}
    assert {r["kind"] for r in read_metrics(run.folder)} == {"train", "validation", "router"}
    assert [r["step"] for r in read_metrics(run.folder, "router")] == [1, 50, 100, 150]
    assert config_from_json(TrainRun, json.loads((run.folder / "config.json").read_text())) == run
    assert json.loads((run.folder / "stamp.json").read_text())["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("killed_at", [1, 3, 4, 7])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_killed_and_resumed_run_equals_the_uninterrupted_one(
    tiny_run: MakeRun, copy_source: MakeSource, tmp_path: Path, kind: str, killed_at: int
) -> None:
    options = {
        "optimizer": OptimizerConfig(kind=kind, lr=1e-2),
        "accumulation": 2,
        "checkpoint_every": 2,
        "eval_every": 3,
    }  # type: ignore[arg-type]
    whole = tiny_run(folder=tmp_path / "whole", **options)
    broken = tiny_run(folder=tmp_path / "broken", **options)
    held_out = validation_batches([copy_source("held_out", 20, seed=1)], whole.data)
    straight = build(whole, copy_source(), validation=held_out)
    straight.train()
    stop_after(build(broken, copy_source(), validation=held_out), killed_at)
    resumed = build(broken, copy_source(), validation=held_out)
    resumed.train()
    assert curve(broken.folder) == curve(whole.folder)
    assert len(read_metrics(whole.folder, "train")) == 8
    assert same_weights(resumed.network, straight.network)
    assert resumed.tokens == straight.tokens == 8 * 2 * 240


def test_resuming_a_finished_run_changes_nothing(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    run = tiny_run()
    first = build(run, copy_source())
    first.train()
    before = (run.folder / "metrics.jsonl").read_text()
    again = build(run, copy_source())
    assert again.train() == "done"
    assert (run.folder / "metrics.jsonl").read_text() == before and same_weights(first.network, again.network)


def test_prefetching_and_tail_do_not_change_the_numbers(
    tiny_run: MakeRun, copy_source: MakeSource, tmp_path: Path
) -> None:
    plain = tiny_run(folder=tmp_path / "plain")
    ahead = replace(plain, folder=tmp_path / "ahead", data=replace(plain.data, prefetch=2))
    trainers = [build(run, copy_source()) for run in (plain, ahead)]
    for trainer in trainers:
        trainer.train()
    assert curve(plain.folder) == curve(ahead.folder) and same_weights(trainers[0].network, trainers[1].network)


def test_activation_checkpointing_is_bit_identical(tiny_run: MakeRun, copy_source: MakeSource, tmp_path: Path) -> None:
    plain = tiny_run(folder=tmp_path / "plain", steps=3)
    trainers = [
        build(run, copy_source())
        for run in (plain, replace(plain, folder=tmp_path / "again", activation_checkpointing=True))
    ]
    for trainer in trainers:
        trainer.train()
    assert same_weights(trainers[0].network, trainers[1].network)


def test_frozen_router_keeps_its_weights(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    run = tiny_run(freeze_router=True, steps=2, loss=LossConfig(balance=0.0))
    trainer = build(run, copy_source())
    before = {n: p.clone() for n, p in trainer.network.named_parameters()}
    trainer.train()
    changed = {n for n, p in trainer.network.named_parameters() if not torch.equal(before[n], p)}
    assert changed == {n for n in before if not n.endswith("mlp.gate.weight")}


def test_straight_through_option_reaches_every_router(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    trainer = build(tiny_run(straight_through=True), copy_source())
    layers = trainer.network.model.language_model.layers
    assert all(layer.mlp.gate.config.straight_through for layer in layers)


def test_bfloat16_learns_on_float32_masters(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    run = tiny_run(dtype="bfloat16", steps=30, accumulation=2, checkpoint_every=15)
    trainer = build(run, copy_source())
    trainer.train()
    losses = [r["loss"] for r in read_metrics(run.folder, "train")]
    assert losses[-1] < losses[0] - 0.2
    dtypes = {n.rsplit(".", 2)[-2]: p.dtype for n, p in trainer.network.named_parameters()}
    assert dtypes["q_proj"] == torch.bfloat16 and dtypes["lm_head"] == dtypes["gate"] == torch.float32
    resumed = build(run, copy_source())
    resumed.train()
    assert same_weights(trainer.network, resumed.network)


def test_interrupt_finishes_the_step_saves_and_raises(
    tiny_run: MakeRun, copy_source: MakeSource, tmp_path: Path
) -> None:
    run = tiny_run(steps=6)
    whole = build(replace(run, folder=tmp_path / "whole"), copy_source())
    whole.train()

    def interrupt_at_two(trainer: Trainer[Any, Any]) -> Mapping[str, Any]:
        if trainer.steps_done == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    broken = build(replace(run, eval_every=1), copy_source(), on_evaluate=interrupt_at_two)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    assert broken.steps_done in (2, 3)
    resumed = build(run, copy_source())
    resumed.train()
    assert curve(run.folder) == curve(tmp_path / "whole") and same_weights(resumed.network, whole.network)


def test_second_interrupt_stops_at_once(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    def twice(trainer: Trainer[Any, Any]) -> Mapping[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build(tiny_run(eval_every=1), copy_source(), on_evaluate=twice).train()
    assert signal.getsignal(signal.SIGINT) is handler


def test_time_budget_ends_the_run_with_a_checkpoint(
    tiny_run: MakeRun, copy_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: 0.5 * next(ticks))
    monkeypatch.setattr("s1pro.train.loop.time", clock)
    run = tiny_run(steps=1000, max_seconds=5.0, schedule=ScheduleConfig(follow_time=True, kind="linear", warmup=0.0))
    trainer = build(run, copy_source())
    assert trainer.train() == "time"
    assert trainer.steps_done == 10
    rates = [r["lr"] / run.optimizer.lr for r in read_metrics(run.folder, "train")]
    assert rates == pytest.approx([1 - 0.1 * step for step in range(10)], abs=1e-3)
    longer = build(replace(run, max_seconds=6.0), copy_source())
    longer.train()
    assert longer.steps_done == 12


def test_non_finite_steps_are_skipped_reported_and_stop_the_run(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    run = tiny_run(guards=GuardConfig(max_skips_in_a_row=3))

    class BrokenLoss(LanguageModelLoss):
        def __call__(self, model: Network, batch: PackedBatch, totals: StepTotals) -> LossOutput:
            loss = model.lm_head.weight.sum() * float("nan")
            return LossOutput(loss=loss, values={"loss": loss.detach()})

    trainer = build(run, copy_source(), loss=BrokenLoss(run.loss))
    before = {n: p.clone() for n, p in trainer.network.named_parameters()}
    with pytest.raises(TrainingStoppedError, match="3 steps in a row"):
        trainer.train()
    assert all(torch.equal(before[n], p) for n, p in trainer.network.named_parameters())
    skips = read_metrics(run.folder, "skip")
    assert [r["step"] for r in skips] == [1, 2] and "not finite" in skips[0]["reason"]


def test_a_folder_of_another_run_is_refused_with_the_differences(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    run = tiny_run(steps=2)
    build(run, copy_source()).train()
    other = replace(run, optimizer=OptimizerConfig(lr=1e-4), checkpoint_every=5)
    with pytest.raises(InputError, match=r"optimizer.lr was 0.003, now 0.0001\. Choose another folder"):
        build(other, copy_source()).train()


def test_clear_errors_for_incomplete_runs(tiny_run: MakeRun, copy_source: MakeSource) -> None:
    with pytest.raises(InputError, match="give model"):
        train(replace(tiny_run(), model=None), sources={"copy": copy_source()})
    with pytest.raises(InputError, match=r"data\.sources is empty"):
        train(tiny_run())
    with pytest.raises(InputError, match="weights for unknown sources x"):
        train(tiny_run(), sources={"copy": copy_source()}, weights={"x": 1.0})
    with pytest.raises(InputError, match="device='gpu'"):
        train(tiny_run(device="gpu"), sources={"copy": copy_source()})
    with pytest.raises(InputError, match="give a processor"):
        train(tiny_run(), sources={"text": []})
    with pytest.raises(ValueError, match="not both"):
        TrainRun(folder=Path("x"), model=tiny(), init_from=Path("y"))
    with pytest.raises(ValueError, match="needs max_seconds"):
        TrainRun(folder=Path("x"), schedule=ScheduleConfig(follow_time=True))
