"""Rows to Parquet and back, always to the same bytes.

A row is a frozen dataclass of `corpus/records.py`. Its Parquet schema follows from its annotations:

    str, Literal -> string      int -> int64       float -> double      bool -> bool      bytes -> binary
    tuple[X, ...], boxes -> list of X     a dataclass -> struct     X | None -> the same, nullable

Columns of text and numbers are compressed with zstd; columns of bytes hold pictures that are compressed already and
are stored as they are, without dictionary or statistics, so that reading the other columns never touches them. The
file says in its metadata which row it holds, the version of that layout and the digest of the settings it was made
with. Nothing in it depends on the clock or the machine: the same rows give the same bytes (with the same version of
pyarrow).

Text that is no Unicode (halves of surrogate pairs, from broken fonts) is repaired on the way.

`to_plain` and `from_plain` are the same mapping for JSON: pipes between processes carry rows so, with the pictures
beside the JSON.

Versions. A column that a row knows and a file lacks takes the default of the row, so new optional fields read old
files; a column that the row does not know is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from s1pro.base.errors import InputError

LAYOUT = 1
ROWS_PER_GROUP = 128

Row = TypeVar("Row")


def write_rows(path: Path, kind: type[Any], rows: Iterable[Any], *, settings: str) -> int:
    """Writes all rows to `path` and gives their number. The caller cares for temporary names.

    Args:
        kind: the dataclass of the rows.
        settings: digest of the settings that the rows were made with; goes into the metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(kind).with_metadata(
        {"s1pro.rows": kind.__name__, "s1pro.layout": str(LAYOUT), "s1pro.settings": settings}
    )
    plain = [path for name in schema.names for path in _leaves(name, schema.field(name).type)]
    pictures = {name for name in schema.names if schema.field(name).type == pa.binary()}
    packed = [path for path in plain if path not in pictures]
    written = 0
    with pq.ParquetWriter(
        path,
        schema,
        compression={**dict.fromkeys(packed, "zstd"), **dict.fromkeys(pictures, "none")},
        use_dictionary=packed,
        write_statistics=packed,
    ) as writer:
        for group in _groups(rows, ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_pylist([to_plain(row) for row in group], schema))
            written += len(group)
    return written


def read_rows(path: Path, kind: type[Row], *, without: Sequence[str] = ()) -> list[Row]:
    """All rows of a file.

    Args:
        without: columns that are not read, such as the pictures; their fields take the default.

    Raises:
        InputError: the file is missing, damaged, or holds other rows.
    """
    return list(iter_rows(path, kind, without=without))


def iter_rows(path: Path, kind: type[Row], *, without: Sequence[str] = ()) -> Iterator[Row]:
    """Like `read_rows`, a group of rows at a time, so that memory stays bounded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            held = (file.schema_arrow.metadata or {}).get(b"s1pro.rows", b"").decode()
            if held != kind.__name__:
                raise InputError(f"{path}: holds {held or 'other'} rows, not {kind.__name__}")
            columns = [name for name in file.schema_arrow.names if name not in without]
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=columns):
                yield from (from_plain(kind, row) for row in batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from error


def read_column(path: Path, column: str, group: int) -> list[Any]:
    """One column of one group of `ROWS_PER_GROUP` rows, without the rest of the file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return list(file.read_row_group(group, columns=[column]).column(column).to_pylist())


def file_settings(path: Path) -> str:
    """The digest of the settings in the metadata of a file; "" if it has none."""
    import pyarrow.parquet as pq

    return dict(pq.read_schema(path).metadata or {}).get(b"s1pro.settings", b"").decode()


def to_plain(row: Any, pictures: list[bytes] | None = None) -> dict[str, Any]:
    """A row as dictionaries, lists and values.

    Args:
        pictures: if given, bytes are appended to it and their place stands in the row, so that the rest is JSON.
    """
    return {field.name: _plain(getattr(row, field.name), pictures) for field in dataclasses.fields(row)}


def from_plain(kind: type[Row], data: Mapping[str, Any], pictures: Sequence[bytes] | None = None) -> Row:
    """The inverse of `to_plain`. Raises `InputError` for fields that are unknown, missing, or do not fit."""
    hints = _hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise InputError(f"{kind.__name__}: unknown column {', '.join(unknown)}; it comes from a newer version")
    try:
        return kind(**{name: _typed(hints[name], value, pictures) for name, value in data.items()})
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"{kind.__name__}: {error}") from error


def arrow_schema(kind: Any) -> Any:
    """The Parquet schema of a row."""
    import pyarrow as pa

    return pa.schema([pa.field(name, _arrow_type(hint)) for name, hint in _hints(kind).items()])


def _hints(kind: Any) -> dict[str, Any]:
    """The fields of a row and their types."""
    return _cached_hints(kind)


@functools.cache
def _cached_hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _arrow_type(hint: Any) -> Any:
    import pyarrow as pa

    hint = _without_none(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_arrow_type(args[0]))
    if dataclasses.is_dataclass(hint):
        return pa.struct([pa.field(name, _arrow_type(inner)) for name, inner in _hints(hint).items()])
    simple = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}
    return simple[hint]


def _leaves(path: str, kind: Any) -> Iterator[str]:
    """The paths of the columns that a field becomes in Parquet."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path


def _plain(value: Any, pictures: list[bytes] | None) -> Any:
    if isinstance(value, bytes) and pictures is not None:
        pictures.append(value)
        return len(pictures) - 1
    if isinstance(value, str):
        return _whole_characters(value)
    if isinstance(value, tuple):
        return [_plain(item, pictures) for item in value]
    if dataclasses.is_dataclass(value):
        return to_plain(value, pictures)
    return value


def _whole_characters(text: str) -> str:
    """The text with halves of surrogate pairs joined, as broken fonts give them; a half alone becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _typed(hint: Any, value: Any, pictures: Sequence[bytes] | None) -> Any:
    if value is None:
        if _without_none(hint) is hint:
            raise ValueError("a field that must have a value is empty")
        return None
    hint = _without_none(hint)
    if hint is bytes and pictures is not None:
        return pictures[value]
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_typed(inner, item, pictures) for item in value)
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, pictures)  # type: ignore[arg-type]
    return float(value) if hint is float else value


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return next(option for option in typing.get_args(hint) if option is not type(None))
    return hint


def _groups(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    group: list[Any] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
