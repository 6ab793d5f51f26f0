"""Verified rollouts: a model reasons, a verifier judges, and only right answers with honest reasoning are kept.

    task --K samples--> answers --science.facts.verify--> verdicts --checks of the chain--> kept | rejected

1. Only tasks with short answers are asked (numbers, options, names, orders). A gold that cannot be compared is an error
   before anything is asked.
2. Every answer is a line of `attempts.jsonl` before the next step uses it: task, sample, text, reason. A run that is
   started again asks only for what is not there.
3. Rejected answers (`judging`) stay in the log with their reason. The gold is never shown to the model, so no chain is
   conditioned on the answer (`answer_conditioned` is false in every sample).
4. Of the right ones `keep` per task go into the training file, chosen by length and difference.
5. pass@k is the unbiased estimate, averaged over tasks.

Left out: a second chance with a hint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sample, Sampling
from s1pro.corpus.narrative.build import gold_text, make_tasks, split_records
from s1pro.corpus.narrative.judging import chain_of, choose, judge, pass_at_k
from s1pro.corpus.narrative.sources import Loaded
from s1pro.corpus.write import write_samples
from s1pro.science.facts.forms import FORMS, Form, Task
from s1pro.science.facts.grammar import Grammar
from s1pro.science.facts.schema import Schema
from s1pro.science.facts.verify import Rules, verify
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain

ANSWERED: tuple[Form, ...] = tuple(form for form in FORMS if form != "description")
_ASK = "\n\nReason step by step. End with one line 'Answer: ...' that holds the answer alone, numbers with their unit."


class Chat(Protocol):
    """The part of `ModelClient` that is used."""

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion: ...


@dataclass(frozen=True, kw_only=True)
class RolloutSettings:
    """How tasks are answered.

    Attributes:
        tasks: how many, spread over `forms`.
        samples: answers per task (K); `ks` are the k of pass@k.
        keep: right answers per task that are kept, at most.
        min_chain: characters of reasoning before the answer.
        concurrency: tasks under way at once (the client has limits of its own).
    """

    tasks: int = 100
    samples: int = 4
    ks: tuple[int, ...] = (1, 4)
    keep: int = 1
    min_chain: int = 20
    temperature: float = 0.8
    max_new_tokens: int = 1024
    seed: int = 0
    concurrency: int = 8
    forms: tuple[Form, ...] = ANSWERED
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if self.samples < 1 or self.tasks < 1 or self.keep < 1 or self.concurrency < 1:
            raise InputError("tasks, samples, keep and concurrency are at least 1")
        if any(form not in ANSWERED for form in self.forms):
            raise InputError(f"forms: only {', '.join(ANSWERED)} have short answers")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One answer and what became of it; `reason` is "right" or why it is rejected."""

    task: str
    sample: int
    text: str
    reasoning: str
    finish_reason: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RolloutReport:
    """Counts of one run. `attempts == sum(reasons)`; `asked` were asked now, the others were there already."""

    tasks: int
    attempts: int
    asked: int
    reasons: Mapping[str, int]
    solved: int
    kept: int
    pass_at: Mapping[str, float]


async def rollout_folder(
    folder: Path, loaded: Loaded, client: Chat, settings: RolloutSettings | None = None
) -> RolloutReport:
    """Answers tasks of the training split and writes `rollouts/train.parquet` and `rollouts/attempts.jsonl`.

    Raises:
        InputError: no tasks, or a gold that cannot be compared.
        EndpointError: the endpoint refuses for good (from the client); what was answered so far stays.
    """
    settings = settings or RolloutSettings()
    grammar = Grammar(loaded.schema)
    records = split_records(loaded.records)["train"]
    share = -(-settings.tasks // len(settings.forms))
    tasks = [t for form in settings.forms for t in make_tasks(grammar, form, records, share, "train", settings.seed)]
    random.Random(settings.seed).shuffle(tasks)
    tasks = tasks[: settings.tasks]
    if not tasks:
        raise InputError("the training split gives no tasks")
    for task in tasks:
        verify("Answer: 0", task.gold)  # a gold that cannot be compared is an error before anything is asked
    log = folder / "rollouts" / "attempts.jsonl"
    known = read_attempts(log)
    done, asked = await _answer_all(tasks, loaded.schema, client, settings, log, known)
    samples = list(_kept(tasks, done, loaded.schema, settings))
    path = folder / "rollouts" / "train.parquet"
    if samples:
        write_samples(samples, path)
    else:
        path.unlink(missing_ok=True)
    return _report(tasks, done, asked, len(samples), settings)


def task_key(task: Task, settings: RolloutSettings) -> str:
    """Names a task and how it is asked; the key of its attempts."""
    asked = (task.form, task.prompt, gold_text(task.gold), settings.temperature, settings.max_new_tokens, settings.seed)
    return hashlib.blake2b(repr(asked).encode(), digest_size=12).hexdigest()


def read_attempts(path: Path) -> dict[tuple[str, int], Attempt]:
    """Attempts of earlier runs; a last line that was cut off is left out."""
    if not path.exists():
        return {}
    found = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            attempt = Attempt(**json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise InputError(f"{path}, line {number}: not an attempt ({error})") from error
        found[attempt.task, attempt.sample] = attempt
    return found


async def _answer_all(
    tasks: Sequence[Task],
    schema: Schema,
    client: Chat,
    settings: RolloutSettings,
    log: Path,
    known: dict[tuple[str, int], Attempt],
) -> tuple[dict[str, list[Attempt]], int]:
    """All attempts by task key, and how many were asked now."""
    log.parent.mkdir(parents=True, exist_ok=True)
    gate = asyncio.Semaphore(settings.concurrency)
    asked = 0
    with _Log(log) as lines:

        async def one(task: Task, sample: int) -> Attempt:
            nonlocal asked
            key = task_key(task, settings)
            if (key, sample) in known:
                # judged again: the rules may be others than when it was asked
                old = known[key, sample]
                return _judged(task, key, sample, old.text, old.reasoning, old.finish_reason, settings)
            async with gate:
                completion = await client.chat(_messages(task, schema), _sampling(settings, key, sample))
            asked += 1
            reasoning = completion.reasoning_content or ""
            attempt = _judged(task, key, sample, completion.text, reasoning, completion.finish_reason, settings)
            lines.write(attempt)
            return attempt

        jobs = [asyncio.ensure_future(one(task, sample)) for task in tasks for sample in range(settings.samples)]
        try:
            attempts = await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
    done: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        done[attempt.task].append(attempt)
    return done, asked


class _Log:
    """Appends whole lines, each on disk before the call returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Log:
        text = self._path.read_bytes() if self._path.exists() else b""
        self._file = self._path.open("ab")
        if text and not text.endswith(b"\n"):  # a line that was cut off when an earlier run died
            self._file.truncate(text.rfind(b"\n") + 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, attempt: Attempt) -> None:
        self._file.write((json.dumps(vars(attempt), ensure_ascii=False) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _judged(
    task: Task, key: str, sample: int, text: str, reasoning: str, finish_reason: Any, settings: RolloutSettings
) -> Attempt:
    completion = Completion(text=text, finish_reason=finish_reason)
    reason = judge(task, completion, settings.rules, min_chain=settings.min_chain, reasoning=reasoning)
    return Attempt(task=key, sample=sample, text=text, reasoning=reasoning, finish_reason=finish_reason, reason=reason)


def _messages(task: Task, schema: Schema) -> tuple[Message, ...]:
    system = SYSTEM_PROMPTS[group_of_domain(schema.domain)]
    return (Message(role="system", content=system), Message(role="user", content=task.prompt + _ASK))


def _sampling(settings: RolloutSettings, key: str, sample: int) -> Sampling:
    seed = int.from_bytes(hashlib.blake2b(f"{key} {sample}".encode(), digest_size=4).digest()) % 2**31
    return Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seed)


def _kept(
    tasks: Sequence[Task], done: Mapping[str, Sequence[Attempt]], schema: Schema, settings: RolloutSettings
) -> Iterable[Sample]:
    group = group_of_domain(schema.domain)
    for task in tasks:
        key = task_key(task, settings)
        right = {a.sample: a for a in done[key] if a.reason == "right"}
        chains = {number: chain_of(a.text, a.reasoning) for number, a in right.items()}
        for number in choose(sorted(chains.items()), settings.keep):
            messages = (
                Message(role="system", content=SYSTEM_PROMPTS[group]),
                Message(role="user", content=task.prompt),
                Message(role="assistant", content=task.answer, reasoning_content=chains[number]),
            )
            meta = {
                "domain": schema.domain, "form": task.form, "column": task.column, "entities": list(task.entities),
                "gold": gold_text(task.gold), "task": key, "sample": number, "answer_conditioned": False,
                "solved": len(right), "samples": settings.samples,
            }  # fmt: skip
            yield Sample(
                source=f"narrative-{schema.name}-rollouts",
                prompt_group=group,
                messages=messages,
                entity=task.groups[0],
                meta=meta,
            )


def _report(
    tasks: Sequence[Task], done: Mapping[str, Sequence[Attempt]], asked: int, kept: int, settings: RolloutSettings
) -> RolloutReport:
    reasons: Counter[str] = Counter(a.reason for attempts in done.values() for a in attempts)
    right = [sum(a.reason == "right" for a in attempts) for attempts in done.values()]
    totals = [len(attempts) for attempts in done.values()]
    pass_at = {
        f"pass@{k}": sum(pass_at_k(n, c, k) for n, c in zip(totals, right, strict=True)) / len(totals)
        for k in settings.ks
        if k <= settings.samples
    }
    return RolloutReport(
        tasks=len(tasks), attempts=sum(totals), asked=asked, reasons=dict(sorted(reasons.items())),
        solved=sum(c > 0 for c in right), kept=kept, pass_at=pass_at,
    )  # fmt: skip
