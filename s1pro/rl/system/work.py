"""Pieces of a round, and who answers them: the part that is the same in one process and on Ray.

    Unit ── answer, check, score ──> groups of rollouts, in the order of its questions

What a unit's answers are depends on the weights, the seed of the run and the unit alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from s1pro.base.client import ModelClient
from s1pro.model.config import TextConfig
from s1pro.rl.agent import Agent
from s1pro.rl.config import RLRun
from s1pro.rl.rollout import Question, Rollout, answer
from s1pro.tasks.judges.judge import Judge
from s1pro.tasks.task import Task

Group = list[Rollout]
SEED_STEP = 1_000_003


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Some consecutive questions of a round; `first` is the number of the first of them in it."""

    round: int
    index: int
    first: int
    questions: tuple[Question, ...]


def units_of(number: int, questions: Sequence[Question], shards: int) -> list[Unit]:
    """The questions of a round in `shards` pieces of nearly equal size; empty ones are left out."""
    bounds = np.linspace(0, len(questions), shards + 1).round().astype(int).tolist()
    pieces = [(start, tuple(questions[start:stop])) for start, stop in itertools.pairwise(bounds) if stop > start]
    return [
        Unit(round=number, index=index, first=start, questions=piece) for index, (start, piece) in enumerate(pieces)
    ]


class Answerer:
    """Answers units with a client, and has the answers scored by a judge; an agent answers the calls of tools."""

    def __init__(
        self,
        run: RLRun,
        text: TextConfig,
        tasks: Mapping[str, Task],
        client: ModelClient,
        judge: Judge,
        agent: Agent | None,
    ) -> None:
        self._agent = agent
        self._run, self._tasks, self._client, self._judge = run, dict(tasks), client, judge
        recorded = bool(text.moe_layers) and run.rollout.replay
        self._routing_shape = (len(text.moe_layers), text.router.top_k) if recorded else None

    async def answer(self, unit: Unit) -> list[Group]:
        """Raises `RecordError` for an answer whose record does not fit."""
        return await answer(
            unit.questions,
            self._tasks,
            self._client,
            self._run.rollout,
            seed=self._run.seed + SEED_STEP * unit.round,
            routing_shape=self._routing_shape,
            judge=self._judge,
            reward=self._run.reward,
            agent=self._agent,
            first=unit.first,
        )


class Workers(Protocol):
    """Who answers rounds. `submit` begins, `collect` waits; rounds are collected in their order."""

    def publish(self, version: int) -> None:
        """The trainer's present weights are those of `version`."""
        ...

    def submit(self, number: int, units: Sequence[Unit]) -> None:
        """Round `number` may begin, with the weights published last."""
        ...

    def collect(self, number: int) -> list[Group]:
        """The groups of a round that was submitted, in the order of its questions."""
        ...

    def finished(self) -> dict[int, list[Group]]:
        """Rounds that are complete and were not collected; they stay."""
        ...

    def report(self) -> dict[str, object]:
        """Numbers for the record of the round that was collected last."""
        ...

    def close(self) -> None:
        """Ends whatever runs."""
        ...
