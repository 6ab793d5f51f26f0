"""The `telecom` domain of tau2-bench: a carrier's customers, lines and bills, and the customer's phone.

    look     get_customer_by_phone, get_customer_by_id, get_customer_by_name, get_details_by_id,
             get_bills_for_customer, get_data_usage
    change   suspend_line, resume_line, send_payment_request, enable_roaming, disable_roaming, refuel_data
    leave    transfer_to_human_agents

The user has tools too (`telecom_phone`). Two databases, `db.toml` and `user_db.toml`, meet after every call (`sync`):
the phone learns whether its line is active, may roam and has data left, and of the first bill that awaits payment; a
bill paid on the phone is paid. It is always 25 February 2025. A refuelling is charged on the draft bill, and where
there is none on a new one, whose name is ours (upstream's is random, so there DB can never agree).
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping
from typing import Any, ClassVar

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.phone import complete
from s1pro.tasks.tau2.records import Side
from s1pro.tasks.tau2.telecom_staging import HIDDEN, StagedPhone
from s1pro.tasks.tau2.telecom_tools import TOOLS
from s1pro.tasks.tau2.world import Domain, ToolError

TODAY = datetime.date(2025, 2, 25)
CYCLE_END = "2025-02-28"
LAST_MONTH = {"period_start": "2025-01-01", "period_end": "2025-01-31"}
NEXT_MONTH = {"period_start": "2025-03-01", "period_end": "2025-03-31"}
NAMES = {"plans": "plan_id", "customers": "customer_id", "lines": "line_id", "bills": "bill_id", "devices": "device_id"}
_KINDS = {"L": "lines", "D": "devices", "B": "bills", "C": "customers", "P": "plans"}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "plans": {},
    "customers": {
        "account_status": "Pending Verification", "payment_methods": [], "line_ids": [], "bill_ids": [],
        "created_at": "2025-01-01", "last_extension_date": None, "goodwill_credit_used_this_year": 0.0,
    },
    "lines": {
        "status": "Pending Activation", "device_id": None, "data_used_gb": 0.0, "data_refueling_gb": 0.0,
        "roaming_enabled": False, "contract_end_date": None, "last_plan_change_date": None,
        "last_sim_replacement_date": None, "suspension_start_date": None,
    },
    "bills": {"line_items": [], "status": "Draft"},
    "devices": {"imei": None, "activated": False, "activation_date": None, "last_esim_transfer_date": None},
}  # fmt: skip
_REQUIRED: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "plans": dict.fromkeys(("data_limit_gb", "price_per_month", "data_refueling_price_per_gb"), (int, float)),
    "customers": {"full_name": str, "date_of_birth": str, "phone_number": str, "line_ids": list, "bill_ids": list},
    "lines": {"phone_number": str, "plan_id": str, "data_used_gb": (int, float), "data_refueling_gb": (int, float)},
    "bills": {"customer_id": str, "issue_date": str, "total_due": (int, float), "line_items": list},
    "devices": {},
}
_NUMBERS = ("gb_amount", "data_used_gb", "expected_speed", "expected_amount")
_SWITCHES = ("abroad", "contract_ended", "enabled", "mms_over_wifi")


class TelecomWorld(StagedPhone):
    """See the module docstring."""

    tools = TOOLS
    hidden: ClassVar[Mapping[Side, frozenset[str]]] = {
        "assistant": frozenset(
            {
                "set_data_usage", "suspend_line_for_overdue_bill", "assert_data_refueling_amount",
                "assert_line_status", "assert_overdue_bill_exists", "assert_no_overdue_bill",
            }
        ),
        "user": HIDDEN,
    }  # fmt: skip

    def settle(self) -> None:
        for table in NAMES:
            defaults = _DEFAULTS[table]
            rows = [{**copy.deepcopy(dict(defaults)), **row} for row in self.db[table] if isinstance(row, dict)]
            for number, row in enumerate(rows, start=1):
                for field, kind in {NAMES[table]: str, **_REQUIRED[table]}.items():
                    if not isinstance(row.get(field), kind):
                        raise InputError(f"{table}, row {number}: the field {field!r} is missing or of the wrong type")
            if len(rows) < len(self.db[table]):
                raise InputError(f"{table}: has rows that are no objects")
            self.db[table] = rows
        self.user_db = complete(self.user_db)

    def sync(self) -> None:
        around = self.user_db["surroundings"]
        if around["phone_number"] is None:
            return
        line = self._row("lines", around["phone_number"], by="phone_number")
        plan = self._row("plans", line["plan_id"])
        around["line_active"] = line["status"] == "Active"
        around["roaming_allowed"] = bool(line["roaming_enabled"])
        allowance = plan["data_limit_gb"] + line["data_refueling_gb"]
        around["mobile_data_usage_exceeded"] = line["data_used_gb"] >= allowance
        if around["payment_request"] is not None and around["payment_request"]["paid"]:
            self._row("bills", around["payment_request"]["bill_id"])["status"] = "Paid"
            around["payment_request"] = None
        if around["payment_request"] is None:
            for bill in self._awaiting(self.get_customer_by_phone(around["phone_number"]))[:1]:
                request = {"bill_id": bill["bill_id"], "amount_due": bill["total_due"], "paid": False}
                around["payment_request"] = request

    def _check_argument(self, function: str, name: str, value: Any) -> None:
        if name in _NUMBERS:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e9
        elif name == "limit":
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif name == "apn_settings":
            fits = isinstance(value, dict)
        elif name in _SWITCHES:
            fits = isinstance(value, bool) or (value is None and name == "mms_over_wifi")
        elif name == "expected_status":
            fits = isinstance(value, bool | str)
        else:
            fits = isinstance(value, str) or (value is None and name == "expected_desc")
        if not fits:
            raise ToolError(f"{function}: {name} cannot be {value!r:.60}")

    # what only looks

    def get_customer_by_phone(self, phone_number: str) -> Any:
        for customer in self.db["customers"]:
            lines = (self._row("lines", name) for name in customer["line_ids"])
            if customer["phone_number"] == phone_number or any(one["phone_number"] == phone_number for one in lines):
                return customer
        raise ToolError(f"Customer with phone number {phone_number} not found")

    def get_customer_by_id(self, customer_id: str) -> Any:
        return self._row("customers", customer_id)

    def get_customer_by_name(self, full_name: str, dob: str) -> Any:
        wanted = (full_name.lower(), dob)
        return [one for one in self.db["customers"] if (one["full_name"].lower(), one["date_of_birth"]) == wanted]

    def get_details_by_id(self, id: str) -> Any:
        if id[:1] not in _KINDS:
            raise ToolError(f"Unknown ID format or type: {id}")
        return self._row(_KINDS[id[0]], id)

    def get_bills_for_customer(self, customer_id: str, limit: int = 12) -> Any:
        bills = [self._row("bills", name) for name in self._row("customers", customer_id)["bill_ids"]]
        return sorted(bills, key=lambda bill: str(bill["issue_date"]), reverse=True)[:limit]

    def get_data_usage(self, customer_id: str, line_id: str) -> Any:
        line = self._line(customer_id, line_id)
        return {
            "line_id": line_id, "data_used_gb": line["data_used_gb"],
            "data_limit_gb": self._row("plans", line["plan_id"])["data_limit_gb"],
            "data_refueling_gb": line["data_refueling_gb"], "cycle_end_date": CYCLE_END,
        }  # fmt: skip

    def transfer_to_human_agents(self, summary: str) -> str:
        return "Transfer successful"

    # what changes

    def suspend_line(self, customer_id: str, line_id: str, reason: str) -> Any:
        line = self._line(customer_id, line_id)
        if line["status"] != "Active":
            raise ToolError("Line must be active to suspend")
        line.update(status="Suspended", suspension_start_date=TODAY.isoformat())
        return {"message": "The line is suspended. Holding it costs 5 USD a month.", "line": line}

    def resume_line(self, customer_id: str, line_id: str) -> Any:
        line = self._line(customer_id, line_id)
        if line["status"] not in ("Suspended", "Pending Activation"):
            raise ToolError("Line must be suspended to resume")
        line.update(status="Active", suspension_start_date=None)
        return {"message": "The line is active again.", "line": line}

    def send_payment_request(self, customer_id: str, bill_id: str) -> str:
        customer = self._row("customers", customer_id)
        if self._awaiting(customer):
            raise ToolError("A bill is already awaiting payment for this customer")
        if bill_id not in customer["bill_ids"]:
            raise ToolError(f"Bill {bill_id} not found for customer {customer_id}")
        self._row("bills", bill_id)["status"] = "Awaiting Payment"
        return f"The customer was asked to pay the bill {bill_id}."

    def enable_roaming(self, customer_id: str, line_id: str) -> str:
        return self._roam(customer_id, line_id, True)

    def disable_roaming(self, customer_id: str, line_id: str) -> str:
        return self._roam(customer_id, line_id, False)

    def refuel_data(self, customer_id: str, line_id: str, gb_amount: float) -> Any:
        line = self._line(customer_id, line_id)
        if gb_amount <= 0:
            raise ToolError("Refuel amount must be positive")
        price = self._row("plans", line["plan_id"])["data_refueling_price_per_gb"]
        charge = float(gb_amount) * price
        bill = self._draft(self._row("customers", customer_id))
        line["data_refueling_gb"] += float(gb_amount)
        _charge(bill, charge, f"{float(gb_amount)} GB of data at {price} USD each")
        return {
            "message": f"The line {line_id} has {gb_amount} GB more, for {charge:.2f} USD.",
            "new_data_refueling_gb": line["data_refueling_gb"],
            "charge": charge,
        }

    # what nobody may call

    def set_data_usage(self, customer_id: str, line_id: str, data_used_gb: float) -> None:
        self._line(customer_id, line_id)["data_used_gb"] = data_used_gb

    def suspend_line_for_overdue_bill(
        self, customer_id: str, line_id: str, new_bill_id: str, contract_ended: bool
    ) -> None:
        line, customer = self._row("lines", line_id), self._row("customers", customer_id)
        price = self._row("plans", line["plan_id"])["price_per_month"]
        if line["status"] != "Active" or price <= 0:
            raise ToolError(f"Line {line_id} must be active, and its plan cost something")
        if any(self._row("bills", name)["status"] == "Overdue" for name in customer["bill_ids"]):
            raise ToolError("Customer already has an overdue bill")
        first = LAST_MONTH["period_start"]
        bill = self._bill(customer, new_bill_id, LAST_MONTH, issued=first, due="2025-01-15", status="Overdue")
        _charge(bill, price, f"Charge for line {line_id}")
        line.update(status="Suspended", suspension_start_date=TODAY.isoformat())
        if contract_ended:
            line["contract_end_date"] = LAST_MONTH["period_end"]

    def assert_data_refueling_amount(self, customer_id: str, line_id: str, expected_amount: float) -> bool:
        return bool(abs(self._line(customer_id, line_id)["data_refueling_gb"] - expected_amount) < 1e-6)

    def assert_line_status(self, customer_id: str, line_id: str, expected_status: str) -> bool:
        return bool(self._line(customer_id, line_id)["status"] == expected_status)

    def assert_overdue_bill_exists(self, customer_id: str, overdue_bill_id: str) -> bool:
        if overdue_bill_id not in self._row("customers", customer_id)["bill_ids"]:
            raise ToolError(f"Overdue bill {overdue_bill_id} not found")
        if self._row("bills", overdue_bill_id)["status"] != "Overdue":
            raise ToolError(f"Overdue bill {overdue_bill_id} is not overdue")
        return True

    def assert_no_overdue_bill(self, overdue_bill_id: str) -> bool:
        """It is not there, or paid."""
        return all(bill["status"] == "Paid" for bill in self.db["bills"] if bill["bill_id"] == overdue_bill_id)

    # what these share

    def _row(self, table: str, name: str, *, by: str = "") -> dict[str, Any]:
        key = by or NAMES[table]
        for row in self.db[table]:
            if row[key] == name:
                found: dict[str, Any] = row
                return found
        raise ToolError(f"{table[:-1].capitalize()} with {key} {name} not found")

    def _line(self, customer_id: str, line_id: str) -> dict[str, Any]:
        if line_id not in self._row("customers", customer_id)["line_ids"]:
            raise ToolError(f"Line {line_id} not found for customer {customer_id}")
        return self._row("lines", line_id)

    def _awaiting(self, customer: Mapping[str, Any]) -> list[dict[str, Any]]:
        bills = [self._row("bills", name) for name in customer["bill_ids"]]
        return [bill for bill in bills if bill["status"] == "Awaiting Payment"]

    def _roam(self, customer_id: str, line_id: str, wanted: bool) -> str:
        line, word = self._line(customer_id, line_id), "on" if wanted else "off"
        if line["roaming_enabled"] == wanted:
            return f"Roaming was {word} already."
        line["roaming_enabled"] = wanted
        return f"Roaming is {word}."

    def _draft(self, customer: dict[str, Any]) -> dict[str, Any]:
        """The customer's bill that is not issued yet, or a new one."""
        bills = [self._row("bills", name) for name in customer["bill_ids"]]
        draft = next((bill for bill in bills if bill["status"] == "Draft"), None)
        if draft is not None:
            return draft
        taken = {bill["bill_id"] for bill in self.db["bills"]}
        name = next(f"B{number}" for number in range(9001, 99999) if f"B{number}" not in taken)
        first = NEXT_MONTH["period_start"]
        return self._bill(customer, name, NEXT_MONTH, issued=first, due="2025-03-15", status="Draft")

    def _bill(
        self, customer: dict[str, Any], name: str, period: Mapping[str, str], *, issued: str, due: str, status: str
    ) -> dict[str, Any]:
        bill: dict[str, Any] = {
            "bill_id": name, "customer_id": customer["customer_id"], **period, "issue_date": issued, "total_due": 0.0,
            "due_date": due, "line_items": [], "status": status,
        }  # fmt: skip
        self.db["bills"].append(bill)
        customer["bill_ids"].append(name)
        return bill


def _charge(bill: dict[str, Any], amount: float, description: str) -> None:
    item = {"description": description, "amount": amount, "date": TODAY.isoformat(), "item_type": "Charge"}
    bill["line_items"].append(item)
    bill["total_due"] += amount


class TelecomDomain(Domain):
    """The files of the domain. The policy is the main one and the manual for technical support."""

    name = "telecom"
    kind = TelecomWorld
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {"db.toml": tuple(NAMES), "user_db.toml": ("device",)}
    rows = list
    policies: ClassVar[Mapping[str, str]] = {
        "main_policy": "main_policy.md",
        "tech_support_policy": "tech_support_manual.md",
    }
    solo_policies: ClassVar[Mapping[str, str]] = {**policies, "main_policy": "main_policy_solo.md"}
