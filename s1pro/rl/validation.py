"""Answers to held-out questions, before, during and after reinforcement learning.

Greedy answers show the best that a policy says; answers that are drawn show the policy itself, which is what the
gradient raises. A question can be asked several times then, and its score is the mean: the interval is over questions.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.client import ModelClient
from s1pro.base.records import Sampling
from s1pro.eval.statistics import mean_estimate
from s1pro.rl.agent import Agent
from s1pro.rl.questions import question_of
from s1pro.rl.rollout import draw
from s1pro.tasks.task import Item, Task


def summary(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """`{"accuracy": mean over tasks, "tasks": {name: value, low, high, num_items}}`, from scores of items."""
    found = {name: dataclasses.asdict(mean_estimate(values)) for name, values in scores.items()}
    return {"accuracy": sum(estimate["value"] for estimate in found.values()) / len(found), "tasks": found}


def item_scores(
    tasks: Mapping[str, Task],
    client: ModelClient,
    *,
    limit: int,
    sampling: Sampling,
    draws: int = 1,
    concurrency: int = 64,
    agent: Agent | None = None,
) -> dict[str, list[float]]:
    """Score of each of the first `limit` items, the mean over `draws` answers.

    Above temperature 0 every draw of every item has a seed of its own, counted from `sampling.seed`; so the answers of
    two policies to a question can be compared in pairs, and those to two questions have nothing in common.

    Args:
        agent: answers the calls of tools, as it does in rollouts.

    Raises:
        ValueError: several greedy answers, which would all be the same.
    """
    if draws < 1 or (draws > 1 and not sampling.temperature):
        raise ValueError(f"draws={draws} at temperature {sampling.temperature}: greedy answers are all alike")
    return asyncio.run(_scores(tasks, client, limit, sampling, draws, concurrency, agent))


async def _scores(
    tasks: Mapping[str, Task],
    client: ModelClient,
    limit: int,
    sampling: Sampling,
    draws: int,
    concurrency: int,
    agent: Agent | None,
) -> dict[str, list[float]]:
    gate = asyncio.Semaphore(concurrency)

    async def one(task: Task, item: Item, how: Sampling) -> float:
        async with gate:
            response = await _response(task, item, client, how, agent)
        return (await task.score(item, response)).value

    items = {name: list(task.items())[:limit] for name, task in tasks.items()}
    asked = [
        one(tasks[name], item, _drawn(sampling, place * draws + draw) if sampling.temperature else sampling)
        for name, some in items.items()
        for place, item in enumerate(some)
        for draw in range(draws)
    ]
    values = iter(await asyncio.gather(*asked))
    return {name: [sum(next(values) for _ in range(draws)) / draws for _ in some] for name, some in items.items()}


def _drawn(sampling: Sampling, number: int) -> Sampling:
    return dataclasses.replace(sampling, seed=1_000_003 * (sampling.seed or 0) + number)


async def _response(task: Task, item: Item, client: ModelClient, sampling: Sampling, agent: Agent | None) -> str:
    if agent is None:
        return (await client.chat(task.prompt(item).messages, sampling)).text
    question = question_of(task, item, agent.processor, enable_thinking=agent.enable_thinking, agent=agent)

    def of_turn(turn: int) -> Sampling:
        return sampling if sampling.seed is None else dataclasses.replace(sampling, seed=sampling.seed + 7919 * turn)

    return (await draw(question, task, client, of_turn, agent=agent)).response
