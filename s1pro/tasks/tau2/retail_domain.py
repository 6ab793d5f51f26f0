"""The `retail` domain of tau2-bench: a shop. The agent serves orders, returns and exchanges; the user has no tools.

    look     find_user_id_by_email, find_user_id_by_name_zip, get_order_details, get_product_details, get_item_details,
             get_user_details, list_all_product_types, calculate
    change   cancel_pending_order, modify_pending_order_address, modify_pending_order_items,
             modify_pending_order_payment, modify_user_address, return_delivered_order_items,
             exchange_delivered_order_items
    leave    transfer_to_human_agents

The rules are upstream's, with what it does against its own words: where several items of a pending order are changed,
all of them get the price and the options of the last new one. A gift card pays and receives at once, other means of
payment do not show it. Amounts have two decimals where upstream rounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from s1pro.tasks.tau2.calculation import calculated
from s1pro.tasks.tau2.retail_tools import ADDRESS, REASONS, TOOLS
from s1pro.tasks.tau2.world import Domain, ToolError, World, known


class RetailWorld(World):
    """See the module docstring."""

    tools = TOOLS

    def _check_argument(self, function: str, name: str, value: Any) -> None:
        if name.endswith("item_ids"):
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ToolError(f"{function}: {name} must be a list of texts")
        elif not isinstance(value, str):
            raise ToolError(f"{function}: {name} must be text, got {type(value).__name__}")

    # what only looks

    def calculate(self, expression: str) -> str:
        return calculated(expression)

    def find_user_id_by_email(self, email: str) -> str:
        return self._user_with(lambda user: user["email"].lower() == email.lower())

    def find_user_id_by_name_zip(self, first_name: str, last_name: str, zip: str) -> str:
        def fits(user: Any) -> bool:
            name = user["name"]
            names = (name["first_name"].lower(), name["last_name"].lower())
            return names == (first_name.lower(), last_name.lower()) and user["address"]["zip"] == zip

        return self._user_with(fits)

    def get_order_details(self, order_id: str) -> Any:
        return self._order(order_id)

    def get_product_details(self, product_id: str) -> Any:
        return known(self.db["products"], product_id, "Product")

    def get_item_details(self, item_id: str) -> Any:
        for product in self.db["products"].values():
            if item_id in product["variants"]:
                return product["variants"][item_id]
        raise ToolError(f"Item {item_id} not found")

    def get_user_details(self, user_id: str) -> Any:
        return known(self.db["users"], user_id, "User")

    def list_all_product_types(self) -> str:
        return json.dumps({one["name"]: one["product_id"] for one in self.db["products"].values()}, sort_keys=True)

    def transfer_to_human_agents(self, summary: str) -> str:
        return "Transfer successful"

    # what changes

    def cancel_pending_order(self, order_id: str, reason: str) -> Any:
        order = self._order(order_id, status="pending")
        if reason not in REASONS:
            raise ToolError(f"the reason is one of {', '.join(REASONS)}")
        means = [self._payment(order, paid["payment_method_id"]) for paid in order["payment_history"]]
        refunds = [{**paid, "transaction_type": "refund"} for paid in order["payment_history"]]
        for mean, refund in zip(means, refunds, strict=True):
            _pay(mean, -refund["amount"])
        order["status"], order["cancel_reason"] = "cancelled", reason
        order["payment_history"] += refunds
        return order

    def modify_pending_order_address(self, order_id: str, address1: str, address2: str, city: str, state: str,
                                     country: str, zip: str) -> Any:  # fmt: skip
        order = self._order(order_id)
        if "pending" not in order["status"]:
            raise ToolError("Non-pending order cannot be modified")
        order["address"] = _address((address1, address2, city, state, country, zip))
        return order

    def modify_user_address(self, user_id: str, address1: str, address2: str, city: str, state: str, country: str,
                            zip: str) -> Any:  # fmt: skip
        user = self.get_user_details(user_id)
        user["address"] = _address((address1, address2, city, state, country, zip))
        return user

    def modify_pending_order_items(
        self, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
    ) -> Any:
        order = self._order(order_id, status="pending")
        pairs = self._exchanged(order, item_ids, new_item_ids)
        if any(old == new for old, new in zip(item_ids, new_item_ids, strict=True)):
            raise ToolError("The new item id should be different from the old item id")
        difference = sum(variant["price"] - item["price"] for item, variant in pairs)
        mean = self._payment(order, payment_method_id, amount=difference)
        kind = "payment" if difference > 0 else "refund"
        paid = {"transaction_type": kind, "amount": abs(difference), "payment_method_id": payment_method_id}
        order["payment_history"].append(paid)
        _pay(mean, difference)
        for old, new in zip(item_ids, new_item_ids, strict=True):
            item = next((one for one in order["items"] if one["item_id"] == old), None)
            if item is not None:  # of the last one, as upstream does
                item |= {"item_id": new, "price": pairs[-1][1]["price"], "options": pairs[-1][1]["options"]}
        order["status"] = "pending (item modified)"
        return order

    def modify_pending_order_payment(self, order_id: str, payment_method_id: str) -> Any:
        order = self._order(order_id)
        if "pending" not in order["status"]:
            raise ToolError("Non-pending order cannot be modified")
        mean, history = self._payment(order, payment_method_id), order["payment_history"]
        if len(history) != 1 or history[0]["transaction_type"] != "payment":
            raise ToolError("There should be exactly one payment for a pending order")
        if history[0]["payment_method_id"] == payment_method_id:
            raise ToolError("The new payment method should be different from the current one")
        before, amount = history[0]["payment_method_id"], history[0]["amount"]
        old = self._payment(order, before)
        self._payment(order, payment_method_id, amount=amount)
        history += [
            {"transaction_type": "payment", "amount": amount, "payment_method_id": payment_method_id},
            {"transaction_type": "refund", "amount": amount, "payment_method_id": before},
        ]
        _pay(mean, amount)
        _pay(old, -amount)
        return order

    def return_delivered_order_items(self, order_id: str, item_ids: Sequence[str], payment_method_id: str) -> Any:
        order = self._order(order_id, status="delivered")
        mean = self._payment(order, payment_method_id)
        if not _is_gift_card(mean) and payment_method_id != order["payment_history"][0]["payment_method_id"]:
            raise ToolError("Payment method should be the original payment method")
        _has_items(order, item_ids)
        order["status"] = "return requested"
        order["return_items"], order["return_payment_method_id"] = sorted(item_ids), payment_method_id
        return order

    def exchange_delivered_order_items(
        self, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
    ) -> Any:
        order = self._order(order_id, status="delivered")
        pairs = self._exchanged(order, item_ids, new_item_ids)
        difference = round(sum(variant["price"] - item["price"] for item, variant in pairs), 2)
        self._payment(order, payment_method_id, amount=difference)
        order["status"] = "exchange requested"
        order["exchange_items"], order["exchange_new_items"] = sorted(item_ids), sorted(new_item_ids)
        order["exchange_payment_method_id"], order["exchange_price_difference"] = payment_method_id, difference
        return order

    # what these share

    def _user_with(self, fits: Any) -> str:
        found = next((name for name, user in self.db["users"].items() if fits(user)), None)
        if found is None:
            raise ToolError("User not found")
        return str(found)

    def _order(self, order_id: str, *, status: str | None = None) -> Any:
        order = known(self.db["orders"], order_id, "Order")
        if status is not None and order["status"] != status:
            raise ToolError(f"the order is {order['status']}, not {status}: this cannot be done")
        return order

    def _payment(self, order: Any, payment_method_id: str, *, amount: float = 0.0) -> Any:
        """A means of payment of the one who ordered; a gift card must hold the amount."""
        mean = known(self.get_user_details(order["user_id"])["payment_methods"], payment_method_id, "Payment method")
        if _is_gift_card(mean) and mean["balance"] < amount:
            raise ToolError("Insufficient gift card balance")
        return mean

    def _exchanged(self, order: Any, item_ids: Sequence[str], new_item_ids: Sequence[str]) -> list[tuple[Any, Any]]:
        """Items of an order with what takes their place."""
        _has_items(order, item_ids)
        if len(item_ids) != len(new_item_ids):
            raise ToolError("The number of items to be exchanged should match")
        pairs = []
        for old, new in zip(item_ids, new_item_ids, strict=True):
            item = next(one for one in order["items"] if one["item_id"] == old)
            variant = known(self.get_product_details(item["product_id"])["variants"], new, "Variant")
            if not variant["available"]:
                raise ToolError(f"New item {new} not found or available")
            pairs.append((item, variant))
        return pairs


def _address(values: Sequence[str]) -> dict[str, str]:
    """The parts of an address by name."""
    return dict(zip(ADDRESS, values, strict=True))


def _has_items(order: Any, item_ids: Sequence[str]) -> None:
    there = [item["item_id"] for item in order["items"]]
    for item_id in item_ids:
        if list(item_ids).count(item_id) > there.count(item_id):
            raise ToolError(f"Item {item_id} not found so often in the order")


def _is_gift_card(mean: Any) -> bool:
    return bool(mean["source"] == "gift_card")


def _pay(mean: Any, amount: float) -> None:
    """Only gift cards show it."""
    if _is_gift_card(mean):
        mean["balance"] = round(mean["balance"] - amount, 2)


class RetailDomain(Domain):
    """The files of the domain."""

    name = "retail"
    kind = RetailWorld
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {"db.json": ("products", "users", "orders")}
