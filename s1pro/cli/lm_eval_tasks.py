"""Tasks for `lm-eval --include_path`: the same questions, scored by the same code.

    DIR/<task>.yaml       one per task
    DIR/<task>.jsonl      its questions
    DIR/selection.json    which tasks these are; the scorer makes them again from it
    DIR/s1pro_scoring.py  one import, which the YAML files name

`s1pro eval ... --lm-eval DIR` writes them. The metric `score` of the harness is the mean of the values per item, which
is `score` of `s1pro eval`. Only questions in words can be handed over: the harness has no media of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.cli import evaluate_tasks

_GREEDY = {"until": ["<|im_end|>"], "temperature": 0.0, "do_sample": False}
SELECTED = (
    "tasks", "modalities", "suite", "benchmark", "data", "file", "metric", "tolerance", "question_column",
    "answer_column", "system", "media", "limit", "tau2", "solo", "split", "knowledge",
    "bert_score", "bert_score_layer",
)  # fmt: skip
PATHS = ("data", "file", "media", "bert_score")


def write(folder: Path, args: argparse.Namespace, longest: int | None) -> list[str]:
    """Writes the files and returns the names of the tasks for `--tasks`.

    Raises:
        InputError: a task asks about media, or in more than a system and a user message.
    """
    selection = {name: getattr(args, name) for name in SELECTED}
    beside = None if args.folder is None else args.folder.resolve().parent
    if selection["suite"] and selection["data"] is None and beside is not None:
        selection["data"] = beside
    for name in PATHS:
        selection[name] = None if selection[name] is None else str(Path(selection[name]).resolve())
    if selection["metric"] == "judge":
        raise InputError("--metric judge cannot be handed over to lm-eval, which knows no judge of ours")
    chosen = _choose(json.dumps(selection))
    if chosen.played is not None:
        raise InputError("conversations with tools cannot be handed over to lm-eval")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "selection.json").write_text(json.dumps(selection), encoding="utf-8")
    (folder / "s1pro_scoring.py").write_text(
        "from s1pro.cli.lm_eval_tasks import process_results\n\n__all__ = ['process_results']\n", encoding="utf-8"
    )
    names = []
    for task in chosen.tasks:
        name = f"s1pro_{re.sub(r'[^A-Za-z0-9]+', '_', task.name)}"
        rows, system = _rows(task, args.limit, (folder / "selection.json").resolve())
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        text = _yaml(name, data.resolve(), system, longest or chosen.max_new_tokens)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        names.append(name)
    return names


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """Called by lm-eval for every answer."""
    tasks = _choose(Path(doc["selection"]).read_text(encoding="utf-8")).tasks
    task = next(task for task in tasks if task.name == doc["task"])
    item = next(item for item in task.items() if item.id == doc["item"])
    return {"score": asyncio.run(task.score(item, str(results[0]))).value}


@functools.cache
def _choose(selection: str) -> evaluate_tasks.Chosen:
    values = dict.fromkeys(SELECTED) | json.loads(selection)
    paths = {name: None if values[name] is None else Path(values[name]) for name in PATHS}
    return evaluate_tasks.choose(argparse.Namespace(**{**values, **paths}, folder=None))


def _rows(task: Any, limit: int | None, selection: Path) -> tuple[list[dict[str, Any]], str]:
    rows, systems = [], set()
    for item in list(task.items())[:limit]:
        *before, question = task.prompt(item).messages
        if len(before) > 1 or not isinstance(question.content, str):
            raise InputError(f"{task.name}: only tasks that ask in words can be handed over to lm-eval; name others")
        systems.add(before[0].text if before else "")
        rows.append({"task": task.name, "item": item.id, "question": question.content, "selection": str(selection)})
    if len(systems) != 1:
        raise InputError(f"{task.name}: its questions have different system messages, which lm-eval cannot say")
    return rows, systems.pop()


def _yaml(name: str, data: Path, system: str, longest: int) -> str:
    """JSON strings are YAML strings."""
    lines = [
        f"task: {name}",
        "dataset_path: json",
        f"dataset_kwargs: {json.dumps({'data_files': {'test': str(data)}})}",
        "test_split: test",
        "output_type: generate_until",
        'doc_to_text: "{{question}}"',
        'doc_to_target: "{{item}}"',
        *([f"description: {json.dumps(system)}"] if system else []),
        "process_results: !function s1pro_scoring.process_results",
        f"generation_kwargs: {json.dumps({**_GREEDY, 'max_gen_toks': longest})}",
        'metric_list: [{"metric": "score", "aggregation": "mean", "higher_is_better": true}]',
        'metadata: {"version": 1.0}',
    ]
    return "\n".join(lines) + "\n"
