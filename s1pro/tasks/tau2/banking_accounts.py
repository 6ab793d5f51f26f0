"""Checking and savings accounts of tau2's bank: what its agent can do with them once the tools are unlocked.

    look     get_all_user_accounts_by_user_id_3847, get_bank_account_transactions_9173
    open     open_bank_account_4821, close_bank_account_7392
    money    transfer_funds_between_bank_accounts_7291, apply_checking_account_credit_5829,
             apply_savings_account_credit_6831
    report   submit_interest_discrepancy_report_7294

Accounts of the database have `class` and `level`; those that are opened have `account_type` and `account_class`
instead, so later calls do not know their kind. Transfers and credits of checking accounts write the balance with a
dollar sign, other calls without one. A report is answered but not kept. All three are upstream's ways, and databases
are compared with upstream's.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from s1pro.tasks.tau2.banking_tables import TODAY, BankTables, dollars, given, holdings, made_id, one_of
from s1pro.tasks.tau2.world import ToolError

TYPES = ("checking", "savings", "business_checking", "business_savings")
CHECKING_CREDITS = {
    "rebate_credit": "REBATE CREDIT - CUSTOMER SERVICE",
    "fee_refund": "FEE REFUND - CUSTOMER SERVICE",
}
SAVINGS_CREDITS = {
    "interest_correction": "INTEREST CORRECTION - CUSTOMER SERVICE",
    "fee_refund": "FEE REFUND - CUSTOMER SERVICE",
    "goodwill_credit": "GOODWILL CREDIT - CUSTOMER SERVICE",
}
_DATE = "%m/%d/%Y"
_TODAY = datetime.datetime.strptime(TODAY, _DATE)
_USABLE = ("OPEN", "ACTIVE")
_PERSONAL = ("checking", "personal_checking")


def _early(*groups: tuple[int, int, str]) -> dict[str, tuple[int, int]]:
    return {f"{level} Account": (fee, days) for fee, days, levels in groups for level in levels.split(", ")}


EARLY_CLOSURE: Mapping[str, Mapping[str, tuple[int, int]]] = {  # class, level: the fee, and for how many days it is due
    "checking": _early(
        (15, 30, "Light Blue, Light Green, Green Fee-Free"), (25, 60, "Blue, Green"), (50, 90, "Evergreen"),
        (100, 180, "Bluest"),
    ),
    "savings": _early(
        (20, 60, "Bronze"), (35, 90, "Silver, Silver Plus"), (75, 180, "Gold, Gold Plus, Gold Years"),
        (150, 270, "Platinum, Platinum Plus, Diamond Elite"),
    ),
}  # fmt: skip


class Accounts(BankTables):
    """See the module docstring."""

    # what only looks

    def get_all_user_accounts_by_user_id_3847(self, user_id: str) -> Any:
        given(user_id=user_id)
        return {
            "user_id": user_id,
            "bank_accounts": self.where("accounts", "user_id", user_id),
            "credit_card_accounts": self.where("credit_card_accounts", "user_id", user_id),
        }

    def get_bank_account_transactions_9173(self, account_id: str) -> Any:
        """Newest first; those of one day in the order of the table."""
        given(account_id=account_id)
        self.account(account_id)
        rows = self.rows("bank_account_transaction_history").items()
        found = [{"record_id": name, **row} for name, row in rows if row.get("account_id") == account_id]
        return sorted(found, key=lambda row: _moment(str(row.get("date", ""))), reverse=True)

    # accounts come and go

    def open_bank_account_4821(self, user_id: str, account_type: str, account_class: str) -> Any:
        given(user_id=user_id, account_type=account_type, account_class=account_class)
        one_of("account_type", account_type, TYPES)
        accounts = [row for row in self.rows("accounts").values() if row.get("user_id") == user_id]
        may_open = {
            "checking": _may_have_checking, "savings": _may_have_savings,
            "business_checking": _may_have_business_checking, "business_savings": _may_have_business_savings,
        }  # fmt: skip
        if not may_open[account_type](accounts):
            raise ToolError("the customer is not eligible for this account")
        name = made_id(f"account:{user_id}:{account_type}:{account_class}", 16)
        record = {
            "account_id": name, "user_id": user_id, "account_type": account_type, "account_class": account_class,
            "current_holdings": "0.00", "status": "OPEN", "date_opened": TODAY,
        }  # fmt: skip
        if not self.add("accounts", name, record):
            raise ToolError(f"there is an account {name} already")
        return {"done": "account opened", **record}

    def close_bank_account_7392(
        self,
        account_id: str,
        reason: str = "Customer requested closure",
        waive_early_closure_fee: bool = False,
    ) -> Any:
        given(account_id=account_id)
        account = self.account(account_id)
        if account.get("status") == "CLOSED":
            raise ToolError(f"account {account_id} is closed already")
        balance = holdings(account)
        fee = 0 if waive_early_closure_fee else _closure_fee(account)
        if fee and balance < fee:
            raise ToolError("this account cannot be closed")
        if balance - fee != 0:
            raise ToolError(f"the balance must be $0.00 before an account is closed; it is {dollars(balance)}")
        change = {
            "status": "CLOSED", "date_closed": TODAY, "closure_reason": reason,
            "early_closure_fee_waived": waive_early_closure_fee,
        }  # fmt: skip
        account.update(change)
        return {"done": "account closed", "account_id": account_id, **change}

    # money

    def transfer_funds_between_bank_accounts_7291(
        self, source_account_id: str, destination_account_id: str, amount: float
    ) -> Any:
        given(source_account_id=source_account_id, destination_account_id=destination_account_id)
        amount = positive("amount", amount)
        if source_account_id == destination_account_id:
            raise ToolError("the two accounts are the same")
        self.account(source_account_id)
        self.account(destination_account_id)
        source, destination = self.usable(source_account_id), self.usable(destination_account_id)
        balance = holdings(source)
        if balance < amount:
            raise ToolError(f"account {source_account_id} has {dollars(balance)}, less than {dollars(amount)}")
        received = holdings(destination)
        source["current_holdings"] = dollars(balance - amount)
        destination["current_holdings"] = dollars(received + amount)
        return {
            "done": "money transferred", "amount": dollars(amount),
            "source": {"account_id": source_account_id, "balance": source["current_holdings"]},
            "destination": {"account_id": destination_account_id, "balance": destination["current_holdings"]},
        }  # fmt: skip

    def apply_checking_account_credit_5829(self, account_id: str, amount: float, credit_type: str) -> Any:
        return self._credit("checking", account_id, amount, credit_type)

    def apply_savings_account_credit_6831(self, account_id: str, amount: float, credit_type: str) -> Any:
        return self._credit("savings", account_id, amount, credit_type)

    def _credit(self, kind: str, account_id: str, amount: float, credit_type: str) -> Any:
        checking = kind == "checking"
        credits = CHECKING_CREDITS if checking else SAVINGS_CREDITS
        given(account_id=account_id, credit_type=credit_type)
        amount = positive("amount", amount)
        one_of("credit_type", credit_type, tuple(credits))
        account = self.account(account_id)
        if account.get("class", "").lower() not in (("checking",) if checking else ("saving", "savings")):
            raise ToolError(f"account {account_id} is no {kind} account")
        self.usable(account_id)
        before = holdings(account)
        after = dollars(before + amount)
        account["current_holdings"] = after if checking else after.removeprefix("$")
        name = f"txn_{made_id(f'{kind}_credit:{account_id}:{credit_type}:{amount}:{TODAY}', 16)}"
        record = {
            "transaction_id": name, "account_id": account_id, "date": TODAY, "description": credits[credit_type],
            "amount": amount, "type": credit_type, "status": "posted",
        }  # fmt: skip
        history = self.rows("bank_account_transaction_history")
        history[name] = record  # the same credit again: one record, twice the money
        return {"done": "credit applied", **record, "balance_before": dollars(before), "balance": after}

    # reports

    def submit_interest_discrepancy_report_7294(
        self, account_id: str, user_id: str, expected_apy: float, actual_apy: float, amount_difference: float
    ) -> Any:
        given(account_id=account_id, user_id=user_id)
        expected, actual = amount_of("expected_apy", expected_apy), amount_of("actual_apy", actual_apy)
        difference = amount_of("amount_difference", amount_difference)
        account = self.account(account_id)
        if user_id not in self.rows("users"):
            raise ToolError(f"user {user_id} not found")
        customer = self.rows("users")[user_id].get("name", "Unknown")
        seed = f"interest_report:{account_id}:{user_id}:{expected}:{actual}:{TODAY}"
        return {
            "done": "report submitted, to be looked into", "report_id": f"IDR_{made_id(seed, 16)}",
            "account_id": account_id, "user_id": user_id, "customer": customer,
            "account_level": account.get("level", "Unknown"), "expected_apy": expected, "actual_apy": actual,
            "apy_difference": round(expected - actual, 4), "amount_difference": difference, "submitted_date": TODAY,
            "status": "PENDING_REVIEW",
        }  # fmt: skip

    # looking up

    def account(self, name: str) -> dict[str, Any]:
        """Raises `ToolError` for one that is not there."""
        if name not in self.rows("accounts"):
            raise ToolError(f"account {name} not found")
        return self.rows("accounts")[name]

    def usable(self, name: str) -> dict[str, Any]:
        """Raises `ToolError` for one that is not there, or not open."""
        account = self.account(name)
        if account.get("status") not in _USABLE:
            raise ToolError(f"account {name} is not active")
        return account


def amount_of(name: str, value: Any) -> float:
    """Raises `ToolError` for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ToolError(f"{name} must be a number, not {value!r}") from error


def positive(name: str, value: Any) -> float:
    """Raises `ToolError` for another number, or none."""
    found = amount_of(name, value)
    if found <= 0:
        raise ToolError(f"{name} must be above zero")
    return found


def days_open(account: Mapping[str, Any]) -> int | None:
    """None where no date says since when."""
    try:
        return (_TODAY - datetime.datetime.strptime(account.get("date_opened", ""), _DATE)).days
    except ValueError:
        return None


def _moment(text: str) -> datetime.datetime:
    """Of a date with or without a time; what is neither comes before all."""
    for form in (f"{_DATE} %H:%M:%S", _DATE):
        try:
            return datetime.datetime.strptime(text, form)
        except ValueError:
            continue
    return datetime.datetime.min


def _old_enough(account: Mapping[str, Any], days: int) -> bool:
    return (days_open(account) or 0) >= days


def _open(accounts: list[dict[str, Any]], types: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        row
        for row in accounts
        if row.get("account_type", row.get("class", "")) in types and row.get("status", "") in _USABLE
    ]


def _may_have_checking(_: list[dict[str, Any]]) -> bool:
    return True


def _may_have_savings(accounts: list[dict[str, Any]]) -> bool:
    return any(_old_enough(row, 14) for row in _open(accounts, _PERSONAL))


def _may_have_business_checking(accounts: list[dict[str, Any]]) -> bool:
    return all(row.get("status") != "CLOSED" for row in accounts) and bool(_open(accounts, _PERSONAL))


def _may_have_business_savings(accounts: list[dict[str, Any]]) -> bool:
    solvent = not any(holdings(row) < 0 for row in accounts)
    return solvent and any(_old_enough(row, 30) for row in _open(accounts, ("business_checking",)))


def _closure_fee(account: Mapping[str, Any]) -> int:
    fee, due = EARLY_CLOSURE.get(account.get("class", ""), {}).get(account.get("level", ""), (0, 0))
    days = days_open(account) if account.get("date_opened") else None
    return 0 if days is None or days >= due else fee
