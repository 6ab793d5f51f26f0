"""Reading and writing the small files of a tokenizer: bounded, checked, and never half-written.

A folder is data from outside. Every reader here has a size limit and turns whatever is wrong into an `InputError` that
names the file and the field. Writers create all files under temporary names first and rename them at the end, so an
interrupted save leaves each old file as it was; files with other names in the folder are not touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError, no_folder

MAX_FILE_BYTES = 128 * 2**20


def read_file(folder: Path, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of `folder/name`.

    Raises:
        InputError: the folder or the file is missing, is not a file, or is larger than `max_bytes`.
    """
    path = folder / name
    if not path.is_file():
        what = "there is no such file" if folder.is_dir() else no_folder(folder)
        raise InputError(f"{path}: {what}; a tokenizer folder needs {name}")
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError(f"{path}: {size} bytes, more than the limit of {max_bytes}; this is not the expected file")
    return path.read_bytes()


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `data`. Duplicate keys are an error: one of the two values would be lost."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of thousands of digits, too deep
        raise InputError(f"{name}: not valid JSON: {error}") from error
    except _DuplicateKey as error:
        raise InputError(f"{name}: the key {error.args[0]!r} appears twice") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: expected a JSON object, got {type(value).__name__}")
    return value


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Errors about the content of a file say in which folder it lies."""
    try:
        yield
    except InputError as error:
        text = str(error)
        if type(error) is not InputError or text.startswith(str(folder)):
            raise
        file = text.partition(":")[0]
        raise InputError(f"{folder / text}" if (folder / file).is_file() else f"{folder}: {text}") from error


def parse_text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8: {error}") from error


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes all files or, if writing fails, none: temporary names, flushed to disk, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = {name: folder / f".{name}.{os.getpid()}.tmp" for name in files}
    try:
        for name, data in files.items():
            with temporary[name].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name, path in temporary.items():
            path.replace(folder / name)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def dump_json(value: Any) -> bytes:
    """JSON as the files of this room are written: indented, keys in the given order, characters kept."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


class _DuplicateKey(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        raise _DuplicateKey(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return result
