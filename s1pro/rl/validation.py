"""Greedy answers to held-out questions, before, during and after reinforcement learning."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.client import ModelClient
from s1pro.base.records import Sampling
from s1pro.eval.statistics import mean_estimate
from s1pro.tasks.task import Item, Task


def accuracy(
    tasks: Mapping[str, Task], client: ModelClient, *, limit: int, sampling: Sampling, concurrency: int = 64
) -> dict[str, Any]:
    """`{"accuracy": mean over tasks, "tasks": {name: value, low, high, num_items}}`, over the first `limit` items."""
    scores = asyncio.run(_scores(tasks, client, limit, sampling, concurrency))
    found = {name: dataclasses.asdict(mean_estimate(values)) for name, values in scores.items()}
    return {"accuracy": sum(estimate["value"] for estimate in found.values()) / len(found), "tasks": found}


async def _scores(
    tasks: Mapping[str, Task], client: ModelClient, limit: int, sampling: Sampling, concurrency: int
) -> dict[str, Sequence[float]]:
    gate = asyncio.Semaphore(concurrency)

    async def one(task: Task, item: Item) -> float:
        async with gate:
            completion = await client.chat(task.prompt(item).messages, sampling)
        return (await task.score(item, completion.text)).value

    items = {name: list(task.items())[:limit] for name, task in tasks.items()}
    values = await asyncio.gather(*(one(tasks[name], item) for name, some in items.items() for item in some))
    done = iter(values)
    return {name: [next(done) for _ in some] for name, some in items.items()}
