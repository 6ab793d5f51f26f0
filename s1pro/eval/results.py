"""From answers to numbers: one `TaskResult` per task, one `BenchmarkTotal` per benchmark.

* `score` is the mean of the values over **all** items; what failed or could not be read counts as the task says,
  usually 0. `score_of_valid` is the mean over the readable ones alone. Both denominators stand in every table.
* With repeats, an item's value is the mean over its repeats (avg@k), so intervals are over items, not over draws.
  `pass@j` is the unbiased estimate that at least one of j answers is right, `all@j` that all of them are.
* A benchmark's profiles have numbers of their own (`metrics`): they are computed from all answers, which are read anew
  by its scorer, and get intervals by bootstrap over items.
* Tokens and costs are sums over the answers in the files, so a run that was resumed counts everything once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s1pro.eval.answers import Answer
from s1pro.eval.asking import score_of_silence
from s1pro.eval.statistics import PairedDifference, mean_estimate, paired_difference
from s1pro.report.scores import Estimate, TaskScore
from s1pro.tasks.benchmarks.spec import Benchmark, BenchmarkTask
from s1pro.tasks.draws import all_at, pass_at
from s1pro.tasks.task import HasBaselines, Item, Score, Task

PROFILES = ("compat", "strict")
RESAMPLES, MOST_EVALUATIONS = 200, 100_000
RIGHT = 1.0 - 1e-6


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Per million tokens, in any one currency."""

    prompt: float = 0.0
    completion: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The outcome of one task.

    Attributes:
        score: mean over all items; invalid answers count with the value that the task gave them.
        num_valid: answers from which something could be extracted, over all repeats.
        metrics: what `Task.aggregate` computes from all scores (with repeats: the mean of that).
        baselines: the task's own trivial answers by name.
        reference, difference: the second model, and model minus reference item by item.
        num_failed: answers that never came, over all repeats.
        repeats: how often every item was asked.
        score_of_valid: over readable answers only; None if there are none.
        profiles: a benchmark's numbers with their intervals, `compat` and `strict`.
        num_prompt_tokens, num_tokens, cost: of all answers, repeats included.
        facts: of a benchmark: title, published score, source, licence, defects of its upstream scorer.
    """

    task: str
    score: Estimate
    num_valid: int
    metrics: Mapping[str, float]
    baselines: Mapping[str, Estimate]
    reference: Estimate | None = None
    difference: PairedDifference | None = None
    num_failed: int = 0
    repeats: int = 1
    score_of_valid: Estimate | None = None
    profiles: Mapping[str, Estimate] = field(default_factory=dict)
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    cost: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def task_score(self, reference_name: str = "untrained") -> TaskScore:
        """For the score table of a report; the reference counts as a baseline."""
        reference = {} if self.reference is None else {reference_name: self.reference}
        return TaskScore(task=self.task, model=self.score, baselines={**reference, **self.baselines})


@dataclass(frozen=True, kw_only=True)
class BenchmarkTotal:
    """A whole benchmark in one number per profile; `published` is the paper's, of Intern-S1-Pro, for reference only.

    `profiles` is empty where not all subtasks were evaluated, or upstream has no formula. A subtask that needs weights
    may be missing: formulas count it 0, and `num_subtasks` says so.
    """

    name: str
    title: str
    profiles: Mapping[str, float]
    published: float | None
    num_subtasks: int
    of_subtasks: int


async def task_result(
    task: Task,
    items: Sequence[Item],
    answers: Sequence[Sequence[Answer]],
    second: Sequence[Answer] | None = None,
    prices: Prices | None = None,
) -> TaskResult:
    """The result of the answers of every repeat, each in the order of `items`."""
    scores = [await _scores(task, items, some) for some in answers]
    means = [float(np.mean([run[i].value for run in scores])) for i in range(len(items))]
    readable = [score.value for run in scores for score in run if score.valid]
    reference = difference = None
    if second is not None:
        others = [score.value for score in await _scores(task, items, second)]
        reference, difference = mean_estimate(others), paired_difference(means, others)
    every = [answer for run in answers for answer in run]
    prompt_tokens, tokens = (sum(a.num_prompt_tokens for a in every), sum(a.num_tokens for a in every))
    prices = prices or Prices()
    return TaskResult(
        task=task.name,
        score=mean_estimate(means),
        num_valid=len(readable),
        metrics={**_mean_of([task.aggregate(run) for run in scores]), **_draws(scores)},
        baselines=await _baselines(task, items),
        reference=reference,
        difference=difference,
        num_failed=sum(answer.status == "failed" for answer in every),
        repeats=len(answers),
        score_of_valid=mean_estimate(readable) if readable else None,
        profiles=_profiles(task, scores),
        num_prompt_tokens=prompt_tokens,
        num_tokens=tokens,
        cost=(prompt_tokens * prices.prompt + tokens * prices.completion) / 1e6,
        facts=_facts(task),
    )


def totals(tasks: Sequence[Task], results: Sequence[TaskResult]) -> list[BenchmarkTotal]:
    """One per benchmark that has a task here."""
    benchmarks: dict[str, Benchmark] = {
        task.benchmark.name: task.benchmark for task in tasks if isinstance(task, BenchmarkTask)
    }
    by_name = {result.task: result for result in results}
    found = []
    for benchmark in benchmarks.values():
        names = {subtask.name: f"{benchmark.name}/{subtask.name}" for subtask in benchmark.subtasks}
        here = {name: by_name[full] for name, full in names.items() if full in by_name}
        needed = [subtask.name for subtask in benchmark.subtasks if not subtask.weights]
        whole = all(name in here for name in needed)
        found.append(
            BenchmarkTotal(
                name=benchmark.name,
                title=benchmark.title,
                profiles={
                    profile: float(formula({name: result.metrics[profile] for name, result in here.items()}))
                    for profile, formula in benchmark.aggregate.items()
                    if whole
                },
                published=benchmark.published,
                num_subtasks=len(here),
                of_subtasks=len(names),
            )
        )
    return found


async def _scores(task: Task, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
    """The scores in the file. Those of a benchmark are read anew, because JSON may have changed what was extracted, and
    so are those of a judge, which may not have been there. What failed is silence, and nobody is asked about it."""
    judge = getattr(task, "judge", None)
    if not isinstance(task, BenchmarkTask) and judge is None:
        return [Score(value=a.score, extraction=a.extraction, valid=a.valid, parts=a.parts) for a in answers]
    return await asyncio.gather(  # a judge that was not there, or away, is asked now
        *(
            score_of_silence(task, item) if answer.status == "failed" else task.score(item, answer.response)
            for item, answer in zip(items, answers, strict=True)
        )
    )


def _draws(scores: Sequence[Sequence[Score]]) -> dict[str, float]:
    draws = len(scores)
    if draws == 1:
        return {}
    right = [sum(run[i].value >= RIGHT for run in scores) for i in range(len(scores[0]))]
    sizes = sorted({1, draws, *(2**p for p in range(1, 10) if 2**p < draws)})
    numbers = {f"avg@{draws}": float(np.mean([score.value for run in scores for score in run]))}
    for k in sizes:
        numbers[f"pass@{k}"] = float(np.mean([pass_at(draws, count, k) for count in right]))
        numbers[f"all@{k}"] = float(np.mean([all_at(draws, count, k) for count in right]))
    return numbers


def _mean_of(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for some in numbers for name in some)
    return {name: float(np.mean([some[name] for some in numbers if name in some])) for name in names}


def _profiles(task: Task, scores: Sequence[Sequence[Score]]) -> dict[str, Estimate]:
    """Intervals of a benchmark's numbers: the whole metric is computed on resampled items."""
    if not isinstance(task, BenchmarkTask):
        return {}
    number = len(scores[0])
    values = _mean_of([task.aggregate(run) for run in scores])
    resamples = min(RESAMPLES, MOST_EVALUATIONS // (number * len(scores)))
    if resamples < RESAMPLES // 5 or number < 2:
        return {name: Estimate(value=values[name], num_items=number) for name in PROFILES}
    random = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in PROFILES}
    for _ in range(resamples):
        chosen = random.integers(0, number, number)
        numbers = _mean_of([task.aggregate([run[i] for i in chosen]) for run in scores])
        for name in PROFILES:
            drawn[name].append(numbers[name])
    return {name: _between(values[name], drawn[name], number) for name in PROFILES}


def _between(value: float, drawn: Sequence[float], number: int) -> Estimate:
    low, high = (float(end) for end in np.quantile(drawn, (0.025, 0.975)))
    return Estimate(value=value, low=min(low, value), high=max(high, value), num_items=number)


async def _baselines(task: Task, items: Sequence[Item]) -> dict[str, Estimate]:
    """The trivial answers that the task knows, scored like any response."""
    if not isinstance(task, HasBaselines):
        return {}
    estimates = {}
    for name, responses in task.baselines().items():
        scores = [await task.score(item, responses[item.id]) for item in items]
        estimates[name] = mean_estimate([score.value for score in scores])
    return estimates


def _facts(task: Task) -> dict[str, Any]:
    if not isinstance(task, BenchmarkTask):
        return {}
    benchmark, subtask = task.benchmark, task.subtask
    judged = subtask.judged if task.judge is not None else None
    replaced = () if judged is None else judged.replaces
    judge = [] if judged is None or task.judge is None else [f"judge: {task.judge.model}, in words of ours"]
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "published": benchmark.published,
        "source": benchmark.source,
        "licence": benchmark.licence,
        "defects": [each for each in subtask.defects if each not in replaced],
        "notes": [*benchmark.notes, *judge],
    }
