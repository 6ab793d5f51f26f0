"""tau2's bank: credit cards, disputes and limits against records that upstream's functions make of the same calls."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from s1pro.tasks.tau2.banking_card_texts import CARD_TOOLS
from s1pro.tasks.tau2.banking_cards import CardTools
from s1pro.tasks.tau2.banking_tables import TODAY
from s1pro.tasks.tau2.world import ToolError

# Made by upstream's functions of the customer u1, the account cc1 and the transaction t1.
DISPUTE, ORDER, CLOSURE = "dsp_77b024d66e22", "ccord_1adc17369fec", "clsr_b8bb7128d096"
FLAG, CREDIT = "ccflag_1bfa25b133c6", "txn_8bbf67757480"
ASKED_2500, DENIED = "cli_c226820cd6a8", "cli_f43a74d60c86"
MINE = {"credit_card_account_id": "cc1", "user_id": "u1"}
CASE = {
    "transaction_id": "t1", "card_action": "keep_active", "card_last_4_digits": "1234", "full_name": "Ann Li",
    "user_id": "u1", "phone": "555-1", "email": "ann@example.org", "address": "1 Elm St", "contacted_merchant": True,
    "purchase_date": "11/01/2025", "issue_noticed_date": "11/02/2025", "dispute_reason": "duplicate_charge",
    "resolution_requested": "full_refund", "eligible_for_provisional_credit": False,
}  # fmt: skip
DEBIT_CASE = {
    "transaction_id": "t1", "account_id": "a1", "card_id": "d1", "user_id": "u1",
    "dispute_category": "card_present_fraud", "transaction_date": "11/01/2025", "discovery_date": "11/02/2025",
    "disputed_amount": 600.0, "transaction_type": "pin_purchase", "card_in_possession": False,
    "pin_compromised": "yes_shared", "contacted_merchant": False, "police_report_filed": False,
    "written_statement_provided": True, "provisional_credit_eligible": True, "customer_max_liability_amount": 50.0,
    "card_action": "close_and_reissue",
}  # fmt: skip


def payment(day: str, status: str) -> dict[str, Any]:
    return {"credit_card_account_id": "cc1", "payment_date": day, "amount": "$10.00", "status": status}


def deposit(place: str, kind: str = "atm_deposit") -> dict[str, Any]:
    return {"type": kind, "description": place, "amount": 40.0, "date": "11/03/2025"}


@pytest.fixture
def world() -> CardTools:
    card = {"user_id": "u1", "status": "ACTIVE", "current_balance": "$1,200.50", "credit_limit": "$5,000.00"}
    tables = {
        "accounts": {
            "a1": {"account_id": "a1", "user_id": "u1", "class": "checking", "current_holdings": "$2,000.25"},
            "a2": {"account_id": "a2", "user_id": "u1", "class": "saving", "current_holdings": "9000.00"},
            "a3": {"account_id": "a3", "user_id": "u2", "class": "checking", "balance": 9000.0},
        },
        "credit_card_accounts": {"cc1": {"account_id": "cc1", **card}, "cc2": {"account_id": "cc2", "user_id": "u2"}},
        "credit_card_transaction_history": {"t1": {"transaction_id": "t1", "rewards_earned": "5 points"}},
        "debit_cards": {"d1": {"status": "active"}, "d2": {"status": "FROZEN"}},
        "payment_history": {
            "p1": payment("08/15/2025", "ON_TIME"), "p2": payment("10/15/2025", "ON_TIME"),
            "p3": payment("09/15/2025", "LATE"), "p4": {**payment("11/01/2025", "LATE"), "credit_card_account_id": "x"},
        },
        "bank_account_transaction_history": {
            "btxn_834027370c20": deposit("Rho-Bank ATM #3921"), "b2": deposit("RHOBANK ATM"), "b3": deposit("Other"),
            "b4": deposit("Rho-Bank ATM", "direct_deposit"),
        },
    }  # fmt: skip
    return CardTools({name: {"data": rows, "notes": ""} for name, rows in tables.items()}, {})


def refused(world: CardTools, tool: str, about: str, /, **arguments: Any) -> None:
    tables = ("transaction_disputes", "debit_card_disputes", "credit_card_orders", "credit_card_account_flags")
    for table in (*tables, "credit_limit_increase_requests", "credit_card_closure_reasons"):
        world.rows(table)
    before = world.digest()
    with pytest.raises(ToolError, match=about):
        getattr(world, tool)(**arguments)
    assert world.digest() == before


def test_every_tool_is_described_as_it_is_called() -> None:
    assert len({one.name for one in CARD_TOOLS}) == len(CARD_TOOLS) == 23
    for one in CARD_TOOLS:
        taken = list(inspect.signature(getattr(CardTools, one.name)).parameters.values())[1:]
        assert [(p.name, p.default is p.empty) for p in taken] == [
            (name, about.required) for name, about in one.parameters.items()
        ], one.name
        assert one.name in one.shown() and all(name in one.shown() for name in one.parameters)


def test_rewards_and_the_first_step_of_handing_over(world: CardTools) -> None:
    world.update_transaction_rewards_3847("t1", "6300 points")
    assert world.rows("credit_card_transaction_history")["t1"]["rewards_earned"] == "6300 points"
    refused(world, "update_transaction_rewards_3847", "not found", transaction_id="t2", new_rewards_earned="1 point")
    refused(world, "update_transaction_rewards_3847", "must be given", transaction_id="t1", new_rewards_earned="")
    before = world.digest()
    assert "busy" in world.initial_transfer_to_human_agent_0218()
    assert "too early" in world.initial_transfer_to_human_agent_1822()
    assert "transfer_to_human_agents" in world.emergency_credit_bureau_incident_transfer_1114()
    assert world.digest() == before


def test_a_new_card_closes_the_old_one(world: CardTools) -> None:
    order = {**MINE, "shipping_address": "1 Elm St", "reason": "lost"}
    refused(world, "order_replacement_credit_card_7291", "not found", **{**order, "credit_card_account_id": "cc9"})
    refused(world, "order_replacement_credit_card_7291", "fraud_suspected", **{**order, "reason": "bored"})
    assert "7-10" in world.order_replacement_credit_card_7291(**order)["delivery"]
    assert world.rows("credit_card_orders") == {
        ORDER: {
            "order_id": ORDER, **order, "expedited_shipping": False, "order_date": TODAY, "status": "ORDERED",
            "old_card_cancelled": True,
        }
    }  # fmt: skip
    card = world.rows("credit_card_accounts")["cc1"]
    assert (card["status"], card["closed_date"], "closed_by" in card) == ("CLOSED", TODAY, False)
    assert list(world.get_pending_replacement_orders_5765("cc1")["replacement_orders"]) == [ORDER]
    refused(world, "order_replacement_credit_card_7291", "already", **order)


def test_an_id_that_breaks_upstreams_query_passes_for_one_that_is_there(world: CardTools) -> None:
    order = {"credit_card_account_id": 'c"', "user_id": "u1", "shipping_address": "x", "reason": "lost"}
    world.order_replacement_credit_card_7291(**order, expedited_shipping=True)
    assert [one["credit_card_account_id"] for one in world.rows("credit_card_orders").values()] == ['c"']
    refused(world, "close_credit_card_account_7834", "could not", credit_card_account_id='c"', user_id="u1")
    refused(world, "get_user_dispute_history_7291", "cannot be searched", user_id='u"')


def test_closing(world: CardTools) -> None:
    reason = {**MINE, "closure_reason": "annual_fee"}
    world.log_credit_card_closure_reason_4521(**reason)
    world.log_credit_card_closure_reason_4521(**{**reason, "closure_reason": "other"})  # the first one stays
    logged = {CLOSURE: {"record_id": CLOSURE, **reason, "logged_at": TODAY, "status": "LOGGED"}}
    assert world.get_closure_reason_history_8293("cc1")["closure_reasons"] == logged
    refused(world, "log_credit_card_closure_reason_4521", "one of", **{**reason, "closure_reason": "rain"})
    world.close_credit_card_account_7834(**MINE)
    card = world.rows("credit_card_accounts")["cc1"]
    assert (card["status"], card["closed_date"], card["closed_by"]) == ("CLOSED", TODAY, "u1")


def test_credits_and_flags(world: CardTools) -> None:
    credit = {**MINE, "amount": 25.0, "reason": "price_match"}
    world.apply_statement_credit_8472(**credit)
    assert world.rows("credit_card_transaction_history")[CREDIT] == {
        "transaction_id": CREDIT, **MINE, "credit_card_type": "N/A", "merchant_name": "Rho-Bank Statement Credit",
        "transaction_amount": "-$25.00", "transaction_date": TODAY, "category": "Statement Credit",
        "status": "COMPLETED", "rewards_earned": "0 points", "credit_reason": "price_match",
    }  # fmt: skip
    for change, about in (({}, "already"), ({"amount": 0.0}, "above 0"), ({"amount": None}, "above 0")):
        refused(world, "apply_statement_credit_8472", about, **{**credit, **change})
    with pytest.raises(TypeError):
        world.apply_statement_credit_8472(**{**credit, "amount": "25"})
    flag = {**MINE, "flag_type": "annual_fee_waived", "expiration_date": "11/14/2026", "reason": "retention_offer"}
    world.apply_credit_card_account_flag_6147(**flag)
    day = {"effective_date": TODAY, "applied_at": TODAY, "status": "ACTIVE"}
    assert world.rows("credit_card_account_flags") == {FLAG: {"flag_id": FLAG, **flag, **day}}
    refused(world, "apply_credit_card_account_flag_6147", "already", **flag)
    refused(world, "apply_credit_card_account_flag_6147", "flag_type", **{**flag, "flag_type": "gold"})


def test_paying_a_card(world: CardTools) -> None:
    pay = {**MINE, "checking_account_id": "a1", "amount": 1000.0}
    changes = [
        ({"amount": 2000.5}, "less than"), ({"amount": 1200.75}, "owed"),
        ({"checking_account_id": "a2"}, "no checking"), ({"checking_account_id": "a3"}, "not of the user"),
        ({"credit_card_account_id": "cc2"}, "not of the user"), ({"checking_account_id": "a9"}, "not found"),
        ({"amount": "much"}, "above 0"), ({"amount": -1.0}, "above 0"),
    ]  # fmt: skip
    for change, about in changes:
        refused(world, "pay_credit_card_from_checking_9182", about, **{**pay, **change})
    world.pay_credit_card_from_checking_9182(**pay)
    assert world.rows("accounts")["a1"]["current_holdings"] == "1000.25"
    assert world.rows("credit_card_accounts")["cc1"]["current_balance"] == "$200.50"


def test_a_case_about_a_credit_card(world: CardTools) -> None:
    for change, about in (
        ({"card_action": "burn"}, "card_action"), ({"dispute_reason": "x"}, "dispute_reason"),
        ({"user_id": ""}, "user_id"),
        ({"resolution_requested": "partial_refund"}, "partial_refund_amount"),
    ):  # fmt: skip
        refused(world, "file_credit_card_transaction_dispute_4829", about, **{**CASE, **change})
    world.file_credit_card_transaction_dispute_4829(**CASE)
    row = {
        "dispute_id": DISPUTE, **CASE, "partial_refund_amount": None, "provisional_credit_given": False,
        "submitted_at": TODAY, "status": "SUBMITTED",
    }  # fmt: skip
    assert world.get_user_dispute_history_7291("u1")["disputes"] == {DISPUTE: row}
    assert world.get_user_dispute_history_7291("u2")["disputes"] == {}
    refused(world, "file_credit_card_transaction_dispute_4829", "already", **CASE)


def test_what_is_written_before_an_error_of_python_stays(world: CardTools) -> None:
    with pytest.raises(ValueError, match="format"):
        world.file_credit_card_transaction_dispute_4829(**{**CASE, "partial_refund_amount": "ten"})
    assert list(world.rows("transaction_disputes")) == [DISPUTE]


def test_a_case_about_a_debit_card(world: CardTools) -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"disputed_amount": -1.0}, "above 0"), ({"disputed_amount": 0.0}, "must be given"),
        ({"card_in_possession": None}, "card_in_possession"), ({"transaction_type": "barter"}, "transaction_type"),
        ({"pin_compromised": "maybe"}, "pin_compromised"), ({"card_action": "cancel_and_reissue"}, "card_action"),
    ]  # fmt: skip
    for change, about in changes:
        refused(world, "file_debit_card_transaction_dispute_6281", about, **{**DEBIT_CASE, **change})
    answer = world.file_debit_card_transaction_dispute_6281(**DEBIT_CASE)
    assert "$600.00" in answer["provisional_credit"] and {"warning", "recommendation"} < answer.keys()
    row = {
        "dispute_id": DISPUTE, **DEBIT_CASE, "provisional_credit_issued": True, "provisional_credit_amount": 600.0,
        "is_fraud_category": True, "pin_shared_voluntarily": True, "submitted_at": TODAY, "status": "OPEN",
    }  # fmt: skip
    assert world.get_debit_dispute_status_7483("u1")["disputes"] == {DISPUTE: row}
    other = {**DEBIT_CASE, "transaction_id": "t2", "provisional_credit_eligible": False, "disputed_amount": 500.0}
    answer = world.file_debit_card_transaction_dispute_6281(**{**other, "pin_compromised": "no"})
    assert answer["provisional_credit"].startswith("none") and not {"warning", "recommendation"} & answer.keys()
    assert world.rows("debit_card_disputes")[answer["dispute_id"]]["provisional_credit_amount"] is None


def test_recurring_payments_and_pictures_of_deposits(world: CardTools) -> None:
    world.set_debit_card_recurring_block_7382("d1", True)
    assert world.rows("debit_cards")["d1"]["recurring_blocked"] is True
    refused(world, "set_debit_card_recurring_block_7382", "FROZEN", card_id="d2", block_recurring=True)
    refused(world, "set_debit_card_recurring_block_7382", "not found", card_id="d3", block_recurring=True)
    found = world.get_atm_deposit_images_8473("btxn_834027370c20")
    assert (found["discrepancy"], found["deposit_date"], len(found["contents"])) == ("$750.00", "11/03/2025", 2)
    assert world.get_atm_deposit_images_8473("b2")["images"] == "not available"
    for name, about in (("b3", "chargeback"), ("b4", "no deposit"), ("b5", "not found")):
        refused(world, "get_atm_deposit_images_8473", about, transaction_id=name)


def test_limits(world: CardTools) -> None:
    for wanted, about in ((2500.5, "whole"), ("much", "whole"), (0.0, "above 0"), (float("inf"), "whole")):
        refused(
            world, "submit_credit_limit_increase_request_7392", about, **MINE, requested_increase_amount=wanted
        )  # fmt: skip
    world.submit_credit_limit_increase_request_7392(**MINE, requested_increase_amount=2500.0)
    asked = {
        "request_id": ASKED_2500, **MINE, "requested_increase_amount": 2500, "submitted_at": TODAY, "status": "PENDING",
    }  # fmt: skip
    refused(world, "submit_credit_limit_increase_request_7392", "already", **MINE, requested_increase_amount=2500)
    world.approve_credit_limit_increase_5847(**MINE, new_credit_limit=7500.0)  # the request keeps its row
    world.deny_credit_limit_increase_5848(**MINE, denial_reason="other")
    assert world.rows("credit_card_accounts")["cc1"]["credit_limit"] == "$7500.00"
    denied = {"request_id": DENIED, **MINE, "denial_reason": "other", "decision_date": TODAY, "status": "DENIED"}
    history = world.get_credit_limit_increase_history_4829("cc1")["requests"]
    assert history == {ASKED_2500: asked, DENIED: denied}
    assert isinstance(history[ASKED_2500]["requested_increase_amount"], int)
    world.approve_credit_limit_increase_5847(**MINE, new_credit_limit=8000.0)
    (granted,) = (row for row in world.rows("credit_limit_increase_requests").values() if row["status"] == "APPROVED")
    assert [granted[key] for key in ("previous_limit", "new_limit", "increase_amount")] == [
        "$7500.00", "$8000.00", "$500.00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("transaction_disputes", {"user_id": "u1", "status": "SUBMITTED"}),
        ("credit_card_orders", {"credit_card_account_id": "cc1", "status": "SHIPPED"}),
        ("credit_card_accounts", {"user_id": "u1", "account_status": "past_due"}),
    ],
)
def test_what_is_in_the_way_of_a_higher_limit(world: CardTools, table: str, row: dict[str, Any]) -> None:
    world.rows(table)["cc1"] = row
    refused(world, "approve_credit_limit_increase_5847", "cannot be approved", **MINE, new_credit_limit=9000.0)


def test_payments_are_counted_from_the_newest(world: CardTools) -> None:
    found = world.get_payment_history_6183("cc1", 6.0)
    assert [one["payment_date"][:2] for one in found["payments"]] == ["10", "09", "08"]
    assert found["consecutive_on_time_payments"] == 1
    assert len(world.get_payment_history_6183("cc1", 1.9)["payments"]) == 1
    assert world.get_payment_history_6183("cc9", 1.0)["payments"] == []
    refused(world, "get_payment_history_6183", "above 0", credit_card_account_id="cc1", months=0.5)
