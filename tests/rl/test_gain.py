"""Reinforcement learning raises what a policy gets on questions that it did not train on: five seeds, an interval."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s1pro.base.records import Sampling
from s1pro.rl.loop import train_rl
from s1pro.rl.validation import item_scores, summary
from tests.rl.letters import Letters, Vowels, policy, run_in

SEEDS = range(5)


class HeldOut(Vowels):
    """Questions with other numbers."""

    def items(self) -> list[Any]:
        return [replace(item, id=f"held-out {item.id}", asked={"n": item.asked["n"] + 500}) for item in super().items()]


def gain(folder: Path, seed: int) -> float:
    """Held-out score after minus before."""
    held_out = {"vowels": HeldOut(size=40)}
    sampling = Sampling(max_new_tokens=10, temperature=1.0, seed=1)
    scores: list[float] = []

    def evaluate(trainer: Any) -> dict[str, Any]:
        found = summary(item_scores(held_out, trainer.rollouts.client, limit=40, sampling=sampling))
        scores.append(found["accuracy"])
        return found

    run = run_in(folder, steps=20, seed=seed)
    run = replace(run, tasks=run.tasks[:1], optimizer=replace(run.optimizer, lr=5e-3))
    tasks = {"vowels": Vowels()}
    train_rl(run, tasks=tasks, network=policy(seed), processor=Letters(), on_evaluate=evaluate)  # type: ignore[arg-type]
    return scores[-1] - scores[0]


@pytest.mark.slow
def test_the_gain_over_five_seeds_excludes_zero(tmp_path: Path) -> None:
    gains = np.array([gain(tmp_path / str(seed), seed) for seed in SEEDS])
    half_width = 2.776 * gains.std(ddof=1) / np.sqrt(len(gains))  # Student's t, four degrees of freedom
    assert gains.mean() - half_width > 0, gains.tolist()
