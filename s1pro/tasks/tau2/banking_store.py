"""What the tools of the `banking_knowledge` domain share: its tables, its fixed day, and names made from what they name.

A table of `db.json` is `{"data": {id: row}, "notes": text}`. The bank's day never moves. Ids of new rows are the first
digits of a SHA-256 of what the row is about, so the same calls make the same rows, and databases can be compared.

A discoverable tool of the agent is a method here. It raises `ToolError` where it refuses, with the reason in words: the
agent reads it, and the call counts as made. Any other error of Python counts as a broken call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.world import World

TODAY = "11/14/2025"
NOW = "2025-11-14 03:40:00 EST"
TABLES = (
    "users", "accounts", "debit_cards", "referrals", "credit_card_applications", "user_discoverable_tools",
    "user_discoverable_tool_calls", "verification_history", "credit_card_transaction_history", "cash_back_disputes",
    "bank_account_transaction_history", "credit_card_accounts", "agent_discoverable_tools", "task_config",
    "human_transfer_requests", "transaction_disputes", "credit_card_orders", "debit_card_orders",
    "credit_card_closure_reasons", "credit_card_account_flags", "credit_limit_increase_requests", "payment_history",
    "debit_card_disputes",
)  # fmt: skip


class Store(World):
    """The tables.

    Attributes:
        reads: discoverable tools of the agent that only look; they leave no trace unless the task wants one.
    """

    reads: ClassVar[frozenset[str]] = frozenset()

    def settle(self) -> None:
        for name in TABLES:
            table = self.db.setdefault(name, {})
            rows = table.setdefault("data", {}) if isinstance(table, dict) else None
            if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
                raise InputError(f"{name}: expected an object with the rows by id in 'data'")
            table.setdefault("notes", "")

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """Of a table, by id."""
        found: dict[str, dict[str, Any]] = self.db[table]["data"]
        return found

    def add(self, table: str, name: str, row: Mapping[str, Any]) -> bool:
        """Whether it was new; a row that is there stays as it is."""
        if name in self.rows(table):
            return False
        self.rows(table)[name] = dict(row)
        return True


def digits(seed: str, length: int = 12) -> str:
    """Hexadecimal ones, always the same for the same seed."""
    return hashlib.sha256(seed.encode()).hexdigest()[:length]


def amount_of(value: Any) -> float:
    """Of a number or a text like "$2,850.00". Raises `ValueError` for other texts."""
    if isinstance(value, int | float):
        return float(value)
    return float(value.replace("$", "").replace(",", "")) if isinstance(value, str) else 0.0


def holdings(account: Mapping[str, Any]) -> float:
    """What is in an account."""
    return amount_of(account.get("current_holdings", account.get("balance", 0)))
