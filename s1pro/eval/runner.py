"""Tasks x client -> answers -> scores.

    folder/
      settings.json                    what was evaluated and how; a second run must agree with it
      answers/<task>.jsonl             one line per item: prompt, response, extraction, score; or why there is none
      answers/<task>.repeat-2.jsonl    the second time every item was asked, and so on
      judge/<model>.jsonl              what a judge was asked and said, if there is one
      answers/<task>.<name>.jsonl      the same for the reference model, if there is one
      results.json                     scores with 95 % confidence intervals, baselines, paired differences, stamp

1. Items that have an answer in the file are skipped, so an interrupted run goes on; a larger limit, or more repeats,
   only ask for more.
2. The other items are asked concurrently (`eval.asking`); every answer is scored and written when it arrives. An item
   that fails for good is marked with its reason, and stays in the denominator.
3. Beside the score of a task (`eval.results`) stand the task's own baselines (the best constant answer, the best copy
   of something in the question) and the reference model, compared item by item.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.client import ModelClient
from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Sampling
from s1pro.base.stamp import stamp, write_json
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.asking import Asking
from s1pro.eval.cache import CompletionCache
from s1pro.eval.progress import ProgressBar
from s1pro.eval.results import Prices, TaskResult, task_result, totals
from s1pro.tasks.benchmarks.spec import BenchmarkTask
from s1pro.tasks.judging import Judge
from s1pro.tasks.task import Task

__all__ = ["EvalSettings", "TaskResult", "answer_path", "claim", "results_json", "run", "run_async"]


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What makes two runs comparable.

    Attributes:
        model: name of what is evaluated, for example a folder and its step.
        reference: name of the second model.
        sampling: how answers are drawn; greedy by default.
        thinking: whether the model was told to reason; None leaves it to the other side.
    """

    model: str = "model"
    reference: str = "untrained"
    sampling: Sampling = field(default_factory=Sampling)
    thinking: bool | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What may differ between two runs that go on from each other.

    Attributes:
        limit: only the first items of every task.
        repeats: how often every item is asked; needs a temperature.
        concurrency: most requests under way at once.
        overwrite: throw away the answers of an earlier run with other settings.
        retry_failed: ask again what an earlier run marked as failed.
        cache: completions that several runs share.
        prices: of tokens.
    """

    limit: int | None = None
    repeats: int = 1
    concurrency: int = 16
    overwrite: bool = False
    retry_failed: bool = False
    cache: CompletionCache | None = None
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        for name in ("limit", "repeats", "concurrency"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")


def run(
    tasks: Sequence[Task],
    client: ModelClient,
    folder: str | Path,
    options: RunOptions | None = None,
    *,
    settings: EvalSettings | None = None,
    reference: ModelClient | None = None,
    progress: ProgressBar | None = None,
    judge: Judge | None = None,
    **changes: Any,
) -> list[TaskResult]:
    """Evaluates in an event loop of its own. See `run_async`; `changes` are fields of `RunOptions`."""
    chosen = dataclasses.replace(options or RunOptions(), **changes)
    return asyncio.run(
        run_async(tasks, client, folder, chosen, settings=settings, reference=reference, progress=progress, judge=judge)
    )


async def run_async(
    tasks: Sequence[Task],
    client: ModelClient,
    folder: str | Path,
    options: RunOptions | None = None,
    *,
    settings: EvalSettings | None = None,
    reference: ModelClient | None = None,
    progress: ProgressBar | None = None,
    judge: Judge | None = None,
) -> list[TaskResult]:
    """Asks every item of every task, or goes on where an earlier run of the same settings stopped.

    Args:
        reference: a second model that answers the same items, once each.
        judge: who reads answers; what it said and cost stands in the results.

    Raises:
        InputError: the folder holds answers that were made with other settings or to other questions; or the endpoint
            refuses every prompt.
    """
    settings, folder, options = settings or EvalSettings(), Path(folder), options or RunOptions()
    if options.repeats > 1 and settings.sampling.temperature == 0:
        raise InputError("repeats at temperature 0 ask for the same answer again; give a temperature")
    claim(folder, settings, options.overwrite)
    results = []
    for task in tasks:
        items = list(task.items())[: options.limit]
        if not items:
            raise InputError(f"the task {task.name!r} has no items")
        if isinstance(task, BenchmarkTask) and task.subtask.made and settings.sampling.temperature == 0:
            raise InputError(f"{task.name} asks one prompt {len(items)} times; give a temperature")
        asking = Asking(
            task=task,
            items=items,
            sampling=settings.sampling,
            thinking=bool(settings.thinking),
            places=asyncio.Semaphore(options.concurrency),
            progress=progress or ProgressBar(shown=False),
            cache=options.cache,
        )
        paths = [answer_path(folder, task.name, repeat) for repeat in range(options.repeats)]
        answers = await _ask(asking, client, paths, options, task.name)
        second = None
        if reference is not None:
            path = answer_path(folder, task.name).with_name(f"{Path(task.name).name}.{settings.reference}.jsonl")
            again = dataclasses.replace(asking, cache=None)
            [second] = await _ask(again, reference, [path], options, f"{task.name} ({settings.reference})")
        results.append(await task_result(task, items, answers, second, options.prices))
    write_json(folder / "results.json", results_json(results, settings, tasks, client, judge))
    return results


def answer_path(folder: Path, task: str, repeat: int = 0) -> Path:
    """Where the answers to a task are; `repeat` counts from 0."""
    again = f".repeat-{repeat + 1}" if repeat else ""
    return folder / "answers" / f"{task}{again}.jsonl"


async def _ask(
    asking: Asking, client: ModelClient, paths: Sequence[Path], options: RunOptions, label: str
) -> list[list[Answer]]:
    with ExitStack() as stack:
        files = [AnswerFile(path) for path in paths]
        for file in files:
            if options.retry_failed:
                file.forget_failed()
            stack.enter_context(file)
        return await asking.ask(client, files, label)


def claim(folder: Path, settings: EvalSettings, overwrite: bool) -> None:
    """Writes the settings of a new run, or checks them against those of the run that goes on."""
    path, wanted = folder / "settings.json", config_to_json(settings)
    answers = sorted((folder / "answers").rglob("*.jsonl"))
    if overwrite:
        for file in answers:
            file.unlink()
        (folder / "results.json").unlink(missing_ok=True)
    elif answers and not path.exists():
        raise InputError(f"{folder} holds answers but no settings.json; choose another folder, or overwrite")
    elif answers:
        changed = _differences(json.loads(path.read_text(encoding="utf-8")), wanted)
        if changed:
            raise InputError(
                f"{folder} holds answers of another run ({'; '.join(changed)}); choose another folder, or overwrite"
            )
    write_json(path, wanted)


def _differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = dict.fromkeys([*found, *wanted])
        return [
            d for name in names for d in _differences(found.get(name), wanted.get(name), f"{path}.{name}".strip("."))
        ]
    return [] if found == wanted else [f"{path}: {found!r} there, {wanted!r} now"]


def results_json(
    results: Iterable[TaskResult],
    settings: EvalSettings,
    tasks: Sequence[Task] = (),
    client: ModelClient | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """What `results.json` holds. `session` counts the requests of this process, retries and failures included."""
    results, usage = list(results), getattr(client, "usage", None)
    return {
        "settings": config_to_json(settings),
        "tasks": [dataclasses.asdict(result) for result in results],
        "benchmarks": [dataclasses.asdict(total) for total in totals(tasks, results)],
        "session": None if usage is None else dataclasses.asdict(usage),
        **({} if judge is None else {"judge": {"model": judge.model, **dataclasses.asdict(judge.totals)}}),
        "stamp": stamp(),
    }
