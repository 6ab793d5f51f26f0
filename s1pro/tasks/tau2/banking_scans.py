"""What the bank's machines photographed of the deposits that tasks of the `banking_knowledge` domain are about.

Only these three transactions have pictures; the facts in them are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _rent_refund(envelope: str, time: str, place: str, check: str, bank: str, payee: str, date: str) -> dict[str, Any]:
    """875 dollars on a check and 260 in cash, of which the machine counted 385."""
    return {
        "atm_id": "ATM #3921", "envelope_id": envelope, "deposit_time": time, "atm_location": place,
        "contents": [
            {
                "item": "personal check", "check_number": check, "drawn_on": bank, "payee": payee, "amount": "$875.00",
                "memo": "October rent refund", "signature": "present and legible", "date_on_check": date,
            },
            {"item": "cash", "bills": {"$100": 2, "$20": 3}, "amount": "$260.00"},
        ],
        "check_total": "$875.00", "cash_total": "$260.00", "grand_total": "$1,135.00",
        "amount_recorded_by_atm": "$385.00", "discrepancy": "$750.00",
        "image_quality": {
            "envelope": "clear", "check_front": "clear", "cash": "clear, the bills can be counted",
            "check_back": f'clear, endorsed "For Deposit Only - {payee}"',
        },
        "verification": "The pictures show a deposit of $1,135.00, the machine recorded $385.00: the difference of "
        "$750.00 is confirmed.",
    }  # fmt: skip


SCANS: Mapping[str, Mapping[str, Any]] = {
    "btxn_834027370c20": _rent_refund(
        "ENV-2025-3921-00923", "3:47 PM CST", "Rho-Bank ATM #3921, Cedar Lane Branch, Austin, TX", "7284",
        "First Texas Bank", "Derek Yamamoto", "11/03/2025",
    ),
    "btxn_test_deposit_001": _rent_refund(
        "ENV-2025-3921-00847", "2:34 PM EST", "Rho-Bank ATM #3921, 742 Oak Avenue, Portland, OR", "4821",
        "First National Bank", "Linda Patterson", "11/05/2025",
    ),
    "btxn_test_atm_dep_partial": {
        "atm_id": "ATM #5847", "envelope_id": "ENV-2025-5847-00293", "deposit_time": "10:15 AM EST",
        "contents": [{"item": "personal check", "check_number": "7392", "amount": "$500.00"}],
        "check_total": "$500.00", "cash_total": "$0.00", "grand_total": "$500.00",
        "amount_recorded_by_atm": "$500.00", "discrepancy": None,
        "verification": "The pictures and the recorded amount agree.",
    },
}  # fmt: skip
