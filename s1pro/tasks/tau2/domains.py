"""The domains of tau2-bench that can be played, told by the tables of their database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.airline_domain import AirlineDomain
from s1pro.tasks.tau2.mock_domain import MockDomain
from s1pro.tasks.tau2.records import read_table
from s1pro.tasks.tau2.retail_domain import RetailDomain
from s1pro.tasks.tau2.telecom_domain import TelecomDomain
from s1pro.tasks.tau2.world import Domain

DOMAINS: Mapping[str, type[Domain]] = {
    domain.name: domain for domain in (MockDomain, RetailDomain, AirlineDomain, TelecomDomain)
}


def open_domain(folder: Path) -> Domain:
    """The domain whose files lie in a folder. Raises `InputError` for one that has no tools here."""
    path = next((folder / name for name in ("db.json", "db.toml") if (folder / name).is_file()), folder / "db.json")
    tables = set(read_table(path))
    for domain in DOMAINS.values():
        if set(domain.tables.get(path.name, ("?",))) <= tables:
            return domain(folder)
    raise InputError(
        f"{path}: has the tables {', '.join(sorted(map(str, tables))) or '(none)'}; the domains that can "
        f"be played are {', '.join(DOMAINS)}"
    )
