"""tau2's bank: what both sides can always do, hidden tools, and rewards.

Ids are compared with digits that sha256sum computed.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.tasks.tau2.banking_domain import BankDomain, BankWorld
from s1pro.tasks.tau2.domains import open_domain
from s1pro.tasks.tau2.records import Side, ToolCall, Turn, read_tasks
from s1pro.tasks.tau2.rewards import reward
from tests.tau2_bank import ANN, DAY, VERIFIED, bank, bank_task, write_bank

REWARDS = "update_transaction_rewards_3847"
LOOK = "get_all_user_accounts_by_user_id_3847"


@pytest.fixture
def world() -> BankWorld:
    return BankWorld(bank(), {})


def ask(world: BankWorld, name: str, side: Side = "assistant", /, **arguments: Any) -> Turn:
    return world.answer(ToolCall(name=name, arguments=arguments, side=side))


def done(world: BankWorld, name: str, side: Side = "assistant", /, **arguments: Any) -> str:
    turn = ask(world, name, side, **arguments)
    assert not turn.failed and not turn.text.startswith("Error"), turn.text
    return turn.text


def refused(world: BankWorld, name: str, side: Side = "assistant", /, **arguments: Any) -> str:
    """Answered in words, and no failed call."""
    turn = ask(world, name, side, **arguments)
    assert not turn.failed and turn.text.startswith("Error: "), turn.text
    return turn.text


def hidden(world: BankWorld, name: str, **arguments: Any) -> Turn:
    done(world, "unlock_discoverable_agent_tool", agent_tool_name=name)
    return ask(world, "call_discoverable_agent_tool", agent_tool_name=name, arguments=json.dumps(arguments))


def test_what_only_looks(world: BankWorld) -> None:
    before = world.digest()
    for name, argument in (
        ("get_user_information_by_id", {"user_id": "ann"}),
        ("get_user_information_by_name", {"customer_name": "Ann Li"}),
        ("get_user_information_by_email", {"email": "ann@example.com"}),
    ):
        assert json.loads(done(world, name, **argument)) == {"ann": ANN}
    assert list(json.loads(done(world, "get_referrals_by_user", user_id="ann"))) == ["r1"]
    assert list(json.loads(done(world, "get_credit_card_transactions_by_user", user_id="ann"))) == ["txn_1"]
    assert list(json.loads(done(world, "get_credit_card_accounts_by_user", user_id="ann"))) == ["cc_ann"]
    assert done(world, "get_user_information_by_name", customer_name="ann li") == "No records found in users."
    assert refused(world, "get_user_information_by_id", user_id='ann"')
    assert "2025-11-14 03:40:00 EST" in done(world, "get_current_time")
    assert "Transfer successful" in done(world, "transfer_to_human_agents", summary="x", reason="other")
    assert "third_party_inquiry" in refused(world, "transfer_to_human_agents", summary="x", reason="none")
    assert "hidden tool" in done(world, "list_discoverable_agent_tools")
    assert "no tools yet" in done(world, "list_discoverable_user_tools", "user")
    assert world.digest() == before


def test_both_sides_act_on_one_database(world: BankWorld) -> None:
    assert world.user_db is world.db
    done(world, "change_user_email", user_id="bob", new_email="b@b")
    assert world.user_db["users"]["data"]["bob"]["email"] == "b@b"
    assert "not found" in refused(world, "change_user_email", user_id="eve", new_email="b@b")


def test_a_verification_is_noted_once(world: BankWorld) -> None:
    done(world, "log_verification", **VERIFIED)
    assert world.rows("verification_history") == {"ann_20251114_034000_EST": VERIFIED}
    again = done(world, "log_verification", **{**VERIFIED, "email": "other"})
    assert "noted before" in again and len(world.rows("verification_history")) == 1
    assert ask(world, "log_verification", name="Ann Li").failed
    assert ask(world, "log_verification", **{**VERIFIED, "time_verified": 5}).failed


def test_hidden_tools_must_be_unlocked(world: BankWorld) -> None:
    call = {"agent_tool_name": REWARDS, "arguments": '{"transaction_id": "txn_1", "new_rewards_earned": "50 points"}'}
    assert "not unlocked" in refused(world, "call_discoverable_agent_tool", **call)
    shown = done(world, "unlock_discoverable_agent_tool", agent_tool_name=REWARDS)
    assert "transaction_id: string (required)" in shown and "new_rewards_earned" in shown
    assert world.rows("agent_discoverable_tools") == {}
    done(world, "call_discoverable_agent_tool", **call)
    assert world.rows("credit_card_transaction_history")["txn_1"]["rewards_earned"] == "50 points"
    assert world.rows("agent_discoverable_tools") == {"17b1b611a1447cfb": {"tool_name": REWARDS, "status": "CALLED"}}
    assert done(world, "list_discoverable_agent_tools") == f'["{REWARDS}"]'
    for name in ("unlock_discoverable_agent_tool", "call_discoverable_agent_tool"):
        assert "no tool" in refused(world, name, agent_tool_name="apply_for_credit_card")


def test_what_is_written_down_of_hidden_calls(world: BankWorld) -> None:
    """Refusals are; broken calls and tools that only look are not."""
    assert hidden(world, REWARDS, transaction_id="txn_1").text.startswith("Error: wrong arguments")
    assert "not JSON" in refused(world, "call_discoverable_agent_tool", agent_tool_name=REWARDS, arguments="{")
    assert "cc_ann" in hidden(world, LOOK, user_id="ann").text
    assert world.rows("agent_discoverable_tools") == {}
    assert hidden(world, REWARDS, transaction_id="none", new_rewards_earned="1 points").text.startswith("Error: ")
    assert len(world.rows("agent_discoverable_tools")) == 1


def test_tools_for_the_customer_must_be_given(world: BankWorld) -> None:
    wanted = {
        "discoverable_tool_name": "deposit_check_3847",
        "arguments": '{"account_id": "chk_ann", "check_amount": 50}',
    }
    assert "not given" in refused(world, "call_discoverable_user_tool", "user", **wanted)
    assert world.rows("user_discoverable_tool_calls") == {}
    done(world, "give_discoverable_user_tool", **wanted)
    assert world.rows("user_discoverable_tools") == {
        "23701c66454ebfa8": {"tool_name": "deposit_check_3847", "status": "GIVEN"}
    }
    assert "deposit_check_3847" in done(world, "list_discoverable_user_tools", "user")
    assert json.loads(done(world, "call_discoverable_user_tool", "user", **wanted))["new_balance"] == "$1300.00"
    assert world.rows("accounts")["chk_ann"]["current_holdings"] == "$1300.00"
    assert world.rows("user_discoverable_tool_calls") == {
        "74ab21eec1aba6b3": {
            "tool_name": "deposit_check_3847",
            "arguments": {"account_id": "chk_ann", "check_amount": 50.0},
            "called_at": DAY,
            "status": "CALLED",
        }
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('{"account_id": "chk_ann", "check_amount": -1}', "positive"),
        ('{"account_id": "chk_ann", "check_amount": "x"}', "no number"),
        ('{"account_id": "none", "check_amount": 1}', "not found"),
        ('{"account_id": "chk_ann"}', "check_amount is missing"),
        ('{"account_id": "chk_ann", "check_amount": 1, "more": 2}', "no argument more"),
        ("{", "not JSON"),
    ],
)
def test_checks_that_cannot_be_deposited(world: BankWorld, arguments: str, says: str) -> None:
    name = "deposit_check_3847"
    done(world, "give_discoverable_user_tool", discoverable_tool_name=name)
    call = {"discoverable_tool_name": name, "arguments": arguments}
    assert says in refused(world, "call_discoverable_user_tool", "user", **call)
    assert world.rows("accounts")["chk_ann"]["current_holdings"] == "1250.00"


def test_wrong_gifts(world: BankWorld) -> None:
    assert "no tool" in refused(world, "give_discoverable_user_tool", discoverable_tool_name="submit_referral")
    link = {"discoverable_tool_name": "get_referral_link"}
    assert "no argument x" in refused(world, "give_discoverable_user_tool", **link, arguments='{"x": 1}')
    assert "not JSON" in refused(world, "give_discoverable_user_tool", **link, arguments="{")
    assert ask(world, "give_discoverable_user_tool", discoverable_tool_name=5).failed
    assert ask(world, "give_discoverable_user_tool", **link, arguments="5").failed
    assert world.rows("user_discoverable_tools") == {}


def test_gifts(world: BankWorld) -> None:
    def use(name: str, **arguments: Any) -> Any:
        done(world, "give_discoverable_user_tool", discoverable_tool_name=name)
        call = {"discoverable_tool_name": name, "arguments": json.dumps(arguments)}
        return json.loads(done(world, "call_discoverable_user_tool", "user", **call))

    dispute = use("submit_cash_back_dispute_0589", user_id="ann", transaction_id="txn_1")["dispute_id"]
    assert world.rows("cash_back_disputes")[dispute]["status"] == "SUBMITTED"
    assert "before" in use("submit_cash_back_dispute_0589", user_id="ann", transaction_id="txn_1")["message"]
    world.rows("task_config")["dispute_settings"] = {"auto_resolve_disputes": True}
    other = use("submit_cash_back_dispute_0589", user_id="ann", transaction_id="txn_2")["dispute_id"]
    assert world.rows("cash_back_disputes")[other]["resolution"] == "APPROVED"
    link = use("get_referral_link", user_id="ann", card_name="Gold Rewards Card")["referral_id"]
    assert world.rows("referrals")[link]["referred_account_type"] == "Gold Rewards Card"
    assert use("get_card_last_4_digits", credit_card_account_id="cc_ann") == {"last_4_digits": "5272"}


def test_the_customer_by_itself(world: BankWorld) -> None:
    card = {"card_type": "EcoCard", "customer_name": "Ann Li", "annual_income": 1000}
    done(world, "apply_for_credit_card", "user", **card)
    assert world.rows("credit_card_applications") == {
        "53262c35d89a28f5": {
            "application_id": "53262c35d89a28f5", **card, "annual_income": 1000.0, "rho_bank_subscription": False,
            "status": "PENDING", "date": DAY,
        }
    }  # fmt: skip
    assert "before" in done(world, "apply_for_credit_card", "user", **{**card, "annual_income": "1000"})
    assert "number" in refused(world, "apply_for_credit_card", "user", **{**card, "annual_income": "much"})
    assert "no card" in refused(world, "apply_for_credit_card", "user", **{**card, "card_type": "Paper"})
    referral = {"user_id": "ann", "account_type": "Blue Account"}
    assert json.loads(done(world, "submit_referral", "user", **referral))["referral_status"] == "NO_PROGRESS"
    assert "before" in done(world, "submit_referral", "user", **referral)
    for number in (1, 2):
        assert f"no. {number}" in done(world, "request_human_agent_transfer", "user")
    assert list(world.rows("human_transfer_requests")) == ["transfer_request_1", "transfer_request_2"]


def test_purchases_earn_points(world: BankWorld) -> None:
    bought = {"user_id": "ann", "merchant_name": "Air", "amount": 99.99}
    for card, category, points in (
        ("Silver Rewards Card", "Travel", 399),
        ("Silver Rewards Card", "Dining", 99),
        ("Business Platinum Rewards Card", "Dining", 149),
    ):
        found = json.loads(
            done(world, "submit_transaction", "user", credit_card_type=card, category=category, **bought)
        )
        assert (found["rewards_earned"], found["transaction_amount"]) == (f"{points} points", "$99.99")
    again = done(world, "submit_transaction", "user", credit_card_type=card, category=category, **bought)
    assert "before" in again
    assert "no card" in refused(world, "submit_transaction", "user", credit_card_type="x", category="Travel", **bought)
    assert ask(
        world, "submit_transaction", "user", credit_card_type=card, category="x", **{**bought, "amount": "9"}
    ).failed


def test_hidden_tools_cannot_be_called_by_name(world: BankWorld) -> None:
    assert ask(world, REWARDS, transaction_id="txn_1", new_rewards_earned="1 points").failed
    assert ask(world, "deposit_check_3847", "user", account_id="chk_ann", check_amount=1).failed


def test_every_hidden_tool_can_be_unlocked_and_says_what_it_takes(world: BankWorld) -> None:
    assert len(world.catalogue) == 44
    for name, one in world.catalogue.items():
        takes = inspect.signature(getattr(world, name)).parameters
        assert list(takes) == list(one.parameters)
        assert [p.default is p.empty for p in takes.values()] == [p.required for p in one.parameters.values()]


def test_rewards(tmp_path: Path) -> None:
    log = ("assistant", "log_verification", VERIFIED)
    unlock = ("assistant", "unlock_discoverable_agent_tool", {"agent_tool_name": LOOK})
    look = ("assistant", "call_discoverable_agent_tool", {"agent_tool_name": LOOK, "arguments": '{"user_id": "ann"}'})
    folder = write_bank(tmp_path / "bank", [bank_task("log", [log]), bank_task("look", [log, unlock, look])])
    domain, (plain, looking) = open_domain(folder), read_tasks(folder)
    assert isinstance(domain, BankDomain)

    def worth(task: Any, *calls: Any) -> float:
        world = domain.world(task)
        turns = [world.answer(ToolCall(side=side, name=name, arguments=given)) for side, name, given in calls]
        return reward(domain, task, world, turns, "user_stop").value

    assert worth(plain) == worth(looking) == worth(plain, unlock, look) == 0
    assert worth(plain, log) == worth(looking, log, unlock, look) == 1
    assert worth(plain, log, unlock, look) == 1  # an extra look costs nothing
    assert worth(looking, log) == 0  # a look that is wanted counts


def test_the_data_of_a_task(tmp_path: Path) -> None:
    state = {
        "initialization_data": {
            "agent_data": {"task_config": {"data": {"dispute_settings": {"auto_resolve_disputes": True}}}},
            "user_data": {"users": {"data": {"eve": {"name": "Eve", "user_id": "eve"}}}},
        }
    }
    folder = write_bank(tmp_path / "bank", [bank_task("a", [], initial_state=state)])
    world = open_domain(folder).world(read_tasks(folder)[0])
    assert isinstance(world, BankWorld)
    assert list(world.rows("users")) == ["ann", "bob", "eve"]
    assert world.rows("task_config")["dispute_settings"] == {"auto_resolve_disputes": True}
