"""tau2's bank: accounts and debit cards against records that upstream's functions make of the same calls."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from s1pro.tasks.tau2.banking_account_texts import ACCOUNT_TOOLS, DEBIT_TOOLS
from s1pro.tasks.tau2.banking_accounts import EARLY_CLOSURE, Accounts
from s1pro.tasks.tau2.banking_debit_orders import DebitOrders
from s1pro.tasks.tau2.banking_tables import TODAY
from s1pro.tasks.tau2.world import ToolError


class Bank(Accounts, DebitOrders):
    """Without the desk that unlocks the tools."""


def account(name: str, kind: str, level: str, opened: str, holds: str, **more: Any) -> dict[str, Any]:
    return {
        "account_id": name, "user_id": "u1", "class": kind, "level": level, "date_opened": opened, "status": "OPEN",
        "current_holdings": holds, **more,
    }  # fmt: skip


def card(name: str, status: str, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "card_id": name, "account_id": "a1", "user_id": "u1", "last_4_digits": "1357", "cvv": "246", "status": status,
        "issue_date": "01/05/2025", "issue_reason": reason, **more,
    }  # fmt: skip


def bank(*cards: dict[str, Any]) -> Bank:
    accounts = [
        account("a1", "checking", "Blue Account", "01/05/2025", "1,500.00"),
        account("a2", "saving", "Silver Account", "11/01/2025", "35.00"),
    ]
    days = {"t1": "11/02/2025", "t2": "11/10/2025 08:00:00", "t3": "11/02/2025", "t4": "someday"}
    tables = {
        "users": {"u1": {"name": "Ann Li", "user_id": "u1"}},
        "accounts": {row["account_id"]: row for row in accounts},
        "debit_cards": {row["card_id"]: row for row in cards},
        "bank_account_transaction_history": {name: {"account_id": "a1", "date": day} for name, day in days.items()},
        "debit_card_orders": {},
        "credit_card_accounts": {"c1": {"user_id": "u1"}, "c2": {"user_id": "u2"}},
    }
    return Bank({name: {"data": rows, "notes": ""} for name, rows in tables.items()}, {})


def activate(world: Bank, tool: str, name: str, **change: str) -> Any:
    facts = {"last_4_digits": "1357", "expiration_date": "01/29", "cvv": "246", "pin": "7391", **change}
    return getattr(world, f"activate_debit_card_{tool}")(card_id=name, **facts)


def refused(world: Bank, about: str, call: Any, /, **arguments: Any) -> None:
    before = world.digest()
    with pytest.raises(ToolError, match=about):
        call(**arguments)
    assert world.digest() == before


@pytest.mark.parametrize("tool", ACCOUNT_TOOLS + DEBIT_TOOLS, ids=lambda tool: tool.name)
def test_texts_name_the_arguments_that_there_are(tool: Any) -> None:
    there = inspect.signature(getattr(bank(), tool.name)).parameters
    told = {name: one.required for name, one in tool.parameters.items()}
    assert told == {name: one.default is inspect.Parameter.empty for name, one in there.items()}


def test_what_is_looked_up_changes_nothing() -> None:
    world = bank(card("d1", "ACTIVE", "lost"), card("d2", "CLOSED", "stolen", issue_date="09/01/2025"))
    before = world.digest()
    assert [row["record_id"] for row in world.get_bank_account_transactions_9173("a1")] == ["t2", "t1", "t3", "t4"]
    found = world.get_all_user_accounts_by_user_id_3847("u1")
    assert (list(found["bank_accounts"]), list(found["credit_card_accounts"])) == (["a1", "a2"], ["c1"])
    cards = world.get_debit_cards_by_account_id_7823("a1")
    assert [(one["card_id"], one["date_issued"], one["card_number_last_4"]) for one in cards] == [
        ("d2", "09/01/2025", "1357"), ("d1", "01/05/2025", "1357"),
    ]  # fmt: skip
    refused(world, "no checking account", world.get_debit_cards_by_account_id_7823, account_id="a2")
    assert world.digest() == before


def test_an_account_is_opened_where_the_others_allow_it() -> None:
    world = bank()
    made = world.open_bank_account_4821("u1", "savings", "Gold Account")
    assert world.rows("accounts")["a353d29a0af5c054"] == {
        "account_id": "a353d29a0af5c054", "user_id": "u1", "account_type": "savings", "account_class": "Gold Account",
        "current_holdings": "0.00", "status": "OPEN", "date_opened": TODAY,
    }  # fmt: skip
    assert made["account_id"] == "a353d29a0af5c054"
    again = {"user_id": "u1", "account_class": "Gold Account"}
    refused(world, "already", world.open_bank_account_4821, account_type="savings", **again)
    refused(world, "not eligible", world.open_bank_account_4821, account_type="business_savings", **again)
    refused(world, "account_type", world.open_bank_account_4821, account_type="loan", **again)
    world.open_bank_account_4821("u1", "business_checking", "Navy Blue")
    world.rows("accounts")["a2"]["status"] = "CLOSED"
    refused(world, "not eligible", world.open_bank_account_4821, account_type="business_checking", **again)


@pytest.mark.parametrize(("opened", "eligible"), [("10/31/2025", True), ("11/01/2025", False), ("soon", False)])
def test_savings_need_two_weeks_of_checking(opened: str, eligible: bool) -> None:
    world = bank()
    world.rows("accounts")["a1"]["date_opened"] = opened
    facts = {"user_id": "u1", "account_type": "savings", "account_class": "Gold Account"}
    if eligible:
        assert world.open_bank_account_4821(**facts)["status"] == "OPEN"
    else:
        refused(world, "not eligible", world.open_bank_account_4821, **facts)


@pytest.mark.parametrize(
    ("opened", "holds", "waived", "closes"),
    [
        ("10/01/2025", "25", False, True), ("10/01/2025", "0", False, False), ("10/01/2025", "0", True, True),
        ("10/01/2025", "30", False, False), ("09/15/2025", "0", False, True), ("09/16/2025", "25", False, True),
        ("someday", "0.00", False, True),
    ],
)  # fmt: skip
def test_closing_early_costs_what_must_be_left(opened: str, holds: str, waived: bool, closes: bool) -> None:
    """A Blue Account: 25 dollars within 60 days."""
    world = bank()
    world.rows("accounts")["a1"].update(date_opened=opened, current_holdings=holds)
    facts: dict[str, Any] = {"account_id": "a1", "reason": "moving", "waive_early_closure_fee": waived}
    if not closes:
        return refused(world, r"cannot be closed|must be \$0.00", world.close_bank_account_7392, **facts)
    world.close_bank_account_7392(**facts)
    row = world.rows("accounts")["a1"]
    assert (row["status"], row["date_closed"], row["closure_reason"]) == ("CLOSED", TODAY, "moving")
    assert row["early_closure_fee_waived"] is waived and row["current_holdings"] == holds
    refused(world, "closed already", world.close_bank_account_7392, **facts)


def test_fees_of_early_closure_are_known_for_all_levels() -> None:
    assert [len(EARLY_CLOSURE[kind]) for kind in ("checking", "savings")] == [7, 9]
    assert EARLY_CLOSURE["savings"]["Gold Years Account"] == (75, 180)


def test_money_moves_and_is_credited() -> None:
    world = bank()
    world.transfer_funds_between_bank_accounts_7291("a1", "a2", 22.5)
    assert [row["current_holdings"] for row in world.rows("accounts").values()] == ["$1477.50", "$57.50"]
    more = {"source_account_id": "a2", "destination_account_id": "a1"}
    refused(world, "less than", world.transfer_funds_between_bank_accounts_7291, **more, amount=57.51)
    refused(world, "above zero", world.transfer_funds_between_bank_accounts_7291, **more, amount=0.0)
    refused(world, "must be a number", world.transfer_funds_between_bank_accounts_7291, **more, amount=None)
    world.apply_savings_account_credit_6831("a2", 10.0, "fee_refund")
    world.apply_checking_account_credit_5829("a1", 10.0, "fee_refund")
    assert [row["current_holdings"] for row in world.rows("accounts").values()] == ["$1487.50", "67.50"]
    rows = world.rows("bank_account_transaction_history")
    assert list(rows)[-2:] == ["txn_970e2e17e7659d81", "txn_16ee9a0f34f5a33f"]
    assert rows["txn_16ee9a0f34f5a33f"] == {
        "transaction_id": "txn_16ee9a0f34f5a33f", "account_id": "a1", "date": TODAY, "type": "fee_refund",
        "description": "FEE REFUND - CUSTOMER SERVICE", "amount": 10.0, "status": "posted",
    }  # fmt: skip
    credit = {"account_id": "a2", "amount": 1.0}
    refused(world, "no checking", world.apply_checking_account_credit_5829, **credit, credit_type="fee_refund")
    refused(world, "credit_type", world.apply_savings_account_credit_6831, **credit, credit_type="rebate_credit")


def test_a_report_is_answered_and_not_kept() -> None:
    world = bank()
    before = world.digest()
    found = world.submit_interest_discrepancy_report_7294("a2", "u1", 2.775, 2.5, 1.0)
    assert (found["report_id"], found["apy_difference"]) == ("IDR_2fa64bcf11f424e5", 0.275)
    assert world.digest() == before


def test_a_first_card_is_ordered_and_activated() -> None:
    world = bank()
    world.order_debit_card_5739("a1", "u1", "rush", 15.0, "premium", 10.0, "1 Main St", 7.5)
    assert world.rows("debit_card_orders")["dcord_19256969af43"] == {
        "order_id": "dcord_19256969af43", "account_id": "a1", "user_id": "u1", "delivery_option": "RUSH",
        "card_design": "PREMIUM", "shipping_address": "1 Main St", "delivery_fee": 15.0, "design_fee": 10.0,
        "excess_replacement_fee": 7.5, "total_fee": 32.5, "order_date": TODAY,
        "expected_delivery": "1-2 business days", "status": "PENDING",
    }  # fmt: skip
    assert world.rows("debit_cards") == {
        "dbc_e8773baf93b8": {
            "card_id": "dbc_e8773baf93b8", "account_id": "a1", "user_id": "u1", "cardholder_name": "ANN LI",
            "last_4_digits": "9560", "cvv": "762", "status": "PENDING", "issue_date": TODAY,
            "expiration_date": "11/30/2029", "card_design": "PREMIUM", "issue_reason": "new_account",
        }
    }  # fmt: skip
    assert world.rows("accounts")["a1"]["current_holdings"] == "1467.50"
    fee = world.rows("bank_account_transaction_history")["btxn_dcfee_6969af43"]
    about = "DEBIT CARD ORDER FEE - Delivery $15.0, Design $10.0, Excess Replacement $8"
    assert (fee["description"], fee["amount"]) == (about, -32.5)
    order = {
        "account_id": "a1", "user_id": "u1", "delivery_option": "STANDARD", "delivery_fee": 0.0,
        "card_design": "CLASSIC", "design_fee": 0.0, "shipping_address": "1 Main St",
    }  # fmt: skip
    refused(world, "pending", world.order_debit_card_5739, **order)
    refused(world, "activate_debit_card_8291", lambda: activate(world, "8292", "dbc_e8773baf93b8"))
    activate(world, "8291", "dbc_e8773baf93b8", last_4_digits="9560")
    world.rows("debit_card_orders")["dcord_19256969af43"]["status"] = "SHIPPED"
    refused(world, "active card", world.order_debit_card_5739, **order)
    world.rows("accounts")["a1"]["current_holdings"] = "$900.00"  # as a transfer leaves it
    refused(world, r"must have \$25.00; it has \$0.00", world.order_debit_card_5739, **order)


@pytest.mark.parametrize(
    ("closed", "reason"),
    [("fraud_suspected", "fraud"), ("lost", "lost"), ("damaged", "first_card"), (None, "first_card")],
)
def test_what_a_card_is_issued_for(closed: str | None, reason: str) -> None:
    old = card("d1", "FROZEN", "expired") if closed is None else card("d1", "CLOSED", "expired", closure_reason=closed)
    world = bank(old)
    made = world.order_debit_card_5739("a1", "u1", "STANDARD", 0.0, "CLASSIC", 0.0, "1 Main St")
    assert world.rows("debit_cards")[made["card_id"]]["issue_reason"] == reason
    assert world.rows("accounts")["a1"]["current_holdings"] == "1,500.00"


@pytest.mark.parametrize(
    ("tool", "reason", "status", "field", "why"),
    [
        ("8291", "first_card", "DEACTIVATED", "deactivated_date", "New card activated"),
        ("8292", "stolen", "DEACTIVATED", "deactivated_date", "Replacement card activated (stolen)"),
        ("8293", "expired", "GRACE_PERIOD", "grace_period_ends", "Reissued card activated (expired)"),
    ],
)
def test_a_card_that_becomes_active_ends_the_old_one(tool: str, reason: str, status: str, field: str, why: str) -> None:
    world = bank(card("d1", "PENDING", reason), card("d2", "ACTIVE", "new_account"), card("d3", "FROZEN", "lost"))
    for about, change in (
        ("digits in a row", {"pin": "8765"}), ("one digit", {"pin": "7777"}), ("cvv", {"cvv": "12"}),
        ("not those of the card", {"last_4_digits": "0000"}), ("expiration_date must be", {"expiration_date": ""}),
    ):  # fmt: skip
        refused(world, about, lambda change=change: activate(world, tool, "d1", **change))
    activate(world, tool, "d1")
    cards = world.rows("debit_cards")
    assert (cards["d1"]["status"], cards["d1"]["activated_date"]) == ("ACTIVE", TODAY)
    assert (cards["d2"]["status"], cards["d2"][field], cards["d2"]["deactivation_reason"]) == (status, TODAY, why)
    assert cards["d3"]["status"] == "FROZEN"
    refused(world, "only PENDING", lambda: activate(world, tool, "d1"))


def test_cards_are_frozen_closed_and_cleared() -> None:
    world = bank(card("d1", "ACTIVE", "lost", fraud_alert_active=True, alert_source="bank_initiated"))
    row = world.rows("debit_cards")["d1"]
    world.freeze_debit_card_3892("d1")
    refused(world, "only ACTIVE or PENDING", world.close_debit_card_4721, card_id="d1", reason="lost")
    world.unfreeze_debit_card_3893("d1")
    assert (row["status"], row["frozen_date"], row["unfrozen_date"]) == ("ACTIVE", TODAY, TODAY)
    clear = world.clear_debit_card_fraud_alert_4892
    refused(world, "BANK_INITIATED_ALERT", clear, card_id="d1", reason="customer_verified")
    refused(world, "no velocity block", clear, card_id="d1", reason="velocity_clear")
    row.update(alert_source="customer", velocity_blocked=True)
    clear("d1", "customer_verified")
    clear("d1", "velocity_clear")
    assert (row["fraud_alert_active"], row["alert_source"], row["velocity_blocked"]) == (False, None, False)
    world.close_debit_card_4721("d1", "Fraud_Suspected")
    assert (row["status"], row["closed_date"], row["closure_reason"]) == ("CLOSED", TODAY, "fraud_suspected")


def test_pins_are_changed_and_not_kept() -> None:
    world = bank(card("d1", "ACTIVE", "lost", pin_locked=True))
    row = world.rows("debit_cards")["d1"]
    change = world.change_debit_card_pin_6285
    refused(world, "is the current one", change, card_id="d1", current_pin="7391", new_pin="7391")
    change("d1", "7391", "7392")
    assert (row["pin_last_changed"], row["pin_locked"]) == (TODAY, True)
    world.reset_debit_card_pin_6284("d1", "1357", "7391")
    assert (row["pin_locked"], row["pin_attempts_remaining"]) == (False, 3)
    assert "7391" not in row.values()
    with pytest.raises(AttributeError):  # a number where text is meant: a broken call, no refusal
        change("d1", 7391.0, "7392")  # type: ignore[arg-type]


def test_a_limit_is_raised_by_half_at_most() -> None:
    world = bank(card("d1", "ACTIVE", "lost"))
    row = world.rows("debit_cards")["d1"]
    more = {"card_id": "d1", "limit_type": "atm"}
    raise_limit = world.request_temporary_debit_card_limit_increase_8374
    for about, wanted in (("too much", 751.0), ("not above", 500.0), ("whole number", 600.5), ("be a number", "x")):
        refused(world, about, raise_limit, **more, new_limit=wanted)
    refused(world, "no daily purchase limit", raise_limit, card_id="d1", limit_type="purchase", new_limit=1.0)
    raise_limit(**more, new_limit=750)
    assert (row["daily_atm_limit"], row["original_atm_limit"]) == (750, 500)
    assert (row["temporary_atm_limit_increase"], row["temporary_atm_limit_expires"]) == (True, TODAY)
    world.rows("accounts")["a1"]["date_opened"] = "09/16/2025"
    refused(world, "60 days old; it is 59", raise_limit, **more, new_limit=800.0)
