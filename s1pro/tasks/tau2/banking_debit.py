"""Debit cards of tau2's bank: what its agent can do with them once the tools are unlocked.

    look      get_debit_cards_by_account_id_7823
    activate  activate_debit_card_8291 (a first card), activate_debit_card_8292 (for one that was lost or stolen),
              activate_debit_card_8293 (for one that expired, broke or was exchanged)
    stop      close_debit_card_4721, freeze_debit_card_3892, unfreeze_debit_card_3893
    alerts    clear_debit_card_fraud_alert_4892
    PIN       reset_debit_card_pin_6284, change_debit_card_pin_6285

A card becomes PENDING when it is ordered (`banking_debit_orders`), ACTIVE when it is activated, FROZEN for a while, and
CLOSED for good. PINs are not stored, so a PIN that is said to be the current one is believed. Of what an activation
says, only the last digits are compared, neither the expiration date nor the CVV.
"""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.banking_tables import TODAY, BankTables, given, one_of
from s1pro.tasks.tau2.world import ToolError

NEW = ("new_account", "first_card")
REPLACED = ("lost", "stolen", "fraud")
REISSUED = ("expired", "damaged", "upgrade", "bank_reissue")
CLOSURES = ("lost", "stolen", "fraud_suspected", "damaged", "no_longer_needed", "account_closing")
_ACTIVATION = {
    **dict.fromkeys(NEW, "activate_debit_card_8291"),
    **dict.fromkeys(REPLACED, "activate_debit_card_8292"),
    **dict.fromkeys(REISSUED, "activate_debit_card_8293"),
}
_DIGITS = "0123456789"
_RUNS = tuple(row[start : start + 4] for row in (_DIGITS, _DIGITS[::-1]) for start in range(7))


class DebitCards(BankTables):
    """See the module docstring."""

    # what only looks

    def get_debit_cards_by_account_id_7823(self, account_id: str) -> Any:
        """Newest first, as far as their dates, which begin with the month, sort."""
        given(account_id=account_id)
        if account_id not in self.rows("accounts"):
            raise ToolError(f"account {account_id} not found")
        if self.rows("accounts")[account_id].get("class", "").lower() not in ("checking", "business_checking"):
            raise ToolError(f"account {account_id} is no checking account, so it has no debit cards")
        cards = [
            _listed({"card_id": name, **card})
            for name, card in self.cards().items()
            if card.get("account_id") == account_id
        ]
        if not cards:
            return f"Account {account_id} has no debit cards."
        return sorted(cards, key=lambda card: card.get("date_issued") or "", reverse=True)

    # activate

    def activate_debit_card_8291(
        self, card_id: str, last_4_digits: str, expiration_date: str, cvv: str, pin: str
    ) -> Any:
        card = self._pending("activate_debit_card_8291", card_id, last_4_digits, expiration_date, cvv, pin)
        ended = {"status": "DEACTIVATED", "deactivated_date": TODAY, "deactivation_reason": "New card activated"}
        return self._activate(card_id, card, ended)

    def activate_debit_card_8292(
        self, card_id: str, last_4_digits: str, expiration_date: str, cvv: str, pin: str
    ) -> Any:
        card = self._pending("activate_debit_card_8292", card_id, last_4_digits, expiration_date, cvv, pin)
        why = f"Replacement card activated ({card['issue_reason']})"
        ended = {"status": "DEACTIVATED", "deactivated_date": TODAY, "deactivation_reason": why}
        advice = "look at recent transactions and report what the customer did not do"
        if card["issue_reason"] == "fraud":
            advice += "; a new password for online banking is recommended"
        return {**self._activate(card_id, card, ended), "advice": advice}

    def activate_debit_card_8293(
        self, card_id: str, last_4_digits: str, expiration_date: str, cvv: str, pin: str
    ) -> Any:
        card = self._pending("activate_debit_card_8293", card_id, last_4_digits, expiration_date, cvv, pin)
        why = f"Reissued card activated ({card['issue_reason']})"
        ended = {"status": "GRACE_PERIOD", "grace_period_ends": TODAY, "deactivation_reason": why}
        advice = "an older card works for 24 hours more"
        if card["issue_reason"] in ("expired", "bank_reissue"):
            advice += "; if the number is new, recurring payments need it"
        return {**self._activate(card_id, card, ended), "advice": advice}

    def _pending(self, tool: str, name: str, last_4_digits: str, expiration_date: str, cvv: str, pin: str) -> Any:
        """The card, if this tool may activate it. Raises `ToolError`."""
        given(card_id=name, last_4_digits=last_4_digits, expiration_date=expiration_date, cvv=cvv, pin=pin)
        _good_pin(pin)
        _all_digits("cvv", cvv, 3)
        _all_digits("last_4_digits", last_4_digits, 4)
        card = self.card(name)
        reason = card.get("issue_reason", "new_account")
        right = _ACTIVATION.get(reason, "unknown")
        if right != tool:
            raise ToolError(f"card {name} was issued as {reason}; its activation is {right}, not {tool}")
        if card.get("status") != "PENDING":
            raise ToolError(f"card {name} is {card.get('status')}; only PENDING cards can be activated")
        if card.get("last_4_digits") != last_4_digits:
            raise ToolError("the last 4 digits are not those of the card")
        self._open_account(card)
        return card

    def _activate(self, name: str, card: dict[str, Any], ended: dict[str, Any]) -> dict[str, Any]:
        card.update(status="ACTIVE", activated_date=TODAY)
        others = [
            other
            for other, row in self.cards().items()
            if other != name and row.get("account_id") == card.get("account_id") and row.get("status") == "ACTIVE"
        ]
        for other in others:
            self.cards()[other].update(ended)
        reason = card.get("issue_reason", "new_account")
        return {
            "done": "card activated", "card_id": name, "status": "ACTIVE", "activated_date": TODAY,
            "issue_reason": reason, "older_cards": dict.fromkeys(others, ended["status"]),
        }  # fmt: skip

    # stop

    def close_debit_card_4721(self, card_id: str, reason: str) -> Any:
        given(card_id=card_id, reason=reason)
        reason = reason.lower()
        one_of("reason", reason, CLOSURES)
        card = self.card(card_id)
        before = card.get("status")
        if before not in ("ACTIVE", "PENDING"):
            raise ToolError(f"card {card_id} is {before}; only ACTIVE or PENDING cards can be closed")
        change = {"status": "CLOSED", "closed_date": TODAY, "closure_reason": reason}
        card.update(change)
        advice = "it cannot be activated again; a new one can be ordered; recurring payments need another card"
        if reason in CLOSURES[:3]:
            advice += "; it stopped at once, but pending transactions may still come"
        if reason == "fraud_suspected":
            advice += "; look at recent transactions, dispute wrong ones, and change the password of online banking"
        return {"done": "card closed", "card_id": card_id, "previous_status": before, **change, "advice": advice}

    def freeze_debit_card_3892(self, card_id: str) -> Any:
        given(card_id=card_id)
        card = self.card(card_id)
        if card.get("status") != "ACTIVE":
            raise ToolError(f"card {card_id} is {card.get('status')}; only ACTIVE cards can be frozen")
        card.update(status="FROZEN", frozen_date=TODAY)
        return {
            "done": "card frozen", "card_id": card_id, "status": "FROZEN", "frozen_date": TODAY,
            "advice": "new and recurring payments are declined, pending ones may still come; a call or the app "
            "unfreezes it; a card that is surely lost or stolen should be closed",
        }  # fmt: skip

    def unfreeze_debit_card_3893(self, card_id: str) -> Any:
        given(card_id=card_id)
        card = self.card(card_id)
        if card.get("status") != "FROZEN":
            raise ToolError(f"card {card_id} is {card.get('status')}; only FROZEN cards can be unfrozen")
        self._open_account(card)
        card.update(status="ACTIVE", unfrozen_date=TODAY)
        return {"done": "card unfrozen", "card_id": card_id, "status": "ACTIVE", "unfrozen_date": TODAY}

    # alerts

    def clear_debit_card_fraud_alert_4892(self, card_id: str, reason: str) -> Any:
        given(card_id=card_id, reason=reason)
        one_of("reason", reason, ("customer_verified", "velocity_clear"))
        card = self.card(card_id)
        if reason == "velocity_clear":
            if not card.get("velocity_blocked", False):
                raise ToolError(f"card {card_id} has no velocity block")
            card.update(velocity_blocked=False, velocity_cleared_date=TODAY)
            advice = "the same unusual pattern would block it again"
            return {"done": "velocity block cleared", "card_id": card_id, "cleared_date": TODAY, "advice": advice}
        if not card.get("fraud_alert_active", False):
            raise ToolError(f"card {card_id} has no fraud alert")
        if card.get("alert_source") == "bank_initiated":
            raise ToolError(
                "BANK_INITIATED_ALERT: the bank's own detection raised this alert, and customer service cannot clear "
                "it; hand the customer to the security team with transfer_to_human_agents"
            )
        card.update(fraud_alert_active=False, alert_source=None, fraud_alert_cleared_date=TODAY)
        advice = "the customer should look at recent transactions and report wrong ones"
        return {"done": "fraud alert cleared", "card_id": card_id, "cleared_date": TODAY, "advice": advice}

    # PIN

    def reset_debit_card_pin_6284(self, card_id: str, last_4_digits: str, new_pin: str) -> Any:
        given(card_id=card_id, last_4_digits=last_4_digits, new_pin=new_pin)
        _all_digits("last_4_digits", last_4_digits, 4)
        _good_pin(new_pin)
        card = self.card(card_id)
        if card.get("last_4_digits") != last_4_digits:
            raise ToolError("the last 4 digits are not those of the card")
        _active(card_id, card, "have its PIN reset")
        change = {"pin_last_changed": TODAY, "pin_locked": False, "pin_attempts_remaining": 3}
        card.update(change)
        return {"done": "PIN reset", "card_id": card_id, **change}

    def change_debit_card_pin_6285(self, card_id: str, current_pin: str, new_pin: str) -> Any:
        given(card_id=card_id, current_pin=current_pin, new_pin=new_pin)
        _all_digits("current_pin", current_pin, 4)
        _good_pin(new_pin)
        if current_pin == new_pin:
            raise ToolError("the new PIN is the current one")
        card = self.card(card_id)
        _active(card_id, card, "have its PIN changed")
        card["pin_last_changed"] = TODAY
        return {"done": "PIN changed", "card_id": card_id, "pin_last_changed": TODAY}

    # looking up

    def cards(self) -> dict[str, dict[str, Any]]:
        return self.rows("debit_cards")

    def card(self, name: str) -> dict[str, Any]:
        """Raises `ToolError` for one that is not there."""
        if name not in self.cards():
            raise ToolError(f"debit card {name} not found")
        return self.cards()[name]

    def _open_account(self, card: dict[str, Any]) -> None:
        """Raises `ToolError` if the account is there, but not open."""
        name = card.get("account_id")
        if name and self.rows("accounts").get(name, {"status": "OPEN"}).get("status") != "OPEN":
            raise ToolError(f"the account {name} of this card is no longer open")


def _all_digits(name: str, value: str, length: int) -> None:
    if not value.isdigit() or len(value) != length:
        raise ToolError(f"{name} must be {length} digits")


def _good_pin(pin: str) -> None:
    _all_digits("the PIN", pin, 4)
    if pin in _RUNS:
        raise ToolError("the PIN must not be four digits in a row, as 1234 is")
    if len(set(pin)) == 1:
        raise ToolError("the PIN must not be one digit four times, as 1111 is")


def _active(name: str, card: dict[str, Any], what: str) -> None:
    if card.get("status") != "ACTIVE":
        raise ToolError(f"card {name} is {card.get('status')}; only an ACTIVE card can {what}")


def _listed(card: dict[str, Any]) -> dict[str, Any]:
    """Fields under the names of the list."""
    for names, shown in ((("last_4_digits",), "card_number_last_4"), (("issue_date", "created_date"), "date_issued")):
        for name in names:
            if name in card and shown not in card:
                card[shown] = card.pop(name)
    return card
