"""A carrier in the schema of tau2's telecom domain, made by hand: two customers, three lines, a phone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MINE = {"customer_id": "C1", "line_id": "L1"}


def bill(name: str, status: str, due: float, issued: str) -> dict[str, Any]:
    return {
        "bill_id": name, "customer_id": "C1", "period_start": issued, "period_end": issued, "issue_date": issued,
        "due_date": issued, "total_due": due, "status": status,
    }  # fmt: skip


def carrier() -> dict[str, Any]:
    """The agent's database; what it leaves out has a default."""
    plan = {"plan_id": "P1", "name": "Small", "data_limit_gb": 4.0, "price_per_month": 30.0}
    address = {"street": "1 Elm St", "city": "Bern", "state": "NY", "zip_code": "10001"}
    ann = {
        "customer_id": "C1", "full_name": "Ann Li", "date_of_birth": "1990-01-02", "email": "a@b.c",
        "phone_number": "555-0", "address": address, "account_status": "Active", "line_ids": ["L1", "L2"],
        "bill_ids": ["B1", "B2"],
    }  # fmt: skip
    bob = {**ann, "customer_id": "C2", "full_name": "Bob Li", "phone_number": "555-9", "line_ids": ["L3"]}
    lines = [
        {"line_id": f"L{n}", "phone_number": f"555-{n}", "status": "Active", "plan_id": "P1", "data_used_gb": n * 1.5}
        for n in (1, 2, 3)
    ]
    return {
        "plans": [{**plan, "data_refueling_price_per_gb": 2.5}],
        "customers": [ann, {**bob, "bill_ids": []}],
        "lines": lines,
        "bills": [bill("B1", "Paid", 30.0, "2024-12-01"), bill("B2", "Issued", 45.5, "2025-01-01")],
        "devices": [{"device_id": "D1", "device_type": "phone", "model": "X", "is_esim_capable": True}],
    }


def telecom_task(
    name: str, prepared: Sequence[tuple[str, str, Mapping[str, Any]]], golden: Sequence[tuple[str, str]], **more: Any
) -> dict[str, Any]:
    """Preparation as (side, function, arguments), golden calls as (side, tool) without arguments."""
    given = ("user", "set_user_info", {"name": "Ann Li", "phone_number": "555-1"})
    return {
        "id": name,
        "user_scenario": {"instructions": f"Your data does not work ({name})."},
        "ticket": f"Ann Li, 555-1: no mobile data ({name}).",
        "initial_state": {
            "initialization_actions": [
                {"env_type": side, "func_name": function, "arguments": dict(arguments)}
                for side, function, arguments in [given, *prepared]
            ]
        },
        "evaluation_criteria": {
            "actions": [
                {"action_id": f"{number}", "requestor": side, "name": tool, "arguments": {}}
                for number, (side, tool) in enumerate(golden)
            ],
            "env_assertions": [
                {
                    "env_type": "user",
                    "func_name": "assert_mobile_data_status",
                    "arguments": {"expected_status": True},
                }
            ],
            "reward_basis": ["ENV_ASSERTION", "ACTION"],
        },
        **more,
    }


def write_carrier(folder: Path, tasks: Sequence[Mapping[str, Any]], splits: Mapping[str, Any] | None = None) -> Path:
    """The files of the domain, the databases as TOML."""
    folder.mkdir(parents=True)
    (folder / "db.toml").write_text(_toml(carrier()), encoding="utf-8")
    (folder / "user_db.toml").write_text("[device]\nbattery_level = 50\nwifi_enabled = false\n", encoding="utf-8")
    for name in ("main_policy.md", "main_policy_solo.md", "tech_support_manual.md"):
        (folder / name).write_text(f"Follow {name}.", encoding="utf-8")
    (folder / "tasks.json").write_text(json.dumps(list(tasks)), encoding="utf-8")
    if splits is not None:
        (folder / "split_tasks.json").write_text(json.dumps(splits), encoding="utf-8")
    return folder


def _toml(tables: Mapping[str, Any]) -> str:
    """Lists of flat rows; nested objects inline."""
    blocks = []
    for table, rows in tables.items():
        for row in rows:
            blocks.append("\n".join([f"[[{table}]]", *(f"{key} = {_inline(value)}" for key, value in row.items())]))
    return "\n\n".join(blocks) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)
