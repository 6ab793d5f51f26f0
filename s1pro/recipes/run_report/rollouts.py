"""Reinforcement learning: rewards, how far the engine was from the trainer, and answers to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s1pro.recipes.run_report.curves import curve, figures, panel
from s1pro.recipes.run_report.folders import Record, Run
from s1pro.recipes.run_report.samples import drawing
from s1pro.report import heat, plots
from s1pro.report.blocks import Attempt, Block, Cell, Figure, Paragraph, Rollout, Rollouts, Section, Table

SHOWN_ROUNDS = 3  # first, middle, last


def rewards_section(runs: Sequence[Run]) -> Section | None:
    """Rewards over the steps, and held-out accuracy; None without reinforcement learning."""
    learned = [run for run in runs if run.of("rollout")]
    if not learned:
        return None
    panels: list[plots.Panel | None] = [
        panel(learned, "rollout", "reward", title="mean reward", y_label="reward", smooth=True),
        panel(learned, "validation", "accuracy", title="held-out accuracy", y_label="mean over tasks"),
    ]
    if len(learned) == 1:
        panels += [_by_name(learned[0], "rewards", "reward by task"), _accuracy_by_task(learned[0])]
        panels += [
            _by_name(learned[0], "terms", "terms of the reward"),
            _by_name(learned[0], "shares", "share of tasks"),
        ]
    panels += [
        panel(learned, "rollout", "length", title="length of answers", y_label="tokens", smooth=True),
        panel(learned, "rollout", "valid", title="answers of the right form", y_label="share", smooth=True),
        panel(learned, "train", "surprisal", title="surprisal of own answers", y_label="nats per token", smooth=True),
        panel(learned, "rollout", "teaching_groups", title="questions that teach", y_label="per round", smooth=True),
        panel(learned, "rollout", "entropy", title="entropy of the policy", y_label="nats per token", smooth=True),
        panel(learned, "rollout", "rollout_seconds", title="time to answer a round", y_label="seconds", smooth=True),
        panel(learned, "rollout", "lag", title="lag of the weights that answered", y_label="rounds"),
        panel(learned, "rollout", "turns", title="turns of an episode", y_label="mean"),
        panel(learned, "rollout", "failed_calls", title="calls of tools that failed", y_label="share"),
    ]
    return Section(
        title="Rewards",
        intro="Every question is answered several times; the answers teach by their differences in reward. Held-out "
        f"questions are never learned from and are answered {_manner(learned)}.",
        blocks=[*figures(panels, name="rewards", alt="Reinforcement learning"), *_held_out(learned)],
    )


def _manner(runs: Sequence[Run]) -> str:
    """How held-out questions are answered: a run that draws answers keeps them under `items`, beside greedy ones."""
    drawn = {"drawn" in (record.get("items") or {}) for run in runs for record in run.of("validation")}
    if drawn == {True}:
        return "as the policy draws, several times each"
    return "greedily" if drawn <= {False} else "greedily in some of the runs, as the policy draws in others"


def _by_name(run: Run, field: str, title: str) -> plots.Panel | None:
    """Curves of a record's mapping from names to numbers; None for less than two."""
    names = list(dict.fromkeys(name for record in run.of("rollout") for name in record.get(field) or {}))
    curves = [curve(run, "rollout", field, name, label=name, smooth=True) for name in names]
    shown = [one for one in curves if one is not None]
    return plots.Panel(title=title, y_label="mean", curves=shown) if len(shown) > 1 else None


def _accuracy_by_task(run: Run) -> plots.Panel | None:
    names = list(dict.fromkeys(name for record in run.of("validation") for name in record.get("tasks") or {}))
    curves = [curve(run, "validation", "tasks", name, "value", label=name) for name in names]
    shown = [one for one in curves if one is not None]
    return plots.Panel(title="held-out accuracy by task", y_label="accuracy", curves=shown) if len(shown) > 1 else None


def _held_out(runs: Sequence[Run]) -> list[Block]:
    rows: list[list[Cell]] = []
    for run in runs:
        measured = [record for record in run.of("validation") if record.get("tasks")]
        if len(measured) < 2:
            continue
        for name, before in measured[0]["tasks"].items():
            after = measured[-1]["tasks"].get(name, before)
            rows.append([run.label, name, before.get("num_items"), *map(_interval, (before, after))])
    if not rows:
        return []
    note = "In brackets: 95 % confidence interval over questions."
    return [Table(columns=("run", "task", "questions", "before", "after"), rows=rows, note=note, caption="Held out")]


def _interval(estimate: Record) -> str:
    low, high = estimate.get("low"), estimate.get("high")
    value = f"{estimate['value']:.3f}"
    return value if low is None or high is None else f"{value} [{low:.3f}, {high:.3f}]"


def mismatch_section(runs: Sequence[Run]) -> Section | None:
    """How far the log-probabilities of the engine are from those of the trainer, with the same weights."""
    compared = [run for run in runs if any(record.get("mismatch") for record in run.of("rollout"))]
    if not compared:
        return None
    panels = [
        panel(compared, "rollout", "mismatch", "k3", title="KL(engine, trainer), k3", y_label="nats", log_y=True),
        panel(compared, "rollout", "mismatch", "largest", title="largest gap of a token", y_label="nats", log_y=True),
        panel(compared, "train", "masked", title="tokens masked out", y_label="share"),
        panel(compared, "train", "ratio", title="ratio to the old policy", y_label="mean"),
    ]
    blocks = figures(panels, name="mismatch", alt="Gap between engine and trainer")
    for run in compared:
        exact = [record["mismatch"]["exact"] for record in run.of("rollout") if record.get("mismatch")]
        if all(exact):
            text = f"{run.label}: engine and trainer agree in every bit, in all {len(exact)} rounds."
            blocks.append(Paragraph(text=text))
        blocks.extend(_agreement(run))
    return Section(
        title="Engine against trainer",
        intro="The engine that answers and the trainer that learns have the same weights; where they compute "
        "differently, the gradient is of another policy than the one that answered. k3 estimates the divergence "
        "per token.",
        blocks=blocks,
    )


def _agreement(run: Run) -> list[Block]:
    """Routing agreement by layer and round."""
    known = [r for r in run.of("rollout") if (r.get("mismatch") or {}).get("routing_agreement")]
    if not known:
        return []
    table_LR = np.asarray([record["mismatch"]["routing_agreement"] for record in known], dtype=np.float64).T
    matrix = heat.Matrix(
        title=f"routing agreement, {run.label}", values=table_LR, x_label="round", y_label="layer with experts"
    )
    return [
        Figure(
            svg=heat.shares(matrix, name=f"agreement-{run.label}", label="share of tokens"),
            alt=f"Share of tokens with the experts of the engine in the trainer, by layer and round of {run.label}.",
            caption="How often the router of the trainer chooses the experts that the engine used; lowest "
            f"{table_LR.min():.4f}.",
        )
    ]


def rollouts_section(runs: Sequence[Run]) -> Section | None:
    """Answers of a few rounds, from the best to the worst."""
    groups: list[Rollout] = []
    for run in runs:
        kept = [record for record in run.of("rollout") if record.get("examples")]
        places = sorted({0, len(kept) // 2, len(kept) - 1}) if kept else []
        for place in places[:SHOWN_ROUNDS]:
            groups.extend(_rollout(run, kept[place], example) for example in kept[place]["examples"])
    if not groups:
        return None
    return Section(
        title="Rollouts",
        intro="What the policy said in the first round, in the middle and in the last, with the reward of every "
        "answer: the questions whose answers differed most, from the best answer to the worst.",
        blocks=[Rollouts(groups=groups)],
    )


def _rollout(run: Run, record: Record, example: Record) -> Rollout:
    return Rollout(
        title=f"{run.label}, step {record['step']}: {example['task']}",
        question=str(example["question"]),
        attempts=[
            Attempt(text=str(answer["text"]), reward=float(answer["reward"]), note=_note(answer))
            for answer in example["answers"]
        ],
        note=f"mean reward of the group {example['mean']:.2f}",
        picture_svg=next(filter(None, map(drawing, example.get("media") or [])), ""),
    )


def _note(answer: Record) -> str:
    parts = [f"{name} {value:.2f}" for name, value in (answer.get("parts") or {}).items()]
    notes = [*parts, "" if answer.get("valid", True) else "not of the right form"]
    notes.append("cut off" if answer.get("finish_reason") == "length" else "")
    return " · ".join(filter(None, notes))
