"""The tools of the `banking_knowledge` domain that both sides see from the beginning, in our words.

`banking_desk` and `banking_customer` do what they ask. Whether the agent can search the documents (`KB_search`, `grep`)
depends on how it gets its knowledge (`banking_documents`).
"""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.banking_customer import CARDS
from s1pro.tasks.tau2.banking_desk import REASONS
from s1pro.tasks.tau2.world import Tools, tool

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_JSON = {"type": "string", "description": 'a JSON object as text, as {"user_id": "abc"}'}
_CARD = {"type": "string", "enum": list(CARDS)}


def _all(name: str, about: str, /, **properties: Any) -> dict[str, Any]:
    return tool(name, about, tuple(properties), **properties)


_AGENT = (
    tool(
        "transfer_to_human_agents", "Hand the customer over to a human, with a summary of the matter. Look up in the "
        "knowledge base which reason applies.", ("summary",), summary=_TEXT,
        reason={"type": "string", "enum": list(REASONS), "default": "other"},
    ),
    _all("get_current_time", "Date and time, as verifications are noted with."),
    _all("get_user_information_by_id", "Birthday, email, phone and address of a customer by id.", user_id=_TEXT),
    _all("get_user_information_by_name", "The same by the exact name, capitals included.", customer_name=_TEXT),
    _all("get_user_information_by_email", "The same by email.", email=_TEXT),
    _all("change_user_email", "Give a customer another email.", user_id=_TEXT, new_email=_TEXT),
    _all("get_referrals_by_user", "Whom a customer has referred.", user_id=_TEXT),
    _all("get_credit_card_transactions_by_user", "All credit card transactions of a customer.", user_id=_TEXT),
    _all(
        "get_credit_card_accounts_by_user", "All credit card accounts of a customer: card, opening, balance, points.",
        user_id=_TEXT,
    ),
    _all(
        "log_verification", "Note that a customer was verified, which two of birthday, email, phone and address do. "
        "date_of_birth is MM/DD/YYYY; time_verified is like 2025-11-14 03:40:00 EST.", name=_TEXT, user_id=_TEXT,
        address=_TEXT, email=_TEXT, phone_number=_TEXT, date_of_birth=_TEXT, time_verified=_TEXT,
    ),
    tool(
        "give_discoverable_user_tool", "Give the customer a tool that the knowledge base wants customers to use.",
        ("discoverable_tool_name",), discoverable_tool_name=_TEXT, arguments=_JSON,
    ),
    _all(
        "unlock_discoverable_agent_tool", "Unlock a tool of your own that the knowledge base names, and see what it "
        "takes.", agent_tool_name=_TEXT,
    ),
    tool(
        "call_discoverable_agent_tool", "Call a tool that you have unlocked.", ("agent_tool_name",),
        agent_tool_name=_TEXT, arguments=_JSON,
    ),
    _all("list_discoverable_agent_tools", "Which unlocked tools have been called."),
)  # fmt: skip
_CUSTOMER = (
    tool(
        "apply_for_credit_card", "Apply for a credit card under your legal name.",
        ("card_type", "customer_name", "annual_income"), card_type=_CARD, customer_name=_TEXT, annual_income=_NUMBER,
        rho_bank_subscription={"type": "boolean", "description": "whether you have Rho-Bank+", "default": False},
    ),
    _all("submit_referral", "Refer somebody for an account of a type. user_id is yours.", user_id=_TEXT,
         account_type=_TEXT),
    _all(
        "submit_transaction", "Pay with a credit card. The amount is in dollars; categories are Travel, Software, "
        "Dining and the like.", user_id=_TEXT, credit_card_type=_CARD, merchant_name=_TEXT, amount=_NUMBER,
        category=_TEXT,
    ),
    tool(
        "call_discoverable_user_tool", "Call a tool that the agent gave you.", ("discoverable_tool_name",),
        discoverable_tool_name=_TEXT, arguments=_JSON,
    ),
    _all("list_discoverable_user_tools", "Which tools the agent has given you."),
    _all("request_human_agent_transfer", "Ask for a human."),
)  # fmt: skip
TOOLS: Tools = {
    "assistant": {each["name"]: each for each in _AGENT},
    "user": {each["name"]: each for each in _CUSTOMER},
}
SEARCHES = {
    "KB_search": _all("KB_search", "The documents of the knowledge base that fit a query best.", query=_TEXT),
    "grep": _all(
        "grep", "The documents in which a regular expression of Python is found most often, capitals or not.",
        pattern=_TEXT,
    ),
}  # fmt: skip
