"""The domains of tau2-bench that can be played, told by the tables of their database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.airline_domain import AirlineDomain
from s1pro.tasks.tau2.banking_domain import BankDomain
from s1pro.tasks.tau2.mock_domain import MockDomain
from s1pro.tasks.tau2.records import read_table
from s1pro.tasks.tau2.retail_domain import RetailDomain
from s1pro.tasks.tau2.telecom_domain import TelecomDomain
from s1pro.tasks.tau2.world import Domain

DOMAINS: Mapping[str, type[Domain]] = {
    domain.name: domain for domain in (MockDomain, RetailDomain, AirlineDomain, TelecomDomain, BankDomain)
}


def open_domain(folder: Path, knowledge: str | None = None) -> Domain:
    """The domain whose files lie in a folder.

    Args:
        knowledge: how the agent of a bank gets at its documents.

    Raises:
        InputError: there are no tools for it, or it has no documents to get at.
    """
    path = next((folder / name for name in ("db.json", "db.toml") if (folder / name).is_file()), folder / "db.json")
    tables = set(read_table(path))
    for domain in DOMAINS.values():
        if set(domain.tables.get(path.name, ("?",))) <= tables:
            if domain is BankDomain:
                return BankDomain(folder, knowledge)
            if knowledge is not None:
                raise InputError(f"--knowledge is of {BankDomain.name}; {folder} has the domain {domain.name}")
            return domain(folder)
    raise InputError(
        f"{path}: has the tables {', '.join(sorted(map(str, tables))) or '(none)'}; the domains that can "
        f"be played are {', '.join(DOMAINS)}"
    )
