"""Units of work: named by what goes into them, finished exactly when a valid manifest says so.

A unit is a stage, the version of its code, the digest of its settings and the sorted hashes of its inputs; a BLAKE2b of
these (20 hexadecimal digits) is its key. The same work therefore has the same name on every machine, changed settings
or inputs give other units, and nothing that is finished is done twice.

    stages/ingest/<key>.documents.parquet     the tables of the unit
    stages/ingest/<key>.elements.parquet
    stages/ingest/<key>.json                  manifest: rows, size and SHA-256 of each table, one status per input
    stages/ingest/<key>.costs.json            seconds, memory, attempts: what differs between runs, kept apart
    stages/ingest/<key>.lease                 somebody works on it (corpus/leases.py)

Commit: every table is written under a temporary name, flushed to the disk and renamed, then the manifest likewise. A
crash between the two leaves tables without a manifest, which are made again to the same bytes. A manifest carries a
digest of itself, so a damaged one counts as none, and so does one whose tables are missing, cut short or altered.

Grouping. `chunks` cuts a sorted list of hashes where a hash itself says so (content-defined chunking): a document
more changes the one chunk it falls into, and no other unit.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.corpus.leases import Lease
from s1pro.corpus.tables import write_rows
from s1pro.corpus.write import file_digest

KEY_DIGITS = 20
# A chunk is cut at the latest when it has so many times the wanted number of inputs.
_LONGEST_CHUNK = 4


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of work.

    Attributes:
        settings: digest of the settings that change the result.
        inputs: hashes of the inputs, sorted.
        work: what the stage needs to find its inputs (paths, keys of other units); not part of the identity.
    """

    stage: str
    version: int
    settings: str
    inputs: tuple[str, ...]
    work: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        text = json.dumps([self.stage, self.version, self.settings, sorted(self.inputs)])
        return hashlib.blake2b(text.encode(), digest_size=KEY_DIGITS // 2).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one kind that a unit gives."""

    kind: type[Any]
    rows: Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a unit gives: tables by name, one terminal status per input, and costs (JSON values)."""

    tables: Mapping[str, Table]
    statuses: Mapping[str, str]
    costs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished unit says about itself."""

    key: str
    files: Mapping[str, Mapping[str, Any]]
    statuses: Mapping[str, str]


class UnitFolder:
    """The units of one stage on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, unit: Unit | str, name: str) -> Path:
        return self.folder / f"{_key(unit)}.{name}.parquet"

    def manifest(self, unit: Unit | str, *, check: bool = True) -> Manifest | None:
        """The manifest of a finished unit; None if there is no valid one.

        Args:
            check: read the tables and compare their digests; else only their sizes.
        """
        found = _read_manifest(self.folder / f"{_key(unit)}.json")
        if found is None or found.key != _key(unit):
            return None
        for name, entry in found.files.items():
            path = self.table(unit, name)
            if not path.is_file() or path.stat().st_size != entry["bytes"]:
                return None
            if check and file_digest(path) != entry["sha256"]:
                return None
        return found

    def costs(self, unit: Unit | str) -> dict[str, Any]:
        """What the unit cost; empty if that is not known."""
        try:
            return dict(json.loads((self.folder / f"{_key(unit)}.costs.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def lease(self, unit: Unit, *, expiry: float) -> Lease:
        return Lease(self.folder / f"{unit.key}.lease", expiry=expiry)

    def commit(self, unit: Unit, outcome: Outcome, *, pages: int = 0) -> Manifest:
        """Makes the unit finished.

        Args:
            pages: for the costs.

        Raises:
            InputError: the disk is full; nothing is finished then, and no temporary file is left.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            files = {name: self._write_table(unit, name, table) for name, table in outcome.tables.items()}
            content = {"unit": _identity(unit), "files": files, "statuses": dict(sorted(outcome.statuses.items()))}
            write_durably(self.folder / f"{unit.key}.costs.json", _json({"pages": pages, **outcome.costs}))
            write_durably(self.folder / f"{unit.key}.json", _json({**content, "digest": _digest(content)}))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise InputError(f"{self.folder}: no space left; make room and give the same command again") from error
            raise
        return Manifest(key=unit.key, files=files, statuses=content["statuses"])

    def sweep(self, unit: Unit) -> None:
        """Removes temporary files that a killed process left for this unit. Only for the holder of its lease."""
        for path in self.folder.glob(f".{unit.key}.*.tmp"):
            path.unlink(missing_ok=True)

    def _write_table(self, unit: Unit, name: str, table: Table) -> dict[str, Any]:
        path, count = self.table(unit, name), 0

        def fill(temporary: Path) -> None:
            nonlocal count
            count = write_rows(temporary, table.kind, table.rows, settings=unit.settings)

        replace_durably(path, fill)
        return {"rows": count, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def digest_of(value: Any) -> str:
    """Digest of settings or other JSON values, 32 hexadecimal digits."""
    return _digest(value)[:32]


def digest_of_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Digest of plain rows, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def chunks(hashes: Iterable[str], wanted: int) -> list[tuple[str, ...]]:
    """Groups of about `wanted` hexadecimal hashes, the same whatever their order; see the module docstring."""
    groups: list[tuple[str, ...]] = []
    group: list[str] = []
    for item in sorted(set(hashes)):
        group.append(item)
        cut = int(hashlib.blake2b(item.encode(), digest_size=8).hexdigest(), 16) % wanted == 0
        if cut or len(group) == _LONGEST_CHUNK * wanted:
            groups.append(tuple(group))
            group = []
    return [*groups, tuple(group)] if group else groups


def write_durably(path: Path, text: str) -> None:
    """Writes a text file that is whole or not there, even after a power cut."""

    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_durably(path, fill)


def replace_durably(path: Path, fill: Callable[[Path], None]) -> None:
    """`fill` writes a temporary file beside `path`; it is flushed, renamed, and the folder is flushed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fill(temporary)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_manifest(path: Path) -> Manifest | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stated = content.pop("digest")
        if stated != _digest(content):
            return None
        return Manifest(key=content["unit"]["key"], files=content["files"], statuses=content["statuses"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _identity(unit: Unit) -> dict[str, Any]:
    return {
        "key": unit.key,
        "stage": unit.stage,
        "version": unit.version,
        "settings": unit.settings,
        "inputs": sorted(unit.inputs),
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _key(unit: Unit | str) -> str:
    return unit if isinstance(unit, str) else unit.key
