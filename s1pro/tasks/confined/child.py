"""What runs inside the walls: process 1 of its own world, which forks a child for every request.

    parent: {"op": "python", "code"}                   a program; what it prints comes back
    parent: {"op": "call", "function", "arguments"}    `module:function` with JSON arguments; its value comes back

    child:  {"ended": "done" | "error" | "time" | "memory" | "crash", "output", "value"}

Every request has a fresh process, a fresh folder to write to and limits of its own, so that what one leaves behind, no
other finds. A request that overruns its time is killed with all that it started. Frames are JSON with four bytes of
length before it. Only the standard library is imported here.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import json
import os
import select
import signal
import struct
import sys
import time
import traceback
from contextlib import suppress
from typing import Any

from s1pro.tasks.confined.namespaces import drop_scratch, enter, fresh_scratch, give_up_rights

MAX_VALUE_BYTES = 1 << 24
_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1
_RESULT = 3


def main() -> None:
    """Greets with `{"refused": why}`, where `why` is empty if the walls stand, and serves until its input ends."""
    settings = json.loads(sys.argv[1])
    inbox, outbox = os.dup(0), os.dup(1)
    for number in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    try:
        enter(settings["root"], settings["folders"])
    except OSError as error:
        write_frame(outbox, {"refused": str(error)})
        return
    first = os.fork()
    if first:
        os.close(inbox)
        os.close(outbox)
        os.waitpid(first, 0)
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        refused = _trial(settings)
        write_frame(outbox, {"refused": refused})
        while not refused and (request := read_frame(inbox)) is not None:
            write_frame(outbox, run(request, settings))
    finally:
        os._exit(0)


def _trial(settings: dict[str, Any]) -> str:
    """Why a child cannot give up its rights; empty if it can."""
    found = run({"op": "python", "code": "pass"}, settings)
    return "" if found["ended"] == "done" else f"{found['ended']}: {found['output'][:300]}"


def run(request: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """One request in a process of its own."""
    fresh_scratch()
    output, result = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _inside(request, settings, output[1], result[1])
    os.close(output[1])
    os.close(result[1])
    texts, in_time = _collect((output[0], result[0]), settings)
    status = _end(pid)
    drop_scratch()
    found: dict[str, Any] = {"ended": "crash", "value": None}
    with suppress(ValueError):
        found |= json.loads(texts[1])
    if not in_time or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        found = {"ended": "time", "value": None}
    return {**found, "output": texts[0][: settings["output_bytes"]].decode("utf-8", "replace")}


def _collect(pipes: tuple[int, int], settings: dict[str, Any]) -> tuple[list[bytes], bool]:
    """What comes out of both pipes until they end, and whether that was in time. Too much output is thrown away."""
    deadline = time.monotonic() + settings["seconds"]
    limits = (settings["output_bytes"], MAX_VALUE_BYTES)
    texts, open_ = [bytearray(), bytearray()], list(pipes)
    while open_:
        left = deadline - time.monotonic()
        ready = select.select(open_, [], [], max(left, 0))[0] if left > 0 else []
        if not ready:
            break
        for pipe in ready:
            data = os.read(pipe, 1 << 16)
            which = pipes.index(pipe)
            texts[which] += data[: max(limits[which] - len(texts[which]), 0)]
            if not data:
                open_.remove(pipe)
    for pipe in pipes:
        os.close(pipe)
    return [bytes(text) for text in texts], not open_


def _end(pid: int) -> int:
    """Kills all that is left, and gives how `pid` ended. A process that has ended already keeps its status."""
    status = 0
    with suppress(ProcessLookupError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            pid = 0
    for _ in range(3):
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                found, how = os.waitpid(-1, 0)
                status = how if found == pid else status
    return status


def _inside(request: dict[str, Any], settings: dict[str, Any], output: int, result: int) -> None:
    """Never returns."""
    answer: dict[str, Any] = {"ended": "crash"}
    try:
        high = [os.dup(output), os.dup(result)]
        for target, source in ((1, high[0]), (2, high[0]), (_RESULT, high[1])):
            os.dup2(source, target)
        os.closerange(_RESULT + 1, 256)
        give_up_rights(memory_bytes=settings["memory_mb"] << 20, cpu_seconds=int(settings["seconds"]) + 1)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 (ends with us)
        sys.stderr = sys.stdout
        value = None
        if request["op"] == "python":
            _python(request["code"])
        else:
            value = _call(request)
        answer = {"ended": "done", "value": value}
    except MemoryError:
        answer = {"ended": "memory"}
    except BaseException as error:  # noqa: BLE001  (the code is anybody's; whatever it raises is an answer)
        answer = {"ended": "error"}
        with suppress(BaseException):
            sys.stdout.write("".join(traceback.format_exception_only(error)))
    with suppress(BaseException):
        sys.stdout.flush()
    data = b'{"ended": "error"}'
    with suppress(BaseException):
        data = json.dumps(answer, allow_nan=True).encode()
    with suppress(BaseException):
        while data:
            data = data[os.write(_RESULT, data) :]
    os._exit(0)


def _python(code: str) -> None:
    """Runs a program; the value of an expression in its last line is printed, as in a notebook."""
    tree = ast.parse(code, "<code>")
    names: dict[str, Any] = {"__name__": "__main__"}
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<code>", "exec"), names)  # noqa: S102  (that is what the walls are for)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "<code>", "eval"), names)  # noqa: S307
        if value is not None:
            sys.stdout.write(f"{value!r}\n")


def _call(request: dict[str, Any]) -> Any:
    module, _, name = request["function"].partition(":")
    return getattr(importlib.import_module(module), name)(**request["arguments"])


def read_frame(pipe: int) -> Any | None:
    """The next frame; None at the end of the input."""
    head = _read_exactly(pipe, _LENGTH.size)
    if head is None:
        return None
    body = _read_exactly(pipe, _LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def write_frame(pipe: int, value: Any) -> None:
    data = json.dumps(value).encode()
    data = _LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(pipe, data) :]


def _read_exactly(pipe: int, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = os.read(pipe, min(count - len(data), 1 << 16))
        if not piece:
            return None
        data += piece
    return data
