"""What runs inside a worker process: it reads one document after another and can be killed at any moment.

The parent (corpus/children.py) starts it with an empty environment. It first gives up what it does not need:

* address space, CPU time per document, core files, open files; no regular file can grow (RLIMIT_FSIZE 0)
* the network: an own user and network namespace where the system allows it (`network` in its greeting says so)
* its working folder, which is private and already deleted, so nothing can be left behind
* its life without the parent: the kernel kills it when the parent dies (PR_SET_PDEATHSIG)

Then it answers frames (corpus/frames.py):

    parent: open      function, settings, limits      child: hello      network, resident
    parent: document  first_page, settings, bytes     child: what the function yields, then end

The function is named `module:function` and is called with the bytes, the settings and the first page. An exception in
it ends the process: its last line on the error stream is the reason that the parent records.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from s1pro.corpus.frames import Frame, encode, read

Handler = Callable[[bytes, Mapping[str, Any], int], Iterator[Frame]]

FOLDER_PREFIX = "s1pro-worker-"

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_MEBIBYTE = 1 << 20


def main(parent: int) -> None:
    """Serves frames from standard input until it ends.

    Args:
        parent: process id of the parent; if it is gone already, so are we.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which decides
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "wb") as nowhere:  # what a library prints must not reach the pipe
        os.dup2(nowhere.fileno(), 1)
    opening = read(inbox)
    if opening is None:
        return
    limits = opening.header["limits"]
    network = confine(limits, parent)
    handler = load(str(opening.header["function"]))
    with suppress(OSError):
        os.nice(int(limits["nice"]))  # from here on: somebody waits for the start
    send(outbox, Frame(header={"op": "hello", "network": network, "resident_mb": resident_mb()}))
    while (frame := read(inbox)) is not None:
        _allow_cpu(float(limits["cpu_seconds"]))
        began = time.process_time()
        settings = {**opening.header["settings"], **frame.header.get("settings", {})}
        for answer in handler(frame.parts[0], settings, int(frame.header["first_page"])):
            send(outbox, answer)
        cost = {"cpu_seconds": time.process_time() - began, "resident_mb": resident_mb(), "peak_mb": peak_mb()}
        send(outbox, Frame(header={"op": "end", **cost}))


def load(name: str) -> Handler:
    """The function behind `module:function`."""
    module, _, function = name.partition(":")
    found: Handler = getattr(importlib.import_module(module), function)
    return found


def send(outbox: BinaryIO, frame: Frame) -> None:
    outbox.write(encode(frame))
    outbox.flush()


def confine(limits: Mapping[str, Any], parent: int) -> str:
    """Sets the limits; gives what the network is afterwards: `none`, or `open` where the system forbids namespaces."""
    hide_folder()
    libc = ctypes.CDLL(None, use_errno=True)
    network = "none" if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0 else "open"
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after unshare, which clears it
    if os.getppid() != parent:
        sys.exit(0)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_FSIZE, 0)
    _set(resource.RLIMIT_NOFILE, 64)
    _set(resource.RLIMIT_AS, int(limits["memory_mb"]) * _MEBIBYTE)
    return network


def hide_folder() -> None:
    """Moves into a folder that is deleted at once: relative paths lead nowhere."""
    with suppress(OSError):
        folder = tempfile.mkdtemp(prefix=FOLDER_PREFIX)
        os.chdir(folder)
        os.rmdir(folder)


def resident_mb() -> float:
    """Memory of this process in MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / _MEBIBYTE


def peak_mb(process: int | str = "self") -> float:
    """The most memory that a process had so far, in MiB; 0 if it is gone.

    `getrusage` does not serve: its maximum begins with that of the process that started this one.
    """
    try:
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as file:
            lines = [line for line in file if line.startswith("VmHWM:")]
    except OSError:
        return 0.0
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


def cpu_seconds(process: int) -> float:
    """CPU time that a process has used so far; 0 if it is gone."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _allow_cpu(seconds: float) -> None:
    """So much CPU time from now on; SIGXCPU ends the process afterwards."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _set(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))
