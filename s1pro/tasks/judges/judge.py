"""Who scores an answer, and what comes back when scoring itself goes wrong.

A reward function is code over the text of a model, and a policy that learns finds every text it stumbles over. So a
judge answers every request with a `Verdict`: a score, or the reason why there is none. An answer without a score
teaches nothing, and only that answer: its group goes on without it.

`Here` scores in this process: nothing limits a reward function then, and its errors end the run. `pool.JudgePool`
scores in processes of their own, with limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from s1pro.tasks.task import Item, Score, Task

Failure = Literal["time", "memory", "crash", "error"]
"""Too slow, too much memory, its process died, or it raised (or returned something that is no score)."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The score of an answer, or why there is none.

    Attributes:
        reason: for people, with `failure`.
    """

    score: Score | None = None
    failure: Failure | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        assert (self.score is None) == (self.failure is not None), "a score or a failure"


class Judge(Protocol):
    """Scores answers to the items of tasks that it knows by name."""

    async def score(self, task: str, item: Item, response: str) -> Verdict: ...

    def close(self) -> None:
        """Ends whatever runs for it."""
        ...


class Here:
    """A judge in this process."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks

    async def score(self, task: str, item: Item, response: str) -> Verdict:
        return Verdict(score=await self._tasks[task].score(item, response))

    def close(self) -> None:
        """Nothing runs."""
