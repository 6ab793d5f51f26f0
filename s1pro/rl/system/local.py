"""Rollouts in the process of the trainer, on its own network.

Engine and trainer share every tensor, so nothing is copied and nothing runs at the same time: engine and trainer take
turns, and how far answers lag behind the weights is a matter of the order, the same in every run.

With `under_way=finish` a unit is answered when it is submitted, with the weights of that moment. Otherwise its answers
begin when their round is waited for: the engine goes on until that round is complete, and leaves the answers of later
rounds as far as they are. They go on under the next weights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from s1pro.model.network import Network
from s1pro.rl.system.config import UnderWay
from s1pro.rl.system.work import Answerer, Group, Unit
from s1pro.serve.engine import Engine


class LocalWorkers:
    """See the module docstring. `Workers`.

    Args:
        engine: shares the tensors of `network`; only `answerer` uses it.
    """

    def __init__(self, answerer: Answerer, engine: Engine, network: Network, under_way: UnderWay) -> None:
        self._answerer, self._engine, self._network, self._under_way = answerer, engine, network, under_way
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[int, list[asyncio.Task[list[Group]]]] = {}

    def publish(self, version: int) -> None:
        self._engine.update_weights({}, version, partial=True, recompute=self._under_way == "recompute")

    def submit(self, number: int, units: Sequence[Unit]) -> None:
        tasks = self._tasks[number] = []
        for unit in units:
            tasks.append(self._loop.create_task(self._answerer.answer(unit)))
            if self._under_way == "finish":
                self._engine.update_weights({}, self._engine.policy_version, partial=True)  # an empty cache
                self._run(tasks[-1:])

    def collect(self, number: int) -> list[Group]:
        tasks = self._tasks[number]
        self._run(tasks)
        del self._tasks[number]
        return [group for task in tasks for group in task.result()]

    def finished(self) -> dict[int, list[Group]]:
        done = {number: tasks for number, tasks in self._tasks.items() if all(task.done() for task in tasks)}
        return {number: [group for task in tasks for group in task.result()] for number, tasks in done.items()}

    def report(self) -> dict[str, object]:
        return {}

    def close(self) -> None:
        left = [task for tasks in self._tasks.values() for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _run(self, tasks: Sequence[asyncio.Task[list[Group]]]) -> None:
        with _evaluating(self._network):
            self._loop.run_until_complete(asyncio.gather(*tasks))


@contextmanager
def _evaluating(network: Network) -> Iterator[None]:
    network.eval()
    try:
        yield
    finally:
        network.train()
