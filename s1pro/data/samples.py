"""Reading samples: JSONL and Parquet files, or folders of them, in order and with bounded memory.

A line of JSONL is one sample: `{"source", "prompt_group", "text" or "messages", "entity", "meta"}`. Parquet has the
same columns, with `messages` and `meta` as JSON text or nested values. Anything else is an error that names file and
line (JSONL) or row (Parquet).

Media are named in parts of a message (`{"type": "image", "image": "media/7f/….png"}`). Relative paths are relative to
the folder of the data file; they become absolute here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message, PromptGroup, Sample

SAMPLE_KEYS = ("source", "prompt_group", "text", "messages", "entity", "meta")
MESSAGE_KEYS = ("role", "content", "reasoning_content", "tool_calls")
ROLES = ("system", "user", "assistant", "tool")
MEDIA_KEYS = ("image", "image_url", "video", "video_url", "time_series")
_URL = re.compile(r"(?i)(data:|[a-z][a-z0-9+.-]*://)")
GROUPS: tuple[PromptGroup, ...] = ("science", "general")


def read_samples(path: Path) -> Iterator[Sample]:
    """Samples of a `.jsonl` or `.parquet` file, or of all such files of a folder in name order.

    Raises:
        InputError: nothing to read, or a bad sample, with file and line (JSONL) or row (Parquet).
    """
    for file in data_files(path):
        yield from _read_jsonl(file) if file.suffix == ".jsonl" else _read_parquet(file)


def data_files(path: Path) -> list[Path]:
    """The files behind `path`."""
    if path.is_file() and path.suffix in (".jsonl", ".parquet"):
        return [path]
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".jsonl", ".parquet") and not p.name.startswith("."))
        if found:
            return found
    raise InputError(f"{path}: no .jsonl or .parquet file there")


def sample_from_json(data: Any, where: str, *, folder: Path | None = None) -> Sample:
    """One sample from decoded JSON; `where` begins the error message, `folder` is where relative media paths begin."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: a sample is a JSON object, got {data!r:.80}")
    unknown = sorted(set(data) - set(SAMPLE_KEYS))
    if unknown:
        raise InputError(f"{where}: unknown field {', '.join(unknown)}; known: {', '.join(SAMPLE_KEYS)}")
    group, source = data.get("prompt_group"), data.get("source")
    if group not in GROUPS:
        raise InputError(f"{where}: prompt_group must be one of {', '.join(GROUPS)}, got {group!r}")
    if not isinstance(source, str):
        raise InputError(f"{where}: source must be text, got {source!r}")
    text, messages = data.get("text"), data.get("messages")
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where}: text must be text, got {text!r:.80}")
    try:
        return Sample(
            source=source,
            prompt_group=group,
            text=text,
            messages=None if messages is None else _messages(messages, where, folder),
            entity=str(data.get("entity") or ""),
            meta=data.get("meta") or {},
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _messages(data: Any, where: str, folder: Path | None) -> tuple[Message, ...]:
    if not isinstance(data, (list, tuple)) or not data:
        raise InputError(f"{where}: messages must be a list with at least one turn, got {data!r:.80}")
    messages = []
    for i, turn in enumerate(data):
        if not isinstance(turn, Mapping) or turn.get("role") not in ROLES:
            raise InputError(f"{where}: message {i} needs a role out of {', '.join(ROLES)}, got {turn!r:.80}")
        unknown = sorted(set(turn) - set(MESSAGE_KEYS))
        if unknown:
            raise InputError(f"{where}: message {i} has unknown field {', '.join(unknown)}")
        if not isinstance(turn.get("content"), (str, list, tuple)):
            raise InputError(f"{where}: message {i} needs content as text or a list of parts")
        given = {key: turn[key] for key in MESSAGE_KEYS if turn.get(key) is not None}
        if folder is not None and not isinstance(given["content"], str):
            given["content"] = [_located(part, folder) for part in given["content"]]
        messages.append(Message(**given))
    return tuple(messages)


def _located(part: Any, folder: Path) -> Any:
    """The part with its media path made absolute; `data:` and other URLs stay as they are."""
    if not isinstance(part, Mapping):
        return part
    return {key: _path(value, folder) if key in MEDIA_KEYS else value for key, value in part.items()}


def _path(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_path(item, folder) for item in value]
    if isinstance(value, Mapping):  # {"url": …}
        return {key: _path(item, folder) if key == "url" else item for key, item in value.items()}
    if not isinstance(value, str) or _URL.match(value):
        return value
    return str((folder / value).absolute())


def _read_jsonl(file: Path) -> Iterator[Sample]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file}:{number}"
            try:
                data = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise InputError(f"{where}: not a line of JSON ({error})") from error
            yield sample_from_json(data, where, folder=file.parent)


def _read_parquet(file: Path) -> Iterator[Sample]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: not a Parquet file ({error})") from error
    row = 0
    with table:
        for batch in table.iter_batches(batch_size=1024):
            for data in batch.to_pylist():
                where = f"{file} row {row}"
                yield sample_from_json(_decoded(data, where), where, folder=file.parent)
                row += 1


def _decoded(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Parquet cells that hold JSON text become values."""
    for name in ("messages", "meta"):
        cell = row.get(name)
        if isinstance(cell, str):
            try:
                row[name] = json.loads(cell) if cell else None
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: {name} is not JSON ({error})") from error
    return row
