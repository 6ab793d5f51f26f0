"""Writing samples and molecules: Parquet or JSONL, whole files or none, nothing under the wrong system prompt.

A file is written under a temporary name and renamed when it is complete, so that a reader never sees half of it. Every
sample passes `check_isolation`: the domain in its `meta` decides the prompt group, and a sample that says otherwise, or
whose system message belongs to the other group, is refused. Both formats are what the training side reads
(`source, prompt_group, text, messages, entity, meta`; in Parquet `messages` and `meta` are JSON text).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.science.molecules import Molecule
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain

ROWS_PER_GROUP = 4096


@dataclass(frozen=True, kw_only=True)
class Written:
    """One finished file.

    Attributes:
        samples, characters: how much is in it.
        sha256: digest of the file.
        isolation: how many samples of each pair "domain group/prompt group"; only equal pairs can occur.
    """

    file: str
    samples: int
    characters: int
    sha256: str
    isolation: Mapping[str, int]


def check_isolation(sample: Sample) -> None:
    """Refuses a sample whose prompt group is not that of its domain.

    Raises:
        InputError: no or an unknown domain, the wrong group, or a system prompt of the other group.
    """
    try:
        wanted = group_of_domain(str(sample.meta.get("domain", "")))
    except ValueError as error:
        raise InputError(f"sample of source {sample.source!r}: {error}") from error
    if sample.prompt_group != wanted:
        domain = sample.meta["domain"]
        raise InputError(
            f"sample of source {sample.source!r}: the domain {domain!r} belongs to the prompt group {wanted!r}, "
            f"but the sample says {sample.prompt_group!r}"
        )
    for message in sample.messages or ():
        if message.role == "system" and message.content != SYSTEM_PROMPTS[wanted]:
            raise InputError(
                f"sample of source {sample.source!r}: the system prompt of the group {wanted!r} is "
                f"{SYSTEM_PROMPTS[wanted]!r}, not {message.content!r}"
            )


def write_samples(samples: Iterable[Sample], path: Path) -> Written:
    """Writes a `.parquet` or `.jsonl` file.

    Raises:
        InputError: another ending, no samples, or a sample that breaks the isolation; nothing is left behind then.
    """
    if path.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{path}: samples are written as .parquet or .jsonl")
    counts: Counter[str] = Counter()
    isolation: Counter[str] = Counter()
    rows = _counted_rows(samples, counts, isolation)
    with atomic_path(path) as temporary:
        (_write_parquet if path.suffix == ".parquet" else _write_jsonl)(rows, temporary)
        if not counts["samples"]:
            raise InputError(f"{path}: there are no samples to write")
    return Written(
        file=path.name,
        samples=counts["samples"],
        characters=counts["characters"],
        sha256=file_digest(path),
        isolation=dict(isolation),
    )


def write_molecules(molecules: Sequence[Molecule], path: Path) -> None:
    """Writes labelled molecules as Parquet; `atoms` as JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{**m.as_dict(), "atoms": json.dumps(dict(m.atoms))} for m in molecules]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def read_molecules(path: Path) -> list[Molecule]:
    """The inverse of `write_molecules`. Raises `InputError` for a missing or other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
        return [Molecule.from_dict({**row, "atoms": json.loads(row["atoms"])}) for row in rows]
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of molecules ({error})") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end; removed if anything goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counted_rows(samples: Iterable[Sample], counts: Counter[str], isolation: Counter[str]) -> Iterator[dict[str, Any]]:
    for sample in samples:
        check_isolation(sample)
        isolation[f"{group_of_domain(str(sample.meta['domain']))}/{sample.prompt_group}"] += 1
        counts["samples"] += 1
        counts["characters"] += len(sample.text or "") + sum(len(m.text) for m in sample.messages or ())
        yield {
            "source": sample.source,
            "prompt_group": sample.prompt_group,
            "text": sample.text,
            "messages": None if sample.messages is None else [message.as_dict() for message in sample.messages],
            "entity": sample.entity,
            "meta": dict(sample.meta),
        }


def _write_jsonl(rows: Iterable[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False) + "\n")


def _write_parquet(rows: Iterable[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [(name, pa.string()) for name in ("source", "prompt_group", "text", "messages", "entity", "meta")]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append({**row, "messages": _json_cell(row["messages"]), "meta": _json_cell(row["meta"])})
            if len(batch) == ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch.clear()
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _json_cell(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
