"""The page about one run or several: which sections there are, the headline, and the file.

    folders        what lies in the folders
    curves         losses, rates, speed          routers      which experts do what
    copies         experts that come apart       positions    spectra of FoPE
    rollouts       reinforcement learning        scores       evaluations and answers
    samples        what was learned from         claims       verdicts
    rounding       FP8                           surroundings expansion, environment, commands

A section whose numbers a run does not have is left out. Several runs share axes, and every run keeps its colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from s1pro import __version__
from s1pro.recipes.run_report.claims import claims_sections, records
from s1pro.recipes.run_report.copies import copies_section
from s1pro.recipes.run_report.curves import best, column, learning_section, optimisation_section, retrieval_section
from s1pro.recipes.run_report.folders import TITLES, Run, labels, read_runs
from s1pro.recipes.run_report.positions import positions_section
from s1pro.recipes.run_report.rollouts import mismatch_section, rewards_section, rollouts_section
from s1pro.recipes.run_report.rounding import rounding_section
from s1pro.recipes.run_report.routers import router_section
from s1pro.recipes.run_report.samples import samples_section
from s1pro.recipes.run_report.scores import answers_section, results, scores_section
from s1pro.recipes.run_report.surroundings import commands_section, environment_section, expansion_section
from s1pro.report import html
from s1pro.report.blocks import LegendEntry, Report, Section, Tile
from s1pro.report.html import format_seconds


def write_report(folders: Sequence[Path], out: Path) -> list[Run]:
    """Writes the page; returns what it is about.

    Raises:
        InputError: a folder that holds no run, or a file in it that cannot be read.
        MissingExtraError: matplotlib is not installed.
    """
    runs = read_runs(folders)
    title = _title(runs) if len(folders) == len(runs) else ", ".join(labels(folders))
    html.write(build(runs, title), out)
    return runs


def build(runs: Sequence[Run], title: str) -> Report:
    """The records of the page."""
    trained = [run for run in runs if run.trains]
    sections: list[Section | None] = [
        *claims_sections(runs),
        scores_section(runs),
        rewards_section(trained),
        rollouts_section(trained),
        learning_section(trained) if trained else None,
        retrieval_section(trained),
        optimisation_section(trained) if trained else None,
        router_section(trained),
        expansion_section(runs),
        copies_section(trained),
        mismatch_section(trained),
        rounding_section(trained),
        positions_section(runs),
        answers_section(runs),
        samples_section(runs),
        environment_section(runs),
        commands_section(runs),
    ]
    return Report(
        title=title,
        subtitle=_subtitle(runs),
        legend=legend_of(runs),
        tiles=_tiles(runs),
        sections=[section for section in sections if section is not None],
        footer=f"Made by s1pro {__version__}: s1pro report. One file, nothing is loaded from elsewhere.",
    )


def _title(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return f"{runs[0].label}: {TITLES[runs[0].kind]}"
    return " · ".join(run.label for run in runs[:4]) + (" and more" if len(runs) > 4 else "")


def _subtitle(runs: Sequence[Run]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs side by side."
    run = runs[0]
    if run.kind == "eval":
        return f"{len(results(run))} tasks, answered by {run.config.get('model')}."
    if run.kind == "claims":
        return "Which of the paper's mechanisms work at this size, and how much they bring."
    if run.kind == "expand":
        return f"{run.config['before']['num_experts']} experts became {run.config['after']['num_experts']}."
    origin = run.config.get("init_from")
    return f"From {Path(origin).name}." if origin else "From random weights."


def legend_of(runs: Sequence[Run]) -> list[LegendEntry]:
    """Colours of the curves, which belong to the training runs in their order."""
    trained = [run for run in runs if run.trains]
    if len(trained) < 2:
        return []
    return [LegendEntry(label=run.label, series=run.number, note=TITLES[run.kind]) for run in trained]


def _tiles(runs: Sequence[Run]) -> list[Tile]:
    tiles = [tile for run in runs for tile in _run_tiles(run, several=len(runs) > 1)]
    return tiles[:12]


def _run_tiles(run: Run, *, several: bool) -> list[Tile]:
    prefix = f"{run.label}: " if several else ""
    if run.kind == "eval":
        found = results(run)
        with_baselines = [task.task_score() for task in found if task.baselines or task.reference]
        won = sum(score.beats_baselines for score in with_baselines)
        return [Tile(label=f"{prefix}tasks above their baselines", value=f"{won} of {len(with_baselines)}")]
    if run.kind == "claims":
        whole = [record for record in records(run.folder) if record["without"] is None]
        held = sum(record["outcome"] == "replicates" for record in whole)
        return [Tile(label=f"{prefix}runs that replicate", value=f"{held} of {len(whole)}")]
    if run.kind == "expand":
        before, after = run.config["before"], run.config["after"]
        value = f"{before['num_experts']} → {after['num_experts']}"
        return [Tile(label=f"{prefix}experts", value=value, note=f"{after['num_groups']} groups")]
    tiles = [_outcome(run, prefix)]
    train = run.of("train")
    if train:
        tokens = int(train[-1].get("total_tokens") or 0)
        tiles.append(Tile(label=f"{prefix}tokens", value=_short(tokens), note=f"{train[-1]['step']:,} steps"))
    if not several and train:
        speed = [value for value in column(train, "tokens_per_second")[1] if math.isfinite(value)]
        rate = f"{tokens / run.seconds:,.0f}" if run.seconds else ""
        tiles.append(Tile(label="tokens per second", value=rate, course=speed))
        tiles.append(Tile(label="time", value=format_seconds(run.seconds), note="of training proper"))
        skipped = run.skipped_steps
        if skipped:
            tiles.append(Tile(label="skipped steps", value=f"{skipped}", tone="bad"))
    return tiles


def _outcome(run: Run, prefix: str) -> Tile:
    """What the run is about: reward, or loss."""
    if run.kind == "rl":
        rewards = [value for value in column(run.of("rollout"), "reward")[1] if math.isfinite(value)]
        value = f"{rewards[0]:.2f} → {rewards[-1]:.2f}" if rewards else ""
        return Tile(label=f"{prefix}mean reward", value=value, note="first and last round", course=rewards)
    losses = [value for value in column(run.of("train"), "loss")[1] if math.isfinite(value)]
    lowest = best(run, "validation", "loss")
    if lowest is not None:
        return Tile(label=f"{prefix}validation loss", value=f"{lowest:.3f}", note="best", course=losses)
    return Tile(label=f"{prefix}training loss", value=f"{losses[-1]:.3f}" if losses else "", note="last", course=losses)


def _short(count: int) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            return f"{count / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{count:,}"
