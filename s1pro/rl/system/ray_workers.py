"""Rollout workers and judges as Ray actors; the trainer is whoever holds `RayWorkers`.

    trainer ── Publication (object reference) ──> worker: own network and engine
            ── Unit ───────────────────────────>    │ answers ──> judge ──> verdicts
            <── rollouts without routing ────────────┤
            <── Traces (object reference) ───────────┘

Every unit goes to a worker with a reference to the weights that it needs; a worker that has others loads these first
and checks their hash. So nothing has to be remembered about a worker: one that dies is started again by Ray, gets its
units again, and gives the same answers. A unit counts when its result is here, and it can be here only once.

Routing stays where it was made until the trainer asks for it: arrays in the shared memory of Ray, one byte per slot
where groups allow it. It is never text.

Answers under way when new weights are published (`system.under_way`): a worker that lets them finish takes one unit
after another; otherwise units share its engine, and weights are replaced between two steps of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from s1pro.base.errors import MissingExtraError
from s1pro.inputs.processor import Processor
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.rl.agent import agent_of
from s1pro.rl.config import RLRun
from s1pro.rl.rollout import Question, Rollout
from s1pro.rl.system.client import rollout_client
from s1pro.rl.system.publication import Publication, check_received, drop_masters, publish, receive
from s1pro.rl.system.traces import Traces, fed_tokens, pack, unpack, with_routing, without_routing
from s1pro.rl.system.work import Answerer, Group, Unit
from s1pro.tasks.judges.judge import Here, Judge, Verdict
from s1pro.tasks.judges.pool import JudgePool
from s1pro.tasks.task import Item, Task

FOREVER = -1


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a worker is told about weights: a reference to them, which it follows only if it has others."""

    version: int
    reference: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A unit, answered; its routing travels apart from it."""

    groups: list[Group]
    version: int
    trace_bytes: int
    seconds: float


def connect(run: RLRun) -> bool:
    """Joins the Ray cluster of a run, or starts one on this machine; whether it was started here.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    if ray.is_initialized():
        return False
    system = run.system
    options: dict[str, Any] = {"address": system.address} if system.address else {"include_dashboard": False}
    if not system.address:  # logical cores: on one machine workers and trainer take turns
        options["num_cpus"] = int(system.trainer_cpus + system.workers * system.worker_cpus) + system.judges + 1
    ray.init(log_to_driver=False, **options)
    return True


class RayWorkers:
    """See the module docstring. `Workers`.

    Args:
        network: of the trainer, whose weights are published.
    """

    def __init__(self, run: RLRun, network: Network, tasks: Mapping[str, Task], processor: Processor) -> None:
        self._started = connect(run)
        import ray

        self._ray, self._run, self._network = ray, run, network
        system = run.system
        restarting = {"max_restarts": FOREVER, "max_task_retries": FOREVER}
        judge = ray.remote(JudgeActor).options(num_cpus=1 if run.judges.processes else 0, **restarting)
        # Ray reads what an actor is made of again when it restarts it, so the references stay
        self._made_of = [ray.put((run, network.config, dict(tasks), processor, torch.get_num_threads()))]
        self._judges = [judge.remote(self._made_of) for _ in range(system.judges)]
        worker = ray.remote(RolloutWorker).options(
            num_cpus=system.worker_cpus, num_gpus=system.worker_gpus, **restarting
        )
        self._workers = [worker.remote(self._made_of, self._judges) for _ in range(system.workers)]
        self._turns = itertools.cycle(self._workers)
        self._units: dict[int, list[tuple[Unit, Any, Any]]] = {}
        self._published: Published | None = None
        self._report: dict[str, object] = {}
        self._published_bytes = 0

    def publish(self, version: int) -> None:
        publication = publish(self._network, version)
        self._published_bytes = publication.num_bytes
        self._published = Published(version=version, reference=(self._ray.put(publication),))
        if self._run.system.under_way != "finish":
            for worker in self._workers:
                worker.take.remote(self._published)

    def submit(self, number: int, units: Sequence[Unit]) -> None:
        found = self._units[number] = []
        for unit in units:
            answer = next(self._turns).answer.options(num_returns=2)
            found.append((unit, *answer.remote(unit, self._published)))

    def collect(self, number: int) -> list[Group]:
        """Raises what a worker raised: `RecordError`, `PublicationError`, `InputError`."""
        units = self._units.pop(number)
        groups = self._fetch(units)
        if self._run.system.colocated and not self._units:
            self._ray.get([worker.sleep.remote() for worker in self._workers])
        return groups

    def finished(self) -> dict[int, list[Group]]:
        """One step off waits for what is under way: only then does a run go on exactly after a resume."""
        patience = 0 if self._run.system.schedule == "asynchronous" else None
        done: dict[int, list[Group]] = {}
        for number, units in self._units.items():
            references = [reference for _, answered, traces in units for reference in (answered, traces)]
            _, waiting = self._ray.wait(references, num_returns=len(references), timeout=patience)
            if not waiting:
                done[number] = self._fetch(units)
        return done

    def report(self) -> dict[str, object]:
        return self._report

    def close(self) -> None:
        for actor in (*self._workers, *self._judges):
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def pids(self) -> dict[str, list[int]]:
        """Process ids of the actors."""
        found = {"workers": self._workers, "judges": self._judges}
        return {name: self._ray.get([actor.pid.remote() for actor in actors]) for name, actors in found.items()}

    def _fetch(self, units: Sequence[tuple[Unit, Any, Any]]) -> list[Group]:
        groups: list[Group] = []
        answers: list[Answered] = self._get([answered for _, answered, _ in units])
        traces: list[Traces] = self._get([reference for _, _, reference in units])
        for (unit, _, _), answered, packed in zip(units, answers, traces, strict=True):
            groups += _whole(unit, answered.groups, packed, self._network.config)
        tokens = sum(len(fed_tokens(rollout)) for group in groups for rollout in group)
        self._report = {
            "published_bytes": self._published_bytes,
            "trace_bytes_per_token": sum(answered.trace_bytes for answered in answers) / max(tokens, 1),
            "worker_seconds": sum(answered.seconds for answered in answers),
        }
        return groups

    def _get(self, references: Sequence[Any]) -> Any:
        try:
            return self._ray.get(list(references))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


class RolloutWorker:
    """An actor: a network of its own, and an engine that answers units."""

    def __init__(self, made_of: Sequence[Any], judges: Sequence[Any]) -> None:
        import ray

        from s1pro.train.setup import prepare_network

        run, config, tasks, processor, threads = ray.get(made_of[0])
        torch.set_num_threads(threads)
        self._run: RLRun = run
        self._config: ModelConfig = config
        self._network = prepare_network(Network(config), run).eval().requires_grad_(False)
        drop_masters(self._network)
        self._client = rollout_client(run, self._network, processor)
        agent = agent_of(run, processor)
        self._answerer = Answerer(run, config.text, tasks, self._client, RayJudge(judges), agent)
        self._version: int | None = None
        self._engine_is_mine = asyncio.Lock()
        self._loading = asyncio.Lock()

    async def answer(self, unit: Unit, published: Published) -> tuple[Answered, Traces]:
        """Raises `RecordError`, `PublicationError`."""
        if self._run.system.under_way != "finish":
            await self.take(published)
            return await self._answer(unit)
        async with self._engine_is_mine:
            self._client.engine.wake()
            await self.take(published)
            self._client.engine.update_weights({}, self._client.engine.policy_version, partial=True)  # an empty cache
            return await self._answer(unit)

    async def take(self, published: Published) -> None:
        """Loads weights, unless they are there; in an asynchronous run newer ones will do.

        Otherwise a unit gets the very weights it was submitted with. Units that a restarted worker gets again may come
        in another order, so these can be older than those it has.
        """
        async with self._loading:
            newer_will_do = self._run.system.schedule == "asynchronous"
            if self._version == published.version or (newer_will_do and (self._version or -1) > published.version):
                return
            publication: Publication = await published.reference[0]
            tensors = receive(self._network, publication)
            recompute = self._run.system.under_way != "keep"
            self._client.engine.update_weights(tensors, publication.version, partial=True, recompute=recompute)
            check_received(self._network, publication)
            self._version = publication.version

    async def sleep(self) -> None:
        """Gives the memory of the cache back until the next unit."""
        async with self._engine_is_mine:
            self._client.engine.sleep()

    async def pid(self) -> int:
        return os.getpid()

    async def _answer(self, unit: Unit) -> tuple[Answered, Traces]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        groups = await self._answerer.answer(unit)
        every = [rollout for group in groups for rollout in group]
        router = self._config.text.router
        traces = pack([r.completion.routing for r in every], router, [fed_tokens(r) for r in every])
        answered = Answered(
            groups=[[_light(rollout) for rollout in group] for group in groups],
            version=self._client.engine.policy_version,
            trace_bytes=traces.slots_NLK.nbytes,
            seconds=loop.time() - started,
        )
        return answered, traces


class JudgeActor:
    """An actor that scores, in processes with limits like the judges of a single machine."""

    def __init__(self, made_of: Sequence[Any]) -> None:
        import ray

        run, _, tasks, *_ = ray.get(made_of[0])
        self._judge: Judge = JudgePool(tasks, run.judges) if run.judges.processes else Here(tasks)

    async def score(self, task: str, item: Item, response: str) -> Verdict:
        return await self._judge.score(task, item, response)

    async def pid(self) -> int:
        return os.getpid()


class RayJudge:
    """A `Judge` that asks actors in turn. One that dies is started again by Ray and asked again."""

    def __init__(self, judges: Sequence[Any]) -> None:
        self._turns = itertools.cycle(judges)

    async def score(self, task: str, item: Item, response: str) -> Verdict:
        verdict: Verdict = await next(self._turns).score.remote(task, item, response)
        return verdict

    def close(self) -> None:
        """The actors belong to the trainer."""


def _light(rollout: Rollout) -> Rollout:
    """Without what the trainer has already, and what travels apart."""
    question = dataclasses.replace(rollout.question, item=Item(id=rollout.question.item.id), token_ids=(), media=None)
    completion = dataclasses.replace(rollout.completion, prompt_token_ids=())
    return without_routing(dataclasses.replace(rollout, question=question, completion=completion))


def _whole(unit: Unit, groups: Sequence[Group], packed: Traces, config: ModelConfig) -> list[Group]:
    """The inverse of `_light`, with routing."""
    found = [
        [_with_question(rollout, question) for rollout in group]
        for group, question in zip(groups, unit.questions, strict=True)
    ]
    fed = [fed_tokens(rollout) for group in found for rollout in group]
    traces = iter(unpack(packed, config.text.router, fed))
    return [[with_routing(rollout, next(traces)) for rollout in group] for group in found]


def _with_question(rollout: Rollout, question: Question) -> Rollout:
    completion = dataclasses.replace(rollout.completion, prompt_token_ids=question.token_ids)
    return dataclasses.replace(rollout, question=question, completion=completion)
