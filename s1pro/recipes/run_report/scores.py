"""Evaluations: scores beside baselines, several models beside each other, and answers with what was shown."""

from __future__ import annotations

from collections.abc import Sequence

from s1pro.base.config import config_from_json
from s1pro.base.errors import InputError
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.error_browser import card
from s1pro.eval.results import TaskResult
from s1pro.eval.runner import answer_path
from s1pro.recipes.run_report.folders import Run
from s1pro.report import plots
from s1pro.report.blocks import Answers, Block, Cell, Figure, Section, Table
from s1pro.report.scores import score_table

MOST_TASKS = 40
SHOWN_TASKS = 12


def scores_section(runs: Sequence[Run]) -> Section | None:
    """Bars for one evaluation, a table for several; None without any."""
    found = {run.label: results(run) for run in runs if run.kind == "eval"}
    if not found:
        return None
    blocks: list[Block] = []
    if len(found) > 1:
        blocks.append(_side_by_side(found))
    for label, tasks in found.items():
        scores = [
            task.task_score(str(reference)) for task in tasks if (reference := _reference(runs, label)) is not None
        ]
        shown = scores[:MOST_TASKS]
        if not shown:
            continue
        alt = f"Scores of {label} on {len(shown)} tasks with confidence intervals, beside their baselines."
        blocks.append(Figure(svg=plots.score_bars(shown, name=f"scores-{label}", model_name=label), alt=alt))
        blocks.append(score_table(scores, model_name=label))
    return Section(title="Scores", intro="Means over all items, with 95 % confidence intervals.", blocks=blocks)


def results(run: Run) -> list[TaskResult]:
    """The tasks of an evaluation.

    Raises:
        InputError: results.json is of another make.
    """
    path = run.folder / "results.json"
    tasks = run.results.get("tasks")
    if not isinstance(tasks, list):
        raise InputError(f"{path}: tasks must be a list; was it written by s1pro eval?")
    try:
        return [config_from_json(TaskResult, entry) for entry in tasks]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def answers_section(runs: Sequence[Run]) -> Section | None:
    """Of every task one answer that is right and one that is not, as far as there are any."""
    cards = []
    evaluations = [run for run in runs if run.kind == "eval"]
    for run in evaluations:
        for task in results(run)[:SHOWN_TASKS]:
            path = answer_path(run.folder, task.task)
            for answer in _both_kinds(list(AnswerFile(path).answers.values()) if path.is_file() else []):
                cards.append(card(task.task if len(evaluations) == 1 else f"{run.label} · {task.task}", answer))
    if not cards:
        return None
    intro = "Of every task the first right answer and the first wrong one. All of them are in the report of s1pro eval."
    return Section(title="Answers", intro=intro, blocks=[Answers(cards=cards)])


def _both_kinds(answers: Sequence[Answer]) -> list[Answer]:
    right = [answer for answer in answers if answer.score >= 1 - 1e-6]
    wrong = [answer for answer in answers if answer.score < 1 - 1e-6]
    return [*right[:1], *wrong[:1]]


def _reference(runs: Sequence[Run], label: str) -> str | None:
    return next((str(run.config.get("reference") or "reference") for run in runs if run.label == label), None)


def _side_by_side(found: dict[str, list[TaskResult]]) -> Table:
    tasks = list(dict.fromkeys(task.task for some in found.values() for task in some))
    by_name = {label: {task.task: task for task in some} for label, some in found.items()}
    rows: list[list[Cell]] = []
    for name in tasks:
        entries = [by_name[label].get(name) for label in found]
        rows.append([name, *(None if entry is None else str(entry.score) for entry in entries)])
    note = "For differences item by item: s1pro eval --compare."
    return Table(columns=("task", *found), rows=rows, caption="Side by side", note=note)
