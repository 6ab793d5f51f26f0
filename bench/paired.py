"""Paired timing: A, B, A, B … in one process, so that a drifting machine hits both sides alike.

Every comparison in this folder quotes the median of the pair-wise ratios and their spread, never two separate runs.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timing:
    """Seconds of each round for one contestant."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


def run_rounds(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Calls every contestant once per round, in turn, and times each call.

    Args:
        clock: `time.process_time` leaves out the time in which other programs had the processor, and adds up threads.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warmup + rounds):
        for name, call in contestants.items():
            start = clock()
            call()
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return {name: Timing(name, tuple(values)) for name, values in seconds.items()}


def ratios(slow: Timing, fast: Timing) -> tuple[float, float, float]:
    """(minimum, median, maximum) of slow / fast, pair by pair."""
    pairs = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return min(pairs), statistics.median(pairs), max(pairs)


def environment() -> str:
    """One line on hardware, versions and commit, for the head of a result file."""
    import torch
    import transformers

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        cpu = f"{names[0]} x {len(names)}" if names else cpu
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads"
    return f"{cpu}; {versions}; commit {commit.stdout.strip() or 'none'}"
