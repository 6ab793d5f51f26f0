"""A folder of narratives: records, split by group, then descriptions and tasks in their forms.

    folder/
      records.jsonl                     every record with its split and group
      descriptions/train.parquet        documents; also validation
      qa/train.parquet, mcq/…           conversations under the system prompt of the domain; also validation
      manifest.json                     settings, what was dropped and why, splits, isolation matrix, diversity

1. Records are divided by their group (scaffold, sequence cluster, composition, block of years, declared column) before
   any text is made, so no entity is in two splits, in whatever form. Comparisons and choices draw from one split only.
2. Test records appear in `records.jsonl` and nowhere else.
3. Every text has been read back by the grammar that wrote it; an entity that no wording can tell is counted.
4. `corpus.write` refuses samples whose prompt group is not that of their domain; the manifest's isolation matrix counts
   pairs "domain group/prompt group" and must be diagonal.

The same command given again makes only what is missing (`corpus.manifest`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.corpus.manifest import Progress, ResumableFolder
from s1pro.corpus.narrative.sources import Loaded, SourceSettings
from s1pro.corpus.write import Written, atomic_path
from s1pro.science.facts.forms import FORMS, Form, Forms, Task
from s1pro.science.facts.grammar import Grammar
from s1pro.science.facts.quantities import Quantity
from s1pro.science.facts.schema import Record, Schema
from s1pro.science.split import SPLITS, Split, split_of
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain

FORMAT_VERSION = 1
_TOLD: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True, kw_only=True)
class NarrativeCorpus:
    """Settings of a build.

    Attributes:
        passes: descriptions per record, each in other words.
        max_sentences: of a description, at most.
        tasks: tasks of each form for training; validation gets a tenth. 0 leaves a form out. Fewer where the records do
            not allow so many different ones.
    """

    seed: int = 0
    passes: int = 2
    max_sentences: int = 8
    tasks: Mapping[str, int] = field(default_factory=lambda: {form: 2000 for form in FORMS if form != "description"})
    source: SourceSettings = field(default_factory=SourceSettings)


@dataclass(frozen=True, kw_only=True)
class NarrativeReport:
    """What a folder holds; the same values are in its manifest.

    Attributes:
        records, groups: per split.
        untold: entities without an unambiguous wording, per split.
        isolation: samples per "domain group/prompt group".
        diversity: per file: texts, different texts, different first five words, different runs of three words.
    """

    folder: Path
    read: int
    dropped: Mapping[str, int]
    records: Mapping[str, int]
    groups: Mapping[str, int]
    untold: int
    files: Mapping[str, Written]
    isolation: Mapping[str, int]
    diversity: Mapping[str, Mapping[str, int]]
    reused: tuple[str, ...]


def build_narratives(
    folder: Path, loaded: Loaded, settings: NarrativeCorpus | None = None, *, progress: Progress | None = None
) -> NarrativeReport:
    """Builds the folder, or what is missing of it.

    Raises:
        InputError: settings without effect, or an entity that lies in two splits.
    """
    settings = settings or NarrativeCorpus()
    _check(settings)
    parts = split_records(loaded.records)
    wanted = {"format": FORMAT_VERSION, "schema": _schema_json(loaded.schema), **config_to_json(settings)}
    building = ResumableFolder(folder, {**wanted, "records": _digest(loaded.records)}, progress)
    write_records(folder / "records.jsonl", parts)
    grammar = Grammar(loaded.schema)
    counters = _Counters(building.manifest)
    for name, make in _files(grammar, parts, settings).items():
        building.file(name, functools.partial(counters.counted, name, make))
    files = building.files()
    isolation: Counter[str] = Counter()
    for written in files.values():
        isolation.update(written.isolation)
    sizes: dict[str, int] = {split: len(part) for split, part in parts.items()}
    groups: dict[str, int] = {split: len({record.group for record in part}) for split, part in parts.items()}
    values: dict[str, Any] = {
        "read": loaded.read, "dropped": dict(loaded.dropped), "split": {"records": sizes, "groups": groups},
        "isolation": dict(isolation), "diversity": counters.diversity, "untold": counters.untold,
    }  # fmt: skip
    building.finish(**values)
    return NarrativeReport(
        folder=folder, read=loaded.read, dropped=loaded.dropped, records=sizes, groups=groups,
        untold=sum(counters.untold.values()), files=files, isolation=dict(isolation), diversity=counters.diversity,
        reused=tuple(building.reused),
    )  # fmt: skip


def split_records(records: Iterable[Record]) -> dict[Split, list[Record]]:
    """Records by the split of their group.

    Raises:
        InputError: one entity has records in groups of different splits.
    """
    parts: dict[Split, list[Record]] = {split: [] for split in SPLITS}
    seen: dict[str, tuple[Split, str]] = {}
    for record in records:
        split = split_of(record.group)
        other, group = seen.setdefault(record.entity, (split, record.group))
        if other != split:
            raise InputError(
                f"the entity {record.entity!r} is in the groups {group!r} ({other}) and {record.group!r} ({split}): "
                "give all its rows one group"
            )
        parts[split].append(record)
    return parts


def descriptions(grammar: Grammar, records: Sequence[Record], settings: NarrativeCorpus) -> Iterator[Sample | str]:
    """`passes` documents per record; for a record that cannot be told its entity instead."""
    schema = grammar.schema
    for number in range(settings.passes):
        for record in records:
            rng = random.Random(f"{settings.seed} {number} {record.entity} {sorted(map(str, record.values.values()))}")
            try:
                described = grammar.describe(record, rng, max_sentences=settings.max_sentences)
            except ValueError:
                yield record.entity
                continue
            yield Sample(
                source=f"narrative-{schema.name}-descriptions",
                prompt_group=group_of_domain(schema.domain),
                text=described.text,
                entity=record.group,
                meta={"domain": schema.domain, "form": "description", "entities": [record.entity]},
            )


def conversation(task: Task, schema: Schema) -> Sample:
    """A task as a conversation under the system prompt of its domain."""
    group = group_of_domain(schema.domain)
    messages = (
        Message(role="system", content=SYSTEM_PROMPTS[group]),
        Message(role="user", content=task.prompt),
        Message(role="assistant", content=task.answer),
    )
    meta = {
        "domain": schema.domain, "form": task.form, "column": task.column, "entities": list(task.entities),
        "groups": list(task.groups), "gold": gold_text(task.gold),
    }  # fmt: skip
    return Sample(
        source=f"narrative-{schema.name}-{task.form}",
        prompt_group=group,
        messages=messages,
        entity=task.groups[0],
        meta=meta,
    )


def make_tasks(
    grammar: Grammar, form: Form, records: Sequence[Record], count: int, split: Split, seed: int
) -> Iterator[Task]:
    """Up to `count` tasks of one form from the records of one split; the same for the same seed."""
    return Forms(grammar).make(form, records, count, random.Random(f"{seed} {form} {split}"))


def gold_text(gold: Any) -> str:
    """A gold answer as text."""
    if isinstance(gold, bool):
        return "yes" if gold else "no"
    return "; ".join(gold) if isinstance(gold, tuple) else str(gold)


def write_records(path: Path, parts: Mapping[Split, Sequence[Record]]) -> None:
    """All records as JSON lines: split, group, entity, values as they are printed."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for split, part in parts.items():
            for record in part:
                values = {name: _plain(value) for name, value in record.values.items() if value is not None}
                line = {"split": split, "group": record.group, "entity": record.entity, "values": values}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _files(
    grammar: Grammar, parts: Mapping[Split, Sequence[Record]], settings: NarrativeCorpus
) -> dict[str, Callable[[], Iterator[Sample | str]]]:
    """File name to the function that gives its samples; only what has any."""
    files: dict[str, Callable[[], Iterator[Sample | str]]] = {}
    for split in _TOLD:
        records = parts[split]
        if settings.passes and records:
            files[f"descriptions/{split}"] = functools.partial(descriptions, grammar, records, settings)
        for form in FORMS:
            wanted = settings.tasks.get(form, 0) if split == "train" else -(-settings.tasks.get(form, 0) // 10)
            make = functools.partial(_conversations, grammar, form, records, wanted, split, settings.seed)
            if wanted and next(make(), None) is not None:
                files[f"{form}/{split}"] = make
    return files


def _conversations(
    grammar: Grammar, form: Form, records: Sequence[Record], count: int, split: Split, seed: int
) -> Iterator[Sample | str]:
    for task in make_tasks(grammar, form, records, count, split, seed):
        yield conversation(task, grammar.schema)


class _Counters:
    """Diversity and what could not be told, per file, kept in the manifest for files that are reused."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.diversity: dict[str, dict[str, int]] = dict(manifest.get("diversity", {}))
        self.untold: dict[str, int] = dict(manifest.get("untold", {}))

    def counted(self, name: str, make: Callable[[], Iterable[Sample | str]]) -> Iterator[Sample]:
        texts: set[int] = set()
        openings: set[str] = set()
        runs: set[tuple[str, ...]] = set()
        total = 0
        untold = 0
        for sample in make():
            if isinstance(sample, str):
                untold += 1
                continue
            text = sample.text or next(m.text for m in sample.messages or () if m.role == "user")
            parts = text.split()
            total += 1
            texts.add(hash(text))
            openings.add(" ".join(parts[:5]))
            runs.update(zip(parts, parts[1:], parts[2:], strict=False))
            yield sample
        self.untold[name] = untold
        self.diversity[name] = {
            "texts": total, "different": len(texts), "openings": len(openings), "trigrams": len(runs),
        }  # fmt: skip


def _check(settings: NarrativeCorpus) -> None:
    unknown = sorted(set(settings.tasks) - set(FORMS))
    if unknown or "description" in settings.tasks:
        forms = ", ".join(form for form in FORMS if form != "description")
        raise InputError(f"tasks: no such form: {', '.join(unknown) or 'description (see passes)'}; known: {forms}")
    if settings.passes < 0 or min(settings.tasks.values(), default=0) < 0 or settings.max_sentences < 1:
        raise InputError("passes and tasks are at least 0, max_sentences at least 1")
    if not settings.passes and not any(settings.tasks.values()):
        raise InputError("passes is 0 and so are all tasks: nothing would be written")


def _schema_json(schema: Schema) -> dict[str, Any]:
    return {
        "name": schema.name, "domain": schema.domain, "noun": schema.noun, "sentences": list(schema.sentences),
        "columns": [json.loads(json.dumps(dataclasses.asdict(c), default=str)) for c in schema.columns],
    }  # fmt: skip


def _digest(records: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr((record.entity, record.group, sorted(map(str, record.values.items())))).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Quantity) else value
