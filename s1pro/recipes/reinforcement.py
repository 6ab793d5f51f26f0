"""Reinforcement learning from a model folder, with held-out questions before and after.

`small_run` is what `s1pro rl --model … --tasks …` does: a few hundred short answers per step, the paper's objective,
AdamW at a rate that a small model needs (1e-3; a large one wants 1e-6). Held-out questions are those of the
test split; the questions that are learned from are of the training split, so no molecule is in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Sampling
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.rl.config import RLRun, RolloutConfig, TaskConfig
from s1pro.rl.loop import RLTrainer, train_rl
from s1pro.rl.system.launch import launch
from s1pro.rl.validation import item_scores, summary
from s1pro.tasks import registry
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.generated.foreign import is_foreign
from s1pro.tasks.task import Task
from s1pro.train.config import DataConfig
from s1pro.train.guards import GuardConfig
from s1pro.train.loop import TrainResult
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig


def small_run(
    model: Path, tasks: Sequence[str], *, folder: Path = Path("runs/rl"), agent: AgentConfig | None = None
) -> RLRun:
    """For models that answer on a laptop; turns of an agent are longer than plain answers.

    Raises:
        InputError: a task that there is not.
    """
    known = registry.all_names()
    unknown = [name for name in tasks if name not in known and not is_foreign(name)]
    if unknown:
        raise InputError(f"--tasks: {', '.join(unknown)} cannot be learned; choose from {', '.join(known)}")
    return RLRun(
        folder=folder,
        init_from=model,
        tasks=tuple(TaskConfig(name=name) for name in dict.fromkeys(tasks)),
        agent=agent,
        rollout=RolloutConfig(prompts=32, group_size=8, max_new_tokens=96 if agent else 32, concurrency=128),
        data=DataConfig(tokens_per_batch=2048, max_length=2048),
        optimizer=OptimizerConfig(lr=1e-3),
        schedule=ScheduleConfig(kind="constant", warmup=0.05),
        guards=GuardConfig(max_grad_norm=1.0),
        steps=60,
        eval_every=20,
        checkpoint_every=10,
        tensorboard=False,
    )


def learn(
    run: RLRun, *, validation_items: int, network: Network | None = None, stop: Event | None = None
) -> tuple[TrainResult[Any], dict[str, Any]]:
    """Runs it; the second value is the accuracy before. `stop` as in `rl.loop.train_rl`.

    Raises:
        InputError: as `rl.loop.train_rl`.
    """
    tasks: dict[str, Task] = {
        config.name: registry.get(config.name, split="test", num_items=validation_items) for config in run.tasks
    }
    folder = run.tokenizer or run.init_from
    if folder is None:
        raise InputError("init_from is missing: name the model folder that learning starts from")
    processor = Processor.from_pretrained(folder)
    greedy = Sampling(max_new_tokens=run.rollout.max_new_tokens)

    def evaluate(trainer: Any) -> dict[str, Any]:
        assert isinstance(trainer, RLTrainer)
        rollouts = trainer.rollouts
        scores = item_scores(tasks, rollouts.client, limit=validation_items, sampling=greedy, agent=rollouts.agent)
        return summary(scores)

    result = train_rl(run, network=network, processor=processor, on_evaluate=evaluate, stop=stop)
    return result, read_metrics(run.folder, "validation")[0]


def learn_on_ray(run: RLRun, *, validation_items: int) -> tuple[TrainResult[Any], dict[str, Any]]:
    """`learn` with the trainer in an actor of its own, which is started again if it dies; the network stays there.

    Raises:
        InputError, TrainerDiedError: as `learn` and `rl.system.launch.launch`.
    """
    return launch(run, partial(_learn_away, run, validation_items))


def _learn_away(run: RLRun, validation_items: int, stop: Event) -> tuple[TrainResult[Any], dict[str, Any]]:
    result, before = learn(run, validation_items=validation_items, stop=stop)
    return replace(result, network=None), before
