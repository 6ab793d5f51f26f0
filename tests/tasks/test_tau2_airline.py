"""tau2's airline domain: every tool on three flights made by hand, and what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.tasks.tau2.airline_domain import AirlineWorld
from s1pro.tasks.tau2.domains import open_domain
from s1pro.tasks.tau2.records import Tau2Task, ToolCall, Turn

DAY, NEXT = "2024-05-15", "2024-05-16"
ANN = {"first_name": "Ann", "last_name": "Li", "dob": "1990-01-02"}
BOB = {**ANN, "first_name": "Bob"}


def day(price: int, seats: int = 2) -> dict[str, Any]:
    cabins = ("business", "economy", "basic_economy")
    prices = {cabin: price * (3 - n) for n, cabin in enumerate(cabins)}
    return {"status": "available", "available_seats": dict.fromkeys(cabins, seats), "prices": prices}


def flight(name: str, way: str, leaves: str, lands: str, dates: dict[str, Any]) -> dict[str, Any]:
    origin, destination = way.split("-")
    return {
        "flight_number": name, "origin": origin, "destination": destination, "scheduled_departure_time_est": leaves,
        "scheduled_arrival_time_est": lands, "dates": dates,
    }  # fmt: skip


def airline() -> dict[str, Any]:
    flights = [
        flight("F1", "SFO-ORD", "08:00:00", "12:00:00", {DAY: day(100), NEXT: {"status": "cancelled"}}),
        flight("F2", "ORD-JFK", "13:00:00", "16:00:00", {DAY: day(50), NEXT: day(70)}),
        flight("F3", "SFO-ORD", "21:00:00", "02:00:00+1", {DAY: day(40, seats=1)}),
    ]
    paid = {"payment_id": "card", "amount": 400}
    reservation = {
        "reservation_id": "R1", "user_id": "ann", "origin": "SFO", "destination": "ORD", "flight_type": "one_way",
        "cabin": "economy", "passengers": [dict(ANN), dict(BOB)], "payment_history": [paid],
        "flights": [
            {"flight_number": "F1", "origin": "SFO", "destination": "ORD", "date": DAY, "price": 200},
        ],
        "created_at": "2024-05-01T10:00:00", "total_baggages": 1, "nonfree_baggages": 0, "insurance": "no",
    }  # fmt: skip
    means = {
        "card": {"source": "credit_card", "id": "card", "brand": "visa", "last_four": "1234"},
        "gift": {"source": "gift_card", "id": "gift", "amount": 150},
        "paper": {"source": "certificate", "id": "paper", "amount": 100},
    }
    user = {"user_id": "ann", "payment_methods": means, "reservations": ["R1"]}
    return {
        "flights": {f["flight_number"]: f for f in flights},
        "users": {"ann": user},
        "reservations": {"R1": reservation},
    }


@pytest.fixture
def world() -> AirlineWorld:
    return AirlineWorld(airline(), {})


def ask(world: AirlineWorld, name: str, **arguments: Any) -> Turn:
    return world.answer(ToolCall(name=name, arguments=arguments))


def done(world: AirlineWorld, name: str, **arguments: Any) -> Any:
    turn = ask(world, name, **arguments)
    assert not turn.failed, turn.text
    return json.loads(turn.text)


BOOKING: dict[str, Any] = {
    "user_id": "ann", "origin": "SFO", "destination": "JFK", "flight_type": "one_way", "cabin": "economy",
    "flights": [{"flight_number": "F1", "date": DAY}, {"flight_number": "F2", "date": DAY, "price": 1}],
    "passengers": [ANN], "total_baggages": 2, "nonfree_baggages": 1, "insurance": "yes",
    "payment_methods": [{"payment_id": "paper", "amount": 80}, {"payment_id": "gift", "amount": 150},
                        {"payment_id": "card", "amount": 150}],
}  # fmt: skip


def test_booking(world: AirlineWorld) -> None:
    """200 + 100 for the flights, 30 for the insurance, 50 for a bag."""
    made = done(world, "book_reservation", **BOOKING)
    assert (made["reservation_id"], made["created_at"]) == ("HATHAT", "2024-05-15T15:00:00")
    assert [(one["flight_number"], one["price"]) for one in made["flights"]] == [("F1", 200), ("F2", 100)]
    user = world.db["users"]["ann"]
    assert user["reservations"] == ["R1", "HATHAT"]
    assert "paper" not in user["payment_methods"] and user["payment_methods"]["gift"]["amount"] == 0
    assert world.db["flights"]["F2"]["dates"][DAY]["available_seats"] == {
        "business": 2,
        "economy": 1,
        "basic_economy": 2,
    }


def test_what_only_looks(world: AirlineWorld) -> None:
    before = world.digest()
    assert done(world, "get_user_details", user_id="ann")["reservations"] == ["R1"]
    assert done(world, "get_reservation_details", reservation_id="R1")["cabin"] == "economy"
    assert ask(world, "get_flight_status", flight_number="F1", date=NEXT).text == "cancelled"
    assert len(done(world, "list_all_airports")) == 20
    found = done(world, "search_direct_flight", origin="SFO", destination="ORD", date=DAY)
    assert [one["flight_number"] for one in found] == ["F1", "F3"]
    assert done(world, "search_direct_flight", origin="SFO", destination="ORD", date=NEXT) == []
    pairs = done(world, "search_onestop_flight", origin="SFO", destination="JFK", date=DAY)
    assert [[(one["flight_number"], one["date"]) for one in pair] for pair in pairs] == [
        [("F1", DAY), ("F2", DAY)], [("F3", DAY), ("F2", NEXT)],
    ]  # fmt: skip
    assert ask(world, "calculate", expression="2 * 30").text == "60.0"
    assert ask(world, "transfer_to_human_agents", summary="x").text == "Transfer successful"
    assert world.digest() == before


def test_cancelling_refunds_and_gives_no_seats_back(world: AirlineWorld) -> None:
    made = done(world, "cancel_reservation", reservation_id="R1")
    assert made["status"] == "cancelled" and made["payment_history"][-1] == {"payment_id": "card", "amount": -400}
    assert world.db["flights"] == airline()["flights"]


def test_changes_of_flights(world: AirlineWorld) -> None:
    """F2 costs 100 for each of two; then business costs 300 and 150 instead of 200 and 100."""
    flights = [{"flight_number": "F1", "date": DAY}, {"flight_number": "F2", "date": DAY}]
    more = {"reservation_id": "R1", "flights": flights, "payment_id": "card"}
    assert done(world, "update_reservation_flights", cabin="economy", **more)["payment_history"][-1]["amount"] == 200
    made = done(world, "update_reservation_flights", cabin="business", **more)
    assert made["payment_history"][-1]["amount"] == 300 and made["cabin"] == "business"
    cheap = {"reservation_id": "R1", "flights": flights[1:], "payment_id": "gift"}
    assert done(world, "update_reservation_flights", cabin="business", **cheap)["payment_history"][-1]["amount"] == -600
    assert world.db["users"]["ann"]["payment_methods"]["gift"]["amount"] == 750
    assert world.db["flights"] == airline()["flights"]


def test_bags_passengers_certificates(world: AirlineWorld) -> None:
    made = done(
        world,
        "update_reservation_baggages",
        reservation_id="R1",
        total_baggages=4,
        nonfree_baggages=2,
        payment_id="gift",
    )
    assert (made["total_baggages"], made["payment_history"][-1]["amount"]) == (4, 100)
    made = done(world, "update_reservation_passengers", reservation_id="R1", passengers=[BOB, BOB])
    assert made["passengers"] == [BOB, BOB]
    said = ask(world, "send_certificate", user_id="ann", amount=50).text
    assert said == "Certificate certificate_3221322 added to user ann with amount 50."
    for _ in range(2):
        assert not ask(world, "send_certificate", user_id="ann", amount=50).failed
    assert ask(world, "send_certificate", user_id="ann", amount=50).failed


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("book_reservation", {"payment_methods": [{"payment_id": "card", "amount": 379}]}),
        ("book_reservation", {"payment_methods": [{"payment_id": "card", "amount": 380.5}]}),
        ("book_reservation", {"payment_methods": [{"payment_id": "card", "amount": float("inf")}]}),
        ("book_reservation", {"payment_methods": [{"payment_id": "gift", "amount": 380}]}),
        ("book_reservation", {"payment_methods": [{"payment_id": "none", "amount": 380}]}),
        ("book_reservation", {"payment_methods": [{"amount": 380}]}),
        ("book_reservation", {"flights": [{"flight_number": "F1", "date": NEXT}]}),
        ("book_reservation", {"flights": [{"flight_number": "F9", "date": DAY}]}),
        ("book_reservation", {"flights": [{"flight_number": "F1"}]}),
        ("book_reservation", {"flights": "F1"}),
        ("book_reservation", {"passengers": [ANN, BOB, ANN]}),
        ("book_reservation", {"cabin": "first"}),
        ("book_reservation", {"total_baggages": "2"}),
        ("cancel_reservation", {"reservation_id": "R2"}),
        ("update_reservation_baggages", {"total_baggages": 9, "nonfree_baggages": 4, "payment_id": "gift"}),
        ("update_reservation_baggages", {"total_baggages": 2, "nonfree_baggages": 1, "payment_id": "paper"}),
        ("update_reservation_flights", {"cabin": "economy", "payment_id": "card",
                                        "flights": [{"flight_number": "F3", "date": DAY}]}),
        ("update_reservation_passengers", {"passengers": [ANN]}),
        ("get_flight_status", {"flight_number": "F1", "date": "2024-01-01"}),
        ("send_certificate", {"user_id": "ann", "amount": True}),
        ("search_onestop_flight", {"origin": "SFO", "destination": "JFK"}),
    ],
)  # fmt: skip
def test_what_cannot_be_done_changes_nothing(world: AirlineWorld, name: str, arguments: dict[str, Any]) -> None:
    before = world.digest()
    base = BOOKING if name == "book_reservation" else {"reservation_id": "R1"} if "reservation" in name else {}
    turn = ask(world, name, **{**base, **arguments})
    assert turn.failed and turn.text.startswith("Error: ")
    assert world.digest() == before


def test_the_domain_is_told_by_its_tables(tmp_path: Path) -> None:
    (tmp_path / "db.json").write_text(json.dumps(airline()))
    (tmp_path / "policy.md").write_text("Be kind.")
    domain = open_domain(tmp_path)
    assert domain.name == "airline"
    assert domain.world(Tau2Task(id="x", instructions="")).digest() == AirlineWorld(airline(), {}).digest()
