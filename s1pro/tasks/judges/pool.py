"""Judges in processes of their own: a reward function that hangs, leaks or crashes costs only its own sample.

Every judge is a process (`judges.child`) that knows the tasks and scores one answer at a time, with a limit of time and
of memory per answer. One that exceeds its time is killed, one that died is replaced.

A failure may be the fault of an answer that was scored before (memory that was never given back, a process left in
disorder). So an answer that fails in a used process is tried once more in a fresh one; what happens there is its own.

Scoring waits in threads of this process, one per judge, which do nothing but wait; the event loop goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.judges.child import READY
from s1pro.tasks.judges.judge import Verdict
from s1pro.tasks.task import Item, Task

START_SECONDS = 120.0
"""A process has so long to start and read its tasks."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
    "from s1pro.tasks.judges.child import main; main(*map(int, sys.argv[2:]))"
)


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How answers are scored.

    Attributes:
        processes: that score at once; 0 scores in the process of the run, without limits.
        seconds: for one answer, by the clock on the wall: time in which other programs had the processor counts. One
            that takes longer has no score.
        memory_mb: that scoring may take beside what the tasks need.
    """

    processes: int = 1
    seconds: float = 10.0
    memory_mb: int = 1024

    def __post_init__(self) -> None:
        if self.processes < 0 or not self.seconds > 0 or self.memory_mb < 1:
            raise ValueError(
                f"judges: processes={self.processes} must not be negative, seconds={self.seconds} and "
                f"memory_mb={self.memory_mb} must be positive"
            )
        if not self.processes and (self.seconds, self.memory_mb) != (10.0, 1024):
            raise ValueError("judges.seconds and judges.memory_mb have no effect with judges.processes=0")


class JudgePool:
    """See the module docstring. A `Judge`; the processes start in the background.

    Raises:
        InputError: tasks that cannot be sent to another process.
    """

    def __init__(self, tasks: Mapping[str, Task], config: JudgeConfig) -> None:
        self._config, self._tasks = config, _packed(tasks)
        self._idle: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()  # None: still to be started
        self._running: set[_Process] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(max_workers=config.processes, thread_name_prefix="judge")
        for _ in range(config.processes):
            self._idle.put(None)
            self._threads.submit(self._warm_up)

    async def score(self, task: str, item: Item, response: str) -> Verdict:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._score, (task, item, response))

    def close(self) -> None:
        self._closed = True
        for process in list(self._running):
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._running:
            process.kill()

    def pids(self) -> list[int]:
        """Process ids of the judges that run."""
        return [process.pid for process in list(self._running)]

    # from here on: threads of the pool

    def _warm_up(self) -> None:
        self._idle.put(self._idle.get() or self._start())

    def _score(self, request: tuple[str, Item, str]) -> Verdict:
        process = self._idle.get()
        try:
            process = process or self._start()
            verdict = process.judge(request, self._config.seconds)
            if verdict.failure is None:
                return verdict
            self._end(process)
            used, process = process.judged > 1, None
            if not used or self._closed:
                return verdict
            fresh = self._start()
            verdict = fresh.judge(request, self._config.seconds)
            if verdict.failure is None:
                process = fresh
            else:
                self._end(fresh)
            return verdict
        finally:
            self._idle.put(process)

    def _start(self) -> _Process:
        process = _Process(self._tasks, self._config.memory_mb)
        self._running.add(process)
        return process

    def _end(self, process: _Process) -> None:
        self._running.discard(process)
        process.kill()


class _Process:
    """One judge, from the side of the parent; used by one thread at a time.

    Attributes:
        judged: answers that it was given so far.
    """

    def __init__(self, tasks: bytes, memory_mb: int) -> None:
        self._pipe, theirs = Pipe()
        numbers = [str(n) for n in (theirs.fileno(), os.getpid(), memory_mb)]
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, paths, *numbers],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        self.judged = 0
        self._ready = False
        with suppress(OSError):  # it died at once: `judge` will say so
            self._pipe.send_bytes(tasks)

    @property
    def pid(self) -> int:
        return self._process.pid

    def judge(self, request: tuple[str, Item, str], seconds: float) -> Verdict:
        """Raises `InputError` if the process cannot read the tasks."""
        if not self._ready:
            self._await_start()
        self.judged += 1
        try:
            self._pipe.send(request)
            if not self._pipe.poll(seconds):
                return Verdict(failure="time", reason=f"no score within {seconds:g} s by the clock")
            verdict: Verdict = self._pipe.recv()
        except (EOFError, OSError):
            return Verdict(failure="crash", reason=f"the process of the judge ended with code {self._exit_code()}")
        return verdict

    def kill(self) -> None:
        """Ends it, with all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _await_start(self) -> None:
        answer: Any = None
        with suppress(EOFError, OSError):
            answer = self._pipe.recv() if self._pipe.poll(START_SECONDS) else None
        if answer != READY:
            raise InputError(
                "judges: a process could not read the tasks: every task must be of a module that can be imported. Set "
                "judges.processes=0 to score without processes and limits"
            )
        self._ready = True

    def _exit_code(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=1.0)
        return None


def _packed(tasks: Mapping[str, Task]) -> bytes:
    try:
        return pickle.dumps(dict(tasks))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"judges: the tasks cannot be sent to another process ({error}). Define them at the top of a module, or "
            "set judges.processes=0 to score without processes and limits"
        ) from error
