"""Credit limits in the `banking_knowledge` domain: a customer asks for more, the agent looks up and decides.

    submit_credit_limit_increase_request_7392     a request, pending
    get_credit_limit_increase_history_4829        what was asked and decided before
    get_payment_history_6183                      the last payments, and how many in a row came in time
    approve_credit_limit_increase_5847            sets the limit, unless a dispute or an order is open
    deny_credit_limit_increase_5848               writes down why not

As upstream has it, a decision is a row of its own, and the request stays pending. Its id is made of the difference of
the limits, so a row that is there under the same id (the request itself, if the agent grants what was asked) stays.
"""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.banking_tables import TODAY, BankTables, dollars, given, made_id, number, one_of
from s1pro.tasks.tau2.world import ToolError

DENIALS = (
    "insufficient_account_age", "cooldown_period_active", "pending_disputes", "pending_replacement_card",
    "past_due_balance", "high_utilization", "insufficient_payment_history", "requested_amount_exceeds_limit", "other",
)  # fmt: skip
_OPEN_DISPUTES = ("SUBMITTED", "UNDER_REVIEW", "PENDING")
_OPEN_ORDERS = ("PENDING", "PROCESSING", "SHIPPED")
_BAD_STANDING = ("PAST_DUE", "DELINQUENT", "COLLECTIONS", "CLOSED")


class CreditLimits(BankTables):
    """See the module docstring."""

    def submit_credit_limit_increase_request_7392(
        self, credit_card_account_id: str, user_id: str, requested_increase_amount: float
    ) -> Any:
        given(credit_card_account_id=credit_card_account_id, user_id=user_id)
        amount = _whole_dollars(requested_increase_amount)
        self.own_card(credit_card_account_id, user_id)
        name = _request_id(credit_card_account_id, user_id, amount)
        row = {
            "request_id": name, "credit_card_account_id": credit_card_account_id, "user_id": user_id,
            "requested_increase_amount": amount, "submitted_at": TODAY, "status": "PENDING",
        }  # fmt: skip
        if not self.add("credit_limit_increase_requests", name, row):
            raise ToolError("such a request seems to be there already")
        return {"submitted": row}

    def get_credit_limit_increase_history_4829(self, credit_card_account_id: str) -> Any:
        given(credit_card_account_id=credit_card_account_id)
        rows = self.where("credit_limit_increase_requests", "credit_card_account_id", credit_card_account_id)
        return {"credit_card_account_id": credit_card_account_id, "requests": rows}

    def get_payment_history_6183(self, credit_card_account_id: str, months: float) -> Any:
        given(credit_card_account_id=credit_card_account_id)
        try:
            count = int(months)
        except (ValueError, TypeError) as error:
            raise ToolError("months must be a whole number above 0") from error
        if count <= 0:
            raise ToolError("months must be a whole number above 0")
        rows = self.rows("payment_history").values()
        payments = [row for row in rows if row.get("credit_card_account_id") == credit_card_account_id]
        payments.sort(key=lambda row: row.get("payment_date") or "", reverse=True)
        payments = payments[:count]
        late = (place for place, row in enumerate(payments) if row.get("status") != "ON_TIME")
        shown = [{key: row.get(key) for key in ("payment_date", "amount", "status")} for row in payments]
        return {
            "credit_card_account_id": credit_card_account_id, "months": count,
            "consecutive_on_time_payments": next(late, len(payments)), "payments": shown,
        }  # fmt: skip

    def approve_credit_limit_increase_5847(
        self, credit_card_account_id: str, user_id: str, new_credit_limit: float
    ) -> Any:
        given(credit_card_account_id=credit_card_account_id, user_id=user_id)
        if new_credit_limit is None:
            raise ToolError("missing: new_credit_limit")
        card = self.own_card(credit_card_account_id, user_id)
        if self._has_open_matter(credit_card_account_id, user_id) or _in_bad_standing(card):
            raise ToolError("the increase cannot be approved at this time")
        before, after = amount_or_zero(card.get("credit_limit", "$0.00")), float(new_credit_limit)
        card["credit_limit"] = dollars(after)
        name = _request_id(credit_card_account_id, user_id, after - before)
        row = {
            "request_id": name, "credit_card_account_id": credit_card_account_id, "user_id": user_id,
            "previous_limit": dollars(before), "new_limit": dollars(after), "increase_amount": dollars(after - before),
            "decision_date": TODAY, "status": "APPROVED",
        }  # fmt: skip
        self.add("credit_limit_increase_requests", name, row)
        return {"approved": row, "note": "The customer is told by email."}

    def deny_credit_limit_increase_5848(self, credit_card_account_id: str, user_id: str, denial_reason: str) -> Any:
        given(credit_card_account_id=credit_card_account_id, user_id=user_id, denial_reason=denial_reason)
        one_of("denial_reason", denial_reason, DENIALS)
        if credit_card_account_id not in self.rows("credit_card_accounts"):
            raise ToolError(f"Credit card account {credit_card_account_id} not found")
        name = _request_id(credit_card_account_id, user_id, 0.0)
        row = {
            "request_id": name, "credit_card_account_id": credit_card_account_id, "user_id": user_id,
            "denial_reason": denial_reason, "decision_date": TODAY, "status": "DENIED",
        }  # fmt: skip
        self.add("credit_limit_increase_requests", name, row)
        return {"denied": row, "note": "The customer is sent the reason."}

    def own_card(self, credit_card_account_id: str, user_id: str) -> dict[str, Any]:
        """An account of a credit card. Raises `ToolError` if it is not there, or another customer's."""
        if credit_card_account_id not in self.rows("credit_card_accounts"):
            raise ToolError(f"Credit card account {credit_card_account_id} not found")
        card = self.rows("credit_card_accounts")[credit_card_account_id]
        if card.get("user_id") != user_id:
            raise ToolError(f"Credit card account {credit_card_account_id} is not of the user {user_id}")
        return card

    def _has_open_matter(self, credit_card_account_id: str, user_id: str) -> bool:
        """A dispute of the customer, or an order of another card for the account."""
        disputes = self.rows("transaction_disputes").values()
        orders = self.rows("credit_card_orders").values()
        return any(row.get("user_id") == user_id and row.get("status") in _OPEN_DISPUTES for row in disputes) or any(
            row.get("credit_card_account_id") == credit_card_account_id and row.get("status") in _OPEN_ORDERS
            for row in orders
        )


def amount_or_zero(amount: Any) -> float:
    """Of a number or a text like `$1,250.00`; anything else is nothing."""
    try:
        return number(amount)
    except ValueError:
        return 0.0


def _whole_dollars(amount: Any) -> int:
    try:
        wanted = float(amount)
    except (TypeError, ValueError) as error:
        raise ToolError("requested_increase_amount must be a whole number of dollars") from error
    if not wanted.is_integer():
        raise ToolError("requested_increase_amount must be a whole number of dollars")
    if wanted <= 0:
        raise ToolError("requested_increase_amount must be above 0")
    return int(wanted)


def _in_bad_standing(card: dict[str, Any]) -> bool:
    return bool(card.get("account_status", "").upper() in _BAD_STANDING)


def _request_id(credit_card_account_id: str, user_id: str, amount: float) -> str:
    return f"cli_{made_id(f'cli_request:{credit_card_account_id}:{user_id}:{amount:.2f}')}"
