"""Temporary: A replaces these imports by those of banking_tables."""

from typing import Any

from s1pro.tasks.tau2 import banking_tables
from s1pro.tasks.tau2.banking_tables import given as needed

__all__ = ["needed", "one_of"]


def one_of(value: Any, allowed: tuple[str, ...], name: str) -> None:
    banking_tables.one_of(name, value, allowed)
