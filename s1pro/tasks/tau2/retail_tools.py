"""The tools of the `retail` domain as the agent sees them, in our words; `retail_domain` does what they ask."""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.world import Tools, tool

REASONS = ("no longer needed", "ordered by mistake")
_TEXT = {"type": "string"}
_LIST = {"type": "array", "items": _TEXT}
ADDRESS = ("address1", "address2", "city", "state", "country", "zip")
_ORDER = "order_id begins with #"


def _all(name: str, about: str, /, **properties: Any) -> dict[str, Any]:
    return tool(name, about, tuple(properties), **properties)


_AGENT = (
    _all("calculate", "The value of an expression of numbers, + - * / and brackets.", expression=_TEXT),
    _all(
        "cancel_pending_order", f"Cancel a pending order and refund it. Ask the user to confirm first. {_ORDER}.",
        order_id=_TEXT, reason={"type": "string", "enum": list(REASONS)},
    ),
    _all(
        "exchange_delivered_order_items", "Exchange items of a delivered order for available ones of the same product, "
        "each for the one at the same place of the list. Only once per order; ask the user to confirm first. The price "
        "difference is paid with payment_method_id.",
        order_id=_TEXT, item_ids=_LIST, new_item_ids=_LIST, payment_method_id=_TEXT,
    ),
    _all(
        "find_user_id_by_name_zip", "The id of a user by name and zip code. Try the email first.", first_name=_TEXT,
        last_name=_TEXT, zip=_TEXT,
    ),
    _all("find_user_id_by_email", "The id of a user by email.", email=_TEXT),
    _all("get_order_details", f"An order with its items, payments and status. {_ORDER}.", order_id=_TEXT),
    _all("get_product_details", "A product with all its items. A product id is no item id.", product_id=_TEXT),
    _all("get_item_details", "One item of a product: options, price, whether it is available.", item_id=_TEXT),
    _all("get_user_details", "A user with address, means of payment and orders.", user_id=_TEXT),
    _all("list_all_product_types", "Names of all products with their ids."),
    _all(
        "modify_pending_order_address", "Change where a pending order is sent. Ask the user to confirm first.",
        order_id=_TEXT, **dict.fromkeys(ADDRESS, _TEXT),
    ),
    _all(
        "modify_pending_order_items", "Exchange items of a pending order for available ones of the same product, each "
        "for the one at the same place of the list. Only once per order; ask the user to confirm first.",
        order_id=_TEXT, item_ids=_LIST, new_item_ids=_LIST, payment_method_id=_TEXT,
    ),
    _all(
        "modify_pending_order_payment", "Pay a pending order with another means. Ask the user to confirm first.",
        order_id=_TEXT, payment_method_id=_TEXT,
    ),
    _all(
        "modify_user_address", "Change the default address of a user. Ask the user to confirm first.",
        user_id=_TEXT, **dict.fromkeys(ADDRESS, _TEXT),
    ),
    _all(
        "return_delivered_order_items", "Take items of a delivered order back, refunded to the original means of "
        "payment or a gift card. Only once per order; ask the user to confirm first.",
        order_id=_TEXT, item_ids=_LIST, payment_method_id=_TEXT,
    ),
    _all(
        "transfer_to_human_agents", "Hand the user over to a human, with a summary of the matter. Only if the user "
        "asks for it or it cannot be done with the other tools.", summary=_TEXT,
    ),
)  # fmt: skip
TOOLS: Tools = {"assistant": {each["name"]: each for each in _AGENT}, "user": {}}
