"""`Task`: what is asked, how an answer is scored, and which trivial answers a model must beat.

One object serves evaluation and reward. Evaluation asks every item once and aggregates; reinforcement learning asks
many times and uses `Score.value`. Scoring is asynchronous because some verifiers wait for a process or another model.

    item -> prompt(item) -> client -> response -> score(item, response) -> Score -> aggregate(scores)

Baselines are part of the task, because only the task knows what is trivial about it: the best constant answer (chosen
on training items, never on the items it is scored on) and the best copy of something in the question. They are
responses, scored by the same `score`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from s1pro.base.records import Message


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that is asked. `id` is unique in its task and stays the same between runs.

    Attributes:
        asked: what the question is made of.
        answer: what the score is computed from; never part of a prompt.
    """

    id: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the model gets: a conversation, and tools and media where a task has them."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    media: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """How good one response is.

    Attributes:
        value: from 0 to 1, also the reward.
        extraction: what was read from the response, JSON-able; None if nothing was found.
        valid: whether there was an answer of the right form, right or wrong.
        parts: graded sides of the answer, each a number.
    """

    value: float
    extraction: Any = None
    valid: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """See the module docstring."""

    @property
    def name(self) -> str: ...

    def items(self) -> Sequence[Item]:
        """All items, always the same in the same order."""
        ...

    def prompt(self, item: Item) -> Prompt:
        """The same prompt for the same item in every run."""
        ...

    async def score(self, item: Item, response: str) -> Score:
        """Never raises for any response: what cannot be read is not valid and scores 0."""
        ...

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """Metrics beside the mean of the values; some of them need all scores."""
        ...


@runtime_checkable
class HasBaselines(Protocol):
    """A task that knows its trivial answers."""

    def baselines(self) -> Mapping[str, Mapping[str, str]]:
        """Name of the baseline to its responses by item id, for all items."""
        ...


def mean_parts(scores: Sequence[Score]) -> dict[str, float]:
    """Share of valid responses, and the mean of every part over the scores that have it."""
    if not scores:
        raise ValueError("there is nothing to aggregate")
    names = dict.fromkeys(name for score in scores for name in score.parts)
    means = {"valid": sum(score.valid for score in scores) / len(scores)}
    for name in names:
        values = [float(score.parts[name]) for score in scores if name in score.parts]
        means[name] = sum(values) / len(values)
    return means
