"""Scores of a model beside its baselines, as records, table and sentence.

A model *beats* its baselines on a task when the lower end of its 95 % confidence interval lies above the value of each
of them: the untrained model, the best constant answer, the best copy of something in the question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s1pro.report.blocks import Cell, Table, Verdict

Z_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score with its 95 % confidence interval. Without an interval (`low=None`) it is known exactly."""

    value: float
    low: float | None = None
    high: float | None = None
    num_items: int | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval has two ends, got low={self.low}, high={self.high}")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"the score {self.value} lies outside its interval [{self.low}, {self.high}]")

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share_estimate(successes: int, count: int) -> Estimate:
    """Wilson's score interval for `successes` of `count`."""
    share, z2 = successes / count, Z_95 * Z_95
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    # at 0 and 1 the end equals the share, which rounding may miss
    return Estimate(
        value=share, low=min(share, max(0.0, centre - half)), high=max(share, min(1.0, centre + half)), num_items=count
    )


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task family: the model and its baselines by name (for example "untrained", "constant")."""

    task: str
    model: Estimate
    baselines: Mapping[str, Estimate]

    @property
    def beats_baselines(self) -> bool:
        low = self.model.value if self.model.low is None else self.model.low
        return all(low > baseline.value for baseline in self.baselines.values())


def baseline_names(scores: Sequence[TaskScore]) -> list[str]:
    """Every baseline that any task has, in order of first appearance."""
    return list(dict.fromkeys(name for score in scores for name in score.baselines))


def score_table(
    scores: Sequence[TaskScore],
    *,
    model_name: str = "this model",
    caption: str = "",
    facts: Mapping[str, Mapping[str, str]] | None = None,
) -> Table:
    """One row per task: the model and every baseline with interval, and whether all baselines are beaten.

    Args:
        facts: further columns, each with its value by task ("domain", "modality").
    """
    facts = facts or {}
    names = baseline_names(scores)
    rows: list[list[Cell]] = []
    for score in scores:
        baselines = [str(score.baselines[name]) if name in score.baselines else None for name in names]
        known = [column.get(score.task) for column in facts.values()]
        rows.append([score.task, *known, score.model.num_items, str(score.model), *baselines, score.beats_baselines])
    return Table(
        columns=("task", *facts, "questions", model_name, *names, "above all baselines"),
        rows=rows,
        caption=caption,
        note="In brackets: 95 % confidence interval. Above all baselines: the lower end of the model's interval "
        "lies above the score of every baseline.",
    )


def score_verdict(scores: Sequence[TaskScore], *, required: int, about: str = "") -> Verdict:
    """Says on how many tasks the baselines are beaten, and whether that is at least `required`.

    Args:
        about: what the tasks have in common, for the sentence ("about videos").
    """
    won = [score.task for score in scores if score.beats_baselines]
    lost = [score.task for score in scores if not score.beats_baselines]
    tasks = " ".join(filter(None, ("task" if len(scores) == 1 else "tasks", about)))
    text = f"The lower 95 % bound lies above every baseline on {len(won)} of {len(scores)} {tasks} (asked: {required})."
    if lost:
        text += f" Not on: {', '.join(lost)}."
    return Verdict(text=text, passed=len(won) >= required)
