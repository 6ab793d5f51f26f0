"""Rows to checked records: tables with a schema, and what all readers share.

Every row becomes a record or is counted with a reason: `read == len(records) + sum(dropped)`. What is wrong with a file
as a whole, or with a cell of a declared column, is an `InputError` that names file, line, column and value.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.science.facts import crystal_table
from s1pro.science.facts.crystal_table import Grouping
from s1pro.science.facts.molecule_table import COMPUTED, molecule_row
from s1pro.science.facts.schema import Record, Schema
from s1pro.science.rdkit_access import UnreadableSmiles

Row = tuple[Mapping[str, Any], str, str | None]  # values, where it stands, group


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """How inputs are read.

    Attributes:
        max_bytes, max_rows: larger inputs are refused.
        grouping: what crystals and compositions are grouped by for the split.
        max_sequence: longer sequences are not shown (their values are).
        window: values per window of a signal.
        variable: of a NetCDF file; needed if there are several.
    """

    max_bytes: int = 2**30
    max_rows: int = 5_000_000
    grouping: Grouping = "composition"
    max_sequence: int = 400
    window: int = 512
    variable: str = ""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Records of one schema and what was left out, by reason."""

    schema: Schema
    records: tuple[Record, ...]
    read: int
    dropped: Mapping[str, int] = field(default_factory=dict)


def from_table(path: Path, schema: Schema, settings: SourceSettings) -> Loaded:
    """Records of a table with a header line; columns that the schema does not name are not read."""
    computed = _computed_columns(schema, settings)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        names = reader.fieldnames or []
        wanted = [column.name for column in schema.columns if column.name not in computed.names]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise InputError(f"{path}: no column {missing[0]!r}; the header has {', '.join(names)}")

        def rows() -> Iterator[Row | str]:
            try:
                for row in reader:
                    yield from computed.rows(row, f"{path}, line {reader.line_num}")
            except (csv.Error, UnicodeDecodeError) as error:
                raise InputError(f"{path}, line {reader.line_num}: {error}") from error

        return collect(computed.schema, rows(), str(path), settings)


def collect(schema: Schema, rows: Iterable[Row | str], where: str, settings: SourceSettings) -> Loaded:
    """Checked records; a text instead of a row is the reason why it is left out.

    Several rows with one entity and equal conditions would contradict each other: the first is kept.
    """
    dropped: Counter[str] = Counter()
    records: list[Record] = []
    seen: set[tuple[str, ...]] = set()
    read = 0
    conditions = schema.with_role("condition")
    told = schema.with_role("property")
    for read, row in enumerate(rows, start=1):
        if read > settings.max_rows:
            raise InputError(f"{where}: more than {settings.max_rows} rows (max_rows)")
        if isinstance(row, str):
            dropped[row] += 1
            continue
        values, place, group = row
        record = schema.record(values, place, group=group)
        key = (record.entity, *(str(record.values[column.name]) for column in conditions))
        if key in seen:
            dropped["same entity and conditions as an earlier row"] += 1
        elif all(record.values[column.name] is None for column in told):
            dropped["no property has a value"] += 1
        else:
            seen.add(key)
            records.append(record)
    if not records:
        raise InputError(f"{where}: none of {read} rows gives a record: {dict(dropped)}")
    return Loaded(schema=schema, records=tuple(records), read=read, dropped=dict(sorted(dropped.items())))


@dataclass(frozen=True, kw_only=True)
class _Computed:
    """A schema with computed columns, and how rows get them."""

    schema: Schema
    names: frozenset[str]
    rows: Callable[[Mapping[str, str | None], str], Iterator[Row | str]]


def _computed_columns(schema: Schema, settings: SourceSettings) -> _Computed:
    """Columns that follow from a structure column of the schema, unless the schema declares them itself."""
    structure = next((c for c in schema.with_role("structure") if c.type in ("smiles", "formula")), None)
    own = {column.name for column in schema.columns}
    grouped = bool(schema.with_role("group"))
    if structure is None:
        return _Computed(schema=schema, names=frozenset(), rows=lambda row, where: iter([(row, where, None)]))
    extra = COMPUTED if structure.type == "smiles" else crystal_table.COMPOSITION_COLUMNS
    added = tuple(column for column in extra if column.name not in own)
    names = frozenset(column.name for column in added)
    import dataclasses

    larger = dataclasses.replace(schema, columns=(*schema.columns, *added))

    def rows(row: Mapping[str, str | None], where: str) -> Iterator[Row | str]:
        text = (row.get(structure.name) or "").strip()
        if not text:
            yield "no structure"
            return
        try:
            if structure.type == "smiles":
                values, group = molecule_row(text)
            else:
                values, group = crystal_table.composition_row(text, settings.grouping)
        except UnreadableSmiles as error:
            yield f"RDKit: {error.reason}"
            return
        except ValueError:
            yield "no formula"
            return
        merged = {**row, **{name: values[name] for name in names}}
        if structure.type == "smiles":
            merged[structure.name] = values["smiles"]
        yield merged, where, None if grouped else group

    return _Computed(schema=larger, names=names, rows=rows)
