"""Reinforcement learning: ask, answer, score, compare, update, publish.

    questions --engine--> answers --tasks--> rewards --advantages--> micro-batches --train.step--> weights
        ^                                                                                            |
        +------------------ version + 1, the same tensors (published in place) <---------------------+

The loop, its checkpoints, schedules, guards and metrics are those of `train.loop`; this module gives it batches. Engine
and trainer share one network object, so publishing is counting up the version and forgetting what the engine's cache
computed before: no copy, no mapping, no other precision. With FP8 experts both sides use the one quantiser on the same
master weights.

Everything random is a function of the seed and the number of the step: which questions, and each answer's own stream of
random numbers. A run that was killed and resumed asks and answers as the uninterrupted one.

In one process so far; rollout, trainer and judges on separate machines are left out.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from s1pro.base.errors import InputError
from s1pro.data.batch import IGNORED, PackedBatch
from s1pro.data.loader import Loader
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.parallel.mesh import Ranks, join
from s1pro.rl.batches import Groups, micro_batches, teaching_groups, updates_of
from s1pro.rl.buffer import from_json, to_json
from s1pro.rl.config import RLRun
from s1pro.rl.entropy import EntropyControl, mean_surprisal
from s1pro.rl.examples import examples
from s1pro.rl.mismatch import (
    MismatchReport,
    mismatch,
    routing_agreement,
    with_old_logprobs,
    with_reference_logprobs,
)
from s1pro.rl.policy_loss import PolicyLoss
from s1pro.rl.questions import Questions
from s1pro.rl.rollout import Question, Rollout, answer
from s1pro.serve.client import LocalClient
from s1pro.tasks.judges.judge import Here, Judge
from s1pro.tasks.judges.pool import JudgePool
from s1pro.tasks.task import Task
from s1pro.train.loop import EvaluationHook, Trainer, TrainResult
from s1pro.train.metrics import Metrics
from s1pro.train.setup import choose_device
from s1pro.train.spread import build_on_ranks, export

Record = dict[str, Any]
TERMS = ("correctness", "form", "length")


class ParityError(RuntimeError):
    """Engine and trainer do not compute the same; the message says by how much."""


class Rollouts:
    """Micro-batches made of the policy's own answers, an update at a time; what a loader is to other stages.

    Args:
        network: of trainer and engine.
        client: its engine shares the tensors of `network`.
        reference: the policy to stay near to, for `objective.kl`.
    """

    def __init__(
        self,
        run: RLRun,
        network: Network,
        tasks: Mapping[str, Task],
        client: LocalClient,
        processor: Processor,
        reference: Network | None = None,
    ) -> None:
        assert (reference is not None) == bool(run.objective.kl)
        self.reference = reference
        self.run, self.network, self.client, self.tasks = run, network, client, dict(tasks)
        self._names = tuple(config.name for config in run.tasks)
        self._questions = Questions(
            tasks,
            run.tasks,
            processor,
            per_step=run.rollout.prompts,
            seed=run.seed,
            enable_thinking=run.rollout.enable_thinking,
            curriculum=run.curriculum,
        )
        self._entropy = EntropyControl(run.entropy)
        text = network.config.text
        self._routing_shape = (len(text.moe_layers), text.router.top_k) if text.moe_layers else None
        self._pending: deque[list[PackedBatch]] = deque()
        self._judge: Judge = JudgePool(self.tasks, run.judges) if run.judges.processes else Here(self.tasks)
        self.rounds = 0
        self.records: list[Record] = []

    def next_update(self, version: int) -> list[PackedBatch]:
        """The micro-batches of the next optimizer step; asks and answers when there are none left."""
        if not self._pending:
            self._ask(version)
        return self._pending.popleft()

    def publish(self, version: int) -> None:
        """The engine shares the tensors; what its cache computed with the weights before is void."""
        self.client.engine.update_weights({}, version, partial=True)

    def state_dict(self) -> Record:
        pending = [[to_json(batch) for batch in batches] for batches in self._pending]
        return {
            "rounds": self.rounds,
            "pending": pending,
            "questions": self._questions.state_dict(),
            "entropy": self._entropy.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rounds = state["rounds"]
        self._questions.load_state_dict(state.get("questions", {}))
        if "entropy" in state:
            self._entropy.load_state_dict(state["entropy"])
        self._pending = deque([from_json(batch) for batch in batches] for batches in state["pending"])

    def close(self) -> None:
        """Ends the judges."""
        self._judge.close()

    def _ask(self, version: int) -> None:
        started = time.perf_counter()
        groups = self._answers(version)
        answered = time.perf_counter()
        taught = teaching_groups(groups, drop_uniform=self.run.rollout.drop_uniform)
        updates = [self._micro_batches(part) for part in updates_of(taught, self.run.updates)]
        updates = updates or [[_without_weight(self._micro_batches(groups[:1])[0])]]
        self.rounds += 1
        record = {**_record(groups, taught), **self._observe(groups), "examples": examples(groups, self.tasks)}
        if self.run.old_logprobs == "recompute":
            updates, report = self._compare(updates)
            record |= {"mismatch": report.as_record()}
            self._check(report)
        if self.reference is not None:
            chunk = self.run.loss.chunk
            updates = [with_reference_logprobs(self.reference, batches, chunk=chunk) for batches in updates]
        self._pending.extend(updates)
        times = {"rollout_seconds": answered - started, "prepare_seconds": time.perf_counter() - answered}
        self.records.append({"version": version, **record, **times})

    def _observe(self, groups: Groups) -> Record:
        """Lets the shares of tasks and the weight of the entropy follow what was answered; gives what held so far."""
        entropy = mean_surprisal([rollout.own_logprobs for group in groups for rollout in group])
        record: Record = {"entropy": entropy}
        if self.run.entropy.is_on:
            record["entropy_weight"] = self._entropy.weight
        if self.run.curriculum is not None:
            record["shares"] = self._questions.shares()
        self._entropy.observe(entropy)
        self._questions.observe(groups)
        return record

    def _answers(self, version: int) -> list[list[Rollout]]:
        questions = self._questions.of_step(self.rounds)
        self._check_room(questions)
        self.publish(version)
        self.network.eval()
        try:
            return asyncio.run(
                answer(
                    questions,
                    self.tasks,
                    self.client,
                    self.run.rollout,
                    seed=self.run.seed + 1_000_003 * self.rounds,
                    routing_shape=self._routing_shape if self.run.rollout.replay else None,
                    judge=self._judge,
                    reward=self.run.reward,
                )
            )
        finally:
            self.network.train()

    def _check_room(self, questions: Sequence[Question]) -> None:
        longest, rows = max(len(q.token_ids) for q in questions), self.run.data.tokens_per_batch
        answer_length = self.run.rollout.max_new_tokens
        if longest + answer_length - 1 > rows:
            raise InputError(
                f"a prompt of {longest} tokens with an answer of {answer_length} does not fit into a micro-batch of "
                f"{rows} rows; raise data.tokens_per_batch or lower rollout.max_new_tokens"
            )

    def _micro_batches(self, groups: Groups) -> list[PackedBatch]:
        return micro_batches(
            groups,
            self.run.objective,
            num_rows=self.run.data.tokens_per_batch,
            replay=self.run.rollout.replay,
            source_names=self._names,
            entropy_weight=self._entropy.weight,
        )

    def _compare(self, updates: list[list[PackedBatch]]) -> tuple[list[list[PackedBatch]], MismatchReport]:
        updates = [with_old_logprobs(self.network, batches, chunk=self.run.loss.chunk) for batches in updates]
        every = [batch for batches in updates for batch in batches]
        agreement = routing_agreement(self.network, every) if self.run.rollout.replay else ()
        return updates, mismatch(every, agreement)

    def _check(self, report: MismatchReport) -> None:
        limit = self.run.parity_limit
        if limit is not None and report.k3 > limit:
            raise ParityError(
                f"round {self.rounds}: KL(engine || trainer) is {report.k3:.3g}, above parity_limit={limit:g}; the two "
                "sides do not compute the same: see metrics.jsonl, kind rollout, and docs/rl.md"
            )


class RLTrainer(Trainer[Network, PackedBatch]):
    """The training loop on rollouts."""

    evaluates_first = True

    def __init__(self, run: RLRun, network: Network, rollouts: Rollouts, **options: Any) -> None:
        super().__init__(
            run, network, _as_loader(rollouts), loss=PolicyLoss(run.objective, chunk=run.loss.chunk), **options
        )
        self.rollouts = rollouts

    def batches_of_step(self, metrics: Metrics) -> list[PackedBatch]:
        batches = self.rollouts.next_update(version=self.steps_done)
        for record in self.rollouts.records:
            metrics.write("rollout", self.steps_done + 1, record)
        self.rollouts.records.clear()
        return batches

    def evaluate(self, metrics: Metrics | None = None) -> dict[str, Any]:
        self.rollouts.publish(self.steps_done)
        return super().evaluate(metrics)


def train_rl(
    run: RLRun,
    *,
    tasks: Mapping[str, Task] | None = None,
    network: Network | None = None,
    processor: Processor | None = None,
    on_evaluate: EvaluationHook | None = None,
) -> TrainResult[Network]:
    """Runs reinforcement learning and exports its model.

    Args:
        tasks: by the names in `run.tasks`; by default those of the registry, on training items.
        network: instead of `run.init_from`.
        processor: of the model; read from `run.tokenizer` or `run.init_from` by default.

    Raises:
        InputError: no tasks, an unknown one, a wrong folder, or several ranks.
        ParityError: engine and trainer are further apart than `run.parity_limit`.
    """
    if not run.tasks:
        raise InputError('tasks is empty: name what is to be learned, --set \'tasks=[{"name": "..."}]\'')
    ranks = join(run.parallel, choose_device(run.device).type)
    if ranks.is_distributed:
        raise InputError("reinforcement learning runs in one process so far; start it without torchrun")
    folder = run.tokenizer or run.init_from
    if processor is None:
        if folder is None:
            raise InputError("init_from is missing: name the model folder that learning starts from")
        processor = Processor.from_pretrained(folder)
    found = dict(tasks) if tasks is not None else registry_tasks(run)
    network = _prepared(run, network, processor, ranks)
    client = LocalClient.from_network(
        network,
        processor,
        max_batch=run.rollout.concurrency,
        cache_tokens=run.rollout.concurrency * _longest(run),
        max_context=_longest(run),
    )
    rollouts = Rollouts(run, network, found, client, processor, reference=_reference(run, network))
    trainer = RLTrainer(run, network, rollouts, on_evaluate=on_evaluate)
    reason = trainer.train()
    model_folder = export(network, processor, run.folder / "model", ranks) if run.export else None
    return trainer.result(reason, model_folder)


def registry_tasks(run: RLRun) -> dict[str, Task]:
    """The tasks of a run, on items of the training split."""
    from s1pro.tasks import registry

    found: dict[str, Task] = {}
    for config in run.tasks:
        found[config.name] = registry.for_learning(config.name, num_items=config.num_items, seed=run.seed)
    return found


def _prepared(run: RLRun, network: Network | None, processor: Processor, ranks: Ranks) -> Network:
    from s1pro.train.setup import prepare_network

    if network is not None:
        return prepare_network(network, run, ranks)
    return build_on_ranks(run, processor.tokenizer, ranks)


def _reference(run: RLRun, network: Network) -> Network | None:
    """The policy as it is before its first step: a checkpoint to go on from is read later, by the loop."""
    if not run.objective.kl:
        return None
    return copy.deepcopy(network).eval().requires_grad_(False)


def _longest(run: RLRun) -> int:
    """Tokens of a prompt with its answer, at most: what fits into a micro-batch."""
    return run.data.tokens_per_batch


def _without_weight(batch: PackedBatch) -> PackedBatch:
    """A batch from which nothing is learned, for a round in which no group had answers of different worth."""
    nothing = torch.zeros_like(batch.loss_weights_T)
    return dataclasses.replace(batch, loss_weights_T=nothing, targets_T=torch.full_like(batch.targets_T, IGNORED))


def _record(groups: Groups, taught: Sequence[Any]) -> Record:
    """What the answers of a round were worth, per task too."""
    every = [rollout for group in groups for rollout in group]
    by_task: dict[str, list[float]] = {}
    for rollout in every:
        by_task.setdefault(rollout.question.task, []).append(rollout.reward)
    return {
        "reward": sum(r.reward for r in every) / len(every),
        "rewards": {name: sum(values) / len(values) for name, values in by_task.items()},
        **_terms(every),
        "valid": sum(r.score.valid for r in every) / len(every),
        "length": sum(r.num_tokens for r in every) / len(every),
        "cut_off": sum(r.completion.finish_reason == "length" for r in every) / len(every),
        "unscored": dict(Counter(r.failure for r in every if r.failure is not None)),
        "groups": len(groups),
        "teaching_groups": len(taught),
        "replayed": sum(r.completion.routing is not None for r in every) / len(every),
    }


def _terms(rollouts: Sequence[Rollout]) -> Record:
    """The terms of the reward, where there are more than one."""
    terms = [rollout.terms for rollout in rollouts if rollout.terms is not None]
    means = {name: sum(getattr(t, name) for t in terms) / len(terms) for name in TERMS} if terms else {}
    others = means.get("form", 0.0) != 0 or means.get("length", 0.0) != 0
    return {"terms": means} if others else {}


def _as_loader(rollouts: Rollouts) -> Loader[PackedBatch]:
    """The trainer asks a loader for its state and closes it; batches come from `batches_of_step`."""
    loader: Any = rollouts
    return loader
