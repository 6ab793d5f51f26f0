"""Judges in processes: what a reward function does costs its own sample, never another one, never the run."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.judges.judge import Here, Verdict
from s1pro.tasks.judges.pool import JudgeConfig, JudgePool
from s1pro.tasks.task import Item, Score
from tests.tasks.judges.hostile import Hostile, Stranger

EXPECTED = {
    "hang": "time", "leak 4000": "memory", "exit": "crash", "crash": "crash", "raise": "error", "nothing": "error",
    "nan": "error", "right": None, "wrong": None, "print": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    judges = JudgePool({"hostile": Hostile()}, JudgeConfig(processes=2, seconds=3.0, memory_mb=512))
    yield judges
    judges.close()


def verdicts(judge: Any, responses: Sequence[str]) -> list[Verdict]:
    async def every() -> list[Verdict]:
        return list(await asyncio.gather(*(judge.score("hostile", Item(id="0"), r) for r in responses)))

    return asyncio.run(every())


def test_every_failure_costs_only_its_own_sample(pool: JudgePool) -> None:
    """In a random order, with right and wrong answers between: each of these has its score."""
    draw = random.Random(3)
    responses = [*EXPECTED, *(draw.choice(["right", "wrong"]) for _ in range(40))]
    draw.shuffle(responses)
    for response, verdict in zip(responses, verdicts(pool, responses), strict=True):
        assert verdict.failure == EXPECTED[response], (response, verdict)
        if verdict.failure is None:
            assert verdict.score == Score(value=float(response != "wrong"))
        else:
            assert verdict.score is None and verdict.reason


def test_a_slow_leak_of_others_is_no_fault_of_mine(pool: JudgePool) -> None:
    """Each call keeps 100 MiB for ever; whoever meets the full process is scored in a fresh one."""
    assert [v.failure for v in verdicts(pool, ["leak 100"] * 24)] == [None] * 24


def test_a_judge_that_is_killed_is_replaced(pool: JudgePool) -> None:
    assert verdicts(pool, ["right"] * 4)
    before = pool.pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert [v.score for v in verdicts(pool, ["right"] * 4)] == [Score(value=1.0)] * 4
    assert not set(before) & set(pool.pids())


def test_what_a_reward_function_started_ends_with_it(pool: JudgePool, tmp_path: Path) -> None:
    (verdict,) = verdicts(pool, [f"hang-with-child {tmp_path / 'pid'}"])
    assert verdict.failure == "time"
    child = int((tmp_path / "pid").read_text(encoding="utf-8"))
    until = time.monotonic() + 100
    while _lives(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _lives(child)


def test_closing_leaves_no_process() -> None:
    judges = JudgePool({"hostile": Hostile()}, JudgeConfig(processes=1, seconds=60.0))
    assert verdicts(judges, ["right"])[0].score is not None
    pids = judges.pids()
    judges.close()
    assert pids and not any(_lives(pid) for pid in pids)


def test_in_this_process_there_are_no_limits() -> None:
    assert verdicts(Here({"hostile": Hostile()}), ["right", "wrong"])[1].score == Score(value=0.0)
    with pytest.raises(RuntimeError, match="a reward function that raises"):
        verdicts(Here({"hostile": Hostile()}), ["raise"])


def test_errors() -> None:
    local: Any = type("Local", (), {})()
    with pytest.raises(InputError, match=r"cannot be sent to another process .* judges\.processes=0"):
        JudgePool({"local": local}, JudgeConfig())
    stranger: Any = Stranger()
    judges = JudgePool({"hostile": stranger}, JudgeConfig())
    try:
        with pytest.raises(InputError, match="could not read the tasks"):
            verdicts(judges, ["right"])
    finally:
        judges.close()
    with pytest.raises(ValueError, match="must be positive"):
        JudgeConfig(seconds=0)
    with pytest.raises(ValueError, match=r"no effect with judges\.processes=0"):
        JudgeConfig(processes=0, seconds=3.0)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
