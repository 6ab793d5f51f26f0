"""Records of benchmarks from exported files: JSONL, JSON lists, CSV, TSV, Parquet; checked against the upstream schema.

A file that is wrong is refused whole, with its line and field: scores of half a benchmark look like scores of a whole.
"""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError

MAX_BYTES = 8_000_000_000
Fields = Mapping[str, type | tuple[type, ...]]


def read_records(path: Path, fields: Fields) -> list[dict[str, Any]]:
    """All records of a file; see `located_records`."""
    return [record for _, record in located_records(path, fields)]


def located_records(path: Path, fields: Fields) -> list[tuple[str, dict[str, Any]]]:
    """All records of a file, each with the place it stands at ("line 3").

    Args:
        fields: names and types that every record must have; others may be there too. Numbers in CSV and TSV are text
            and are converted where a number is expected.

    Raises:
        InputError: no such file, an unknown ending, a broken line, a missing field or one of the wrong type.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size:,} bytes, more than the {MAX_BYTES:,} that a benchmark may have")
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _tsv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: unknown ending; a benchmark is one of {', '.join(readers)}")
    records = []
    for where, record in _decoded(readers[path.suffix](path), path):
        is_text = path.suffix in (".csv", ".tsv")
        records.append((where, _checked(record, fields, f"{path}, {where}", is_text=is_text)))
    if not records:
        raise InputError(f"{path}: there are no records")
    return records


def _checked(record: Any, fields: Fields, where: str, *, is_text: bool) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise InputError(
            f"{where}: expected an object with the fields {', '.join(fields)}, got {type(record).__name__}"
        )
    for name, wanted in fields.items():
        if name not in record:
            raise InputError(
                f"{where}: the field {name!r} is missing; there are {', '.join(map(str, record)) or 'none'}"
            )
        types = wanted if isinstance(wanted, tuple) else (wanted,)
        if is_text and isinstance(record[name], str) and str not in types:
            record[name] = _number(record[name], types, f"{where}, field {name!r}")
        value = record[name]
        fits = isinstance(value, types) and not (isinstance(value, bool) and bool not in types)
        if not fits and not (float in types and isinstance(value, int) and not isinstance(value, bool)):
            names = " or ".join(t.__name__ for t in types)
            raise InputError(f"{where}: the field {name!r} is {value!r:.60}, expected {names}")
    return record


def _decoded(records: Iterator[tuple[str, Any]], path: Path) -> Iterator[tuple[str, Any]]:
    try:
        yield from records
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error


def _number(text: str, types: tuple[type, ...], where: str) -> Any:
    """A cell as one of the types: numbers by themselves, lists and objects as JSON or Python literals."""
    for kind in types:
        try:
            if kind in (list, dict):
                return ast.literal_eval(text)  # constants only, it runs nothing
            return text.strip().lower() == "true" if kind is bool else kind(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    raise InputError(f"{where}: {text!r:.60} is no {' or '.join(t.__name__ for t in types)}")


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: not JSON ({error})") from error


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, list):
        raise InputError(f"{path}: expected a list of records, got {type(data).__name__}")
    for number, record in enumerate(data, start=1):
        yield f"record {number}", record


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _table(path, ",")


def _tsv(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _table(path, "\t")


def _table(path: Path, delimiter: str) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(min(sys.maxsize, MAX_BYTES))  # pictures come as base64 in a cell
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            for record in reader:
                if None in record or None in record.values():
                    raise InputError(f"{path}, line {reader.line_num}: not as many cells as the first line has names")
                yield f"line {reader.line_num}", dict(record)
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}") from error


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({error})") from error
    number = 0
    for batch in file.iter_batches():
        for record in batch.to_pylist():
            number += 1
            yield f"row {number}", record
