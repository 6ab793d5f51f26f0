"""What the customer of tau2's bank can do: ask for a card, a referral or a human, buy, and use the agent's gifts.

A tool that was not given is refused. A call of a given one is written down with its arguments, before anything can go
wrong with it. Ids follow from what was asked (`made_id`), so the same wish twice is one record.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from s1pro.tasks.tau2.banking_tables import TODAY, BankTables, holdings, made_id
from s1pro.tasks.tau2.world import ToolError

_REST = "default"
CARDS: Mapping[str, Mapping[str, float]] = {
    "Bronze Rewards Card": {_REST: 1.0},
    "Business Bronze Rewards Card": {_REST: 1.0},
    "Business Gold Rewards Card": {"Operations": 2.5, _REST: 1.0},
    "Business Platinum Rewards Card": {"Travel": 4.0, "Software": 4.0, "Media": 4.0, _REST: 1.5},
    "Business Silver Rewards Card": {"Travel": 10.0, "Software": 10.0, _REST: 1.0},
    "Crypto-Cash Back": {_REST: 2.0},
    "Diamond Elite Card": {_REST: 5.0},
    "EcoCard": {"Green": 5.0, _REST: 1.0},
    "Gold Rewards Card": {_REST: 2.5},
    "Green Rewards Card": {"Sustainable": 3.0, _REST: 1.0},
    "Platinum Rewards Card": {_REST: 10.0},
    "Silver Rewards Card": {"Travel": 4.0, "Software": 4.0, _REST: 1.0},
    "Silver Zoom Card": {"Transportation": 3.0, _REST: 1.0},
}
"""Points per dollar by category."""


class Customer(BankTables):
    """See the module docstring."""

    # what is always there

    def apply_for_credit_card(
        self, card_type: str, customer_name: str, annual_income: float, rho_bank_subscription: bool = False
    ) -> Any:
        if card_type not in list(CARDS):
            return f"Error: there is no card {card_type!r}; there are {', '.join(CARDS)}"
        try:
            income = float(annual_income)
        except (TypeError, ValueError):
            return "Error: annual_income must be a number"
        name = made_id(f"credit_card:{card_type}:{customer_name}:{income}:{rho_bank_subscription}", 16)
        record = {
            "application_id": name, "card_type": card_type, "customer_name": customer_name, "annual_income": income,
            "rho_bank_subscription": rho_bank_subscription, "status": "PENDING", "date": TODAY,
        }  # fmt: skip
        if not self.add("credit_card_applications", name, record):
            return f"The application {name} was made before; it is not made again."
        return "The application is submitted. The decision comes by email within 5 to 7 business days."

    def submit_referral(self, user_id: str, account_type: str) -> Any:
        name = made_id(":".join(("referral", user_id, account_type)), 16)
        record = self._referral(name, user_id, account_type)
        if not self.add("referrals", name, record):
            return f"The referral {name} was submitted before; it is not submitted again."
        return {"message": "The referral is submitted. Whom you refer needs its id.", **record}

    def submit_transaction(
        self, user_id: str, credit_card_type: str, merchant_name: str, amount: float, category: str
    ) -> Any:
        if credit_card_type not in CARDS:
            return f"Error: there is no card {credit_card_type!r}; there are {', '.join(CARDS)}"
        facts = ("transaction", user_id, credit_card_type, merchant_name, f"{amount:.2f}", category)
        name = f"txn_{made_id(':'.join(facts))}"
        rates = CARDS[credit_card_type]
        record = {
            "transaction_id": name, "user_id": user_id, "credit_card_type": credit_card_type,
            "merchant_name": merchant_name, "transaction_amount": f"${amount:.2f}", "transaction_date": TODAY,
            "category": category, "status": "COMPLETED",
            "rewards_earned": f"{int(amount * rates.get(category, rates[_REST]))} points",
        }  # fmt: skip
        if not self.add("credit_card_transaction_history", name, record):
            return f"The transaction {name} was submitted before; it is not submitted again."
        return {"message": "The transaction is submitted.", **record}

    def request_human_agent_transfer(self) -> str:
        number = len(self.rows("human_transfer_requests")) + 1
        name = f"transfer_request_{number}"
        record = {"request_id": name, "request_number": number, "requested_at": TODAY, "status": "PENDING"}
        self.add("human_transfer_requests", name, record)
        return f"Your request no. {number} for a human is submitted; the agent will deal with it."

    def list_discoverable_user_tools(self) -> Any:
        return list(self.rows("user_discoverable_tools").values()) or "The agent has given you no tools yet."

    def call_discoverable_user_tool(self, discoverable_tool_name: str, arguments: str = "{}") -> Any:
        method = self.given_tool(discoverable_tool_name)
        if method is None:
            return f"Error: there is no tool {discoverable_tool_name!r}"
        try:
            given = json.loads(arguments, parse_int=float)
        except json.JSONDecodeError as error:
            return f"Error: the arguments are not JSON ({error})"
        takes = inspect.signature(method).parameters
        for name in takes:
            if name not in given:
                return f"Error: the argument {name} is missing"
        for name in given:
            if name not in takes:
                return f"Error: there is no argument {name}"
        try:
            return method(**given)
        except ToolError as error:
            return f"Error: {error}"
        except TypeError as error:
            return f"Error: wrong arguments for {discoverable_tool_name} ({error})"

    def given_tool(self, name: str) -> Callable[..., Any] | None:
        """The method of a tool that can be given to the customer; None if there is no such tool."""
        method: Callable[..., Any] | None = getattr(self, name, None) if name in GIVEN else None
        return method

    # what the agent may give

    def submit_cash_back_dispute_0589(self, user_id: str, transaction_id: str) -> Any:
        self._called("submit_cash_back_dispute_0589", user_id=user_id, transaction_id=transaction_id)
        name = f"dsp_{made_id(f'dispute:{user_id}:{transaction_id}')}"
        at_once = self.rows("task_config").get("dispute_settings", {}).get("auto_resolve_disputes", False)
        end = {"status": "RESOLVED", "resolution": "APPROVED"} if at_once else {"status": "SUBMITTED"}
        record = {
            "dispute_id": name, "user_id": user_id, "transaction_id": transaction_id, "submitted_at": TODAY, **end
        }  # fmt: skip
        if not self.add("cash_back_disputes", name, record):
            return {"message": "A dispute of this transaction may have been submitted before."}
        then = "It is approved; the rewards of the transaction must be updated." if at_once else "It will be reviewed."
        return {"message": f"The dispute is submitted. {then}", **record}

    def get_referral_link(self, user_id: str, card_name: str) -> Any:
        self._called("get_referral_link", user_id=user_id, card_name=card_name)
        name = made_id(f"referral_link:{user_id}:{card_name}", 16)
        if not self.add("referrals", name, self._referral(name, user_id, card_name)):
            return {"message": "A link for this card may have been made before."}
        return {"message": "Share this link.", "referral_id": name, "link": f"https://rhobank.com/refer/{name}"}

    def get_card_last_4_digits(self, credit_card_account_id: str) -> Any:
        self._called("get_card_last_4_digits", credit_card_account_id=credit_card_account_id)
        if not self.is_there("credit_card_accounts", "account_id", credit_card_account_id):
            raise ToolError(f"the credit card account {credit_card_account_id!r} is not found")
        drawn = made_id(f"card_last4:{credit_card_account_id}", 64)
        return {"last_4_digits": "".join(filter(str.isdigit, drawn))[:4].ljust(4, "0")}

    def deposit_check_3847(self, account_id: str, check_amount: float) -> Any:
        self._called("deposit_check_3847", account_id=account_id, check_amount=check_amount)
        try:
            more = float(check_amount)
        except (TypeError, ValueError):
            raise ToolError(f"the amount {check_amount!r} is no number") from None
        if more <= 0:
            raise ToolError("the amount of a check must be positive")
        accounts = self.rows("accounts")
        if account_id not in accounts:
            raise ToolError(f"the account {account_id!r} is not found")
        account = accounts[account_id]
        if account.get("status") not in ("ACTIVE", "OPEN"):
            raise ToolError(f"the account {account_id!r} is not active")
        before = holdings(account)
        account["current_holdings"] = f"${before + more:.2f}"
        return {
            "message": "The check is deposited.", "account_id": account_id, "check_amount": f"${more:.2f}",
            "previous_balance": f"${before:.2f}", "new_balance": account["current_holdings"],
        }  # fmt: skip

    def _called(self, tool: str, **arguments: Any) -> None:
        """Writes the call down. Raises `ToolError` for a tool that was not given."""
        if not self.is_there("user_discoverable_tools", "tool_name", tool):
            raise ToolError(f"the agent has not given you {tool}: it must call give_discoverable_user_tool first")
        name = made_id(f"user_discoverable_tool_call:{tool}:{json.dumps(arguments, sort_keys=True)}", 16)
        record = {"tool_name": tool, "arguments": arguments, "called_at": TODAY, "status": "CALLED"}
        self.add("user_discoverable_tool_calls", name, record)

    def _referral(self, name: str, user_id: str, what: str) -> dict[str, Any]:
        return {
            "referral_id": name, "referrer_id": user_id, "referred_account_type": what,
            "referral_status": "NO_PROGRESS", "date": TODAY,
        }  # fmt: skip


GIVEN = frozenset(
    {"submit_cash_back_dispute_0589", "get_referral_link", "get_card_last_4_digits", "deposit_check_3847"}
)
"""Tools that the agent may give."""
