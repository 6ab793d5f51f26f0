"""Reinforcement learning: ask, answer, score, compare, update, publish.

    questions --engine--> answers --tasks--> rewards --advantages--> micro-batches --train.step--> weights
        ^                                                                                            |
        +------------------ version + 1, the same tensors (published in place) <---------------------+

The loop, its checkpoints, schedules, guards and metrics are those of `train.loop`; this module gives it batches. In one
process engine and trainer share one network object, so publishing is counting up the version and forgetting what the
engine's cache computed before: no copy, no mapping, no other precision. With FP8 experts both sides use the one
quantiser on the same master weights.

Everything random is a function of the seed and the number of the step: which questions, and each answer's own stream of
random numbers. A run that was killed and resumed asks and answers as the uninterrupted one.

Who answers, where, and how far ahead of the trainer, is a matter of `rl.system`: here the trainer asks for its next
round.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from threading import Event
from typing import Any

from s1pro.base.errors import InputError
from s1pro.data.batch import PackedBatch
from s1pro.data.loader import Loader
from s1pro.data.sequence import ProcessorEncoder
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.parallel.mesh import Ranks, join
from s1pro.rl.config import RLRun
from s1pro.rl.interleaved import InterleavedLoss
from s1pro.rl.policy_loss import PolicyLoss
from s1pro.rl.rounds import Rollouts
from s1pro.rl.system.client import rollout_client
from s1pro.tasks.task import Task
from s1pro.train.loop import EvaluationHook, Trainer, TrainResult
from s1pro.train.losses import LanguageModelLoss, LossFunction
from s1pro.train.metrics import Metrics
from s1pro.train.setup import Data, build_loader, choose_device, sources_of_data, sources_of_files
from s1pro.train.spread import build_on_ranks, export


class RLTrainer(Trainer[Network, PackedBatch]):
    """The training loop on rollouts."""

    evaluates_first = True

    def __init__(
        self, run: RLRun, network: Network, rollouts: Rollouts, *, stop: Event | None = None, **options: Any
    ) -> None:
        policy: LossFunction[Network, PackedBatch] = PolicyLoss(run.objective, chunk=run.loss.chunk)
        loss = InterleavedLoss(policy, LanguageModelLoss(run.loss)) if run.sft_every else policy
        super().__init__(run, network, _as_loader(rollouts), loss=loss, **options)
        self.rollouts, self._stop, self._sft_every = rollouts, stop, run.sft_every

    def batches_of_step(self, metrics: Metrics) -> list[PackedBatch]:
        if self._sft_every and (self.steps_done + 1) % self._sft_every == 0:
            return [self.rollouts.next_text()]
        batches = self.rollouts.next_update(version=self.steps_done)
        for record in self.rollouts.records:
            metrics.write("rollout", self.steps_done + 1, record)
        self.rollouts.records.clear()
        return batches

    def _agree(self, seconds: float, interrupted: bool) -> tuple[float, bool]:
        return super()._agree(seconds, interrupted or (self._stop is not None and self._stop.is_set()))

    def evaluate(self, metrics: Metrics | None = None) -> dict[str, Any]:
        self.rollouts.publish(self.steps_done)
        return super().evaluate(metrics)


def train_rl(
    run: RLRun,
    *,
    tasks: Mapping[str, Task] | None = None,
    network: Network | None = None,
    processor: Processor | None = None,
    texts: Data | None = None,
    on_evaluate: EvaluationHook | None = None,
    stop: Event | None = None,
) -> TrainResult[Network]:
    """Runs reinforcement learning and exports its model.

    Args:
        tasks: by the names in `run.tasks`; by default those of the registry, on training items.
        network: instead of `run.init_from`.
        processor: of the model; read from `run.tokenizer` or `run.init_from` by default.
        texts: of fine-tuning steps, in memory, added to `run.data.sources`.
        stop: like a Ctrl-C once it is set: the step is finished and saved.

    Raises:
        InputError: no tasks, an unknown one, a wrong folder, or several ranks.
        ParityError: engine and trainer are further apart than `run.parity_limit`.
    """
    if not run.tasks:
        raise InputError('tasks is empty: name what is to be learned, --set \'tasks=[{"name": "..."}]\'')
    ranks = join(run.parallel, choose_device(run.device).type)
    if ranks.is_distributed:
        raise InputError("the trainer of reinforcement learning has one rank so far: start it without torchrun")
    folder = run.tokenizer or run.init_from
    if processor is None:
        if folder is None:
            raise InputError("init_from is missing: name the model folder that learning starts from")
        processor = Processor.from_pretrained(folder)
    found = dict(tasks) if tasks is not None else registry_tasks(run)
    network = _prepared(run, network, processor, ranks)
    client = rollout_client(run, network, processor)
    text_loader = _text_loader(run, processor, texts or {})
    reference = _reference(run, network)
    rollouts = Rollouts(run, network, found, client, processor, reference=reference, texts=text_loader)
    trainer = RLTrainer(run, network, rollouts, on_evaluate=on_evaluate, stop=stop)
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


def _text_loader(run: RLRun, processor: Processor, texts: Data) -> Loader[PackedBatch] | None:
    """Of the steps of fine-tuning between those of reinforcement learning.

    Raises:
        InputError: texts that are never read, or none where some are wanted.
    """
    if not run.sft_every:
        if texts:
            raise InputError(f"texts {', '.join(texts)} have no effect without sft_every")
        return None
    encoder = ProcessorEncoder(processor)
    sources = [*sources_of_files(run.data.sources, encoder, run.data.cache), *sources_of_data(texts, encoder)]
    weights = [config.weight for config in run.data.sources] + [1.0] * len(texts)
    return build_loader(sources, weights, run.data, seed=run.seed)


def _as_loader(rollouts: Rollouts) -> Loader[PackedBatch]:
    """The trainer asks a loader for its state and closes it; batches come from `batches_of_step`."""
    loader: Any = rollouts
    return loader
