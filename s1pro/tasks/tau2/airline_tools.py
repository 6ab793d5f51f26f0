"""The tools of the `airline` domain as the agent sees them, in our words; `airline_domain` does what they ask."""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.world import Tools, tool

CABINS = ("business", "economy", "basic_economy")
FLIGHT_TYPES = ("round_trip", "one_way")
YES_NO = ("yes", "no")
FLIGHT = ("flight_number", "date")
PASSENGER = ("first_name", "last_name", "dob")
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_FLIGHTS = {
    "type": "array",
    "items": {"type": "object", "properties": dict.fromkeys(FLIGHT, _TEXT), "required": list(FLIGHT)},
}
_PASSENGERS = {
    "type": "array",
    "items": {"type": "object", "properties": dict.fromkeys(PASSENGER, _TEXT), "required": list(PASSENGER)},
}
_PAYMENTS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"payment_id": _TEXT, "amount": _WHOLE},
        "required": ["payment_id", "amount"],
    },
}


def _one_of(names: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "string", "enum": list(names)}


def _all(name: str, about: str, /, **properties: Any) -> dict[str, Any]:
    return tool(name, about, tuple(properties), **properties)


_AGENT = (
    _all(
        "book_reservation", "Book flights for a user. The payments must add up to the price.", user_id=_TEXT,
        origin=_TEXT, destination=_TEXT, flight_type=_one_of(FLIGHT_TYPES), cabin=_one_of(CABINS), flights=_FLIGHTS,
        passengers=_PASSENGERS, payment_methods=_PAYMENTS, total_baggages=_WHOLE, nonfree_baggages=_WHOLE,
        insurance=_one_of(YES_NO),
    ),
    _all("calculate", "The value of an expression of numbers, + - * / and brackets.", expression=_TEXT),
    _all("cancel_reservation", "Cancel a whole reservation and refund it.", reservation_id=_TEXT),
    _all("get_reservation_details", "A reservation with flights, passengers and payments.", reservation_id=_TEXT),
    _all("get_user_details", "A user with means of payment and reservations.", user_id=_TEXT),
    _all("list_all_airports", "All airports with their cities."),
    _all(
        "search_direct_flight", "Direct flights on a day (YYYY-MM-DD) between two airports.", origin=_TEXT,
        destination=_TEXT, date=_TEXT,
    ),
    _all(
        "search_onestop_flight", "Pairs of flights on a day (YYYY-MM-DD) between two airports.", origin=_TEXT,
        destination=_TEXT, date=_TEXT,
    ),
    _all("send_certificate", "Give a user a certificate over an amount.", user_id=_TEXT, amount=_WHOLE),
    _all(
        "transfer_to_human_agents", "Hand the user over to a human, with a summary of the matter. Only if the user "
        "asks for it or it cannot be done with the other tools.", summary=_TEXT,
    ),
    _all(
        "update_reservation_baggages", "Change how much baggage a reservation has; more that is not free is paid.",
        reservation_id=_TEXT, total_baggages=_WHOLE, nonfree_baggages=_WHOLE, payment_id=_TEXT,
    ),
    _all(
        "update_reservation_flights", "Change flights or cabin of a reservation. Name all its flights, also those that "
        "stay.", reservation_id=_TEXT, cabin=_one_of(CABINS), flights=_FLIGHTS, payment_id=_TEXT,
    ),
    _all(
        "update_reservation_passengers", "Change the passengers of a reservation, not their number.",
        reservation_id=_TEXT, passengers=_PASSENGERS,
    ),
    _all("get_flight_status", "The status of a flight on a day (YYYY-MM-DD).", flight_number=_TEXT, date=_TEXT),
)  # fmt: skip
TOOLS: Tools = {"assistant": {each["name"]: each for each in _AGENT}, "user": {}}
