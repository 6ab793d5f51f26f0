"""The database of tau2's bank and the tools that its agent finds in documents: what both halves of them share.

`db.json` has tables; each is `{"data": {id: record}, "notes": text}`. The bank's day never ends: it is always the
14th of November 2025, 3:40 in the morning. Ids are made of what a record is about, so that two worlds in which the same
was done are equal.

A tool of the bank fails in two ways that the bank's log of called tools tells apart. It *refuses* (`ToolError`): the
call was understood, and counts as one. Or it cannot be done at all, because an argument is of a wrong kind: then any
error of Python comes out, and the call does not count. What was written before the error stays, as it does upstream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from s1pro.tasks.tau2.world import ToolError, World

TODAY = "11/14/2025"


@dataclass(frozen=True)
class Parameter:
    """What a tool takes: text, unless another kind is named."""

    about: str
    kind: str = "string"
    required: bool = True


@dataclass(frozen=True)
class BankTool:
    """A tool that is not shown until it is unlocked. `writes` says whether it counts as a change."""

    name: str
    about: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    writes: bool = True

    def shown(self) -> str:
        """What one who unlocks it reads."""
        lines = [f"Tool: {self.name}", f"Description: {self.about}", "Parameters:"]
        for name, one in self.parameters.items():
            lines.append(f"  - {name}: {one.kind} ({'required' if one.required else 'optional'}) - {one.about}")
        return "\n".join(lines if self.parameters else [*lines, "  (no parameters)"])


class BankTables(World):
    """A world with the bank's tables."""

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """Records by id; a table that the file leaves out is empty."""
        found: dict[str, dict[str, Any]] = self.db.setdefault(table, {"data": {}, "notes": ""})["data"]
        return found

    def add(self, table: str, name: str, record: dict[str, Any]) -> bool:
        """Whether the id was free; a record that is there stays as it is."""
        rows = self.rows(table)
        if name in rows:
            return False
        rows[name] = record
        return True

    def where(self, table: str, field: str, value: Any) -> dict[str, dict[str, Any]]:
        """The records whose field is a text. Raises `ToolError` for a text that upstream's query cannot hold."""
        wanted = self._query(field, value)
        return {
            name: record
            for name, record in self.rows(table).items()
            if all(record.get(key) == one for key, one in wanted.items())
        }

    def is_there(self, table: str, field: str, value: Any) -> bool:
        """Whether a record has it. What upstream's query cannot hold passes, since its error is no empty list."""
        try:
            return bool(self.where(table, field, value))
        except ToolError:
            return True

    def _query(self, field: str, value: Any) -> dict[str, Any]:
        """Upstream writes the value into JSON as it is; a quotation mark in it ends the text."""
        try:
            found: dict[str, Any] = json.loads(f'{{"{field}": "{value}"}}')
        except ValueError as error:
            raise ToolError(f"the {field} {value!r} cannot be searched for ({error})") from error
        return found


def made_id(seed: str, digits: int = 12) -> str:
    """The id of what a seed describes: the beginning of its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(seed.encode()).hexdigest()[:digits]


def dollars(amount: float) -> str:
    return f"${amount:.2f}"


def number(amount: Any) -> float:
    """Of a number, or of a text like `$1,250.00`. Raises `ValueError` for other texts."""
    return float(str(amount).replace("$", "").replace(",", ""))


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raises `ToolError` for a value that is not allowed."""
    if value not in allowed:
        raise ToolError(f"{name} must be one of {', '.join(allowed)}")


def given(**values: Any) -> None:
    """Raises `ToolError` for what is empty."""
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise ToolError(f"{', '.join(missing)} must be given")


def holdings(account: Mapping[str, Any]) -> float:
    """What is in an account; nothing, where it says neither a number nor a text. Raises `ValueError` as `number`."""
    found = account.get("current_holdings", account.get("balance", 0))
    if isinstance(found, int | float):
        return float(found)
    return number(found) if isinstance(found, str) else 0.0
