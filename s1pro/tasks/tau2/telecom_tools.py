"""The tools of the `telecom` domain as both sides see them, in our words; `telecom_domain` and `telecom_phone` do what
they ask."""

from __future__ import annotations

from typing import Any

from s1pro.tasks.tau2.phone import ACCESS_POINTS, MODES, PERMISSIONS
from s1pro.tasks.tau2.world import Tools, tool

_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_LINE = {"customer_id": _TEXT, "line_id": _TEXT}
_ACCESS_POINT = {
    "type": "object",
    "properties": {
        "apn_name": {"type": "string", "enum": list(ACCESS_POINTS)}, "reset_at_reboot": {"type": "boolean"},
        "mms_apn": _MAYBE, "mmsc_url": _MAYBE, "mms_proxy": _MAYBE, "mms_port": {"type": ["integer", "null"]},
    },
}  # fmt: skip


def _all(name: str, about: str, /, **properties: Any) -> dict[str, Any]:
    return tool(name, about, tuple(properties), **properties)


_AGENT = (
    _all(
        "get_customer_by_phone", "The customer with a phone number, their own or that of a line.", phone_number=_TEXT
    ),
    _all("get_customer_by_id", "The customer with an id.", customer_id=_TEXT),
    _all(
        "get_customer_by_name", "All customers of a full name and a date of birth (YYYY-MM-DD).", full_name=_TEXT,
        dob=_TEXT,
    ),
    _all("get_details_by_id", "What has an id: a customer (C), line (L), device (D), bill (B) or plan (P).", id=_TEXT),
    _all(
        "suspend_line", "Suspend an active line, for 6 months at most and 5 USD a month.", **_LINE, reason=_TEXT
    ),
    _all("resume_line", "Make a suspended line, or one that waits for activation, active.", **_LINE),
    tool(
        "get_bills_for_customer", "The bills of a customer, newest first.", ("customer_id",), customer_id=_TEXT,
        limit={"type": "integer", "default": 12},
    ),
    _all(
        "send_payment_request", "Ask a customer to pay a bill. Only one at a time; look first whether it is paid.",
        customer_id=_TEXT, bill_id=_TEXT,
    ),
    _all("get_data_usage", "How much data a line used in this cycle, its limit, and what was refuelled.", **_LINE),
    _all("enable_roaming", "Allow a line to be used abroad.", **_LINE),
    _all("disable_roaming", "Forbid a line to be used abroad.", **_LINE),
    _all(
        "transfer_to_human_agents", "Hand the user over to a human, with a summary of the matter. Only if the user "
        "asks for it or it cannot be done with the other tools.", summary=_TEXT,
    ),
    _all(
        "refuel_data", "Add data to a line, charged on the next bill at the price of the plan.", **_LINE,
        gb_amount={"type": "number"},
    ),
)  # fmt: skip
_USER = (
    _all("check_status_bar", "What the top of the screen shows: signal, mobile data, Wi-Fi, VPN, battery."),
    _all("check_network_status", "Airplane mode, SIM card, signal, network, mobile data, roaming and Wi-Fi."),
    _all("check_network_mode_preference", "Which networks the phone prefers."),
    _all(
        "set_network_mode_preference", "Choose which networks the phone prefers.",
        mode={"type": "string", "enum": list(MODES)},
    ),
    _all("run_speed_test", "Measure how fast the mobile data is."),
    _all("toggle_airplane_mode", "Switch airplane mode, which ends every connection, on or off."),
    _all("check_sim_status", "Whether the SIM card works, is missing, or is locked."),
    _all("reseat_sim_card", "Take the SIM card out and put it in again."),
    _all("toggle_data", "Switch mobile data on or off."),
    _all("toggle_roaming", "Switch data roaming, for use abroad, on or off."),
    _all("check_data_restriction_status", "Whether data saver is on."),
    _all("toggle_data_saver_mode", "Switch data saver, which makes data slower, on or off."),
    _all("check_apn_settings", "The access point of mobile data, and the address for picture messages."),
    _all("set_apn_settings", "Write settings of the access point; what is left out is as new.",
         apn_settings=_ACCESS_POINT),
    _all("reset_apn_settings", "Make the settings of the access point as new, from the next restart on."),
    _all("check_wifi_status", "Whether Wi-Fi is on and connected."),
    _all("toggle_wifi", "Switch Wi-Fi on or off."),
    _all("check_wifi_calling_status", "Whether calls go over Wi-Fi."),
    _all("toggle_wifi_calling", "Switch calls over Wi-Fi on or off."),
    _all("check_vpn_status", "Whether a VPN is connected, and how good it is."),
    _all("connect_vpn", "Connect to your VPN."),
    _all("disconnect_vpn", "End the VPN."),
    _all("check_installed_apps", "The names of the apps."),
    _all("check_app_status", "An app with its permissions.", app_name=_TEXT),
    _all("check_app_permissions", "What an app may use.", app_name=_TEXT),
    _all(
        "grant_app_permission", "Let an app use something.", app_name=_TEXT,
        permission={"type": "string", "enum": list(PERMISSIONS)},
    ),
    _all("can_send_mms", "Whether the messaging app can send picture messages."),
    _all("reboot_device", "Restart the phone."),
    _all("check_payment_request", "Whether you were asked to pay a bill."),
    _all("make_payment", "Pay the bill that you were asked to pay."),
)  # fmt: skip
TOOLS: Tools = {
    "assistant": {each["name"]: each for each in _AGENT},
    "user": {each["name"]: each for each in _USER},
}
