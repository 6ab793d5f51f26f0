"""Looking things up: rows of tables by their key, exact, with the nearest keys where there is none.

`elements` is always there (RDKit's periodic table: symbol, atomic number, mass); further tables are CSV files, named
like their file, whose first column is the key.
"""

from __future__ import annotations

import csv
import difflib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.science.rdkit_access import chem
from s1pro.tasks.agents.toolbox import Tool, ToolError, parameters, text_of

Table = Mapping[str, Mapping[str, Any]]
"""Rows by their key."""

MAX_BYTES = 50_000_000
_NUM_ELEMENTS = 118
_NEAREST = 5


@functools.cache
def elements() -> Table:
    """By name and by symbol. Raises `MissingExtraError` without RDKit."""
    periodic = chem().GetPeriodicTable()
    found: dict[str, Mapping[str, Any]] = {}
    for number in range(1, _NUM_ELEMENTS + 1):
        symbol, name = periodic.GetElementSymbol(number), periodic.GetElementName(number)
        row = {"symbol": symbol, "name": name, "number": number, "mass": f"{periodic.GetAtomicWeight(number):g} g/mol"}
        found[symbol] = found[name.lower()] = row
    return found


def read_table(path: Path) -> Table:
    """A CSV file with a line of names; its first column is the key.

    Raises:
        InputError: not readable, too large, without columns, with a key that comes twice, or a line of another length.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES} bytes; cut the table down")
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from error
    if not lines or len(set(lines[0])) < 2 or len(set(lines[0])) != len(lines[0]):
        raise InputError(f"{path}: the first line must name at least two different columns, got {lines[:1]}")
    names, rows = lines[0], {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(names):
            raise InputError(f"{path}:{number}: {len(line)} values for {len(names)} columns")
        if line[0] in rows:
            raise InputError(f"{path}:{number}: the key {line[0]!r} is there twice")
        rows[line[0]] = dict(zip(names, line, strict=True))
    return rows


def found_in(table: Table, key: str) -> Mapping[str, Any]:
    """A row by its key, in any case. Raises `ToolError` that names the nearest keys."""
    if key in table:
        return table[key]
    lowered = {name.lower(): name for name in table}
    if key.lower() in lowered:
        return table[lowered[key.lower()]]
    near = difflib.get_close_matches(key.lower()[:100], list(lowered)[:20_000], n=_NEAREST)
    hint = f"; similar: {', '.join(lowered[name] for name in near)}" if near else ""
    raise ToolError(f"there is no row {key[:60]!r}{hint}")


def look_up(paths: Sequence[Path] = ()) -> Tool:
    """The tool, over the elements and these files.

    Raises:
        InputError: as `read_table`, or two tables of one name.
    """
    files = {path.stem: read_table(path) for path in paths}
    if len(files) != len(paths) or "elements" in files:
        raise InputError(f"tables need different names, and none is 'elements': {', '.join(map(str, paths))}")

    async def run(arguments: Mapping[str, Any]) -> str:
        name = arguments["table"]
        return text_of(dict(found_in(elements() if name == "elements" else files[name], arguments["key"])))

    names = ["elements", *files]
    return Tool(
        name="look_up",
        description="One row of a table: " + ", ".join(names) + ".",
        parameters=parameters(
            ["table", "key"],
            table={"type": "string", "enum": names},
            key={"type": "string", "description": "such as Fe or iron in elements"},
        ),
        run=run,
    )
