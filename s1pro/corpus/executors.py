"""Where the loops of a stage run: here, in local processes, as a Slurm array, as Ray tasks.

Every executor starts the same loop (corpus/work.py) one or more times over the same plan, so shards are byte-identical
whichever is used and however many workers there are. An executor only starts loops, waits for them while it shows how
far they are, and stops them when interrupted; what is done and what is not, the folder alone knows. `run_stage` starts
loops again until the plan is done, and gives up when a whole round finished nothing.

    inline       in this process
    processes    N processes of this machine (default)
    slurm        N tasks of a job array through submitit (extra `slurm`); the folder must be on a shared file system
    ray          N tasks of a Ray cluster (extra `ray`); likewise
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.corpus.leases import watch
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.stages.registry import stage_named
from s1pro.corpus.units import Unit
from s1pro.corpus.work import Progress, work

Tell = Callable[[Progress], None]

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']\n"
    "from s1pro.corpus.work import main; sys.exit(main())"
)
_POLL_SECONDS = 0.3
_ROUNDS = 3


class Executor(Protocol):
    """Starts loops for a stage and waits for them. What they did is in the folder.

    Raises:
        InputError: a loop ended with an error.
    """

    def run(self, root: Path, stage: str, board: Board) -> None: ...


class Board:
    """Counts what is done of a plan, and tells it.

    Args:
        tell: called with the progress whenever it may have changed.
    """

    def __init__(self, folder: CorpusFolder, stage: str, units: Sequence[Unit], tell: Tell | None) -> None:
        self.stage, self.units = stage, units
        self._shelf = folder.units(stage)
        self._tell = tell or (lambda progress: None)
        self._open = {unit.key: unit for unit in units}
        self._pages: dict[str, int] = {}
        self._inputs_done = 0

    def book(self, unit: Unit, pages: int, finished: bool) -> None:
        """A unit has come so far."""
        self._pages[unit.key] = pages
        if finished and self._open.pop(unit.key, None) is not None:
            self._inputs_done += len(unit.inputs)
        self.show()

    def look(self) -> None:
        """Reads from the folder how far other processes are."""
        for unit in list(self._open.values()):
            if (self._shelf.folder / f"{unit.key}.json").exists():
                self.book(unit, int(self._shelf.costs(unit).get("pages", 0)), finished=True)
            else:
                pages = watch(self._shelf.folder / f"{unit.key}.lease").get("pages")
                if pages is not None:
                    self._pages[unit.key] = int(pages)
        self.show()

    def show(self) -> None:
        self._tell(
            Progress(
                stage=self.stage,
                units=len(self.units),
                units_done=len(self.units) - len(self._open),
                inputs=sum(len(unit.inputs) for unit in self.units),
                inputs_done=self._inputs_done,
                pages=sum(self._pages.values()),
            )
        )


def run_stage(folder: CorpusFolder, stage_name: str, executor: Executor, tell: Tell | None = None) -> int:
    """Plans a stage and does it; gives the number of its units.

    Raises:
        InputError: an earlier stage is not finished, the disk is full, or units that cannot be done.
    """
    units = stage_named(stage_name).plan(folder)
    folder.save_plan(stage_name, units)
    shelf = folder.units(stage_name)
    for unit in units:
        if shelf.manifest(unit) is None:  # damaged or not there: workers look only for its presence
            (shelf.folder / f"{unit.key}.json").unlink(missing_ok=True)
    left = _left(folder, stage_name)
    fruitless = 0
    while left:
        executor.run(folder.root, stage_name, Board(folder, stage_name, units, tell))
        before, left = left, _left(folder, stage_name)
        fruitless = fruitless + 1 if len(left) == len(before) else 0
        if left and fruitless and _held_elsewhere(folder, stage_name, left):
            time.sleep(1.0)
        elif fruitless >= _ROUNDS:
            raise InputError(f"{folder.root}: {stage_name}: {len(left)} units are not done, the first is {left[0].key}")
    return len(units)


@dataclass(frozen=True, kw_only=True)
class Inline:
    """In this process."""

    def run(self, root: Path, stage: str, board: Board) -> None:
        work(root, stage, check=False, tell=board.book)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Local processes, each with a loop of its own."""

    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"workers must be at least 1, got {self.workers}")

    def run(self, root: Path, stage: str, board: Board) -> None:
        count = min(self.workers, len(board.units))
        log = root / "logs" / f"{stage}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w+b") as errors:
            running = [_spawn(root, stage, number * len(board.units) // count, errors) for number in range(count)]
            try:
                while any(process.poll() is None for process in running):
                    board.look()
                    time.sleep(_POLL_SECONDS)
            finally:
                _stop(running)
            board.look()
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()
        codes = {process.returncode for process in running}
        if 130 in codes:
            raise KeyboardInterrupt
        if codes & {1, 2}:  # an error of the user, or of ours: it would come again
            last = said.splitlines()[-1] if said else "a worker ended with an error"
            raise InputError(last if 2 in codes else f"{stage}: {last} ({log} has the whole traceback)")


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """A job array.

    Attributes:
        tasks: length of the array.
        cluster: `slurm`; `local` runs the tasks as processes of this machine, `debug` in this process.
        partition, minutes, memory_gb, cpus: what a task asks for.
        parameters: further options of submitit, such as `slurm_account`.
    """

    tasks: int = 16
    cluster: str = "slurm"
    partition: str = ""
    minutes: int = 24 * 60
    memory_gb: int = 8
    cpus: int = 2
    parameters: tuple[tuple[str, str], ...] = ()

    def run(self, root: Path, stage: str, board: Board) -> None:
        try:
            import submitit
        except ImportError as error:
            raise MissingExtraError("submitit", "slurm") from error
        count = min(self.tasks, len(board.units))
        executor = submitit.AutoExecutor(folder=str(root / "slurm" / "%j"), cluster=self.cluster)
        options: dict[str, Any] = {"name": f"s1pro-{stage}", "timeout_min": self.minutes, **dict(self.parameters)}
        if self.cluster == "slurm":
            options |= {"mem_gb": self.memory_gb, "cpus_per_task": self.cpus, "slurm_array_parallelism": count}
            options |= {"slurm_partition": self.partition} if self.partition else {}
        executor.update_parameters(**options)
        starts = [number * len(board.units) // count for number in range(count)]
        jobs = executor.map_array(Slice(), [str(root)] * count, [stage] * count, starts)
        try:
            while not all(job.done() for job in jobs):
                board.look()
                time.sleep(_POLL_SECONDS if self.cluster != "slurm" else 5.0)
        except BaseException:
            for job in jobs:
                job.cancel(check=False)
            raise
        board.look()
        _refuse([str(job.exception()) for job in jobs if job.exception() is not None])


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Tasks of a Ray cluster; `address` empty starts one on this machine."""

    tasks: int = 2
    address: str = ""

    def run(self, root: Path, stage: str, board: Board) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray") from error
        count = min(self.tasks, len(board.units))
        started = not ray.is_initialized()
        if started and self.address:
            ray.init(address=self.address, log_to_driver=False)
        elif started:
            ray.init(num_cpus=count, include_dashboard=False, log_to_driver=False)
        try:
            task = ray.remote(work_slice)
            running = [task.remote(str(root), stage, number * len(board.units) // count) for number in range(count)]
            waiting = list(running)
            while waiting:
                _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
                board.look()
            try:
                ray.get(running)
            except ray.exceptions.RayTaskError as error:
                raise InputError(f"{stage}: a Ray task failed: {error.cause}") from error
        finally:
            if started:
                ray.shutdown()


class Slice:
    """A Slurm task. When Slurm ends it (time, preemption), submitit asks for `checkpoint` and queues it anew."""

    def __call__(self, root: str, stage: str, start: int) -> int:
        return work_slice(root, stage, start)

    def checkpoint(self, *arguments: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def work_slice(root: str, stage: str, start: int) -> int:
    """What a Slurm or Ray task does; gives the number of units it finished."""
    return work(Path(root), stage, start=start, check=False).done


def _left(folder: CorpusFolder, stage: str) -> list[Unit]:
    shelf = folder.units(stage)
    return [unit for unit in folder.plan(stage) if shelf.manifest(unit, check=False) is None]


def _held_elsewhere(folder: CorpusFolder, stage: str, left: Sequence[Unit]) -> bool:
    return any((folder.units(stage).folder / f"{unit.key}.lease").exists() for unit in left)


def _spawn(root: Path, stage: str, start: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    arguments = {"root": str(root), "stage": stage, "start": start, "parent": os.getpid()}
    paths = [os.path.abspath(path) for path in sys.path]
    command = [sys.executable, "-c", _BOOT, json.dumps({**arguments, "path": paths})]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks those that still run to end, and makes them."""
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        if process.poll() is None:
            process.kill()
            process.wait()


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise InputError(f"{len(problems)} tasks failed; the first says: {problems[0].strip().splitlines()[-1]}")
