"""The loop with judges in processes: the numbers of the loop without; bad reward functions cost their own samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from s1pro.rl.loop import train_rl
from s1pro.tasks.judges.pool import JudgeConfig
from s1pro.train.metrics import read_metrics
from tests.rl.letters import Letters, policy, run_in, tasks
from tests.rl.vowels import Traps

UNTIMED = ("seconds", "rollout_seconds", "prepare_seconds", "tokens_per_second", "mfu")


def records(folder: Path) -> list[dict[str, Any]]:
    found = [*read_metrics(folder, "rollout"), *read_metrics(folder, "train")]
    return [{name: value for name, value in record.items() if name not in UNTIMED} for record in found]


def test_judges_change_no_number(tmp_path: Path) -> None:
    for name, processes in (("here", 0), ("pool", 2)):
        run = run_in(tmp_path / name, steps=2, judges=JudgeConfig(processes=processes))
        train_rl(run, tasks=tasks(), network=policy(), processor=Letters())  # type: ignore[arg-type]
    assert records(tmp_path / "here") == records(tmp_path / "pool")


def test_samples_without_a_score_are_left_out(tmp_path: Path) -> None:
    run = run_in(tmp_path, steps=1, judges=JudgeConfig(processes=2, seconds=2.0))
    run = replace(run, tasks=run.tasks[:1], rollout=replace(run.rollout, prompts=8))
    result = train_rl(run, tasks={"vowels": Traps()}, network=policy(), processor=Letters())  # type: ignore[arg-type]
    (record,) = read_metrics(tmp_path, "rollout")
    assert set(record["unscored"]) <= {"time", "crash", "error"} and sum(record["unscored"].values()) >= 2
    (step,) = read_metrics(tmp_path, "train")
    assert result.steps == 1 and record["teaching_groups"] and sum(step["source_tokens"].values()) > 0
    learned = record["groups"] * run.rollout.group_size - sum(record["unscored"].values())
    assert record["mismatch"]["tokens"] <= learned * run.rollout.max_new_tokens
