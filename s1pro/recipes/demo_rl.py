"""The last lesson of the demo: the model answers questions of one task, and learns from how good its answers are.

It starts at `model/` and ends in `rl/model`; `model/`, which is examined on all tasks, stays as it is. What is measured
is the share of right answers to held-out questions, drawn as the policy draws them (several answers to each), before
and after; greedy answers beside it. Questions to learn from are about training molecules, held-out ones about others.

A right answer has the group that was asked for and the right number of carbon atoms. Few drawn ones have both, and
answers that are all wrong teach nothing; so either alone is worth something to the learner, and nothing in what is
measured.

Reinforcement learning of minutes makes a policy say more often what it could say already; the report shows that drawn
answers come near to greedy ones, or above, and does not promise more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.records import Sampling
from s1pro.eval.statistics import PairedDifference, mean_estimate, paired_difference
from s1pro.inputs.processor import Processor
from s1pro.recipes.demo_training import FOLDER, DemoSettings
from s1pro.report import plots
from s1pro.report.blocks import Block, Cell, Figure, Section, Table, Verdict
from s1pro.rl.config import RLRun, RolloutConfig, TaskConfig
from s1pro.rl.loop import RLTrainer, train_rl
from s1pro.rl.rewards import RewardConfig
from s1pro.rl.validation import item_scores, summary
from s1pro.tasks import registry
from s1pro.tasks.judges.pool import JudgeConfig
from s1pro.tasks.task import Task
from s1pro.train.config import DataConfig
from s1pro.train.guards import GuardConfig
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig

# Share of the budget that is for the steps; the rest is asking held-out questions twice, and saving.
_STEPS_SHARE = 0.74
_SHOWN_STEPS = 3


def rl_recipe(folder: Path = FOLDER, settings: DemoSettings | None = None) -> RLRun:
    """Questions of `settings.rl.tasks`, from the model of the joint run."""
    settings = settings or DemoSettings()
    chosen = settings.rl
    return RLRun(
        folder=folder / "rl",
        init_from=folder / "model",
        tasks=tuple(TaskConfig(name=name, num_items=chosen.questions) for name in chosen.tasks),
        rollout=RolloutConfig(
            prompts=chosen.prompts,
            group_size=chosen.group_size,
            max_new_tokens=settings.max_new_tokens,
            concurrency=chosen.prompts * chosen.group_size,
        ),
        reward=RewardConfig(parts=chosen.parts),
        data=DataConfig(tokens_per_batch=2048, max_length=2048),
        optimizer=OptimizerConfig(lr=chosen.lr, weight_decay=0.0),
        schedule=ScheduleConfig(kind="cosine", warmup=0.05, follow_time=True),
        guards=GuardConfig(max_grad_norm=1.0),
        judges=JudgeConfig(processes=0),  # RDKit reads what a policy of minutes can write, and a process costs seconds
        steps=chosen.steps,
        max_seconds=_STEPS_SHARE * settings.budgets["rl"],
        seed=settings.seed,
        device="cpu",
        checkpoint_every=20,
        keep_checkpoints=1,
        tensorboard=False,
    )


def reinforce(folder: Path, settings: DemoSettings) -> str:
    """Runs the stage, or what is left of it, and returns its note."""
    from s1pro.corpus.write import read_molecules

    run, chosen = rl_recipe(folder, settings), settings.rl
    molecules = read_molecules(folder / "data" / "molecules.parquet")
    learned: dict[str, Task] = {
        config.name: registry.for_learning(
            config.name, molecules=molecules, num_items=config.num_items, seed=settings.seed
        )
        for config in run.tasks
    }
    held_out: dict[str, Task] = {
        name: registry.get(name, molecules=molecules, num_items=settings.items) for name in chosen.tasks
    }
    how = Sampling(max_new_tokens=settings.max_new_tokens, temperature=1.0, seed=settings.seed)

    def evaluate(trainer: Any) -> dict[str, Any]:
        assert isinstance(trainer, RLTrainer)
        client, limit = trainer.rollouts.client, settings.items
        drawn = item_scores(held_out, client, limit=limit, sampling=how, draws=chosen.draws)
        greedy = item_scores(held_out, client, limit=limit, sampling=Sampling(max_new_tokens=how.max_new_tokens))
        return {**summary(drawn), "items": {"drawn": drawn, "greedy": greedy}}

    train_rl(run, tasks=learned, processor=Processor.from_pretrained(folder / "model"), on_evaluate=evaluate)
    found = read_gain(folder)
    gain = found.drawn.mean
    return f"drawn answers right: {found.before['drawn']:.3f} before, {found.after['drawn']:.3f} after; gain {gain}"


class Gain:
    """What held-out questions say: means over all items by kind of answer, and differences after - before by item."""

    def __init__(self, validation: Sequence[Mapping[str, Any]]) -> None:
        first, last = (
            {kind: _flat(record["items"][kind]) for kind in ("drawn", "greedy")}
            for record in (validation[0], validation[-1])
        )
        self.before, self.after = ({kind: float(np.mean(s)) for kind, s in scores.items()} for scores in (first, last))
        self.drawn: PairedDifference = paired_difference(last["drawn"], first["drawn"])
        self.greedy: PairedDifference = paired_difference(last["greedy"], first["greedy"])
        self.estimates = {kind: (mean_estimate(first[kind]), mean_estimate(last[kind])) for kind in ("drawn", "greedy")}


def read_gain(folder: Path) -> Gain:
    return Gain(read_metrics(folder / "rl", "validation"))


def rl_section(folder: Path, settings: DemoSettings) -> Section:
    """Held-out accuracy before and after, curves, and answers with their rewards."""
    rounds, found = read_metrics(folder / "rl", "rollout"), read_gain(folder)
    gain = found.drawn.mean
    assert gain.low is not None
    names = {"drawn": f"drawn, {settings.rl.draws} per question", "greedy": "greedy"}
    rows: list[list[Cell]] = [
        [names[kind], str(found.estimates[kind][0]), str(found.estimates[kind][1]), str(difference.mean)]
        for kind, difference in (("drawn", found.drawn), ("greedy", found.greedy))
    ]
    blocks: list[Block] = [
        Verdict(
            text=f"Reinforcement learning on {', '.join(settings.rl.tasks)}: drawn answers to held-out questions are "
            f"right in {found.before['drawn']:.3f} of cases before and {found.after['drawn']:.3f} after.",
            passed=gain.low > 0,
        ),
        Table(
            columns=("answers", "before", "after", "difference, by question"),
            rows=rows,
            note="95 % intervals over questions. The result is rl/model; it started at model/, whose scores are above.",
        ),
        Figure(
            svg=plots.curves(_panels(rounds), name="reinforcement"),
            alt="Mean reward of the answers of each step, and the gap between engine and trainer.",
        ),
        _samples(rounds),
    ]
    return Section(
        title="Reinforcement",
        intro="The model answers questions of the training split several times each, a checker scores the answers, and "
        "the better ones of a group become more likely; wrong answers can be right in part. Engine and trainer are one "
        "network, and the experts that an answer used are replayed in training.",
        blocks=tuple(blocks),
    )


def _panels(rounds: Sequence[Mapping[str, Any]]) -> list[plots.Panel]:
    steps = [record["step"] for record in rounds]
    gaps = [record["mismatch"]["k3"] or np.nan for record in rounds]
    tasks = dict.fromkeys(name for record in rounds for name in record["rewards"])
    curves = [
        plots.Curve(label=name, x=steps, y=[record["rewards"].get(name, np.nan) for record in rounds], smoothing=0.8)
        for name in tasks
    ]
    if all("terms" in record for record in rounds):
        right = [record["terms"]["correctness"] for record in rounds]
        curves.append(plots.Curve(label="right answers", x=steps, y=right, smoothing=0.8))
    return [
        plots.Panel(title="reward", y_label="mean reward", curves=curves),
        plots.Panel(
            title="KL(engine ‖ trainer)",
            y_label="k3",
            log_y=bool(np.isfinite(gaps).any()),
            curves=[plots.Curve(label="k3 per token", x=steps, y=gaps)],
        ),
    ]


def _samples(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """One question of the first, the middle and the last step."""
    places = sorted({round(i * (len(rounds) - 1) / (_SHOWN_STEPS - 1)) for i in range(_SHOWN_STEPS)})
    rows: list[list[Cell]] = []
    for record in (rounds[place] for place in places):
        example = record["examples"][0]
        for number, answer in enumerate(example["answers"]):
            question = example["question"] if number == 0 else ""
            rows.append([record["step"] if number == 0 else None, question, answer["text"], answer["reward"]])
    return Table(columns=("step", "question", "answer", "reward"), rows=rows, caption="Answers and their rewards")


def _flat(scores: Mapping[str, Sequence[float]]) -> list[float]:
    return [value for values in scores.values() for value in values]
