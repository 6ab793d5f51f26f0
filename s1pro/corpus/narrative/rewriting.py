"""Descriptions in a model's own words, kept only if they say exactly the same.

    text --model--> rewrite --checks--> kept | rejected with a reason

A rewrite is no sentence of the grammar, so it cannot be parsed; instead everything that carries a fact must be there as
it was written: the entity, every quantity with its unit, every tagged notation, every category; and no other number.

| reason | what is wrong |
|---|---|
| `cut_off` | the model did not finish |
| `value_lost` | a value of the text is not in the rewrite, word for word |
| `number_added` | the rewrite has a number, or a number more often, than the text |
| `talk` | words about the task ("Here is the rewritten text") |
| `faulty` | the lint of `science.facts.lint` |
| `too_alike` | of all runs of three words more than 70 % are in both |
| `length` | less than half or more than twice as long |

Every answer is a line of `rewrites.jsonl`; a run that is started again asks only for what is not there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample, Sampling
from s1pro.corpus.narrative.build import split_records
from s1pro.corpus.narrative.judging import alike
from s1pro.corpus.narrative.rollouts import Chat
from s1pro.corpus.narrative.sources import Loaded
from s1pro.corpus.write import write_samples
from s1pro.science.facts.grammar import Described, Grammar
from s1pro.science.facts.lint import lint_text
from s1pro.science.facts.schema import Schema
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain

MOST_ALIKE = 0.7
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:[.,]\d+)*")
_TAGGED = re.compile(r"<(SMILES|protein|dna|rna)>.*?</\1>")
_TALK = re.compile(
    r"\b(?:rewrit|rephras|paraphras|as an ai|the text (?:above|below)|sure[,!]|here(?: is|'s) the)", re.IGNORECASE
)
_ASK = (
    "Rewrite the following text in other words and another order, as a scientist would tell it. Keep every name, "
    "number, unit and notation exactly as it is written, add nothing, leave nothing out. Answer with the text alone."
    "\n\n"
)


@dataclass(frozen=True, kw_only=True)
class RewriteReport:
    """Counts; `asked` were asked now."""

    texts: int
    asked: int
    reasons: Mapping[str, int]
    kept: int


def judge_rewrite(rewrite: str, described: Described, schema: Schema, finish_reason: str = "stop") -> str:
    """ "right", or the first reason to reject a rewrite."""
    text = rewrite.strip()
    if finish_reason != "stop":
        return "cut_off"
    if _TALK.search(text):
        return "talk"
    for name, value in described.shown.items():
        column = schema.by_name[name]
        if column.type != "flag" and column.kind.write(value) not in text:
            return "value_lost"
    added = _numbers(text) - _numbers(described.text)
    if added:
        return "number_added"
    if lint_text(text):
        return "faulty"
    if not 0.5 <= len(text) / len(described.text) <= 2:
        return "length"
    return "too_alike" if alike(text, described.text) > MOST_ALIKE else "right"


async def rewrite_folder(
    folder: Path, loaded: Loaded, client: Chat, *, texts: int, seed: int = 0, concurrency: int = 8
) -> RewriteReport:
    """Rewrites descriptions of the training split into `rewrites/train.parquet`.

    Raises:
        InputError: no records in the training split.
    """
    described = list(_described(loaded, texts, seed))
    if not described:
        raise InputError("the training split has no records to describe")
    log = folder / "rewrites" / "rewrites.jsonl"
    known = _read(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    gate = asyncio.Semaphore(concurrency)
    asked = 0
    with log.open("a", encoding="utf-8") as lines:

        async def one(item: Described) -> tuple[str, str]:
            nonlocal asked
            key = _key(item.text)
            if key not in known:
                async with gate:
                    completion = await client.chat(_messages(item, loaded.schema), _sampling(key))
                asked += 1
                entry = {"key": key, "text": item.text, "rewrite": completion.text, "finish": completion.finish_reason}
                lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
                lines.flush()
                os.fsync(lines.fileno())
                known[key] = entry
            entry = known[key]
            return entry["rewrite"].strip(), judge_rewrite(entry["rewrite"], item, loaded.schema, entry["finish"])

        judged = await asyncio.gather(*(one(item) for item in described))
    samples = list(_samples(described, judged, loaded))
    if samples:
        write_samples(samples, folder / "rewrites" / "train.parquet")
    reasons = dict(sorted(Counter(reason for _, reason in judged).items()))
    return RewriteReport(texts=len(described), asked=asked, reasons=reasons, kept=len(samples))


def _described(loaded: Loaded, texts: int, seed: int) -> Iterator[Described]:
    grammar = Grammar(loaded.schema)
    records = split_records(loaded.records)["train"]
    rng = random.Random(f"rewrites {seed}")
    for record in rng.sample(records, min(texts, len(records))):
        try:
            yield grammar.describe(record, rng)
        except ValueError:
            continue  # counted as untold by the build of descriptions


def _samples(described: Sequence[Described], judged: Sequence[tuple[str, str]], loaded: Loaded) -> Iterator[Sample]:
    schema = loaded.schema
    groups = {record.entity: record.group for record in loaded.records}
    for item, (text, reason) in zip(described, judged, strict=True):
        if reason == "right":
            entity = str(item.shown[schema.entity.name])
            yield Sample(
                source=f"narrative-{schema.name}-rewrites",
                prompt_group=group_of_domain(schema.domain),
                text=text,
                entity=groups[entity],
                meta={"domain": schema.domain, "form": "rewrite", "entities": [entity]},
            )


def _messages(item: Described, schema: Schema) -> tuple[Message, ...]:
    system = SYSTEM_PROMPTS[group_of_domain(schema.domain)]
    return (Message(role="system", content=system), Message(role="user", content=_ASK + item.text))


def _sampling(key: str) -> Sampling:
    return Sampling(max_new_tokens=1024, temperature=0.9, seed=int(key[:7], 16))


def _numbers(text: str) -> Counter[str]:
    return Counter(number.replace("−", "-") for number in _NUMBER.findall(_TAGGED.sub(" ", text)))


def _key(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """Earlier answers; a last line that was cut off is left out and removed."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    try:
        entries = [json.loads(line) for line in whole.decode().splitlines()]
        return {entry["key"]: entry for entry in entries if entry["rewrite"] is not None and entry["finish"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the rewrites of an earlier run ({error})") from error
