"""A run whose trainer is an actor of its own, watched by the process that the user started.

    this process ── starts, watches, shows progress ──> trainer ──> rollout workers, judges

When the trainer dies, Ray starts another one, which goes on from the newest checkpoint; its workers and judges die with
the old one. Questions that were asked since that checkpoint are asked again, with the same random numbers: nothing is
lost, nothing counts twice, and a synchronous run has the curve of one that nobody disturbed.

The first Ctrl-C asks the trainer to finish its step and save; the second ends everything.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from s1pro.rl.config import RLRun
from s1pro.rl.system.ray_workers import connect
from s1pro.train.metrics import read_metrics
from s1pro.train.progress import ProgressBar

Result = TypeVar("Result")
Work = Callable[[threading.Event], Result]
"""A run; it ends early, with `KeyboardInterrupt`, once the event is set."""

POLL_SECONDS = 1.0


class TrainerDiedError(RuntimeError):
    """The trainer died more often than `system.restarts` allows."""


def launch(run: RLRun, work: Work[Result], *, on_start: Callable[[Any], None] | None = None) -> Result:
    """Does `work`, which trains `run`, in an actor; gives what it gives.

    Args:
        work: and its result travel between processes.
        on_start: called with the actor.

    Raises:
        KeyboardInterrupt: the user stopped the run; it is saved.
        TrainerDiedError: it died too often; the same command goes on from the newest checkpoint.
    """
    started = connect(run)
    import ray

    system = run.system
    actor = ray.remote(TrainerActor).options(
        num_cpus=system.trainer_cpus,
        num_gpus=system.trainer_gpus,
        max_restarts=system.restarts,
        max_task_retries=system.restarts,
        max_concurrency=4,
    )
    work_reference = ray.put(work)  # read again by a trainer that is started again
    trainer = actor.remote(os.getcwd())
    try:
        if on_start is not None:
            on_start(trainer)
        return _watch(run, trainer, trainer.work.remote([work_reference]))  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        raise TrainerDiedError(
            f"the trainer died more than system.restarts={system.restarts} times; given again, the command goes on "
            f"from the newest checkpoint in {run.folder}"
        ) from error
    finally:
        ray.kill(trainer)
        if started:
            ray.shutdown()


class TrainerActor:
    """The trainer; it starts its workers and judges itself.

    Args:
        folder: that relative paths of the run begin at, if this machine has it.
    """

    def __init__(self, folder: str) -> None:
        self._stop = threading.Event()
        if os.path.isdir(folder):
            os.chdir(folder)

    def work(self, reference: list[Any]) -> tuple[bool, Any]:
        """The result, and whether there is one: the user may have stopped the run."""
        import ray

        work: Work[Any] = ray.get(reference[0])
        try:
            return True, work(self._stop)
        except KeyboardInterrupt:
            return False, None

    def stop(self) -> None:
        self._stop.set()

    def pid(self) -> int:
        return os.getpid()


def _watch(run: RLRun, trainer: Any, working: Any) -> Any:
    import ray

    asked = False
    with ProgressBar(run.stage, run.steps, shown=run.progress) as bar:
        while True:
            try:
                ready, _ = ray.wait([working], timeout=POLL_SECONDS)
                if ready:
                    break
                steps = read_metrics(run.folder, "train") if bar.shown else []
                if steps:
                    last = steps[-1]
                    bar.update(last["step"], loss=last["loss"] or 0.0, tokens_per_second=last["tokens_per_second"])
            except KeyboardInterrupt:
                if asked:
                    raise
                asked = True
                trainer.stop.remote()
    complete, result = ray.get(working)
    if not complete:
        raise KeyboardInterrupt
    return result
