"""Rounds of answers as micro-batches: what a loader is to other stages of training.

Before a round is trained on it is asked and answered (`rl.system`), groups that teach nothing are left out, answers are
packed, and the trainer computes their log-probabilities once more, which shows the gap to the engine on the way.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from s1pro.base.client import ModelClient
from s1pro.base.errors import InputError
from s1pro.data.batch import IGNORED, PackedBatch
from s1pro.data.loader import Loader
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.rl.agent import agent_of
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
from s1pro.rl.questions import Questions
from s1pro.rl.rewards import check_parts
from s1pro.rl.rollout import Question
from s1pro.rl.round_record import record_of
from s1pro.rl.system.ahead import RoundsAhead
from s1pro.rl.system.client import rollout_client
from s1pro.rl.system.local import LocalWorkers
from s1pro.rl.system.ray_workers import RayWorkers
from s1pro.rl.system.served import ServedWorkers, served_engine
from s1pro.rl.system.work import Answerer, Workers
from s1pro.serve.client import LocalClient
from s1pro.tasks.judges.judge import Here, Judge
from s1pro.tasks.judges.pool import JudgePool
from s1pro.tasks.task import Task

Record = dict[str, Any]


class ParityError(RuntimeError):
    """Engine and trainer do not compute the same; the message says by how much."""


class Rollouts:
    """Micro-batches made of the policy's own answers, an update at a time; what a loader is to other stages.

    Args:
        network: of trainer and engine.
        client: its engine shares the tensors of `network`; it answers, unless Ray or a server does.
        reference: the policy to stay near to, for `objective.kl`.
        texts: of the steps of fine-tuning in between.

    Attributes:
        workers: who answers.
    """

    def __init__(
        self,
        run: RLRun,
        network: Network,
        tasks: Mapping[str, Task],
        client: LocalClient,
        processor: Processor,
        reference: Network | None = None,
        texts: Loader[PackedBatch] | None = None,
    ) -> None:
        assert (reference is not None) == bool(run.objective.kl)
        self.reference, self._texts = reference, texts
        self.run, self.network, self.client, self.tasks = run, network, client, dict(tasks)
        self._names = tuple(config.name for config in run.tasks)
        self.agent = agent_of(run, processor)
        self._questions = Questions(
            tasks,
            run.tasks,
            processor,
            per_step=run.rollout.prompts,
            seed=run.seed,
            enable_thinking=run.rollout.enable_thinking,
            curriculum=run.curriculum,
            agent=self.agent,
        )
        if run.engine is not None:
            _check_text(self.tasks)
        self._entropy = EntropyControl(run.entropy)
        self._pending: deque[list[PackedBatch]] = deque()
        local = run.system.mode == "local"
        self._judge: Judge = JudgePool(self.tasks, run.judges) if local and run.judges.processes else Here(self.tasks)
        self._processor = processor
        self.workers = self._workers()
        self._ahead = RoundsAhead(
            self.workers, self._questions_of, staleness=run.system.staleness, shards=run.system.shards
        )
        self.rounds = 0
        self.records: list[Record] = []

    def _workers(self) -> Workers:
        run, network = self.run, self.network
        if run.system.mode == "ray":
            return RayWorkers(run, network, self.tasks, self._processor)
        if run.engine is not None:
            served = served_engine(run, network, self._processor)
            return ServedWorkers(self._answerer(served), served, network)
        shared = run.system.under_way == "finish"  # no answer is under way when the client is used for something else
        client = self.client if shared else rollout_client(run, network, self._processor)
        return LocalWorkers(self._answerer(client), client.engine, network, run.system.under_way)

    def _answerer(self, client: ModelClient) -> Answerer:
        return Answerer(self.run, self.network.config.text, self.tasks, client, self._judge, self.agent)

    def next_update(self, version: int) -> list[PackedBatch]:
        """The micro-batches of the next optimizer step; asks and answers when there are none left."""
        if not self._pending:
            self._ask(version)
        return self._pending.popleft()

    def next_text(self) -> PackedBatch:
        """The micro-batch of a step of fine-tuning."""
        assert self._texts is not None
        return next(self._texts)

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
            "ahead": self._ahead.state_dict(),
            "texts": None if self._texts is None else self._texts.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rounds = state["rounds"]
        self._questions.load_state_dict(state["questions"])
        self._entropy.load_state_dict(state["entropy"])
        self._pending = deque([from_json(batch) for batch in batches] for batches in state["pending"])
        self._ahead.load_state_dict(state["ahead"])
        if self._texts is not None:
            self._texts.load_state_dict(state["texts"])

    def close(self) -> None:
        """Ends workers and judges."""
        self._ahead.close()
        if self._texts is not None:
            self._texts.close()
        self._judge.close()

    def _ask(self, version: int) -> None:
        started = time.perf_counter()
        groups, found = self._ahead.answers(self.rounds, version, further=self.run.steps - version - 1)
        answered = time.perf_counter()
        if not self.rounds:
            check_parts((r.score for group in groups for r in group if r.failure is None), self.run.reward)
        taught = teaching_groups(groups, drop_uniform=self.run.rollout.drop_uniform)
        updates = [self._micro_batches(part) for part in updates_of(taught, self.run.updates)]
        updates = updates or [[_without_weight(self._micro_batches(groups[:1])[0])]]
        self.rounds += 1
        record = {
            **found,
            **record_of(groups, taught),
            **self._observe(groups),
            "examples": examples(groups, self.tasks),
        }
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

    def _questions_of(self, number: int) -> list[Question]:
        questions = self._questions.of_step(number)
        self._check_room(questions)
        return questions

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


def _check_text(tasks: Mapping[str, Task]) -> None:
    """Before weights are published for a server that could not be asked."""
    for name, task in tasks.items():
        for message in task.prompt(task.items()[0]).messages:
            if not isinstance(message.content, str) and any(part.get("type") != "text" for part in message.content):
                raise InputError(
                    f"task {name!r} shows media, and `engine` takes prompts of text only: leave `engine` out to learn "
                    "from media"
                )


def _without_weight(batch: PackedBatch) -> PackedBatch:
    """A batch from which nothing is learned, for a round in which no group had answers of different worth."""
    nothing = torch.zeros_like(batch.loss_weights_T)
    return dataclasses.replace(batch, loss_weights_T=nothing, targets_T=torch.full_like(batch.targets_T, IGNORED))
