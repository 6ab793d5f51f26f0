"""What runs inside a judge's process: it scores one answer after another and can be killed at any moment.

It may use so much more memory than it has with its tasks loaded (RLIMIT_AS), leaves no core files, ignores Ctrl-C,
which is for the parent, and dies with the parent (PR_SET_PDEATHSIG where there is one, and the end of the pipe).

    parent: tasks by name         child: "ready", or why the tasks cannot be read
    parent: (task, item, answer)  child: a `Verdict`, and so on until the pipe ends

What a reward function prints goes nowhere. What it raises is the verdict; what ends the process, the parent sees.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from s1pro.tasks.judges.judge import Verdict
from s1pro.tasks.task import Item, Score, Task

READY = "ready"
_PR_SET_PDEATHSIG = 1
_MEBIBYTE = 1 << 20
_LONGEST_REASON = 300


def main(descriptor: int, parent: int, memory_mb: int) -> None:
    """Serves the pipe `descriptor` until it ends.

    Args:
        parent: process id; if it is gone already, so are we.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    connection = Connection(descriptor)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    tasks = _receive(connection)
    if tasks is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if (used := address_space()) is not None:
        limit = used + memory_mb * _MEBIBYTE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send(READY)
    with asyncio.Runner() as runner:
        while (request := _receive(connection)) is not None:
            name, item, response = request
            connection.send(runner.run(judge(tasks[name], item, response)))


async def judge(task: Task, item: Item, response: str) -> Verdict:
    """One verdict; whatever the reward function raises is part of it."""
    attempt = asyncio.ensure_future(task.score(item, response))
    await asyncio.wait([attempt])
    error = attempt.exception()
    if isinstance(error, MemoryError):
        return Verdict(failure="memory", reason="the limit of memory was reached")
    if error is not None:
        return Verdict(failure="error", reason=f"{type(error).__name__}: {error}"[:_LONGEST_REASON])
    score: Any = attempt.result()
    if not isinstance(score, Score) or not math.isfinite(score.value):
        return Verdict(failure="error", reason=f"not a score with a finite value: {score!r}"[:_LONGEST_REASON])
    return Verdict(score=score)


def address_space() -> int | None:
    """Bytes of address space that this process has; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _receive(connection: Connection) -> Any:
    """The next message; None at the end of the pipe."""
    try:
        return connection.recv()
    except EOFError:
        return None


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)
