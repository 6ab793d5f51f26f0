"""`report.html` of a run, its pages of answers, and its numbers as Markdown and CSV; `compare.html` of two runs.

    folder/report.html              tables, baselines, what upstream scorers do wrong, settings
    folder/errors/<task>-<n>.html   the answers, wrong ones first
    folder/scores.csv, scores.md    one row per task
    folder/paper.csv, paper.md      the layout of the paper's table, if a benchmark was evaluated

Published scores are in columns that say so. Two denominators stand side by side: all items, and readable answers only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s1pro.eval import error_browser
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.compare import Comparison
from s1pro.eval.paper_table import COLUMNS, PUBLISHED_COLUMN, as_csv, as_markdown, paper_rows
from s1pro.eval.results import BenchmarkTotal, TaskResult, totals
from s1pro.eval.runner import answer_path
from s1pro.report import blocks, html
from s1pro.report.scores import score_table
from s1pro.tasks.task import Task

SCORE_COLUMNS = (
    "task", "items", "repeats", "failed", "readable", "score, all", "score, readable only", "compat", "strict",
    "compat, readable only", "strict, readable only",
)  # fmt: skip


def write_run(folder: Path, results: Sequence[TaskResult], tasks: Sequence[Task]) -> Path:
    """Everything in the module docstring, from the results and the answer files of `folder`."""
    sums = totals(tasks, results)
    rows = [score_row(result) for result in results]
    _write(folder / "scores.csv", as_csv(rows, SCORE_COLUMNS))
    _write(folder / "scores.md", as_markdown(rows, SCORE_COLUMNS))
    if sums:
        _write(folder / "paper.csv", as_csv(paper_rows(sums)))
        _write(folder / "paper.md", as_markdown(paper_rows(sums)))
    links = _pages(folder, results)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    sections = [blocks.Section(title="Scores", blocks=_scores(rows))]
    if sums:
        sections.append(_benchmarks(sums))
    sections += [*_baselines(results, settings["reference"]), *_repeats(results), *_defects(results)]
    sections.append(blocks.Section(title="Answers", blocks=[blocks.Links(targets=links)], intro=_ANSWERS))
    sections.append(_run(settings, found))
    report = blocks.Report(
        title=f"Evaluation of {settings['model']}",
        sections=sections,
        tiles=_tiles(results),
        subtitle=_subtitle(results),
    )
    return html.write(report, folder / "report.html")


def write_comparison(path: Path, first: Path, second: Path, found: Sequence[Comparison]) -> Path:
    """`compare.html`."""
    rows: list[list[blocks.Cell]] = [
        [
            one.task,
            one.profile,
            one.num_items,
            one.left_out,
            one.first,
            one.second,
            str(one.difference.mean),
            f"{one.difference.wins} / {one.difference.ties} / {one.difference.losses}",
            one.p,
            one.p_holm,
        ]
        for one in found
    ]
    table = blocks.Table(
        columns=("task", "profile", "items", "left out", "first", "second", "first minus second", "better / equal / "
                 "worse", "p", "p (Holm)"),
        rows=rows,
        note="Means of values per item. In brackets: 95 % interval by bootstrap over items. p: exact sign test where "
        "answers are right or wrong, random flips of signs elsewhere; Holm: adjusted for all rows together. Left out: "
        "answers to items that the other run does not have.",
    )  # fmt: skip
    title = f"{first.resolve().name} and {second.resolve().name}, item by item"
    report = blocks.Report(title=title, sections=[blocks.Section(title="Differences", blocks=[table])])
    return html.write(report, path)


def score_row(result: TaskResult) -> list[blocks.Cell]:
    """One row of `SCORE_COLUMNS`."""
    profiles = {name: str(estimate) for name, estimate in result.profiles.items()}
    of_valid = result.score_of_valid
    return [
        result.task,
        result.score.num_items,
        result.repeats,
        result.num_failed,
        result.num_valid,
        str(result.score),
        None if of_valid is None else str(of_valid),
        profiles.get("compat"),
        profiles.get("strict"),
        result.metrics.get("compat.of_valid"),
        result.metrics.get("strict.of_valid"),
    ]


_ANSWERS = "Question, media, answer, what was read from it under every profile, score. Failed and wrong answers first."


def _scores(rows: Sequence[Sequence[blocks.Cell]]) -> list[blocks.Block]:
    tables: list[blocks.Block] = [
        blocks.Table(
            columns=SCORE_COLUMNS[:7],
            rows=[row[:7] for row in rows],
            note="In brackets: 95 % interval over items. Score: mean of the values per item, 0 to 1, unreadable and "
            "failed answers included; beside it the mean over readable answers alone.",
        )
    ]
    with_profiles = [(row[0], row[7], row[9], row[8], row[10]) for row in rows if row[7] is not None]
    if with_profiles:
        tables.append(
            blocks.Table(
                columns=("task", *(SCORE_COLUMNS[i] for i in (7, 9, 8, 10))),
                rows=with_profiles,
                caption="Both profiles, both denominators",
                note="compat: the number of the upstream scorer, defects included; strict: the metric done right; both "
                "in the scale of the benchmark, over all items, and over readable answers only.",
            )
        )
    return tables


def _benchmarks(sums: Sequence[BenchmarkTotal]) -> blocks.Section:
    rows: list[list[blocks.Cell]] = [
        [
            total.title,
            f"{total.num_subtasks} of {total.of_subtasks}",
            total.profiles.get("compat"),
            total.profiles.get("strict"),
            total.published,
        ]
        for total in sums
    ]
    whole = blocks.Table(
        columns=("benchmark", "parts evaluated", "compat", "strict", PUBLISHED_COLUMN),
        rows=rows,
        note="Published: of Intern-S1-Pro, from its paper, for reference only. It was made with another harness, and "
        "in part with judges. Ours is empty unless all parts were evaluated.",
    )
    paper = blocks.Table(columns=COLUMNS, rows=paper_rows(sums), caption="In the layout of the paper", digits=1)
    return blocks.Section(title="Benchmarks", blocks=[whole, paper])


def _baselines(results: Sequence[TaskResult], reference: str) -> list[blocks.Section]:
    scores = [result.task_score(reference) for result in results if result.baselines or result.reference]
    if not scores:
        return []
    table = [score_table(scores)]
    compared = [(result.task, result.difference) for result in results if result.difference is not None]
    rows: list[list[blocks.Cell]] = [
        [task, str(difference.mean), difference.wins, difference.ties, difference.losses, difference.significant]
        for task, difference in compared
    ]
    if rows:
        columns = ("task", f"model minus {reference}", "better", "equal", "worse", "interval excludes 0")
        table.append(blocks.Table(columns=columns, rows=rows, caption="Item by item"))
    return [blocks.Section(title="Baselines", blocks=table)]


def _repeats(results: Sequence[TaskResult]) -> list[blocks.Section]:
    rows: list[list[blocks.Cell]] = [
        [result.task, name, value] for result in results for name, value in result.metrics.items() if "@" in name
    ]
    if not rows:
        return []
    note = "avg@k: mean over all draws. pass@j: chance that one of j draws is right; all@j: that all are."
    return [
        blocks.Section(
            title="Repeats", blocks=[blocks.Table(columns=("task", "number", "value"), rows=rows, note=note)]
        )
    ]


def _defects(results: Sequence[TaskResult]) -> list[blocks.Section]:
    rows: list[list[blocks.Cell]] = [
        [result.task, text] for result in results for text in (*result.facts.get("defects", ()),)
    ]
    notes = dict.fromkeys((str(r.facts["title"]), text) for r in results for text in r.facts.get("notes", ()))
    rows += [[title, text] for title, text in notes]
    if not rows:
        return []
    intro = "Known oddities of the upstream scorers. The compat numbers have them, the strict numbers do not."
    table = blocks.Table(columns=("task", "what upstream does"), rows=rows)
    return [blocks.Section(title="What the compat numbers hide", blocks=[table], intro=intro)]


def _run(settings: dict[str, Any], found: dict[str, Any]) -> blocks.Section:
    tasks = found["tasks"]
    facts = [task["facts"] for task in tasks if task["facts"]]
    groups: dict[str, dict[str, blocks.Cell]] = {
        "Tokens and cost of all answers": {
            name: sum(task[name] for task in tasks) for name in ("num_prompt_tokens", "num_tokens", "cost")
        },
        "Requests of the last session, retries included": found["session"] or {},
        "Data": {str(some["title"]): f"{some['source']}; {some['licence']}" for some in facts},
        "Settings": {
            "thinking": _cell(settings.get("thinking")),
            **{f"sampling: {name}": _cell(value) for name, value in settings["sampling"].items()},
        },
        "Made with": {name: _cell(value) for name, value in found["stamp"].items()},
    }
    return blocks.Section(
        title="Run",
        blocks=[blocks.KeyValues(caption=caption, values=values) for caption, values in groups.items() if values],
    )


def _tiles(results: Sequence[TaskResult]) -> list[blocks.Tile]:
    items = sum((result.score.num_items or 0) for result in results)
    failed = sum(result.num_failed for result in results)
    cost = sum(result.cost for result in results)
    tiles = [
        blocks.Tile(label="tasks", value=f"{len(results)}"),
        blocks.Tile(label="items", value=f"{items:,}"),
        blocks.Tile(label="failed for good", value=f"{failed:,}", tone="bad" if failed else "good"),
        blocks.Tile(label="tokens of answers", value=f"{sum(result.num_tokens for result in results):,}"),
    ]
    return [*tiles, *([blocks.Tile(label="cost", value=f"{cost:.4g}")] if cost else [])]


def _subtitle(results: Sequence[TaskResult]) -> str:
    return ", ".join(result.task for result in results[:6]) + (" and more" if len(results) > 6 else "")


def _pages(folder: Path, results: Sequence[TaskResult]) -> dict[str, str]:
    """Pages of the first repeat; those of an earlier report are replaced."""
    shutil.rmtree(folder / "errors", ignore_errors=True)
    links: dict[str, str] = {}
    for number, result in enumerate(results, start=1):
        slug = f"{number:02d}-{re.sub(r'[^a-zA-Z0-9]+', '-', result.task).strip('-')}"
        answers = _asked(folder, result)
        links |= error_browser.write_pages(folder / "errors", result.task, slug, answers)
    return links


def _asked(folder: Path, result: TaskResult) -> list[Answer]:
    found = list(AnswerFile(answer_path(folder, result.task)).answers.values())
    return found[: result.score.num_items]


def _cell(value: Any) -> blocks.Cell:
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
