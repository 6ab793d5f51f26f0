"""Disputed transactions in the `banking_knowledge` domain, of credit cards and of debit cards.

    file_credit_card_transaction_dispute_4829     a case about a purchase with a credit card
    get_user_dispute_history_7291                 a customer's cases about credit cards
    file_debit_card_transaction_dispute_6281      a case about money of an account (Regulation E of the US)
    get_debit_dispute_status_7483                 a customer's cases about debit cards
    set_debit_card_recurring_block_7382           stops or allows subscriptions on a debit card
    get_atm_deposit_images_8473                   what was in the envelope of a deposit

A case is named after the customer and the transaction: there is one at most. As upstream has it, neither customer nor
transaction nor card must be in the bank's tables.
"""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.banking_scans import SCANS
from s1pro.tasks.tau2.banking_tables import TODAY, BankTables, dollars, given, made_id, one_of
from s1pro.tasks.tau2.world import ToolError

CARD_ACTIONS = ("keep_active", "cancel_and_reissue")
REASONS = (
    "unauthorized_fraudulent_charge", "duplicate_charge", "incorrect_amount", "goods_services_not_received",
    "goods_services_not_as_described", "canceled_subscription_still_charging", "refund_never_processed",
)  # fmt: skip
RESOLUTIONS = ("full_refund", "partial_refund")
FRAUDS = ("unauthorized_transaction", "card_present_fraud", "card_not_present_fraud")
CATEGORIES = (
    "unauthorized_transaction", "atm_cash_discrepancy", "atm_deposit_not_credited", "duplicate_charge",
    "incorrect_amount", "goods_services_not_received", "recurring_charge_after_cancellation", "card_present_fraud",
    "card_not_present_fraud",
)  # fmt: skip
KINDS = (
    "pin_purchase", "signature_purchase", "online_purchase", "atm_withdrawal", "atm_deposit", "recurring_payment",
    "person_to_person",
)  # fmt: skip
PIN_STATES = ("yes_shared", "yes_observed", "no", "unknown")
DEBIT_ACTIONS = ("keep_active", "freeze_pending_investigation", "close_and_reissue")


class Disputes(BankTables):
    """See the module docstring."""

    def file_credit_card_transaction_dispute_4829(
        self, transaction_id: str, card_action: str, card_last_4_digits: str, full_name: str, user_id: str, phone: str,
        email: str, address: str, contacted_merchant: bool, purchase_date: str, issue_noticed_date: str,
        dispute_reason: str, resolution_requested: str, eligible_for_provisional_credit: bool,
        partial_refund_amount: float | None = None,
    ) -> Any:  # fmt: skip
        given(transaction_id=transaction_id, user_id=user_id)
        one_of("card_action", card_action, CARD_ACTIONS)
        one_of("dispute_reason", dispute_reason, REASONS)
        one_of("resolution_requested", resolution_requested, RESOLUTIONS)
        if resolution_requested == "partial_refund" and partial_refund_amount is None:
            raise ToolError("a partial refund needs partial_refund_amount")
        name = _dispute_id(user_id, transaction_id)
        row = {
            "dispute_id": name, "transaction_id": transaction_id, "user_id": user_id, "card_action": card_action,
            "card_last_4_digits": card_last_4_digits, "full_name": full_name, "phone": phone, "email": email,
            "address": address, "contacted_merchant": contacted_merchant, "purchase_date": purchase_date,
            "issue_noticed_date": issue_noticed_date, "dispute_reason": dispute_reason,
            "resolution_requested": resolution_requested, "partial_refund_amount": partial_refund_amount,
            "eligible_for_provisional_credit": eligible_for_provisional_credit,
            "provisional_credit_given": eligible_for_provisional_credit, "submitted_at": TODAY, "status": "SUBMITTED",
        }  # fmt: skip
        if not self.add("transaction_disputes", name, row):
            raise ToolError("a dispute of this transaction seems to be filed already")
        return {
            "dispute_id": name, "transaction_id": transaction_id, "dispute_reason": dispute_reason,
            "resolution_requested": resolution_requested,
            "partial_refund_amount": dollars(partial_refund_amount) if partial_refund_amount else None,
            "provisional_credit": "applied within 2 business days" if eligible_for_provisional_credit else "none",
            "note": "A case is open. It is reviewed within 10 business days.",
        }  # fmt: skip

    def get_user_dispute_history_7291(self, user_id: str) -> Any:
        given(user_id=user_id)
        return {"user_id": user_id, "disputes": self.where("transaction_disputes", "user_id", user_id)}

    def file_debit_card_transaction_dispute_6281(
        self, transaction_id: str, account_id: str, card_id: str, user_id: str, dispute_category: str,
        transaction_date: str, discovery_date: str, disputed_amount: float, transaction_type: str,
        card_in_possession: bool, pin_compromised: str, contacted_merchant: bool, police_report_filed: bool,
        written_statement_provided: bool, provisional_credit_eligible: bool, customer_max_liability_amount: float,
        card_action: str,
    ) -> Any:  # fmt: skip
        given(
            transaction_id=transaction_id, account_id=account_id, card_id=card_id, user_id=user_id,
            transaction_date=transaction_date, discovery_date=discovery_date, disputed_amount=disputed_amount,
        )  # fmt: skip
        _not_null(
            customer_max_liability_amount=customer_max_liability_amount, card_in_possession=card_in_possession,
            contacted_merchant=contacted_merchant, police_report_filed=police_report_filed,
            written_statement_provided=written_statement_provided,
        )  # fmt: skip
        one_of("dispute_category", dispute_category, CATEGORIES)
        one_of("transaction_type", transaction_type, KINDS)
        one_of("pin_compromised", pin_compromised, PIN_STATES)
        one_of("card_action", card_action, DEBIT_ACTIONS)
        if disputed_amount <= 0:
            raise ToolError("disputed_amount must be above 0")
        name = _dispute_id(user_id, transaction_id)
        row = {
            "dispute_id": name, "transaction_id": transaction_id, "account_id": account_id, "card_id": card_id,
            "user_id": user_id, "dispute_category": dispute_category, "transaction_date": transaction_date,
            "discovery_date": discovery_date, "disputed_amount": disputed_amount, "transaction_type": transaction_type,
            "card_in_possession": card_in_possession, "pin_compromised": pin_compromised,
            "contacted_merchant": contacted_merchant, "police_report_filed": police_report_filed,
            "written_statement_provided": written_statement_provided,
            "provisional_credit_eligible": provisional_credit_eligible,
            "provisional_credit_issued": provisional_credit_eligible,
            "provisional_credit_amount": disputed_amount if provisional_credit_eligible else None,
            "customer_max_liability_amount": customer_max_liability_amount, "card_action": card_action,
            "is_fraud_category": dispute_category in FRAUDS, "pin_shared_voluntarily": pin_compromised == "yes_shared",
            "submitted_at": TODAY, "status": "OPEN",
        }  # fmt: skip
        if not self.add("debit_card_disputes", name, row):
            raise ToolError("a dispute of this transaction seems to be filed already")
        return _debit_answer(row)

    def get_debit_dispute_status_7483(self, user_id: str) -> Any:
        given(user_id=user_id)
        return {"user_id": user_id, "disputes": self.where("debit_card_disputes", "user_id", user_id)}

    def set_debit_card_recurring_block_7382(self, card_id: str, block_recurring: bool) -> Any:
        given(card_id=card_id)
        card = self.rows("debit_cards").get(card_id)
        if not card:
            raise ToolError(f"Debit card {card_id} not found")
        status = card.get("status", "").upper()
        if status != "ACTIVE":
            raise ToolError(f"the card is {status}; only for an ACTIVE card recurring payments can be blocked")
        card["recurring_blocked"] = block_recurring
        return {
            "card_id": card_id, "recurring_payments": "declined" if block_recurring else "allowed",
            "note": "It takes effect within 24 hours; single purchases are as before.",
        }  # fmt: skip

    def get_atm_deposit_images_8473(self, transaction_id: str) -> Any:
        given(transaction_id=transaction_id)
        if transaction_id not in self.rows("bank_account_transaction_history"):
            raise ToolError(f"Transaction {transaction_id} not found")
        row = self.rows("bank_account_transaction_history")[transaction_id]
        if row.get("type") != "atm_deposit":
            raise ToolError(f"Transaction {transaction_id} is no deposit at an ATM")
        place = row.get("description", "")
        if "RHO-BANK" not in place.upper() and "RHOBANK" not in place.upper():
            raise ToolError(
                f"Transaction {transaction_id} was at another bank's ATM, which has no pictures for us: ask the ATM "
                "network for a chargeback"
            )
        found = {"transaction_id": transaction_id, "deposit_date": row.get("date", "Unknown")}
        if transaction_id in SCANS:
            return {**found, **SCANS[transaction_id]}
        return {
            **found, "atm": place, "amount_recorded": dollars(abs(row.get("amount", 0))), "images": "not available",
            "note": "There are none, or they are older than 90 days and gone. The case rests on what the customer says "
            "and on the ATM's journal, and may take longer.",
        }  # fmt: skip


def _not_null(**values: Any) -> None:
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ToolError(f"missing: {', '.join(missing)}")


def _debit_answer(row: dict[str, Any]) -> dict[str, Any]:
    amount = row["disputed_amount"]
    shown = ("dispute_id", "transaction_id", "account_id", "dispute_category", "card_action")
    answer = {**{key: row[key] for key in shown}, "disputed_amount": dollars(amount)}
    if row["provisional_credit_eligible"]:
        answer["provisional_credit"] = f"{dollars(amount)} within 10 business days, as Regulation E asks"
    else:
        answer["provisional_credit"] = "none; see the guidelines for provisional credit of debit cards"
    if row["pin_shared_voluntarily"]:
        answer["warning"] = "The customer gave the PIN to somebody; this may count for the liability."
    if row["is_fraud_category"] and not row["police_report_filed"] and amount > 500:
        answer["recommendation"] = "A report to the police is advised for fraud above $500."
    return answer


def _dispute_id(user_id: str, transaction_id: str) -> str:
    return f"dsp_{made_id(f'dispute:{user_id}:{transaction_id}')}"
