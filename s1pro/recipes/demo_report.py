"""The page of the demo, from the files that its stages left behind. Nothing is computed anew but the drawings.

    eval/results.json       -> verdict, bars, table
    eval/answers/*.jsonl    -> questions with answers: the first ones of every task, right or wrong
    */metrics.jsonl         -> loss curves, router load, rewards
    demo.json               -> times against budgets

The verdict is written in either case: a run that did not beat its baselines says so.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s1pro import __version__
from s1pro.base.config import config_from_json
from s1pro.base.stamp import stamp
from s1pro.checkpoint.config_file import read_config
from s1pro.eval.runner import TaskResult
from s1pro.model.config import ModelConfig
from s1pro.model.sizes import count_parameters
from s1pro.recipes.demo_cards import QUESTIONS_PER_TASK, answer_cards
from s1pro.recipes.demo_experts import expansion_section, router_section
from s1pro.recipes.demo_papers import papers_section
from s1pro.recipes.demo_rl import rl_section
from s1pro.recipes.demo_runs import Run, read_runs
from s1pro.recipes.demo_training import DemoSettings
from s1pro.recipes.stages import StageFile
from s1pro.report import html, plots
from s1pro.report.blocks import (
    Answers,
    Cell,
    Commands,
    Figure,
    KeyValues,
    Paragraph,
    Report,
    Section,
    StageTime,
    Table,
    Tile,
    Timings,
)
from s1pro.report.scores import TaskScore, score_table, score_verdict
from s1pro.science.system_prompts import SYSTEM_PROMPTS
from s1pro.tasks import registry


def write_report(folder: Path, settings: DemoSettings, file: StageFile) -> str:
    """Writes `report.html` and returns a note for the console."""
    started = time.perf_counter()
    runs, model = read_runs(folder), read_config(folder / "model")
    scores = _read_scores(folder)
    sections = [
        _scores_section(scores, settings),
        _answers_section(folder, settings),
        *([papers_section(folder / "papers")] if settings.papers else []),
        _training_section(runs),
        expansion_section(folder),
        router_section(runs),
        rl_section(folder, settings),
        _time_section(file, settings, file.seconds("report") + time.perf_counter() - started),
        _environment_section(settings, model),
        _commands_section(folder, settings, scores),
    ]
    times = next(section for section in sections if section.title == "Time").blocks[0]
    assert isinstance(times, Timings)
    html.write(
        Report(
            title="A small scientist",
            subtitle="A mixture of experts, trained in minutes by one command on molecules with known structures, "
            "pictures, videos and signals, and asked about others that it has never seen.",
            tiles=_tiles(runs, scores, settings, model, times),
            sections=sections,
            footer=f"Made by s1pro {__version__}: s1pro demo.",
        ),
        folder / "report.html",
    )
    return str(folder / "report.html")


def _read_scores(folder: Path) -> list[TaskScore]:
    found = json.loads((folder / "eval" / "results.json").read_text(encoding="utf-8"))
    return [config_from_json(TaskResult, entry).task_score() for entry in found["tasks"]]


def _tiles(
    runs: Sequence[Run], scores: Sequence[TaskScore], settings: DemoSettings, model: ModelConfig, times: Timings
) -> list[Tile]:
    sizes, total = count_parameters(model), times.total
    won = _won(scores)
    passed = _passed(scores, settings)
    return [
        Tile(label="parameters", value=f"{sizes.total / 1e6:.1f} M", note=f"{sizes.active / 1e6:.1f} M used per token"),
        Tile(label="tokens seen", value=f"{sum(run.tokens for run in runs) / 1e6:.1f} M"),
        Tile(
            label="tasks above baselines",
            value=f"{won} of {len(scores)}",
            note=", ".join(f"{name} {_won(some)} of {len(some)}" for name, some in by_modality(scores).items()),
            tone="good" if passed else "bad",
        ),
        Tile(
            label="time",
            value=html.format_seconds(total.seconds),
            note=f"budget {html.format_seconds(total.budget_seconds or 0.0)}",
            tone="bad" if total.over_budget else "good",
        ),
    ]


def by_modality(scores: Sequence[TaskScore]) -> dict[str, list[TaskScore]]:
    """Scores of the tasks about text, images, videos and signals, as far as there are any."""
    modality = {entry.name: entry.modality for entry in registry.table()}
    groups: dict[str, list[TaskScore]] = {}
    for score in scores:
        groups.setdefault(modality[score.task], []).append(score)
    return groups


def _won(scores: Sequence[TaskScore]) -> int:
    return sum(score.beats_baselines for score in scores)


def _passed(scores: Sequence[TaskScore], settings: DemoSettings) -> bool:
    groups = by_modality(scores)
    return all(_won(some) >= (settings.required if name == "text" else 1) for name, some in groups.items())


def _scores_section(scores: Sequence[TaskScore], settings: DemoSettings) -> Section:
    entries = {entry.name: entry for entry in registry.table()}
    facts: dict[str, Mapping[str, str]] = {
        "domain": {name: entry.domain for name, entry in entries.items()},
        "modality": {name: entry.modality for name, entry in entries.items()},
    }
    return Section(
        title="Scores",
        intro="Nothing of the test split occurs in training: no molecule, nor any other of its scaffold; no scan, "
        "video or signal, nor the random numbers that made it.",
        blocks=(
            *(
                score_verdict(some, required=settings.required if name == "text" else 1, about=f"({name})")
                for name, some in by_modality(scores).items()
            ),
            Figure(
                svg=plots.score_bars(scores, name="scores"),
                alt="Score of the model on every task, with its confidence interval, beside its baselines.",
            ),
            score_table(scores, facts=facts),
            Paragraph(
                text="Baselines. Untrained: the same shape with random weights. Constant: the best single answer. "
                "Constant by kind: the best answer for each group or each thing that is counted. Copy: the best piece "
                "of the question. They are chosen on training examples."
            ),
        ),
    )


def _answers_section(folder: Path, settings: DemoSettings) -> Section:
    return Section(
        title="Questions and answers",
        intro=f"The first {QUESTIONS_PER_TASK} questions of every task, right and wrong as they come.",
        blocks=(Answers(cards=answer_cards(folder, settings)),),
    )


def _training_section(runs: Sequence[Run]) -> Section:
    rows: list[list[Cell]] = [
        [
            run.title,
            len(run.train),
            run.tokens,
            round(run.tokens / run.seconds),
            _loss(run.train),
            _loss(run.validation),
        ]
        for run in runs
    ]
    return Section(
        title="Training",
        intro="Pre-training reads descriptions of molecules. The joint run learns the answers to questions about "
        "molecules, pictures, videos and signals; every batch holds all of them.",
        blocks=(
            Figure(
                svg=plots.curves([_panel(run) for run in runs], name="losses"),
                alt="Training and validation loss over the steps of both stages.",
            ),
            Table(
                columns=("stage", "steps", "tokens", "tokens per second", "last training loss", "last validation loss"),
                rows=rows,
                digits=2,
                note="Losses are per predicted token, in nats. Validation: molecules of other scaffolds, media of "
                "other origin.",
            ),
            _source_table(runs[-1]),
        ),
    )


def _source_table(run: Run) -> Table:
    """What the joint run read, source by source."""
    tokens: dict[str, float] = {}
    for record in run.train:
        for name, weight in record["source_tokens"].items():
            tokens[name] = tokens.get(name, 0.0) + weight
    losses = run.validation[-1]["source_loss"] if run.validation else {}
    return Table(
        columns=("source", "learned tokens", "last validation loss"),
        rows=[[name, round(count), losses.get(name)] for name, count in tokens.items()],
        caption=f"Sources of the {run.title}",
        digits=2,
    )


def _panel(run: Run) -> plots.Panel:
    train, validation = (
        ([r["step"] for r in records], [np.nan if r["loss"] is None else r["loss"] for r in records])
        for records in (run.train, run.validation)
    )
    return plots.Panel(
        title=run.title,
        curves=(
            plots.Curve(label="training", x=train[0], y=train[1], smoothing=0.9),
            plots.Curve(label="validation", x=validation[0], y=validation[1], markers=True),
        ),
    )


def _loss(records: Sequence[Mapping[str, Any]]) -> float | None:
    return records[-1]["loss"] if records else None


def _time_section(file: StageFile, settings: DemoSettings, own_seconds: float) -> Section:
    """The report is not finished while it is written: its own time so far comes from outside."""
    times = [
        StageTime(stage=name, seconds=record.seconds, budget_seconds=record.budget, note=record.note)
        for name, record in file.records.items()
        if name != "report"
    ]
    times.append(StageTime(stage="report", seconds=own_seconds, budget_seconds=settings.budgets["report"]))
    return Section(title="Time", intro="Budgets are for two cores.", blocks=(Timings(stages=times),))


def _environment_section(settings: DemoSettings, model: ModelConfig) -> Section:
    import torch

    found = stamp()
    versions = found.pop("versions")
    text = model.text
    shape: dict[str, Cell] = {
        "hidden size": text.hidden_size,
        "layers": text.num_hidden_layers,
        "experts": f"{text.router.num_experts} in {text.router.num_groups} groups, {text.router.top_k} per token",
        "expert width": text.moe_intermediate_size,
        "vocabulary": text.vocab_size,
        "seed": settings.seed,
    }
    return Section(
        title="Environment",
        blocks=(
            KeyValues(values={**found, "threads": torch.get_num_threads(), **versions}, caption="Machine and versions"),
            KeyValues(values=shape, caption="Model"),
        ),
    )


def _commands_section(folder: Path, settings: DemoSettings, scores: Sequence[TaskScore]) -> Section:
    worst = min(scores, key=lambda score: score.model.value).task
    model, stage, longer, reinforced = (
        shlex.quote(str(path))
        for path in (
            folder / "model",
            folder / "joint" / "config.json",
            folder.parent / "longer",
            folder.parent / "longer-rl",
        )
    )
    parts = "".join(f" --set reward.parts.{name}={weight}" for name, weight in settings.rl.parts.items())
    chat = f"s1pro chat {model} --system {shlex.quote(SYSTEM_PROMPTS['science'])}"
    lines = (
        "# talk to the model; it knows one system prompt",
        chat,
        f"{chat} --message 'What is the formula of butan-1-ol?'",
        "# ask about all molecules of the test split instead of a sample of them",
        f"s1pro eval {model} --tasks {worst} --max-new-tokens {settings.max_new_tokens}",
        "# learn longer from its own answers",
        f"s1pro rl --model {model} --tasks {' '.join(settings.rl.tasks)} --folder {reinforced} --steps 300{parts}",
        "# train longer than the demo does",
        f"s1pro train --recipe {stage} --folder {longer} --set steps=5000 --set max_seconds=1800",
        "# every setting of a stage, for --set",
        "s1pro train --recipe demo-pretrain --show",
    )
    return Section(title="Go on", blocks=(Commands(lines=lines),))
