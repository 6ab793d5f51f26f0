"""The `airline` domain of tau2-bench: flights, users and reservations. The user has no tools.

    look     get_user_details, get_reservation_details, get_flight_status, list_all_airports, search_direct_flight,
             search_onestop_flight, calculate
    change   book_reservation, cancel_reservation, update_reservation_flights, update_reservation_baggages,
             update_reservation_passengers, send_certificate
    leave    transfer_to_human_agents

The rules are upstream's: insurance costs 30 per passenger and baggage that is not free 50 each; a booking takes seats,
a change or a cancellation gives none back; a certificate is used up whole, a gift card by the amount; certificates
cannot pay for changes. The next day of a flight that lands after midnight is in May 2024, written without a zero, so
that a second flight on one of the first nine days is never found. New reservations and certificates have three names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from s1pro.tasks.tau2.airline_tools import CABINS, FLIGHT, FLIGHT_TYPES, PASSENGER, TOOLS, YES_NO
from s1pro.tasks.tau2.calculation import calculated
from s1pro.tasks.tau2.world import Domain, ToolError, World, known

NEW_RESERVATIONS = ("HATHAT", "HATHAU", "HATHAV")
NEW_CERTIFICATES = ("certificate_3221322", "certificate_3221323", "certificate_3221324")
NOW = "2024-05-15T15:00:00"
PER_BAG, PER_INSURED = 50, 30
AIRPORTS: Mapping[str, str] = {
    "SFO": "San Francisco", "JFK": "New York", "LAX": "Los Angeles", "ORD": "Chicago", "DFW": "Dallas",
    "DEN": "Denver", "SEA": "Seattle", "ATL": "Atlanta", "MIA": "Miami", "BOS": "Boston", "PHX": "Phoenix",
    "IAH": "Houston", "LAS": "Las Vegas", "MCO": "Orlando", "EWR": "Newark", "CLT": "Charlotte", "MSP": "Minneapolis",
    "DTW": "Detroit", "PHL": "Philadelphia", "LGA": "LaGuardia",
}  # fmt: skip
_LISTS = ("flights", "passengers", "payment_methods")
_WHOLE = ("total_baggages", "nonfree_baggages")
_ENUMS = {"cabin": CABINS, "flight_type": FLIGHT_TYPES, "insurance": YES_NO}


class AirlineWorld(World):
    """See the module docstring."""

    tools = TOOLS

    def _check_argument(self, function: str, name: str, value: Any) -> None:
        if name in _LISTS:
            fits = isinstance(value, list) and all(isinstance(one, dict) for one in value)
        elif name in _WHOLE:
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif name == "amount":
            fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e9
        else:
            fits = isinstance(value, str) and value in _ENUMS.get(name, (value,))
        if not fits:
            raise ToolError(f"{function}: {name} cannot be {value!r:.60}")

    # what only looks

    def calculate(self, expression: str) -> str:
        return calculated(expression)

    def get_user_details(self, user_id: str) -> Any:
        return known(self.db["users"], user_id, "User")

    def get_reservation_details(self, reservation_id: str) -> Any:
        return known(self.db["reservations"], reservation_id, "Reservation")

    def get_flight_status(self, flight_number: str, date: str) -> str:
        return str(self._on_day(flight_number, date)["status"])

    def list_all_airports(self) -> Any:
        return [{"iata": code, "city": city} for code, city in AIRPORTS.items()]

    def search_direct_flight(self, origin: str, destination: str, date: str) -> Any:
        return self._flights(date, origin=origin, destination=destination)

    def search_onestop_flight(self, origin: str, destination: str, date: str) -> Any:
        pairs = []
        for first in self._flights(date, origin=origin):
            landing = first["scheduled_arrival_time_est"]
            if "+1" in landing and not date[-2:].isdigit():
                raise ToolError(f"{date!r} is no day")
            then = f"2024-05-{int(date[-2:]) + 1}" if "+1" in landing else date
            for second in self._flights(then, origin=first["destination"], destination=destination, after=landing):
                pairs.append([{**first, "date": date}, {**second, "date": then}])
        return pairs

    def transfer_to_human_agents(self, summary: str) -> str:
        return "Transfer successful"

    # what changes

    def book_reservation(
        self,
        user_id: str,
        origin: str,
        destination: str,
        flight_type: str,
        cabin: str,
        flights: Sequence[Mapping[str, Any]],
        passengers: Sequence[Mapping[str, Any]],
        payment_methods: Sequence[Mapping[str, Any]],
        total_baggages: int,
        nonfree_baggages: int,
        insurance: str,
    ) -> Any:
        user = self.get_user_details(user_id)
        people, payments = [_picked(one, PASSENGER) for one in passengers], [_payment(one) for one in payment_methods]
        name = next((each for each in NEW_RESERVATIONS if each not in self.db["reservations"]), None)
        if name is None:
            raise ToolError("Too many reservations")
        booked = [self._seats(_picked(one, FLIGHT), cabin, len(people)) for one in flights]
        price = sum(flight["price"] for flight, _ in booked) * len(people) + PER_BAG * nonfree_baggages
        price += PER_INSURED * len(people) if insurance == "yes" else 0
        self._afford(user, payments, price)
        for payment in payments:
            mean = user["payment_methods"][payment["payment_id"]]
            if mean["source"] == "gift_card":
                mean["amount"] -= payment["amount"]
            elif mean["source"] == "certificate":
                del user["payment_methods"][payment["payment_id"]]
        for _, seats in booked:
            seats[cabin] -= len(people)
        reservation = {
            "reservation_id": name, "user_id": user_id, "origin": origin, "destination": destination,
            "flight_type": flight_type, "cabin": cabin, "flights": [flight for flight, _ in booked],
            "passengers": people, "payment_history": payments, "created_at": NOW, "total_baggages": total_baggages,
            "nonfree_baggages": nonfree_baggages, "insurance": insurance,
        }  # fmt: skip
        self.db["reservations"][name] = reservation
        user["reservations"].append(name)
        return reservation

    def cancel_reservation(self, reservation_id: str) -> Any:
        reservation = self.get_reservation_details(reservation_id)
        history = reservation["payment_history"]
        history += [{"payment_id": paid["payment_id"], "amount": -paid["amount"]} for paid in history]
        reservation["status"] = "cancelled"
        return reservation

    def update_reservation_baggages(
        self, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
    ) -> Any:
        reservation = self.get_reservation_details(reservation_id)
        self._pay(reservation, payment_id, PER_BAG * max(0, nonfree_baggages - reservation["nonfree_baggages"]))
        reservation["total_baggages"], reservation["nonfree_baggages"] = total_baggages, nonfree_baggages
        return reservation

    def update_reservation_flights(
        self, reservation_id: str, cabin: str, flights: Sequence[Mapping[str, Any]], payment_id: str
    ) -> Any:
        reservation = self.get_reservation_details(reservation_id)
        number = len(reservation["passengers"])
        kept = {(one["flight_number"], one["date"]): one for one in reversed(reservation["flights"])}
        chosen = []
        for one in (_picked(each, FLIGHT) for each in flights):
            same = kept.get((one["flight_number"], one["date"])) if cabin == reservation["cabin"] else None
            chosen.append(same if same is not None else self._seats(one, cabin, number)[0])
        before, after = (sum(one["price"] for one in some) for some in (reservation["flights"], chosen))
        self._pay(reservation, payment_id, (after - before) * number)
        reservation["flights"], reservation["cabin"] = chosen, cabin
        return reservation

    def update_reservation_passengers(self, reservation_id: str, passengers: Sequence[Mapping[str, Any]]) -> Any:
        reservation = self.get_reservation_details(reservation_id)
        if len(passengers) != len(reservation["passengers"]):
            raise ToolError("Number of passengers does not match")
        reservation["passengers"] = [_picked(one, PASSENGER) for one in passengers]
        return reservation

    def send_certificate(self, user_id: str, amount: float) -> str:
        means = self.get_user_details(user_id)["payment_methods"]
        name = next((each for each in NEW_CERTIFICATES if each not in means), None)
        if name is None:
            raise ToolError("Too many certificates")
        means[name] = {"source": "certificate", "id": name, "amount": float(amount)}
        return f"Certificate {name} added to user {user_id} with amount {amount}."

    # what these share

    def _on_day(self, flight_number: str, date: str) -> Any:
        flight = known(self.db["flights"], flight_number, "Flight")
        return known(flight["dates"], date, f"Flight {flight_number} on date")

    def _flights(
        self, date: str, *, origin: str | None = None, destination: str | None = None, after: str | None = None
    ) -> list[dict[str, Any]]:
        """That can be booked on a day."""
        found = []
        for flight in self.db["flights"].values():
            day, leaves = flight["dates"].get(date), flight["scheduled_departure_time_est"]
            fits = origin in (None, flight["origin"]) and destination in (None, flight["destination"])
            if fits and day is not None and day["status"] == "available" and (after is None or leaves >= after):
                names = ("flight_number", "origin", "destination")
                times = ("scheduled_departure_time_est", "scheduled_arrival_time_est")
                seats = {name: day[name] for name in ("available_seats", "prices")}
                found.append({**_of(flight, names), "status": "available", **_of(flight, times), "date": None, **seats})
        return found

    def _seats(self, wanted: Mapping[str, str], cabin: str, number: int) -> tuple[dict[str, Any], Any]:
        """A flight as it stands in a reservation, and the seats of its day."""
        name, date = wanted["flight_number"], wanted["date"]
        day = self._on_day(name, date)
        if day["status"] != "available":
            raise ToolError(f"Flight {name} not available on date {date}")
        if day["available_seats"][cabin] < number:
            raise ToolError(f"Not enough seats on flight {name}")
        flight = _of(self.db["flights"][name], ("origin", "destination"))
        return {"flight_number": name, **flight, "date": date, "price": day["prices"][cabin]}, day["available_seats"]

    def _afford(self, user: Any, payments: Sequence[Mapping[str, Any]], price: float) -> None:
        certificates = set()
        for payment in payments:
            name = payment["payment_id"]
            mean = known(user["payment_methods"], name, "Payment method")
            if mean["source"] in ("gift_card", "certificate") and mean["amount"] < payment["amount"]:
                raise ToolError(f"Not enough balance in payment method {name}")
            if mean["source"] == "certificate":
                if name in certificates:
                    raise ToolError(f"Certificate {name} can be used once")
                certificates.add(name)
        total = sum(payment["amount"] for payment in payments)
        if total != price:
            raise ToolError(f"Payment amount does not add up, total price is {price}, but paid {total}")

    def _pay(self, reservation: Any, payment_id: str, price: int) -> None:
        """For a change; what is less than nothing goes back."""
        means = self.get_user_details(reservation["user_id"])["payment_methods"]
        mean = known(means, payment_id, "Payment method")
        if mean["source"] == "certificate":
            raise ToolError("Certificate cannot be used to update reservation")
        if mean["source"] == "gift_card":
            if mean["amount"] < price:
                raise ToolError("Gift card balance is not enough")
            mean["amount"] -= price
        if price != 0:
            reservation["payment_history"].append({"payment_id": payment_id, "amount": price})


def _of(entry: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: entry[name] for name in names}


def _picked(entry: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """These fields, which are texts; others are left out."""
    for name in names:
        if not isinstance(entry.get(name), str):
            raise ToolError(f"{name} is missing or no text in {dict(entry)!r:.60}")
    return {name: str(entry[name]) for name in names}


def _payment(entry: Mapping[str, Any]) -> dict[str, Any]:
    amount = entry.get("amount")
    if not isinstance(entry.get("payment_id"), str) or isinstance(amount, bool) or not isinstance(amount, int | float):
        raise ToolError(f"a payment has a payment_id and an amount, got {dict(entry)!r:.60}")
    if isinstance(amount, float) and not amount.is_integer():
        raise ToolError(f"amounts are whole dollars, got {amount}")
    return {"payment_id": entry["payment_id"], "amount": int(amount)}


class AirlineDomain(Domain):
    """The files of the domain."""

    name = "airline"
    kind = AirlineWorld
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {"db.json": ("flights", "users", "reservations")}
