"""A bank in the schema of tau2's banking_knowledge domain, made by hand: two customers, some accounts and documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DAY = "11/14/2025"
ANN = {
    "name": "Ann Li", "user_id": "ann", "address": "1 Elm St, Bern", "email": "ann@example.com",
    "phone_number": "555-0", "date_of_birth": "01/02/1990",
}  # fmt: skip
VERIFIED = {**ANN, "time_verified": "2025-11-14 03:40:00 EST"}
DOCUMENTS = {
    "doc_cards_001": ("Gold card", "The gold card has a fee of $10. The fee is yearly. Gold is heavy."),
    "doc_cards_002": ("Silver card", "The silver card has no yearly price."),
    "doc_checks_001": ("Checks", "To deposit a check, give the customer the tool deposit_check_3847."),
    "doc_hidden_001": ("Rewards", "Wrong rewards are corrected by the agent with update_transaction_rewards_3847."),
}


def table(*rows: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"data": {str(row[key]): dict(row) for row in rows}, "notes": ""}


def bank() -> dict[str, Any]:
    """The database; the other tables are empty."""
    bob = {**ANN, "name": "Bob Ito", "user_id": "bob", "email": "bob@example.com"}
    account = {
        "account_id": "chk_ann", "user_id": "ann", "class": "checking", "level": "Blue Account",
        "date_opened": "01/01/2020", "status": "OPEN", "current_holdings": "1250.00",
    }  # fmt: skip
    card = {
        "account_id": "cc_ann", "user_id": "ann", "card_type": "Gold Rewards Card", "date_opened": "02/03/2021",
        "status": "ACTIVE", "current_balance": "$100.00", "credit_limit": "$5000.00", "reward_points": "40 points",
    }  # fmt: skip
    bought = {
        "transaction_id": "txn_1", "user_id": "ann", "credit_card_type": "Gold Rewards Card", "merchant_name": "Cafe",
        "transaction_amount": "$20.00", "transaction_date": "10/01/2025", "category": "Dining", "status": "COMPLETED",
        "rewards_earned": "5 points",
    }  # fmt: skip
    referral = {
        "referral_id": "r1", "referrer_id": "ann", "referred_account_type": "Blue Account",
        "referral_status": "NO_PROGRESS", "date": "10/02/2025",
    }  # fmt: skip
    return {
        "users": table(ANN, bob, key="user_id"),
        "accounts": table(account, {**account, "account_id": "sav_ann", "class": "savings"}, key="account_id"),
        "credit_card_accounts": table(card, key="account_id"),
        "credit_card_transaction_history": table(bought, key="transaction_id"),
        "referrals": table(referral, key="referral_id"),
    }


def bank_task(name: str, golden: Sequence[tuple[str, str, Mapping[str, Any]]], **more: Any) -> dict[str, Any]:
    """Golden calls as (side, tool, arguments)."""
    return {
        "id": name,
        "user_scenario": {"instructions": f"You want something ({name})."},
        "evaluation_criteria": {
            "actions": [
                {"action_id": f"{number}", "requestor": side, "name": tool, "arguments": dict(arguments)}
                for number, (side, tool, arguments) in enumerate(golden)
            ],
            "reward_basis": ["DB"],
        },
        **more,
    }


def write_bank(folder: Path, tasks: Sequence[Mapping[str, Any]]) -> Path:
    """The folder of the domain."""
    (folder / "documents").mkdir(parents=True)
    (folder / "prompts" / "components").mkdir(parents=True)
    files: dict[str, Any] = {"db.json": bank(), "tasks.json": list(tasks)}
    for name, (title, content) in DOCUMENTS.items():
        files[f"documents/{name}.json"] = {"id": name, "title": title, "content": content}
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data), encoding="utf-8")
    texts = {
        "no_knowledge": "", "full_kb": "{{full_knowledge_base}}", "required_docs": "{{required_documents}}",
        "classic_rag_bm25": "Search or grep.", "classic_rag_bm25_no_grep": "Search.", "grep_only": "Grep.",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / "prompts" / f"{name}.md").write_text("{{component:policy_header}}\n" + text, encoding="utf-8")
    (folder / "prompts" / "components" / "policy_header.md").write_text("Be kind.", encoding="utf-8")
    return folder
