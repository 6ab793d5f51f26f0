"""A shop in the schema of tau2's retail domain, made by hand: two users, three products, a few orders, two tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ADDRESS = {"address1": "1 Elm St", "address2": "", "city": "Bern", "country": "USA", "state": "NY", "zip": "10001"}


def variant(name: str, price: float, *, available: bool = True, **options: str) -> dict[str, Any]:
    return {"item_id": name, "options": options, "available": available, "price": price}


def item(product: str, name: str, price: float, **options: str) -> dict[str, Any]:
    return {"name": product.title(), "product_id": product, "item_id": name, "price": price, "options": options}


def order(
    name: str, user: str, status: str, items: list[dict[str, Any]], paid: list[tuple[str, float]]
) -> dict[str, Any]:
    return {
        "order_id": name, "user_id": user, "address": dict(ADDRESS), "items": items, "status": status,
        "fulfillments": [],
        "payment_history": [
            {"transaction_type": "payment", "amount": amount, "payment_method_id": mean} for mean, amount in paid
        ],
    }  # fmt: skip


def shop() -> dict[str, Any]:
    """The database."""
    cup, blue, red = item("cup", "1", 5.0, colour="red"), item("cup", "2", 7.25, colour="blue"), {"colour": "red"}
    lamp = item("lamp", "8", 30.0, light="warm")
    return {
        "products": {
            "cup": {
                "name": "Cup", "product_id": "cup",
                "variants": {
                    "1": variant("1", 5.0, **red), "2": variant("2", 7.25, colour="blue"),
                    "3": variant("3", 9.5, colour="green", available=False),
                },
            },
            "lamp": {
                "name": "Lamp", "product_id": "lamp",
                "variants": {"8": variant("8", 30.0, light="warm"), "9": variant("9", 20.0, light="cold")},
            },
        },
        "users": {
            "ann": {
                "user_id": "ann", "name": {"first_name": "Ann", "last_name": "Li"}, "address": dict(ADDRESS),
                "email": "ann@example.com", "orders": ["#W1", "#W2", "#W3"],
                "payment_methods": {
                    "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "balance": 10.0},
                    "credit_card_1": {
                        "source": "credit_card", "id": "credit_card_1", "brand": "visa", "last_four": "1234",
                    },
                    "paypal_1": {"source": "paypal", "id": "paypal_1"},
                },
            },
        },
        "orders": {
            "#W1": order("#W1", "ann", "pending", [dict(cup), dict(lamp)], [("credit_card_1", 35.0)]),
            "#W2": order("#W2", "ann", "delivered", [dict(cup), dict(cup), dict(blue)], [("paypal_1", 17.25)]),
            "#W3": order("#W3", "ann", "pending", [dict(cup)], [("gift_card_1", 5.0)]),
        },
    }  # fmt: skip


def shop_task(name: str, actions: list[tuple[str, dict[str, Any]]], **criteria: Any) -> dict[str, Any]:
    instructions = {
        "domain": "retail", "reason_for_call": name, "known_info": "You are Ann Li, 10001.", "unknown_info": None,
        "task_instructions": "Be brief.",
    }  # fmt: skip
    wanted = [
        {"action_id": f"{name}_{n}", "name": call, "arguments": arguments, "info": None}
        for n, (call, arguments) in enumerate(actions)
    ]
    return {
        "id": name, "description": None, "user_scenario": {"persona": None, "instructions": instructions},
        "initial_state": None,
        "evaluation_criteria": {
            "actions": wanted, "communicate_info": [], "nl_assertions": None, "reward_basis": ["DB", "NL_ASSERTION"],
            **criteria,
        },
    }  # fmt: skip


def write_shop(folder: Path, tasks: list[dict[str, Any]]) -> Path:
    """The files of the domain."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "db.json").write_text(json.dumps(shop()))
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "policy.md").write_text("Be kind. Ask before you change anything.")
    return folder
