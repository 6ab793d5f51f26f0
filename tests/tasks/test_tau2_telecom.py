"""tau2's telecom domain: the carrier's tools, the phone, how the two databases meet, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.domains import open_domain
from s1pro.tasks.tau2.records import Side, Tau2Task, ToolCall, Turn, in_split, read_tasks
from s1pro.tasks.tau2.rewards import reward
from s1pro.tasks.tau2.telecom_domain import TelecomWorld
from tests.tau2_carrier import MINE, carrier, telecom_task, write_carrier


@pytest.fixture
def world() -> TelecomWorld:
    """Ann's phone, with the line L1."""
    made = TelecomWorld(carrier(), {})
    made.function(ToolCall(name="set_user_info", arguments={"name": "Ann", "phone_number": "555-1"}, side="user"))
    made.sync()
    return made


def ask(world: TelecomWorld, name: str, /, **arguments: Any) -> Turn:
    side: Side = "user" if name in world.tools["user"] else "assistant"
    return world.answer(ToolCall(name=name, arguments=arguments, side=side))


def done(world: TelecomWorld, name: str, /, **arguments: Any) -> Any:
    turn = ask(world, name, **arguments)
    assert not turn.failed, turn.text
    return json.loads(turn.text) if turn.text[:1] in "{[" else turn.text


def stage(world: TelecomWorld, name: str, /, **arguments: Any) -> Any:
    side: Side = "user" if name in world.hidden["user"] else "assistant"
    found = world.function(ToolCall(name=name, arguments=arguments, side=side))
    world.sync()
    return found


def speed(world: TelecomWorld) -> float | None:
    found = re.search(r"([\d.]+) Mbps", done(world, "run_speed_test"))
    return None if found is None else float(found[1])


def test_what_the_agent_looks_up(world: TelecomWorld) -> None:
    before = world.digest()
    for phone in ("555-0", "555-1", "555-2"):
        assert done(world, "get_customer_by_phone", phone_number=phone)["customer_id"] == "C1"
    assert done(world, "get_customer_by_id", customer_id="C2")["full_name"] == "Bob Li"
    assert [one["customer_id"] for one in done(world, "get_customer_by_name", full_name="ANN LI", dob="1990-01-02")]
    assert done(world, "get_customer_by_name", full_name="Ann Li", dob="1990-01-03") == []
    for name, field in (("L2", "line_id"), ("D1", "device_id"), ("B1", "bill_id"), ("C1", "customer_id")):
        assert done(world, "get_details_by_id", id=name)[field] == name
    assert [one["bill_id"] for one in done(world, "get_bills_for_customer", customer_id="C1")] == ["B2", "B1"]
    assert [one["bill_id"] for one in done(world, "get_bills_for_customer", customer_id="C1", limit=1)] == ["B2"]
    assert done(world, "get_data_usage", **MINE) == {
        "line_id": "L1", "data_used_gb": 1.5, "data_limit_gb": 4.0, "data_refueling_gb": 0.0,
        "cycle_end_date": "2025-02-28",
    }  # fmt: skip
    assert done(world, "transfer_to_human_agents", summary="x") == "Transfer successful"
    assert world.digest() == before


def test_a_suspended_line_comes_back_after_a_search(world: TelecomWorld) -> None:
    line = done(world, "suspend_line", **MINE, reason="theft")["line"]
    assert (line["status"], line["suspension_start_date"]) == ("Suspended", "2025-02-25")
    assert ask(world, "suspend_line", **MINE, reason="again").failed
    assert done(world, "check_network_status")["connection"] == "connected"  # the phone has not looked since
    done(world, "reboot_device")
    assert done(world, "check_network_status")["connection"] == "no_service"
    assert done(world, "resume_line", **MINE)["line"]["suspension_start_date"] is None
    assert speed(world) is None
    done(world, "toggle_airplane_mode")
    done(world, "toggle_airplane_mode")
    assert speed(world) == 275.0


def test_an_overdue_bill_is_asked_for_and_paid(world: TelecomWorld) -> None:
    stage(world, "suspend_line_for_overdue_bill", **MINE, new_bill_id="B7", contract_ended=True)
    made = done(world, "get_details_by_id", id="B7")
    assert (made["total_due"], made["period_start"], made["due_date"]) == (30.0, "2025-01-01", "2025-01-15")
    assert done(world, "get_details_by_id", id="L1")["contract_end_date"] == "2025-01-31"
    assert stage(world, "assert_overdue_bill_exists", customer_id="C1", overdue_bill_id="B7") is True
    assert stage(world, "assert_no_overdue_bill", overdue_bill_id="B7") is False
    assert done(world, "make_payment") == "There is no payment request."
    done(world, "send_payment_request", customer_id="C1", bill_id="B7")
    assert ask(world, "send_payment_request", customer_id="C1", bill_id="B2").failed  # one at a time
    assert "30.0 USD for the bill B7" in done(world, "check_payment_request")
    done(world, "make_payment")
    assert stage(world, "assert_no_overdue_bill", overdue_bill_id="B7") is True
    assert done(world, "check_payment_request") == "There is no payment request."
    assert stage(world, "assert_no_overdue_bill", overdue_bill_id="B99") is True


def test_refuelling_is_charged_on_the_next_bill(world: TelecomWorld) -> None:
    stage(world, "set_data_usage", **MINE, data_used_gb=4.0)
    assert speed(world) is None and stage(world, "assert_mobile_data_usage_exceeded", expected_status=True)
    found = done(world, "refuel_data", **MINE, gb_amount=2)
    assert (found["charge"], found["new_data_refueling_gb"]) == (5.0, 2.0)
    assert speed(world) == 220.0 and stage(world, "assert_data_refueling_amount", **MINE, expected_amount=2.0)
    done(world, "refuel_data", **MINE, gb_amount=0.5)
    [draft] = [one for one in done(world, "get_bills_for_customer", customer_id="C1") if one["status"] == "Draft"]
    assert [item["amount"] for item in draft["line_items"]] == [5.0, 1.25] and draft["total_due"] == 6.25
    assert (draft["period_start"], draft["period_end"], draft["due_date"]) == ("2025-03-01", "2025-03-31", "2025-03-15")


def test_speed_is_the_middle_of_the_range_times_the_strength(world: TelecomWorld) -> None:
    """Against the formula: 5G excellent, 4G good, 3G fair, 2G poor."""
    ranges = {"4g_5g_preferred": (50, 500, 1.0), "4g_only": (10, 100, 0.8), "3g_only": (1, 5, 0.5)}
    for mode, (low, high, strength) in {**ranges, "2g_only": (0.1, 0.4, 0.2)}.items():
        done(world, "set_network_mode_preference", mode=mode)
        for saver in (1.0, 0.2):
            assert speed(world) == pytest.approx((low + high) / 2 * strength * saver, abs=0.0051)
            done(world, "toggle_data_saver_mode")
    done(world, "set_network_mode_preference", mode="4g_5g_preferred")
    assert "(excellent)" in done(world, "run_speed_test")
    stage(world, "break_vpn")
    assert speed(world) == 27.5 and stage(world, "assert_internet_not_excellent")
    assert done(world, "check_vpn_status")["details"]["server_performance"] == "poor"
    done(world, "disconnect_vpn")
    assert stage(world, "assert_internet_speed", expected_speed=200, expected_desc="Excellent")
    done(world, "connect_vpn")
    assert speed(world) == 27.5  # a broken VPN stays broken
    world.user_db["surroundings"]["signal_strength"]["5G"] = "none"
    done(world, "disconnect_vpn")
    done(world, "reboot_device")
    assert done(world, "check_network_status")["network_type"] == "4G"


def test_roaming_needs_phone_and_carrier(world: TelecomWorld) -> None:
    stage(world, "set_user_location", abroad=True)
    for phone in (False, True):
        stage(world, f"turn_roaming_{'on' if phone else 'off'}")
        for tool, there in (("enable_roaming", True), ("disable_roaming", False)):
            done(world, tool, **MINE)
            assert (speed(world) is not None) == (phone and there)
    assert "already" in done(world, "disable_roaming", **MINE)


def test_what_takes_the_network_away(world: TelecomWorld) -> None:
    def connected() -> bool:
        return bool(stage(world, "assert_service_status", expected_status="connected"))

    stage(world, "unseat_sim_card")
    assert not connected() and "no SIM" in done(world, "check_sim_status")
    done(world, "reseat_sim_card")
    assert connected()
    stage(world, "break_apn_settings")
    done(world, "reset_apn_settings")
    assert not connected()  # from the next restart on
    done(world, "reboot_device")
    assert connected() and done(world, "check_apn_settings")["apn_name"] == "internet"
    done(world, "toggle_data")
    assert connected() and speed(world) is None and "Data Disabled" in done(world, "check_status_bar")
    stage(world, "turn_data_on")
    world.user_db["device"].update(wifi_enabled=True, wifi_connected=True, wifi_ssid="home")
    done(world, "connect_vpn")
    assert "Airplane Mode | battery 80 %" in done(world, "toggle_airplane_mode")  # it ends Wi-Fi and VPN too
    assert "cannot" in done(world, "toggle_wifi") and "Wi-Fi is ON" in done(world, "check_wifi_status")
    assert not connected()
    stage(world, "turn_airplane_mode_off")
    assert connected()
    stage(world, "lock_sim_card", mode="puk")
    assert not connected() and "PUK" in done(world, "check_sim_status")


def test_picture_messages(world: TelecomWorld) -> None:
    def sends() -> bool:
        found = bool(stage(world, "assert_can_send_mms", expected_status=True))
        assert ("cannot" in done(world, "can_send_mms")) != found
        return found

    assert sends()
    for name in ("storage", "sms"):
        stage(world, "remove_app_permission", app_name="messaging", permission=name)
        assert not sends() and name not in done(world, "check_app_permissions", app_name="messaging")
        done(world, "grant_app_permission", app_name="messaging", permission=name.upper())
        assert sends()
    stage(world, "set_wifi_calling", enabled=True, mms_over_wifi=True)
    assert not sends()
    done(world, "toggle_wifi_calling")
    assert sends()
    stage(world, "break_apn_mms_setting")
    assert not sends() and done(world, "check_apn_settings")["mmsc_url"] == "not set"
    done(world, "set_apn_settings", apn_settings={"mms_port": 80})
    assert sends()
    done(world, "set_network_mode_preference", mode="2g_only")
    assert not sends()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_customer_by_id", {"customer_id": "C9"}),
        ("get_customer_by_phone", {"phone_number": "555-77"}),
        ("get_details_by_id", {"id": "X1"}),
        ("get_details_by_id", {"id": ""}),
        ("get_data_usage", {"customer_id": "C2", "line_id": "L1"}),
        ("resume_line", MINE),
        ("suspend_line", MINE),
        ("send_payment_request", {"customer_id": "C2", "bill_id": "B1"}),
        ("refuel_data", {**MINE, "gb_amount": 0}),
        ("refuel_data", {**MINE, "gb_amount": "2"}),
        ("refuel_data", {**MINE, "gb_amount": float("nan")}),
        ("get_bills_for_customer", {"customer_id": "C1", "limit": "1"}),
        ("set_apn_settings", {"apn_settings": "internet"}),
        ("set_apn_settings", {"apn_settings": {"apn_name": "other"}}),
        ("set_apn_settings", {"apn_settings": {"colour": "red"}}),
        ("set_network_mode_preference", {"mode": None}),
        ("set_user_info", {"name": "Eve", "phone_number": "555-2"}),
        ("toggle_data", {"now": True}),
    ],
)
def test_what_cannot_be_done_changes_nothing(world: TelecomWorld, name: str, arguments: dict[str, Any]) -> None:
    before = world.digest()
    turn = ask(world, name, **arguments)
    assert turn.failed and turn.text.startswith("Error: ")
    assert world.digest() == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "6g"},
        {"app_name": "game", "permission": "sms"},
        {"app_name": "browser", "permission": "camera"},
    ],
)
def test_what_the_phone_does_not_know_it_says(world: TelecomWorld, arguments: dict[str, str]) -> None:
    """As upstream, these are answers and no errors."""
    before = world.digest()
    done(world, "set_network_mode_preference" if "mode" in arguments else "grant_app_permission", **arguments)
    assert world.digest() == before


def test_the_files_are_read_and_filled(tmp_path: Path) -> None:
    tasks = [telecom_task("a", [], [("user", "toggle_data")]), telecom_task("b", [], [])]
    folder = write_carrier(tmp_path / "telecom", tasks, {"base": ["b"], "small": ["a"], "full": ["a", "b"], "x": []})
    domain = open_domain(folder)
    assert domain.name == "telecom"
    assert domain.policy == (
        "<main_policy>\nFollow main_policy.md.\n</main_policy>\n<tech_support_policy>\nFollow "
        "tech_support_manual.md.\n</tech_support_policy>"
    )
    assert "main_policy_solo.md" in domain.read_policy(domain.solo_policies)
    read = read_tasks(folder)
    assert [task.id for task in in_split(read, folder, None)] == ["b"]
    assert [task.id for task in in_split(read, folder, "full")] == ["a", "b"]
    with pytest.raises(InputError, match="has no split 'tiny'; there are base, full, small, x"):
        in_split(read, folder, "tiny")
    with pytest.raises(InputError, match="has no task of the split 'x'; it has tasks of base, full, small"):
        in_split(read, folder, "x")
    made = domain.world(read[0])
    assert isinstance(made, TelecomWorld)
    assert done(made, "check_status_bar").endswith("battery 50 %")
    assert made.user_db["surroundings"]["line_active"] is True
    assert made.db["lines"][0]["contract_end_date"] is None


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("db.toml", 'line_id = "L1"\n', "", "lines, row 1: the field 'line_id' is missing"),
        ("db.toml", 'plan_id = "P1"\nname', "plan_id = 3\nname", "plans, row 1: the field 'plan_id' is missing or of"),
        ("db.toml", "[[plans]]", "[[plans]", "not TOML"),
        ("db.toml", "[[bills]]", "[[invoices]]", "has the tables customers, devices, invoices, lines, plans"),
        ("user_db.toml", "[device]", "[phone]", "the field 'device' is missing or no list"),
        ("user_db.toml", "battery_level", "battery", "device: unknown field 'battery'"),
        ("user_db.toml", "battery_level = 50", 'network_mode_preference = "6g"', "preference is '6g', none of"),
        ("user_db.toml", "battery_level = 50", 'active_apn_settings = "x"', "device.active_apn_settings: expected an"),
    ],
)  # fmt: skip
def test_wrong_files_are_named(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    folder = write_carrier(tmp_path / "telecom", [])
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        open_domain(folder)
    assert str(folder) in str(error.value)


def play(folder: Path, task: Tau2Task, *calls: tuple[Side, str, dict[str, Any]]) -> dict[str, float]:
    domain = open_domain(folder)
    world, turns = domain.world(task), list[Turn]()
    for side, name, arguments in calls:
        call = ToolCall(name=name, arguments=arguments, side=side)
        turns += [Turn(speaker=side, calls=(call,)), world.answer(call)]
    return {name: reward(domain, task, world, turns, "user_stop", name).value for name in ("compat", "strict")}


def test_rewards_look_at_the_phone_and_at_who_acted(tmp_path: Path) -> None:
    broken = telecom_task("data", [("user", "turn_data_off", {})], [("user", "toggle_data")])
    folder = write_carrier(tmp_path / "telecom", [broken])
    [task] = read_tasks(folder)
    assert play(folder, task, ("user", "toggle_data", {})) == {"compat": 1.0, "strict": 1.0}
    assert play(folder, task) == {"compat": 0.0, "strict": 0.0}
    assert play(folder, task, ("user", "toggle_data", {}), ("user", "toggle_data", {})) == {
        "compat": 0.0,
        "strict": 0.0,
    }


def test_the_golden_databases_of_upstream_do_not_meet(tmp_path: Path) -> None:
    """A bill asked for and paid: in compat only the asking is golden, so the right thing is not worth 1."""
    paid = telecom_task("pay", [], [("user", "make_payment")])
    ask_first = {"action_id": "x", "name": "send_payment_request", "arguments": {"customer_id": "C1", "bill_id": "B2"}}
    paid["evaluation_criteria"]["actions"].insert(0, ask_first)
    paid["evaluation_criteria"]["reward_basis"] = ["DB"]
    folder = write_carrier(tmp_path / "telecom", [paid])
    [task] = read_tasks(folder)
    calls: list[tuple[Side, str, dict[str, Any]]] = [
        ("assistant", "send_payment_request", {"customer_id": "C1", "bill_id": "B2"}),
        ("user", "make_payment", {}),
    ]
    assert play(folder, task, *calls) == {"compat": 0.0, "strict": 1.0}


def test_a_missing_file_is_named_as_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_tasks(tmp_path)
    assert str(error.value) == f"{tmp_path / 'tasks.json'}: No such file or directory"
