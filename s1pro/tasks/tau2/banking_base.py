"""What all desks of the `banking_knowledge` domain share: its day, names that follow from their facts, rows, refusals.

It is always 14 November 2025. A refusal is an answer that the caller reads and not a call that failed: the bank still
notes that the tool was called.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

from s1pro.tasks.tau2.world import ToolError

NOW = datetime.datetime(2025, 11, 14, 3, 40)
TODAY = NOW.strftime("%m/%d/%Y")
Row = dict[str, Any]


class Refused(ToolError):
    """The bank says no. The call counts as made, its message is the answer."""


class Desk:
    """The tables of the bank, for the parts of its world."""

    db: dict[str, Any]

    def table(self, name: str) -> dict[str, Row]:
        """Rows by their names."""
        rows: dict[str, Row] = self.db[name]["data"]
        return rows

    def add(self, table: str, name: str, row: Mapping[str, Any]) -> bool:
        """A new row; False, and nothing is done, if there is one of the name."""
        rows = self.table(table)
        if name in rows:
            return False
        rows[name] = dict(row)
        return True

    def row(self, table: str, name: Any, kind: str) -> Row:
        """Raises `Refused` for a name that is not there."""
        rows = self.table(table)
        if name not in rows:
            raise Refused(f"{kind} {name} not found")
        return rows[name]


def made_name(facts: str, length: int = 16) -> str:
    """The first hexadecimal digits of the SHA-256 of the facts."""
    return hashlib.sha256(facts.encode()).hexdigest()[:length]


def money(value: Any) -> float:
    """Of a number or a text like `$2,850.00`. Raises `ToolError` for another text."""
    if isinstance(value, str):
        try:
            return float(value.replace("$", "").replace(",", ""))
        except ValueError as error:
            raise ToolError(f"{value!r} is no amount") from error
    return float(value) if isinstance(value, int | float) else 0.0


def number(value: Any, name: str) -> float:
    """Raises `Refused` for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise Refused(f"{name} must be a number") from error


def text(value: Any, name: str) -> str:
    """Raises `ToolError` for what is no text."""
    if not isinstance(value, str):
        raise ToolError(f"{name} must be text, got {type(value).__name__}")
    return value


def needed(**arguments: Any) -> None:
    """Raises `Refused` where one is empty."""
    missing = [name for name, value in arguments.items() if not value]
    if missing:
        raise Refused(f"missing: {', '.join(missing)}")


def one_of(value: Any, allowed: tuple[str, ...], name: str) -> None:
    """Raises `Refused`."""
    if value not in allowed:
        raise Refused(f"{name} must be one of {', '.join(allowed)}")
