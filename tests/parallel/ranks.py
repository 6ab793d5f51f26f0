"""Runs a function on several gloo ranks: forked children of the test, one torch thread each.

Forking makes ranks start in a fraction of a second; it is safe here because a child uses one thread only (with two,
OpenMP waits for threads that the fork did not copy). Every wait ends: the process group gives up after `timeout`
seconds, and so does the parent, who then kills all children and says which rank said what.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

PR_SET_PDEATHSIG = 1


class RankError(AssertionError):
    """A rank failed, died or did not finish."""


def run_ranks(function: Callable[..., Any], num_ranks: int, *args: Any, timeout: float = 200.0) -> list[Any]:
    """`function(rank, *args)` on every rank inside a gloo process group; the results in order of rank.

    Raises:
        RankError: with the traceback of the first rank that failed. All ranks are gone when it is raised.
    """
    importlib.import_module("torch._dynamo")  # FSDP2 needs it: seconds, once here and not again in every child
    context = multiprocessing.get_context("fork")
    processes, pipes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(num_ranks):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_child, args=(function, rank, num_ranks, Path(folder) / "store", theirs, timeout, args)
            )
            process.daemon = True
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(mine)
        try:
            return _collect(pipes, time.monotonic() + timeout)
        finally:
            for process in processes:
                process.kill()
                process.join(10)


def _collect(pipes: list[Connection], deadline: float) -> list[Any]:
    results: dict[int, Any] = {}
    while len(results) < len(pipes):
        open_pipes = [pipe for rank, pipe in enumerate(pipes) if rank not in results]
        ready = wait(open_pipes, timeout=max(deadline - time.monotonic(), 0))
        if not ready:
            missing = sorted(set(range(len(pipes))) - set(results))
            raise RankError(f"ranks {missing} did not finish in time")
        for pipe in ready:
            rank = pipes.index(pipe)  # type: ignore[arg-type]
            try:
                ok, value = pickle.loads(pipe.recv_bytes())  # type: ignore[union-attr]  # noqa: S301 (our own child)
            except (EOFError, ConnectionResetError):
                raise RankError(f"rank {rank} died without a word") from None
            if not ok:
                raise RankError(f"rank {rank} failed:\n{value}")
            results[rank] = value
    return [results[rank] for rank in range(len(pipes))]


def _child(
    function: Callable[..., Any], rank: int, size: int, store: Path, pipe: Connection, timeout: float, args: Any
) -> None:
    with contextlib.suppress(OSError):  # die with the parent, even if that is killed (Linux)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=timeout)
        )
        value = function(rank, *args)
        pipe.send_bytes(pickle.dumps((True, value)))  # by value: `send` would pass memory that dies with the child
        dist.barrier()
    except BaseException:  # noqa: BLE001 (whatever it is, the parent must hear of it)
        pipe.send_bytes(pickle.dumps((False, traceback.format_exc())))
        os._exit(1)
    os._exit(0)
