"""The parent's side of a worker process: start, send, receive until a deadline, kill, and say how it died.

One selector watches three pipes: what the child still has to be given, what it answers, and its error stream. The end
of the answers is seen at once when a child crashes; a child that overruns its deadline gets SIGKILL, and nobody waits
for its death, which takes the kernel a while if the child had much memory and the machine is busy. How it ended becomes
a status and a reason:

    we killed it at the deadline, or SIGXCPU              timeout
    MemoryError, or a fatal signal near its memory limit  oom
    SIGKILL that we did not send                          oom       (the system's own killer)
    any other signal, or an answer that is no frame       crash
    an exception                                          error     with its last line
"""

from __future__ import annotations

import json
import math
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from s1pro.base.errors import InputError
from s1pro.corpus.child import cpu_seconds, peak_mb
from s1pro.corpus.frames import Frame, encode, take
from s1pro.corpus.records import PageStatus

_BOOT = (
    "import json, sys; arguments = json.loads(sys.argv[1]); sys.path[:] = arguments['path']\n"
    "from s1pro.corpus.child import main; main(arguments['parent'])"
)
_CHUNK = 1 << 18
_KEPT_ERRORS = 4096
_LAST_WORDS_SECONDS, _LEAST_WORDS_SECONDS = 3.0, 0.5
_LOOK_SECONDS = 0.2
# PDFium aborts when an allocation fails, mostly a large one: well below the limit of the address space.
_NEAR_LIMIT = 0.4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one document may cost. All of it changes results only for documents that reach a limit.

    Attributes:
        page_seconds, document_seconds: wall time per page (opening the document counts as its first page) and in all.
        cpu_seconds: CPU time per document.
        memory_mb: address space of a worker.
        deaths: pages of one document that may kill a worker before the rest of it is given up.
        max_bytes, max_pages: larger files are not read; pages beyond the limit are counted as skipped.
        documents_per_worker, resident_mb: a worker is replaced after so many documents, or above so much memory.
        start_seconds: time that a worker may need to start.
    """

    page_seconds: float = 20.0
    document_seconds: float = 600.0
    cpu_seconds: float = 600.0
    memory_mb: int = 2500
    deaths: int = 3
    max_bytes: int = 256 << 20
    max_pages: int = 2000
    documents_per_worker: int = 200
    resident_mb: int = 1200
    start_seconds: float = 60.0
    nice: int = 5

    def __post_init__(self) -> None:
        for name in (
            "page_seconds",
            "document_seconds",
            "cpu_seconds",
            "memory_mb",
            "deaths",
            "max_bytes",
            "max_pages",
        ):
            if not getattr(self, name) > 0:
                raise InputError(f"limits.{name} must be positive, got {getattr(self, name)}")


class ChildDied(Exception):
    """A worker is gone.

    Attributes:
        status, reason: how; the reason is for a person.
        cpu_seconds: what it had used.
        from_outside: a SIGKILL that we did not send, which says little about the document.
    """

    def __init__(self, status: PageStatus, reason: str, cpu_seconds: float, *, from_outside: bool = False) -> None:
        super().__init__(reason)
        self.status, self.reason, self.cpu_seconds = status, reason, cpu_seconds
        self.from_outside = from_outside


class Child:
    """One worker process.

    Args:
        function: `module:function`, see corpus/child.py.
        settings: JSON values for the function.
        wait: until it is ready; else `greet` does.

    Attributes:
        network: what it can reach, known when it is ready: `none` or `open`.

    Raises:
        InputError: the process cannot start.
    """

    def __init__(self, function: str, settings: Mapping[str, Any], limits: Limits, *, wait: bool = True) -> None:
        self.function, self.limits, self.documents, self.network = function, limits, 0, ""
        self._start_end = time.monotonic() + limits.start_seconds
        self.peak_mb, self._looked = 0.0, 0.0
        self._inherited_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        arguments = {"path": [os.path.abspath(path) for path in sys.path], "parent": os.getpid()}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOT, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            cwd="/",
        )
        self._inbox, self._outbox, self._errors = bytearray(), bytearray(), bytearray()
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._selector.register(self._process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
        self._selector.register(self._process.stderr, selectors.EVENT_READ)  # type: ignore[arg-type]
        self._ended = False
        opening = {"function": function, "settings": dict(settings), "limits": _limits_for_child(limits)}
        self.send(Frame(header={"op": "open", **opening}))
        if wait:
            self.greet()

    @property
    def pid(self) -> int:
        return self._process.pid

    def greet(self, deadline: float = math.inf) -> None:
        """Waits until the child is ready.

        Raises:
            TimeoutError: it is not at the deadline; it goes on starting.
            InputError: it cannot start, or took longer than `limits.start_seconds`.
        """
        if self.network:
            return
        try:
            hello = self.receive(min(deadline, self._start_end), keep=deadline < self._start_end)
        except ChildDied as death:
            raise InputError(f"a worker for {self.function} cannot start: {death.reason}") from death
        self.network = str(hello.header["network"])

    def alive(self) -> bool:
        """Whether the process still runs; it is not reaped here."""
        if self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def send(self, frame: Frame) -> None:
        """Queues a frame; it is written while waiting for answers."""
        self._outbox += encode(frame)
        if self._process.stdin is not None and self._process.stdin not in self._selector.get_map():
            self._selector.register(self._process.stdin, selectors.EVENT_WRITE)

    def receive(self, deadline: float, beat: Callable[[], None] | None = None, *, keep: bool = False) -> Frame:
        """The next frame.

        Args:
            deadline: of `time.monotonic`; the child is killed then.
            beat: called about twice a second while waiting.
            keep: do not kill it at the deadline.

        Raises:
            ChildDied: the child crashed, or was killed at the deadline.
            TimeoutError: the deadline of a child that is kept.
        """
        while True:
            try:
                frame = take(self._inbox)
            except InputError as error:
                self.kill()
                raise ChildDied("crash", f"answered with something that is no frame ({error})", 0.0) from error
            if frame is not None:
                return frame
            left = deadline - time.monotonic()
            if left <= 0 and keep:
                raise TimeoutError
            if left <= 0:
                raise ChildDied("timeout", "took longer than allowed", self.kill())
            if self._ended:
                raise self._obituary(deadline)
            for key, _ in self._selector.select(min(left, 0.5)):
                self._transfer(key.fileobj)
            self._look()
            if beat is not None:
                beat()

    def kill(self) -> float:
        """Ends the process, whatever it does, without waiting for it; gives the CPU seconds that it had used."""
        if self._process.returncode is not None:
            return 0.0
        self._look(at_once=True)
        used = cpu_seconds(self._process.pid)
        self._strike()
        return used

    def reaped(self) -> bool:
        """Whether the process is gone; what was left of it is cleared away then."""
        self._reap(os.WNOHANG)
        return self._process.returncode is not None

    def close(self) -> None:
        """Ends the process and waits until it is gone."""
        self.kill()
        self._reap(0)

    def _transfer(self, pipe: Any) -> None:
        if pipe is self._process.stdin:
            self._write()
            return
        try:
            data = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if pipe is self._process.stdout:
            self._inbox += data
            self._ended = not data
        else:
            self._errors += data
            del self._errors[:-_KEPT_ERRORS]
        if not data:
            self._selector.unregister(pipe)

    def _write(self) -> None:
        assert self._process.stdin is not None
        try:
            written = os.write(self._process.stdin.fileno(), self._outbox[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:
            written = len(self._outbox)
        del self._outbox[:written]
        if not self._outbox:
            self._selector.unregister(self._process.stdin)

    def _obituary(self, deadline: float) -> ChildDied:
        """How a child ended that closed its answers: it is given a moment to say so."""
        now = time.monotonic()
        patience = min(now + _LAST_WORDS_SECONDS, max(deadline, now + _LEAST_WORDS_SECONDS))
        while self._process.stderr in self._selector.get_map() and time.monotonic() < patience:
            for key, _ in self._selector.select(0.1):
                self._transfer(key.fileobj)
        used = self._reap(os.WNOHANG)
        while self._process.returncode is None and time.monotonic() < patience:
            time.sleep(0.005)
            used = self._reap(os.WNOHANG)
        code = self._process.returncode
        if code is None:
            return ChildDied("crash", "closed its answers and did not end", self.kill())
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        near_limit = self.peak_mb > _NEAR_LIMIT * self.limits.memory_mb
        status, reason = describe_end(code, lines[-1] if lines else "", near_limit)
        return ChildDied(status, reason, used, from_outside=code == -signal.SIGKILL)

    def _look(self, *, at_once: bool = False) -> None:
        """Notes the memory of the child now and then."""
        now = time.monotonic()
        if at_once or now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self.peak_mb = max(self.peak_mb, peak_mb(self._process.pid))

    def _strike(self) -> None:
        """SIGKILL. Not `Popen.kill`, which looks first whether the process has ended and then eats how it did."""
        os.kill(self._process.pid, signal.SIGKILL)

    def _reap(self, flags: int) -> float:
        """Takes back what a dead process held, if it is dead; gives its CPU seconds."""
        if self._process.returncode is not None:
            return 0.0
        ended, status, usage = os.wait4(self._process.pid, flags)
        if not ended:
            return 0.0
        self._process.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss / 1024
        if peak > 1.01 * self._inherited_mb:  # else it is what we had when we started the child
            self.peak_mb = max(self.peak_mb, peak)
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return float(usage.ru_utime + usage.ru_stime)


def describe_end(code: int, last_line: str, near_limit: bool) -> tuple[PageStatus, str]:
    """Status and reason from an exit code, the last line of the error stream, and whether memory was near its limit."""
    if code >= 0:
        if last_line.startswith("MemoryError"):
            return "oom", "needs more memory than allowed"
        return "error", last_line[:300] or f"ended with code {code}"
    name = signal.Signals(-code).name
    if name == "SIGXCPU":
        return "timeout", "used more CPU time than allowed"
    if name == "SIGKILL":
        return "oom", "killed by the system"
    if near_limit:
        return "oom", f"needs more memory than allowed ({name})"
    return "crash", f"the PDF library crashed ({name})"


def _limits_for_child(limits: Limits) -> dict[str, Any]:
    return {"memory_mb": limits.memory_mb, "nice": limits.nice, "cpu_seconds": limits.cpu_seconds}
