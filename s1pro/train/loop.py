"""*The* training loop: pre-training, continued pre-training and supervised fine-tuning are this code with other data,
contrastive training of the vision tower (`train.contrastive`) is this code with another model and loss. What a stage of
a language model gives to it, and what becomes of the result: `train.stage`.

    config.json, stamp.json                       what was run, with which commit and versions
    metrics.jsonl, tensorboard/                   numbers of every step
    checkpoints/step-00000100/                    weights, optimizer, data position, guards: exact resume
    model/                                        the result in the released layout, with its tokenizer

Each turn of the loop: fetch micro-batches, set the learning rate, take a step (`train.step`), write metrics, then
evaluate and save when it is time. Everything that influences the numbers is in the checkpoint, so a run that was
killed and resumed has the losses and weights of an uninterrupted one, bit for bit, on the same machine and number of
threads.

Ctrl-C or SIGTERM finishes the step, saves, and raises `KeyboardInterrupt`; a second one stops at once.

On several ranks (`parallel/`) all of them run this loop and agree once per step: the clock is that of rank 0, and a
signal that reached any of them stops all of them behind the same step. Rank 0 alone writes metrics and shows progress;
a checkpoint is written by all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal

import torch

from s1pro.base.config import config_to_json
from s1pro.base.stamp import stamp, write_json
from s1pro.data.loader import Loader
from s1pro.parallel.apply import release_gathered
from s1pro.parallel.mesh import Ranks
from s1pro.train.checkpoints import Checkpoints
from s1pro.train.config import RunConfig, TrainRun
from s1pro.train.guards import Guard
from s1pro.train.interrupt import GracefulInterrupt
from s1pro.train.losses import Batch, LossFunction, Model
from s1pro.train.metrics import Metrics, MetricsWriter, NoMetrics
from s1pro.train.optim import Optimizer
from s1pro.train.progress import ProgressBar
from s1pro.train.resume import check_same_run
from s1pro.train.schedules import lr_scale, step_progress
from s1pro.train.setup import (
    local_accumulation,
)
from s1pro.train.step import Stepper, StepReport
from s1pro.train.throughput import measure_peak_flops

EvaluationHook = Callable[["Trainer[Any, Any]"], Mapping[str, Any]]
"""Called at every evaluation, on all ranks; what it returns is added to the validation record."""


@dataclass(frozen=True, kw_only=True)
class TrainResult(Generic[Model]):
    """How a run ended.

    Attributes:
        reason: "done" after all steps, "time" when `max_seconds` ran out.
        loss: of the last step that was not skipped.
        seconds: of training proper, over all parts of a resumed run.
        tokens: real rows that went through the network.
        validation: last validation record, empty without validation data.
        model_folder: the exported model, None if not exported.
    """

    folder: Path
    network: Model
    steps: int
    reason: Literal["done", "time"]
    loss: float | None
    seconds: float
    tokens: int
    skipped: int
    validation: Mapping[str, Any] = field(default_factory=dict)
    model_folder: Path | None = None


class Trainer(Generic[Model, Batch]):
    """State of a run and its loop. Most callers use `train`.

    Args:
        network: prepared (device, dtype, frozen parts).
        loader: endless, with exact position.
        loss: what is learned, and what the models and batches are.
        validation: batches for the validation loss.
        ranks: over which network and loader are spread; None in a single process.

    Attributes:
        evaluates_first: a new run begins with an evaluation.
    """

    evaluates_first = False

    def __init__(
        self,
        run: RunConfig,
        network: Model,
        loader: Loader[Batch],
        *,
        loss: LossFunction[Model, Batch],
        validation: Sequence[Batch] = (),
        on_evaluate: EvaluationHook | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.run, self.network, self.loader, self.loss, self.validation = run, network, loader, loss, validation
        self.ranks = ranks or Ranks()
        self._accumulation = local_accumulation(run, self.ranks)
        self.optimizer = Optimizer(network, run.optimizer, self.ranks)
        self.guard = Guard(run.guards)
        self.stepper = Stepper(network, self.optimizer, self.guard, loss, self.ranks)
        self.checkpoints = Checkpoints(
            run.folder / "checkpoints",
            network,
            self.optimizer,
            self.ranks,
            keep=run.keep_checkpoints,
            in_background=isinstance(run, TrainRun) and run.parallel.async_checkpoint,
        )
        self.steps_done = 0
        self.tokens = 0
        self.seconds = 0.0
        self.last_loss: float | None = None
        self.last_validation: dict[str, Any] = {}
        self._on_evaluate = on_evaluate
        self._router_every = run.router_every if isinstance(run, TrainRun) else 0
        self._peak_flops = 0.0
        self._saved_at = -1

    def train(self) -> Literal["done", "time"]:
        """Runs to the end, from the newest checkpoint if the folder has one.

        Raises:
            KeyboardInterrupt: after a Ctrl-C, once the step is finished and saved.
            TrainingStoppedError: the guard gave up.
            InputError: the folder holds a run with another configuration.
        """
        try:
            self._open_folder()
        except BaseException:
            self.loader.close()
            raise
        first = self.ranks.is_first
        metrics: Metrics = MetricsWriter(self.run.folder, tensorboard=self.run.tensorboard) if first else NoMetrics()
        shown = self.run.progress if first else False
        bar = ProgressBar(self.run.stage, self.run.steps, start=self.steps_done, shown=shown)
        try:
            metrics.forget_after(self.steps_done)
            with GracefulInterrupt() as interrupt, bar:
                return self._loop(metrics, bar, interrupt)
        finally:
            metrics.close()
            self.loader.close()
            self.checkpoints.close()

    def _loop(self, metrics: Metrics, bar: ProgressBar, interrupt: GracefulInterrupt) -> Literal["done", "time"]:
        run = self.run
        if self.evaluates_first and self.steps_done == 0:
            self.evaluate(metrics)
        while self.steps_done < run.steps and not self._out_of_time():
            started = time.perf_counter()
            batches = self.batches_of_step(metrics)
            scale = lr_scale(run.schedule, self._progress())
            report = self.stepper.step(batches, scale, router_statistics=self._due(self._router_every))
            seconds, stop = self._agree(time.perf_counter() - started, interrupt.requested)
            self.steps_done += 1
            self.tokens += report.rows
            self.seconds += seconds
            self.last_loss = report.loss if report.skipped is None else self.last_loss
            self._write_step(metrics, report, scale, seconds, batches)
            bar.update(self.steps_done, loss=report.loss, tokens_per_second=report.rows / seconds)
            if run.eval_every and self.steps_done % run.eval_every == 0 and self.steps_done < run.steps:
                self.evaluate(metrics)
            if stop:
                self.save()
                self.checkpoints.finish()
                raise KeyboardInterrupt
            if run.checkpoint_every and self.steps_done % run.checkpoint_every == 0 and self.steps_done < run.steps:
                self.save()
        if self.last_validation.get("step") != self.steps_done:
            self.evaluate(metrics)
        self.save()
        self.checkpoints.finish()
        _, stop = self._agree(0.0, interrupt.requested)
        if stop:
            raise KeyboardInterrupt
        return "done" if self.steps_done >= run.steps else "time"

    def batches_of_step(self, metrics: Metrics) -> list[Batch]:
        """The micro-batches of the next step on this rank."""
        return [next(self.loader) for _ in range(self._accumulation)]

    def evaluate(self, metrics: Metrics | None = None) -> dict[str, Any]:
        """Validation loss and what the hook adds. Empty without validation data and hook."""
        record: dict[str, Any] = {}
        if self.validation:
            with torch.no_grad():
                record |= self.loss.validate(self.network, self.validation)
        if self._on_evaluate is not None:
            record |= self._on_evaluate(self)
        release_gathered(self.network)
        if record and metrics is not None:
            metrics.write("validation", self.steps_done, record)
        self.last_validation = {"step": self.steps_done, **record}
        return record

    def _agree(self, seconds: float, interrupted: bool) -> tuple[float, bool]:
        """The clock of rank 0, and whether any rank was interrupted. Publishes a checkpoint that all have written."""
        writing = self.checkpoints.is_writing
        mine = [seconds if self.ranks.is_first else 0.0, float(interrupted), float(writing)]
        seconds, interruptions, writers = self.ranks.add(mine)
        if not writers:
            self.checkpoints.finish()
        return seconds, interruptions > 0

    def result(self, reason: Literal["done", "time"], model_folder: Path | None) -> TrainResult[Model]:
        """The record of a run that is over."""
        return TrainResult(
            folder=self.run.folder,
            network=self.network,
            steps=self.steps_done,
            reason=reason,
            loss=self.last_loss,
            seconds=self.seconds,
            tokens=self.tokens,
            skipped=self.guard.skipped,
            validation={key: value for key, value in self.last_validation.items() if key != "step"},
            model_folder=model_folder,
        )

    def save(self) -> None:
        """Writes a checkpoint of the present state, unless this step has one."""
        if self._saved_at != self.steps_done:
            self.checkpoints.save(self.steps_done, self._counters())
            self._saved_at = self.steps_done

    def _open_folder(self) -> None:
        """Starts the folder, or goes to the newest checkpoint in it."""
        folder = self.run.folder
        folder.mkdir(parents=True, exist_ok=True)
        newest = self.checkpoints.newest()
        if newest is not None:
            check_same_run(self.run)
            self._set_counters(self.checkpoints.load(newest))
            self._saved_at = self.steps_done
        self.ranks.wait()
        if self.ranks.is_first:
            write_json(folder / "config.json", config_to_json(self.run))
            write_json(folder / "stamp.json", stamp())

    def _counters(self) -> dict[str, Any]:
        return {
            "steps_done": self.steps_done,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "last_loss": self.last_loss,
            "last_validation": self.last_validation,
            "guard": self.guard.state_dict(),
            "loader": self.loader.state_dict(),
        }

    def _set_counters(self, counters: Mapping[str, Any]) -> None:
        self.steps_done, self.tokens, self.seconds = (counters[name] for name in ("steps_done", "tokens", "seconds"))
        self.last_loss, self.last_validation = counters["last_loss"], counters["last_validation"]
        self.guard.load_state_dict(counters["guard"])
        self.loader.load_state_dict(counters["loader"])

    def _progress(self) -> float:
        by_steps = step_progress(self.steps_done, self.run.steps)
        if not self.run.schedule.follow_time or self.run.max_seconds is None:
            return by_steps
        return max(by_steps, self.seconds / self.run.max_seconds)

    def _out_of_time(self) -> bool:
        return self.run.max_seconds is not None and self.seconds >= self.run.max_seconds

    def _due(self, every: int) -> bool:
        """Whether the step about to be made is one of every `every`, the first or the last."""
        number = self.steps_done + 1
        return bool(every) and (number % every == 0 or number in (1, self.run.steps))

    def _write_step(
        self,
        metrics: Metrics,
        report: StepReport,
        scale: float,
        seconds: float,
        batches: Sequence[Batch],
    ) -> None:
        flops = sum(self.loss.flops(self.network, batch) for batch in batches)
        record = {
            **report.values,
            "lr": self.run.optimizer.lr * scale,
            "grad_norm": report.grad_norm,
            "tokens": report.rows,
            "total_tokens": self.tokens,
            "source_loss": report.source_loss,
            "source_tokens": report.source_weight,
            "seconds": seconds,
            "tokens_per_second": report.rows / seconds,
            "mfu": flops / seconds / self._peak(),
        }
        metrics.write("train", self.steps_done, record)
        if report.skipped is not None:
            metrics.write("skip", self.steps_done, {"reason": report.skipped, "skipped_so_far": self.guard.skipped})
        if report.routers:
            metrics.write("router", self.steps_done, {"layers": report.routers})
        if report.routing:
            metrics.write("routing", self.steps_done, report.routing)
        if report.fp8:
            metrics.write("fp8", self.steps_done, {"layers": report.fp8})

    def _peak(self) -> float:
        """Peak speed of the machine in FLOP/s, measured once if it is not given."""
        if not self._peak_flops:
            given = self.run.peak_tflops
            weight = next(self.network.parameters())
            self._peak_flops = given * 1e12 if given is not None else measure_peak_flops(weight.device, weight.dtype)
        return self._peak_flops
