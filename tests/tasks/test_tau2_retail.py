"""tau2's retail domain: every tool on a small shop, what cannot be done, and rewards with and without a judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.tasks.judging import Judge
from s1pro.tasks.tau2.domains import open_domain
from s1pro.tasks.tau2.records import ToolCall, Turn, read_tasks
from s1pro.tasks.tau2.retail_domain import RetailWorld
from s1pro.tasks.tau2.rewards import asserted, needs_judge, reward
from tests.tau2_shop import ADDRESS, shop, shop_task, write_shop


@pytest.fixture
def world() -> RetailWorld:
    return RetailWorld(shop(), {})


def ask(world: RetailWorld, name: str, **arguments: Any) -> Turn:
    return world.answer(ToolCall(name=name, arguments=arguments))


def done(world: RetailWorld, name: str, **arguments: Any) -> Any:
    turn = ask(world, name, **arguments)
    assert not turn.failed, turn.text
    return json.loads(turn.text)


def test_what_only_looks(world: RetailWorld) -> None:
    before = world.digest()
    assert ask(world, "find_user_id_by_email", email="ANN@example.com").text == "ann"
    assert ask(world, "find_user_id_by_name_zip", first_name="ann", last_name="LI", zip="10001").text == "ann"
    assert ask(world, "find_user_id_by_name_zip", first_name="ann", last_name="LI", zip="1").failed
    assert done(world, "get_order_details", order_id="#W1")["status"] == "pending"
    assert done(world, "get_product_details", product_id="cup")["variants"]["3"]["available"] is False
    assert done(world, "get_item_details", item_id="9") == shop()["products"]["lamp"]["variants"]["9"]
    assert done(world, "get_user_details", user_id="ann")["orders"] == ["#W1", "#W2", "#W3"]
    assert ask(world, "list_all_product_types").text == '{"Cup": "cup", "Lamp": "lamp"}'
    assert ask(world, "transfer_to_human_agents", summary="x").text == "Transfer successful"
    assert world.digest() == before


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2 + 2", "4.0"), ("(1.5 + 2) * -3", "-10.5"), ("10/3", "3.33"), ("7 // 2", "3.0"), ("2 ** 3", "8.0")],
)
def test_calculations(world: RetailWorld, expression: str, value: str) -> None:
    assert ask(world, "calculate", expression=expression).text == value


@pytest.mark.parametrize("expression", ["1/0", "2 +", "a", "__import__('os')", "9**9**9**9", "(1)(2)", "", "(-1)**0.5"])
def test_expressions_without_a_value(world: RetailWorld, expression: str) -> None:
    assert ask(world, "calculate", expression=expression).failed


def test_cancelling_pays_gift_cards_back_at_once(world: RetailWorld) -> None:
    order = done(world, "cancel_pending_order", order_id="#W3", reason="ordered by mistake")
    assert (order["status"], order["cancel_reason"]) == ("cancelled", "ordered by mistake")
    assert order["payment_history"][1:] == [
        {"transaction_type": "refund", "amount": 5.0, "payment_method_id": "gift_card_1"}
    ]
    assert world.db["users"]["ann"]["payment_methods"]["gift_card_1"]["balance"] == 15.0


def test_addresses(world: RetailWorld) -> None:
    new = {**ADDRESS, "city": "Rome"}
    assert done(world, "modify_pending_order_address", order_id="#W1", **new)["address"] == new
    assert done(world, "modify_user_address", user_id="ann", **new)["address"] == new
    assert world.db["orders"]["#W3"]["address"] == ADDRESS


def test_items_of_a_pending_order(world: RetailWorld) -> None:
    """2.25 more for the cup and 10 less for the lamp; both get price and options of the last one, as upstream does."""
    order = done(
        world, "modify_pending_order_items", order_id="#W1", item_ids=["1", "8"], new_item_ids=["2", "9"],
        payment_method_id="gift_card_1",
    )  # fmt: skip
    assert order["status"] == "pending (item modified)"
    assert [(one["item_id"], one["price"], one["options"]) for one in order["items"]] == [
        ("2", 20.0, {"light": "cold"}), ("9", 20.0, {"light": "cold"}),
    ]  # fmt: skip
    assert order["payment_history"][-1] == {
        "transaction_type": "refund", "amount": 7.75, "payment_method_id": "gift_card_1",
    }  # fmt: skip
    assert world.db["users"]["ann"]["payment_methods"]["gift_card_1"]["balance"] == 17.75
    assert ask(world, "cancel_pending_order", order_id="#W1", reason="no longer needed").failed  # only once


def test_another_means_of_payment(world: RetailWorld) -> None:
    order = done(world, "modify_pending_order_payment", order_id="#W3", payment_method_id="paypal_1")
    assert [(one["transaction_type"], one["payment_method_id"]) for one in order["payment_history"]] == [
        ("payment", "gift_card_1"), ("payment", "paypal_1"), ("refund", "gift_card_1"),
    ]  # fmt: skip
    assert world.db["users"]["ann"]["payment_methods"]["gift_card_1"]["balance"] == 15.0


def test_returns_and_exchanges(world: RetailWorld) -> None:
    other = RetailWorld(shop(), {})
    order = done(
        world, "return_delivered_order_items", order_id="#W2", item_ids=["2", "1"], payment_method_id="gift_card_1"
    )
    assert (order["status"], order["return_items"]) == ("return requested", ["1", "2"])
    order = done(
        other, "exchange_delivered_order_items", order_id="#W2", item_ids=["1", "1"], new_item_ids=["2", "2"],
        payment_method_id="gift_card_1",
    )  # fmt: skip
    assert (order["status"], order["exchange_price_difference"]) == ("exchange requested", 4.5)
    assert order["exchange_new_items"] == ["2", "2"]
    assert other.db["users"]["ann"]["payment_methods"]["gift_card_1"]["balance"] == 10.0  # nothing is paid yet


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cancel_pending_order", {"order_id": "#W2", "reason": "no longer needed"}),
        ("cancel_pending_order", {"order_id": "#W1", "reason": "bored"}),
        ("get_order_details", {"order_id": "W1"}),
        ("get_order_details", {"order_id": ["#W1"]}),
        ("get_order_details", {}),
        ("modify_pending_order_address", {"order_id": "#W2", **ADDRESS}),
        ("modify_pending_order_items", {"item_ids": ["1"], "new_item_ids": ["1"]}),
        ("modify_pending_order_items", {"item_ids": ["1"], "new_item_ids": ["3"]}),
        ("modify_pending_order_items", {"item_ids": ["1"], "new_item_ids": ["9"]}),
        ("modify_pending_order_items", {"item_ids": ["1", "1"], "new_item_ids": ["2", "2"]}),
        ("modify_pending_order_items", {"item_ids": ["1"], "new_item_ids": []}),
        ("modify_pending_order_items", {"item_ids": "1", "new_item_ids": "2"}),
        ("modify_pending_order_payment", {"payment_method_id": "credit_card_1"}),
        ("modify_pending_order_payment", {"payment_method_id": "gift_card_1"}),  # holds 10, the order costs 35
        ("modify_pending_order_payment", {"payment_method_id": "paypal_2"}),
        ("return_delivered_order_items", {"order_id": "#W2", "item_ids": ["1"], "payment_method_id": "credit_card_1"}),
        ("return_delivered_order_items", {"order_id": "#W1", "item_ids": ["1"]}),
        ("exchange_delivered_order_items", {"order_id": "#W1", "item_ids": ["1"], "new_item_ids": ["2"]}),
        ("no_such_tool", {}),
    ],
)
def test_what_cannot_be_done_changes_nothing(world: RetailWorld, name: str, arguments: dict[str, Any]) -> None:
    before = world.digest()
    more = {} if name in ("get_order_details", "no_such_tool") else {"order_id": "#W1"}
    if "items" in name:
        more["payment_method_id"] = "gift_card_1"
    turn = ask(world, name, **{**more, **arguments})
    assert turn.failed and turn.text.startswith("Error: ")
    assert world.digest() == before


class Scripted:
    """A judge that says A where the statement stands in the conversation."""

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        talk, _, statement = messages[-1].text.rpartition("Statement: ")
        return Completion(text="A" if statement.split("\n")[0] in talk else "B", finish_reason="stop")

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        raise AssertionError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise AssertionError


def test_rewards(tmp_path: Path) -> None:
    cancel = ("cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})
    folder = write_shop(tmp_path / "retail", [shop_task("a", [cancel]), shop_task("b", [cancel], nl_assertions=["5 dollars", "soon"])])  # fmt: skip  # noqa: E501
    domain, (plain, judged) = open_domain(folder), read_tasks(folder)
    assert domain.name == "retail" and not needs_judge(plain) and needs_judge(judged)
    world = domain.world(plain)
    said = [Turn(speaker="assistant", text="It is cancelled, you get 5 dollars soon.")]
    assert reward(domain, plain, world, said, "user_stop").value == 0
    world.answer(ToolCall(name=cancel[0], arguments=cancel[1]))
    assert reward(domain, plain, world, said, "user_stop").value == 1
    assert reward(domain, plain, world, said, "max_steps").value == 0
    with pytest.raises(InputError, match="b: its reward needs a judge"):
        reward(domain, judged, world, said, "user_stop")
    for turns, value in ((said, 1.0), ([Turn(speaker="assistant", text="5 dollars")], 0.0)):
        verdicts = asyncio.run(asserted(judged, turns, Judge(Scripted(), "m")))
        borne_out = [verdict.reading == "A" for verdict in verdicts]
        found = reward(domain, judged, world, turns, "user_stop", borne_out=borne_out)
        assert (found.value, found.parts["NL_ASSERTION"], found.parts["DB"]) == (value, value, 1.0)


def test_other_domains_are_refused(tmp_path: Path) -> None:
    (tmp_path / "db.json").write_text('{"plans": {}, "lines": {}}')
    with pytest.raises(InputError, match=r"lines, plans; the domains .* are mock, retail, airline"):
        open_domain(tmp_path)
