"""A benchmark is data: records in the upstream schema, a prompt, two ways to read an answer, two ways to count.

    Benchmark ── published score, source, licence
      └── Subtask ── reader, prompt, gold
            ├── compat    reproduces the upstream scorer number for number, defects included, to compare with tables
            └── strict    the metric done right, to know

A `Profile` is three functions: `extract` reads a prediction out of a response (None: nothing was found), `value` grades
one prediction for rewards and for the error browser, `metric` counts over all pairs of gold and prediction. What a
scorer does about unreadable answers belongs to its metric, because upstream every metric does something else.

`BenchmarkTask` makes an ordinary `Task` of a subtask and its records, so benchmarks are evaluated, resumed, reported
and used as rewards by the code that serves all tasks. A score keeps both predictions and the gold, and `aggregate`
computes both profiles from them: `compat`, `strict`, how many could be read, and each number over those alone.

Where upstream asks a judge model, a subtask says how (`judged`, tasks/judging.py). A task with a judge puts what it
read into the place of the prediction and counts `judge.asked`, `judge.unreadable` and `judge.failed`; a task without
one goes by rules, and says so.

Numbers that are undefined (a correlation of constants) are 0 and named in `undefined`. For errors, where less is
better, 0 would be perfect, so metrics of errors are never undefined: silence has a price there.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.tasks.benchmarks.bert_score import Similarity
from s1pro.tasks.benchmarks.extract import answer_part
from s1pro.tasks.judging import Judge, Judged
from s1pro.tasks.task import Item, Prompt, Score

Record = Mapping[str, Any]
ProfileName = Literal["compat", "strict"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One item as a metric sees it; `prediction` is None where nothing could be read."""

    gold: Any
    prediction: Any
    record: Record = field(default_factory=dict)


Extract = Callable[[str, Record], Any]
Metric = Callable[[Sequence[Pair]], Mapping[str, float]]
"""Numbers by name; `score` is the one that tables show."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How responses become a score; see the module docstring."""

    extract: Extract
    metric: Metric
    value: Callable[[Any, Any], float]


@dataclass(frozen=True, kw_only=True)
class Subtask:
    """One number of a benchmark.

    Attributes:
        name: unique in the benchmark.
        files: name patterns of its data below the folder of the benchmark, the first that exists is read.
        fields: that every record must have, with their types.
        prompt: the messages for a record.
        gold: what is right.
        keep: which records of a shared file belong to it.
        defects: what the upstream scorer does that its metric does not say; shown beside the number.
        made: number of records without data, and the one prompt of all of them; answers to it are sampled.
        judged: how a judge model takes part, if there is one.
        prepare: completes a record once, when it is loaded (the size of a picture, say).
        check: raises `InputError` where it cannot be scored on this machine; asked before its data are read.
        slow: reading a response takes long (it runs programs), so it waits in a thread.
        weights: the prediction is how alike text and gold are to a model whose weights the user has (`similarity`).
    """

    name: str
    files: tuple[str, ...]
    fields: Mapping[str, type | tuple[type, ...]]
    prompt: Callable[[Record], Prompt]
    gold: Callable[[Record], Any]
    compat: Profile
    strict: Profile
    keep: Callable[[Record], bool] = lambda record: True
    defects: tuple[str, ...] = ()
    prepare: Callable[[Record], Record] = lambda record: record
    made: tuple[int, str] | None = None
    judged: Judged | None = None
    check: Callable[[], None] = lambda: None
    slow: bool = False
    weights: bool = False

    def made_records(self) -> list[dict[str, Any]]:
        """The records of a subtask that has no data."""
        number, prompt = self.made or (0, "")
        return [{"id": i, "input": prompt, "output": ""} for i in range(number)]


Status = Literal["computable", "needs a judge", "not computable"]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A named set of subtasks, and how they become one number.

    Attributes:
        aggregate: per profile, subtask scores to the number in the table; None where upstream has no such formula.
        published: score of Intern-S1-Pro in the paper's table, for reference only.
        licence: of the data. Data are never part of this project.
        source: where the data come from.
        status: benchmarks that cannot be scored here are listed without subtasks, with the reason among the notes.
    """

    name: str
    title: str
    subtasks: tuple[Subtask, ...]
    aggregate: Mapping[ProfileName, Callable[[Mapping[str, float]], float]]
    source: str
    licence: str
    published: float | None = None
    notes: tuple[str, ...] = ()
    status: Status = "computable"

    def subtask(self, name: str) -> Subtask:
        """By name. Raises `InputError` for an unknown one."""
        for subtask in self.subtasks:
            if subtask.name == name:
                return subtask
        raise InputError(f"{self.name} has no subtask {name!r}; there are {', '.join(s.name for s in self.subtasks)}")


class BenchmarkTask:
    """A `Task` over the records of one subtask.

    Args:
        limit: only the first so many records.

    Attributes:
        judge: who is asked where `Subtask.judged` says so; None asks nobody.
        similarity: of two texts, for a subtask that wants `weights`.
    """

    judge: Judge | None = None
    similarity: Similarity | None = None

    def __init__(
        self, benchmark: Benchmark, subtask: Subtask, records: Sequence[Record], *, limit: int | None = None
    ) -> None:
        self.benchmark, self.subtask = benchmark, subtask
        self.name = f"{benchmark.name}/{subtask.name}"
        self._records = dict(enumerate(records[:limit]))
        self._items = [
            Item(id=str(record.get("id", number)) if _unique(records, "id") else str(number), asked={"record": number})
            for number, record in self._records.items()
        ]

    def items(self) -> Sequence[Item]:
        return self._items

    def record(self, item: Item) -> Record:
        """What the item was made of."""
        return self._records[item.asked["record"]]

    def prompt(self, item: Item) -> Prompt:
        return self.subtask.prompt(self.record(item))

    async def score(self, item: Item, response: str) -> Score:
        record, judged = self.record(item), self.subtask.judged
        if self.judge is not None and judged is not None and self._open(record, response):
            await self.judge.ask(
                judged.prompt(record, response), lambda reply: judged.read(reply, record), judged.temperatures
            )
        return await asyncio.to_thread(self.grade, item, response) if self.subtask.slow else self.grade(item, response)

    def grade(self, item: Item, response: str) -> Score:
        """`score` without waiting: verdicts of a judge are those that are known. The value is the strict one."""
        record = self.record(item)
        gold = self.subtask.gold(record)
        found = {name: profile.extract(response, record) for name, profile in self._profiles().items()}
        verdict = self._judge(record, response, found)
        if self.subtask.weights:
            assert self.similarity is not None, "tasks without weights are not loaded"
            found = {n: None if text is None else self.similarity(gold, text) for n, text in found.items()}
        values = {
            name: 0.0 if prediction is None else _bounded(self._profiles()[name].value(gold, prediction))
            for name, prediction in found.items()
        }
        return Score(
            value=values["strict"],
            extraction={"gold": gold, "record": item.asked["record"], **found, **verdict},
            valid=found["strict"] is not None,
            parts=dict(values.items()),
        )

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """`compat`, `strict` and what the metrics say besides, with the names `compat.…` and `strict.…`."""
        if not scores:
            raise ValueError("there is nothing to aggregate")
        result: dict[str, float] = {"n_total": len(scores)}
        for name, profile in self._profiles().items():
            pairs = [
                Pair(
                    gold=score.extraction["gold"],
                    prediction=score.extraction[name],
                    record=self._records.get(score.extraction["record"], {}),
                )
                for score in scores
            ]
            read = [pair for pair in pairs if pair.prediction is not None]
            numbers = dict(profile.metric(pairs))
            undefined = [key for key, value in numbers.items() if not math.isfinite(value)]
            result |= {f"{name}.undefined": 1.0} if undefined else {}
            result[name] = defined(numbers.pop("score"))
            result[f"{name}.n_valid"] = len(read)
            result[f"{name}.of_valid"] = defined(profile.metric(read)["score"]) if read else 0.0
            result |= {f"{name}.{key}": defined(value) for key, value in numbers.items()}
        if self.judge is not None and self.subtask.judged is not None:
            said = [score.extraction["judge"]["status"] for score in scores if "judge" in score.extraction]
            result["judge.asked"] = len(said)
            result |= {f"judge.{status}": said.count(status) for status in ("unreadable", "failed")}
        return result

    def _open(self, record: Record, response: str) -> list[ProfileName]:
        """Profiles that a judge decides for this response. Silence needs no judge, and reasoning alone is silence."""
        judged, profiles = self.subtask.judged, self._profiles()
        if judged is None or not answer_part(response):
            return []
        return [
            name
            for name, profile in profiles.items()
            if name in judged.profiles and (judged.always or profile.extract(response, record) is None)
        ]

    def _judge(self, record: Record, response: str, found: dict[ProfileName, Any]) -> dict[str, Any]:
        """Puts a verdict into the place of predictions, and gives what is noted about it."""
        open_to, judged = self._open(record, response), self.subtask.judged
        if self.judge is None or judged is None:
            return {}
        if not open_to:
            if judged.always and not answer_part(response):  # nor do rules read reasoning in its place
                found |= {name: None for name in found if name in judged.profiles}
            return {}
        verdict = self.judge.known(judged.prompt(record, response), judged.temperatures)
        for name in open_to:
            reading = None if verdict is None else verdict.reading
            found[name] = reading.get(name) if isinstance(reading, Mapping) else reading
        told = {"status": "failed"} if verdict is None else {"status": verdict.status, "reply": verdict.reply}
        return {"judge": told}

    def _profiles(self) -> dict[ProfileName, Profile]:
        return {"compat": self.subtask.compat, "strict": self.subtask.strict}


def defined(value: float) -> float:
    """0 for what is undefined (a correlation of constants, the mean of nothing): a table has no room for NaN."""
    return float(value) if math.isfinite(value) else 0.0


def mean_score(scores: Mapping[str, float]) -> float:
    """Plain mean of the subtasks; the score itself where there is one."""
    return sum(scores.values()) / len(scores)


MEAN: Mapping[ProfileName, Callable[[Mapping[str, float]], float]] = {"compat": mean_score, "strict": mean_score}


def user_prompt(text: str, *, system: str | None = None) -> Prompt:
    """One question, with or without a system message."""
    before = () if system is None else (Message(role="system", content=system),)
    return Prompt(messages=(*before, Message(role="user", content=text)))


def data_files(folder: Path, benchmark: Benchmark, subtask: Subtask) -> list[Path]:
    """The files of a subtask below `folder`, all of the first pattern that fits any, numbers in names in their order.
    Raises `InputError` with the names that were looked for."""
    for pattern in subtask.files:
        found = sorted(folder.glob(pattern), key=_natural)
        if found:
            return found
    raise InputError(
        f"{folder}: no data for {benchmark.name}/{subtask.name}; expected {' or '.join(subtask.files)} (source: "
        f"{benchmark.source}; licence: {benchmark.licence})"
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _bounded(value: float) -> float:
    return min(max(defined(value), 0.0), 1.0)


def _unique(records: Sequence[Record], name: str) -> bool:
    values = [record.get(name) for record in records]
    return None not in values and len(set(map(str, values))) == len(values)
