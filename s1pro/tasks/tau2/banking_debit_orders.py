"""A new debit card of tau2's bank, and a higher limit for a day: the two tools of its agent with the most conditions.

    order   order_debit_card_5739: fees are taken from the account, and the card is PENDING at once
    limit   request_temporary_debit_card_limit_increase_8374: up to 150% of what it is

The agent says what the fees are; nobody looks whether they are right. What the card is issued for is told by the first
card of the account that was closed. Number and CVV are the digits of hashes, filled up with zeros.
"""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.banking_accounts import amount_of, days_open
from s1pro.tasks.tau2.banking_debit import DebitCards
from s1pro.tasks.tau2.banking_tables import TODAY, dollars, given, made_id, one_of
from s1pro.tasks.tau2.world import ToolError

DELIVERY = {"STANDARD": "7-10 business days", "EXPEDITED": "3-5 business days", "RUSH": "1-2 business days"}
DESIGNS = ("CLASSIC", "PREMIUM", "CUSTOM")
LEAST_BALANCE = 25.0
LEAST_DAYS = 60
EXPIRES = "11/30/2029"  # four years from now, the end of the month
ATM_LIMITS = {
    "blue account": 500, "green account": 600, "light blue account": 400, "green fee-free account": 500,
    "evergreen account": 750, "bluest account": 1500, "dark green account": 300, "gold years account": 600,
    "purple account": 1000,
}  # fmt: skip


class DebitOrders(DebitCards):
    """See the module docstring."""

    # order

    def order_debit_card_5739(
        self,
        account_id: str,
        user_id: str,
        delivery_option: str,
        delivery_fee: float,
        card_design: str,
        design_fee: float,
        shipping_address: str,
        excess_replacement_fee: float | None = None,
    ) -> Any:
        fees = _Fees(delivery_fee, design_fee, excess_replacement_fee)
        given(
            account_id=account_id, user_id=user_id, delivery_option=delivery_option, card_design=card_design,
            shipping_address=shipping_address,
        )  # fmt: skip
        delivery_option = delivery_option.upper()
        one_of("delivery_option", delivery_option, tuple(DELIVERY))
        card_design = card_design.upper()
        one_of("card_design", card_design, DESIGNS)
        balance = self._may_order(account_id, user_id)
        if fees.total > 0 and balance < fees.total:
            raise ToolError(f"the fees are {dollars(fees.total)}, and the account has {dollars(balance)}")
        order_id = f"dcord_{made_id(f'debit_card_order:{account_id}:{user_id}:{delivery_option}')}"
        order = {
            "order_id": order_id, "account_id": account_id, "user_id": user_id, "delivery_option": delivery_option,
            "card_design": card_design, "shipping_address": shipping_address, "delivery_fee": fees.delivery,
            "design_fee": fees.design, "excess_replacement_fee": fees.excess, "total_fee": fees.total,
            "order_date": TODAY, "expected_delivery": DELIVERY[delivery_option], "status": "PENDING",
        }  # fmt: skip
        if not self.add("debit_card_orders", order_id, order):
            raise ToolError(f"there is an order {order_id} already")
        if fees.total > 0:
            balance -= fees.total
            self._charge(account_id, order_id, fees, balance)
        card_id = self._issue(account_id, user_id, card_design)
        return {
            "done": "card ordered; the customer calls to activate it when it comes", "card_id": card_id, **order,
            "balance": dollars(balance),
        }  # fmt: skip

    def _may_order(self, account_id: str, user_id: str) -> float:
        """The balance of the account. Raises `ToolError` if it may have no new card."""
        if account_id not in self.rows("accounts"):
            raise ToolError(f"account {account_id} not found")
        account = self.rows("accounts")[account_id]
        if account.get("class") != "checking":
            raise ToolError(f"debit cards are for checking accounts; {account_id} is {account.get('class')}")
        if account.get("status") != "OPEN":
            raise ToolError(f"account {account_id} is {account.get('status')}, not OPEN")
        if account.get("user_id") != user_id:
            raise ToolError(f"account {account_id} is not of user {user_id}")
        balance = _plain_balance(account)
        if balance < LEAST_BALANCE:
            raise ToolError(f"the account must have {dollars(LEAST_BALANCE)}; it has {dollars(balance)}")
        for table, status, about in (
            ("debit_card_orders", "PENDING", "an order that is pending"),
            ("debit_cards", "ACTIVE", "an active card, and one is the most"),
        ):
            rows = self.rows(table).values()
            if any(row.get("account_id") == account_id and row.get("status") == status for row in rows):
                raise ToolError(f"account {account_id} has {about}")
        return balance

    def _charge(self, account_id: str, order_id: str, fees: _Fees, balance: float) -> None:
        self.rows("accounts")[account_id]["current_holdings"] = f"{balance:.2f}"
        name = f"btxn_dcfee_{order_id[-8:]}"
        record = {
            "transaction_id": name, "account_id": account_id, "date": TODAY,
            "description": f"DEBIT CARD ORDER FEE - {fees.named()}", "amount": -fees.total, "type": "debit_card_fee",
            "status": "posted",
        }  # fmt: skip
        self.add("bank_account_transaction_history", name, record)

    def _issue(self, account_id: str, user_id: str, design: str) -> str:
        """The id of the card; an account that had a card of this day keeps that one."""
        name = f"dbc_{made_id(f'debit_card:{account_id}:{user_id}:{TODAY}')}"
        holder = self.rows("users").get(user_id, {}).get("name", "CARDHOLDER").upper()
        record = {
            "card_id": name, "account_id": account_id, "user_id": user_id, "cardholder_name": holder,
            "last_4_digits": _some_digits(f"card_details:{name}:last4", 8, 4),
            "cvv": _some_digits(f"card_details:{name}:cvv", 6, 3), "status": "PENDING", "issue_date": TODAY,
            "expiration_date": EXPIRES, "card_design": design, "issue_reason": self._issue_reason(account_id),
        }  # fmt: skip
        self.add("debit_cards", name, record)
        return name

    def _issue_reason(self, account_id: str) -> str:
        cards = [card for card in self.cards().values() if card.get("account_id") == account_id]
        if not cards:
            return "new_account"
        closed = [card for card in cards if card.get("status") == "CLOSED"]
        reason = closed[0].get("closure_reason", "first_card") if closed else "first_card"
        known = {"lost": "lost", "stolen": "stolen", "fraud": "fraud", "fraud_suspected": "fraud"}
        return known.get(reason, "first_card")

    # limit

    def request_temporary_debit_card_limit_increase_8374(self, card_id: str, limit_type: str, new_limit: int) -> Any:
        given(card_id=card_id, limit_type=limit_type)
        one_of("limit_type", limit_type, ("atm", "purchase"))
        wanted = amount_of("new_limit", new_limit)
        if not wanted.is_integer() or wanted <= 0:
            raise ToolError(f"new_limit must be a whole number of dollars above zero, not {new_limit!r}")
        new_limit = int(wanted)
        card = self.card(card_id)
        if card.get("status") != "ACTIVE":
            raise ToolError(f"card {card_id} is {card.get('status')}; only ACTIVE cards can have a higher limit")
        before = self._limit(card, limit_type)
        most = int(before * 1.5)
        if new_limit > most:
            raise ToolError(f"${new_limit} is too much: ${most} is 150% of the limit of ${before}")
        if new_limit <= before:
            raise ToolError(f"${new_limit} is not above the limit of ${before}")
        change = {
            f"daily_{limit_type}_limit": new_limit, f"temporary_{limit_type}_limit_increase": True,
            f"original_{limit_type}_limit": before, f"temporary_{limit_type}_limit_expires": TODAY,
        }  # fmt: skip
        card.update(change)
        advice = "it lasts 24 hours, once per 24 hours; machines of other banks may have limits of their own"
        return {"done": "limit raised", "card_id": card_id, **change, "advice": advice}

    def _limit(self, card: dict[str, Any], kind: str) -> Any:
        """What it is now. Raises `ToolError` where it may not be raised."""
        name = card.get("account_id")
        if not name or name not in self.rows("accounts"):
            raise ToolError("the account of this card is not there")
        account = self.rows("accounts")[name]
        if account.get("status") != "OPEN":
            raise ToolError(f"the account {name} of this card is {account.get('status')}, not OPEN")
        days = days_open(account) if account.get("date_opened") else None
        if days is not None and days < LEAST_DAYS:
            raise ToolError(f"the account must be {LEAST_DAYS} days old; it is {days}")
        found = card.get(f"daily_{kind}_limit")
        if found is None and kind == "atm":
            level = account.get("level", "").lower()
            if "light green" in level:
                raise ToolError("a Light Green (teen) account has a fixed limit of $150 a day at ATMs, for safety; a "
                                "parent may take out money of their own account")  # fmt: skip
            found = ATM_LIMITS.get(level)
        if found is None:
            raise ToolError(f"this card has no daily {kind} limit that could be changed; look at the kind of account")
        return found


class _Fees:
    """Of an order. Raises `ToolError` for what is no number; an excess fee that is none is nothing."""

    def __init__(self, delivery: Any, design: Any, excess: Any) -> None:
        self.delivery, self.design = amount_of("delivery_fee", delivery), amount_of("design_fee", design)
        try:
            self.excess = float(excess or 0)
        except (TypeError, ValueError):
            self.excess = 0
        self.total = self.delivery + self.design + self.excess

    def named(self) -> str:
        parts = (("Delivery", f"${self.delivery}"), ("Design", f"${self.design}"))
        named = [*parts, ("Excess Replacement", f"${self.excess:.0f}")]
        fees = (self.delivery, self.design, self.excess)
        return ", ".join(f"{name} {text}" for (name, text), fee in zip(named, fees, strict=True) if fee > 0)


def _plain_balance(account: dict[str, Any]) -> float:
    """Only a number counts here; a balance with a dollar sign is none."""
    try:
        return float(str(account.get("current_holdings", "0")).replace(",", ""))
    except ValueError:
        return 0.0


def _some_digits(seed: str, length: int, wanted: int) -> str:
    return "".join(one for one in made_id(seed, length) if one.isdigit())[:wanted].zfill(wanted)
