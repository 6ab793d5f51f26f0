"""Rollouts on a server: our own, vLLM, SGLang or LMDeploy, which gets the weights of every round (`rl.engines`).

    trainer ── publish v ──> folder of safetensors ──> server         wait for answers under way first
            ── submit ─────> a thread asks the server, judges score    the trainer is free
            <─ collect ───── groups of rollouts

A publication waits until no answer is under way, so every answer is of the weights with which it began, the same in
every run. One step off the server writes the next round while the trainer trains on this one.

What held-out questions say is measured by the engine in this process, which shares the tensors of the trainer.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from s1pro.base.endpoint import EndpointSettings
from s1pro.base.http_client import HttpClient
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.rl.config import RLRun
from s1pro.rl.engines import ServedEngine
from s1pro.rl.restart import Restarts
from s1pro.rl.system.work import Answerer, Group, Unit

Result = TypeVar("Result")


def served_engine(run: RLRun, network: Network, processor: Processor) -> ServedEngine:
    """The client of `run.engine`; it asks for experts if they are replayed.

    Raises:
        InputError: an address that is none, or a key that is not set.
    """
    config, text = run.engine, network.config.text
    assert config is not None
    settings = EndpointSettings(
        base_url=config.url,
        model=config.model,
        engine=config.name,
        concurrency=run.rollout.concurrency,
        timeout_s=config.seconds,
        logprobs=True,
        routing=run.rollout.replay and bool(text.moe_layers),
        routing_shape=(len(text.moe_layers), text.router.top_k),
    )
    folder = (config.folder or run.folder / "published").resolve()
    return ServedEngine(
        HttpClient(settings, api_key_variable=config.api_key_variable),
        folder=folder,
        processor=processor,
        restarts=None if config.restart is None else Restarts(config.restart, processor),
    )


class ServedWorkers:
    """See the module docstring. `Workers`.

    Args:
        answerer: asks `engine`.
        network: of the trainer, whose weights are published.
    """

    def __init__(self, answerer: Answerer, engine: ServedEngine, network: Network) -> None:
        self._answerer, self._engine, self._network = answerer, engine, network
        self._published: int | None = None
        self._seconds = 0.0
        self._units: dict[int, list[concurrent.futures.Future[list[Group]]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served rollouts", daemon=True)
        self._thread.start()

    def publish(self, version: int) -> None:
        """Raises `PublicationError`, `EndpointError`, `InputError`."""
        if version == self._published:
            return
        concurrent.futures.wait([unit for units in self._units.values() for unit in units])
        started = time.perf_counter()
        self._start(self._engine.publish(self._network, version)).result()
        self._published, self._seconds = version, time.perf_counter() - started

    def submit(self, number: int, units: Sequence[Unit]) -> None:
        self._units[number] = [self._start(self._answerer.answer(unit)) for unit in units]

    def collect(self, number: int) -> list[Group]:
        """Raises `RecordError`, `PublicationError`, `EndpointError`."""
        groups = [group for unit in self._units[number] for group in unit.result()]
        del self._units[number]
        return groups

    def finished(self) -> dict[int, list[Group]]:
        """Waits for what is under way: only then does a run go on exactly after a resume."""
        return {number: [group for unit in units for group in unit.result()] for number, units in self._units.items()}

    def report(self) -> dict[str, object]:
        found: dict[str, object] = {"publish_seconds": self._seconds}
        if (probe := self._engine.probe) is not None:
            found["probe_gap"] = probe.gap
        return found

    def close(self) -> None:
        self._start(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        """Answers under way are given up, and may clean up, before the connections are closed."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._engine.client.aclose()

    def _start(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)
