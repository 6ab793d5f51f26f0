"""Tasks x client -> answers -> scores.

    folder/
      settings.json                 what was evaluated and how; a second run must agree with it
      answers/<task>.jsonl          one line per item: prompt, response, extraction, score
      answers/<task>.<name>.jsonl   the same for the reference model, if there is one
      results.json                  scores with 95 % confidence intervals, baselines, paired differences, stamp

1. Items that have an answer in the file are skipped, so an interrupted run goes on; a larger limit asks only for more.
2. The other items are asked concurrently; every answer is scored and written when it arrives.
3. The score of a task is the mean over its items. Beside it stand the task's own baselines (the best constant answer,
   the best copy of something in the question) and the reference model, compared item by item.

Left out here, for the evaluation part: retries, judges, avg@k, several metric profiles.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.client import ModelClient
from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Sampling
from s1pro.base.stamp import stamp, write_json
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.progress import ProgressBar
from s1pro.eval.statistics import PairedDifference, mean_estimate, paired_difference
from s1pro.report.scores import Estimate, TaskScore
from s1pro.tasks.task import HasBaselines, Item, Score, Task


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What makes two runs comparable.

    Attributes:
        model: name of what is evaluated, for example a folder and its step.
        reference: name of the second model.
        sampling: how answers are drawn; greedy by default.
    """

    model: str = "model"
    reference: str = "untrained"
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The outcome of one task.

    Attributes:
        score: mean over all items; invalid answers count with the value that the task gave them.
        num_valid: items from which an answer could be extracted.
        metrics: what `Task.aggregate` computes from all scores.
        baselines: the task's own trivial answers by name.
        reference, difference: the second model, and model minus reference item by item.
    """

    task: str
    score: Estimate
    num_valid: int
    metrics: Mapping[str, float]
    baselines: Mapping[str, Estimate]
    reference: Estimate | None = None
    difference: PairedDifference | None = None

    def task_score(self, reference_name: str = "untrained") -> TaskScore:
        """For the score table of a report; the reference counts as a baseline."""
        reference = {} if self.reference is None else {reference_name: self.reference}
        return TaskScore(task=self.task, model=self.score, baselines={**reference, **self.baselines})


def run(
    tasks: Sequence[Task],
    client: ModelClient,
    folder: str | Path,
    *,
    settings: EvalSettings | None = None,
    limit: int | None = None,
    concurrency: int = 16,
    reference: ModelClient | None = None,
    overwrite: bool = False,
    progress: ProgressBar | None = None,
) -> list[TaskResult]:
    """Evaluates in an event loop of its own. See `run_async`."""
    return asyncio.run(
        run_async(
            tasks,
            client,
            folder,
            settings=settings,
            limit=limit,
            concurrency=concurrency,
            reference=reference,
            overwrite=overwrite,
            progress=progress,
        )
    )


async def run_async(
    tasks: Sequence[Task],
    client: ModelClient,
    folder: str | Path,
    *,
    settings: EvalSettings | None = None,
    limit: int | None = None,
    concurrency: int = 16,
    reference: ModelClient | None = None,
    overwrite: bool = False,
    progress: ProgressBar | None = None,
) -> list[TaskResult]:
    """Asks every item of every task once, or goes on where an earlier run of the same settings stopped.

    Args:
        limit: only the first items of every task.
        concurrency: most requests under way at once.
        reference: a second model that answers the same items.
        overwrite: throw away the answers of an earlier run with other settings.

    Raises:
        InputError: the folder holds answers that were made with other settings or to other questions.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    if concurrency < 1:
        raise InputError(f"concurrency must be at least 1, got {concurrency}")
    settings, folder, progress = settings or EvalSettings(), Path(folder), progress or ProgressBar(shown=False)
    _claim(folder, settings, overwrite)
    results = []
    for task in tasks:
        items = list(task.items())[:limit]
        if not items:
            raise InputError(f"the task {task.name!r} has no items")
        asking = _Asking(task, items, settings.sampling, asyncio.Semaphore(concurrency), progress)
        answers = await asking.ask(client, folder / "answers" / f"{task.name}.jsonl", task.name)
        second = None
        if reference is not None:
            path = folder / "answers" / f"{task.name}.{settings.reference}.jsonl"
            second = await asking.ask(reference, path, f"{task.name} ({settings.reference})")
        results.append(_result(task, answers, second, await _baselines(task, items)))
    write_json(folder / "results.json", results_json(results, settings))
    return results


class _Asking:
    """One task with its items, asked of one client after another."""

    def __init__(
        self, task: Task, items: Sequence[Item], sampling: Sampling, places: asyncio.Semaphore, progress: ProgressBar
    ) -> None:
        self.task, self.items, self.sampling = task, items, sampling
        self.places, self.progress = places, progress
        self.done = 0

    async def ask(self, client: ModelClient, path: Path, label: str) -> list[Answer]:
        """The answers to all items, in the order of the items."""
        with AnswerFile(path) as file:
            self._check_same_questions(file)
            missing = [item for item in self.items if item.id not in file.answers]
            self.done = len(self.items) - len(missing)
            self.progress.update(label, self.done, len(self.items))
            await _all([self._one(item, client, file, label) for item in missing])
            return [file.answers[item.id] for item in self.items]

    async def _one(self, item: Item, client: ModelClient, file: AnswerFile, label: str) -> None:
        prompt = self.task.prompt(item)
        async with self.places:
            completion = await client.chat(prompt.messages, self.sampling)
            score = await self.task.score(item, completion.text)
        file.append(
            Answer(
                id=item.id,
                prompt=[message.as_dict() for message in prompt.messages],
                response=completion.text,
                score=float(score.value),
                valid=score.valid,
                extraction=score.extraction,
                parts=score.parts,
                finish_reason=completion.finish_reason,
                num_tokens=len(completion.token_ids),
            )
        )
        self.done += 1
        self.progress.update(label, self.done, len(self.items))

    def _check_same_questions(self, file: AnswerFile) -> None:
        for item in self.items:
            answer = file.answers.get(item.id)
            if answer is None:
                continue
            asked = [message.as_dict() for message in self.task.prompt(item).messages]
            if _wherever(answer.prompt) != _wherever(asked):
                raise InputError(
                    f"{file.path}: item {item.id!r} was asked with another prompt; "
                    "the task has changed since: choose another folder, or overwrite"
                )


def _wherever(prompt: Any) -> Any:
    """A prompt whose media are named without their folders: an evaluation may have been moved, media and all."""
    if isinstance(prompt, list | tuple):
        return [_wherever(item) for item in prompt]
    if not isinstance(prompt, Mapping):
        return prompt
    source = prompt.get("type")
    return {
        key: Path(value).name if key == source and isinstance(value, str) else _wherever(value)
        for key, value in prompt.items()
    }


async def _all(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all at once; the first error cancels the others and is raised as it is."""
    running = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _claim(folder: Path, settings: EvalSettings, overwrite: bool) -> None:
    """Writes the settings of a new run, or checks them against those of the run that goes on."""
    path, wanted = folder / "settings.json", config_to_json(settings)
    answers = sorted((folder / "answers").glob("*.jsonl"))
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


async def _baselines(task: Task, items: Sequence[Item]) -> dict[str, Estimate]:
    """The trivial answers that the task knows, scored like any response."""
    if not isinstance(task, HasBaselines):
        return {}
    estimates = {}
    for name, responses in task.baselines().items():
        scores = [await task.score(item, responses[item.id]) for item in items]
        estimates[name] = mean_estimate([score.value for score in scores])
    return estimates


def _result(
    task: Task, answers: Sequence[Answer], second: Sequence[Answer] | None, baselines: Mapping[str, Estimate]
) -> TaskResult:
    scores = [Score(value=a.score, extraction=a.extraction, valid=a.valid, parts=a.parts) for a in answers]
    values = [answer.score for answer in answers]
    reference = difference = None
    if second is not None:
        others = [answer.score for answer in second]
        reference, difference = mean_estimate(others), paired_difference(values, others)
    return TaskResult(
        task=task.name,
        score=mean_estimate(values),
        num_valid=sum(answer.valid for answer in answers),
        metrics=dict(task.aggregate(scores)),
        baselines=baselines,
        reference=reference,
        difference=difference,
    )


def results_json(results: Iterable[TaskResult], settings: EvalSettings) -> dict[str, Any]:
    """What `results.json` holds."""
    return {
        "settings": config_to_json(settings),
        "tasks": [dataclasses.asdict(result) for result in results],
        "stamp": stamp(),
    }
