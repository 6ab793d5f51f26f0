"""Running code of others from this side of the walls.

    confined = Confined(Walls(seconds=5))
    outcome = await confined.python("print(6 * 7)")          Outcome(ended="done", output="42\n")

A process is started when the first request comes, and serves one request after another, each in a child of its own
(confined/child.py). If it does not answer in time, it is killed with everything inside and the next request gets a new
one. If the process itself is gone (killed from outside, or by the system for want of memory), the request is done once
more in a new one; if that one dies too, the request has ended as `lost`, which says nothing about the code. Where the
kernel refuses the walls, every request raises `ConfinementError`: code is never run without them.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import s1pro
from s1pro.base.errors import InputError
from s1pro.tasks.confined.child import read_frame, write_frame
from s1pro.tasks.confined.namespaces import SCRATCH

Ended = Literal["done", "error", "time", "memory", "crash", "lost"]

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']\n"
    "from s1pro.tasks.confined.child import main; main()"
)
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")
_GRACE_SECONDS = 5.0
_START_SECONDS = 30.0


class ConfinementError(InputError):
    """The system does not allow what confines code, so no code is run."""


@dataclass(frozen=True, kw_only=True)
class Walls:
    """What a request may use.

    Attributes:
        seconds: of a request, by the clock and of CPU time.
        memory_mb: address space.
        output_bytes: of what it prints; the rest is thrown away.
        folders: that are visible beside Python and its packages, read-only, and where modules are looked for.
    """

    seconds: float = 5.0
    memory_mb: int = 512
    output_bytes: int = 65536
    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mb", "output_bytes"):
            if getattr(self, name) <= 0:
                raise InputError(f"walls.{name} must be positive, got {getattr(self, name)}")
        for folder in self.folders:
            if not folder.exists():
                raise InputError(f"walls.folders: {folder} does not exist")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a request ended, what it printed, and what a call gave."""

    ended: Ended
    output: str = ""
    value: Any = None


class Confined:
    """See the module docstring.

    Args:
        processes: that serve at the same time; further requests wait, and waiting does not count as their time.
    """

    def __init__(self, walls: Walls | None = None, *, processes: int = 1) -> None:
        self.walls, self.processes = walls or Walls(), processes
        self._workers = [_Worker(self.walls) for _ in range(processes)]
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._free.put(worker)

    def __getstate__(self) -> dict[str, Any]:
        return {"walls": self.walls, "processes": self.processes}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["walls"], processes=state["processes"])  # type: ignore[misc]

    async def python(self, code: str) -> Outcome:
        """Runs a program. Raises `ConfinementError`."""
        return await asyncio.to_thread(self.ask, {"op": "python", "code": code})

    async def call(self, function: str, **arguments: Any) -> Outcome:
        """Calls `module:function`; arguments and value are JSON. Raises `ConfinementError`."""
        return await asyncio.to_thread(self.ask, {"op": "call", "function": function, "arguments": arguments})

    def ask(self, request: Mapping[str, Any]) -> Outcome:
        """`python` and `call` without asyncio."""
        worker = self._free.get()
        try:
            return worker.ask(request)
        finally:
            self._free.put(worker)

    def check(self) -> None:
        """Raises `ConfinementError` where code cannot be confined; better now than in the middle of a run."""
        self.ask({"op": "python", "code": "pass"})

    def close(self) -> None:
        """Ends the processes; the next request starts others."""
        for worker in self._workers:
            worker.kill()


class _Worker:
    """One process, and how it is started, asked and killed."""

    def __init__(self, walls: Walls) -> None:
        self.walls = walls
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, Any]) -> Outcome:
        answer = self._once(request)
        if answer == "lost":  # a new process, since the request cannot reach the one that is gone
            answer = self._once(request)
        if answer in ("lost", "time"):
            return Outcome(ended=answer)
        return Outcome(ended=answer["ended"], output=answer.get("output", ""), value=answer.get("value"))

    def _once(self, request: Mapping[str, Any]) -> Any:
        return self._exchange(self._process or self._start(), request, self.walls.seconds + _GRACE_SECONDS)

    def __del__(self) -> None:
        with suppress(Exception):
            self.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        root = tempfile.mkdtemp(prefix="s1pro-confined-")
        walls = self.walls
        settings = {
            "root": root,
            "folders": _visible(walls.folders),
            "path": [*(str(folder.resolve()) for folder in walls.folders if folder.is_dir()), *_module_path()],
            "seconds": walls.seconds,
            "memory_mb": walls.memory_mb,
            "output_bytes": walls.output_bytes,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOT, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**_ENVIRONMENT, "HOME": SCRATCH, "TMPDIR": SCRATCH},
            cwd="/",
        )
        try:
            hello = self._exchange(self._process, None, _START_SECONDS)
        finally:
            with suppress(OSError):
                os.rmdir(root)
        refused = "the process did not start" if isinstance(hello, str) else hello["refused"]
        if refused:
            self.kill()
            raise ConfinementError(
                f"code of others cannot be confined here ({refused}): it needs user, mount, process and network "
                "namespaces and seccomp (Linux; in a container, allow user namespaces); nothing was run"
            )
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], request: Any, seconds: float) -> Any:
        """The answer, or after killing the process why there is none: no answer in `time`, or the process is `lost`."""
        assert process.stdin is not None and process.stdout is not None
        deadline = time.monotonic() + seconds
        ready: list[Any] = [process.stdout]
        try:
            if request is not None:
                write_frame(process.stdin.fileno(), request)
            ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
            answer = read_frame(process.stdout.fileno()) if ready else None
        except OSError:
            answer = None
        if answer is None:
            self.kill()
            return "lost" if ready else "time"
        return answer

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _module_path() -> list[str]:
    """Where Python and this package are found, without the folder of whoever started us."""
    own = str(Path(s1pro.__file__).resolve().parents[1])
    return [own, *(os.path.abspath(path) for path in sys.path if path and path != own)]


def _visible(folders: Sequence[Path]) -> list[str]:
    """What stays visible: the system's libraries, Python, this package, and these folders; outer ones first."""
    package = str(Path(s1pro.__file__).resolve().parent)
    packages = [path for path in _module_path() if path.startswith((sys.prefix, sys.base_prefix))]
    given = [str(folder.resolve()) for folder in folders]
    found = [*_SYSTEM, sys.prefix, sys.base_prefix, *packages, package, *given]
    chosen: list[str] = []
    for path in sorted({os.path.abspath(path) for path in found if os.path.lexists(path)}, key=len):
        if not any(path == outer or path.startswith(outer + "/") for outer in chosen):
            chosen.append(path)
    return chosen
