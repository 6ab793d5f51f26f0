"""A run of many ranks killed with SIGKILL at random moments, also while it saves, and resumed on another number."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s1pro.train.metrics import read_metrics

PROGRAM = """
import sys, time
from pathlib import Path
from dataclasses import replace
from s1pro.checkpoint import state_parts
from s1pro.parallel.config import ParallelConfig
from s1pro.parallel.mesh import join
from s1pro.train import checkpoints
from tests.parallel.ranks import run_ranks
from tests.parallel.runs import small_run, small_trainer

folder, ranks, steps, pause = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
write_part = checkpoints.write_part

def slowly(root, step, number, parts, boxes):
    time.sleep(pause * number / parts)  # the ranks finish one after another: time for a kill in between
    write_part(root, step, number, parts, boxes)
    time.sleep(pause / parts)

checkpoints.write_part = slowly
layout = ParallelConfig(ep=2, dispatch="all_to_all", async_checkpoint=ranks == 4)
run = small_run(folder, steps=steps, checkpoint_every=2, parallel=layout)

def train(rank):
    small_trainer(run, join(run.parallel, "cpu")).train()

run_ranks(train, ranks, timeout=400)
"""

STEPS = 34


class Started:
    """The program in a session of its own, so that all of its ranks can be killed at once."""

    def __init__(self, folder: Path, ranks: int, pause: float) -> None:
        repository = Path(__file__).parents[2]
        command = [sys.executable, "-c", PROGRAM, str(folder), str(ranks), str(STEPS), str(pause)]
        self.process = subprocess.Popen(
            command, cwd=repository, start_new_session=True, env={**os.environ, "PYTHONPATH": str(repository)}
        )

    def wait(self) -> None:
        try:
            assert self.process.wait(timeout=400) == 0
        finally:
            self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_sigkill_at_random_moments_and_another_number_of_ranks(tmp_path: Path) -> None:
    moments = random.Random(time.time_ns())
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Started(whole, 4, pause=0.0).wait()
    restarts = []
    for part in range(4):
        ranks = (4, 2)[part % 2]
        for leftover in (broken / "checkpoints").glob(".step-*"):
            shutil.rmtree(leftover)  # so that the next one to be seen is of this part
        program = Started(broken, ranks, pause=0.3)
        try:
            goal = newest_step(broken) + moments.randint(3, 6)
            deadline = time.monotonic() + 400
            while max(losses(broken), default=0) < goal:
                assert program.process.poll() is None and time.monotonic() < deadline
                time.sleep(0.002)
            if part >= 1:  # in the middle of a save
                while not list((broken / "checkpoints").glob(".step-*.new")):
                    assert program.process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.002)
            time.sleep(moments.random() * 0.2)
        finally:
            program.kill()
        restarts.append(newest_step(broken))
    Started(broken, 2, pause=0.0).wait()
    expected, actual = (losses(folder) for folder in (whole, broken))
    assert list(actual) == list(range(1, STEPS + 1)) == list(expected)
    for step in restarts:
        assert actual[step + 1] == pytest.approx(expected[step + 1], abs=1e-6)
        for later in range(step + 2, min(step + 7, STEPS + 1)):
            assert actual[later] == pytest.approx(expected[later], abs=1e-5)
    assert restarts[-1] > 2
    assert not list((broken / "checkpoints").glob(".step-*"))  # leftovers of killed saves are gone


def newest_step(folder: Path) -> int:
    from s1pro.checkpoint.training_state import latest_state

    newest = latest_state(folder / "checkpoints")
    return 0 if newest is None else int(newest.name.removeprefix("step-"))


def losses(folder: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(folder, "train")}
