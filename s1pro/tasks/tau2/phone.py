"""The customer's phone in the `telecom` domain of tau2: what its state means, and how it finds a network.

The state is two tables of `user_db.toml`: `device` (switches and what they show) and `surroundings` (where the customer
is, what the carrier allows; see `telecom_domain` for how the carrier's database gets there). Four rules:

1. **Search.** Signal and technology follow from a working SIM, the preferred mode and the strength where the customer
   is; airplane mode, a broken access point or an inactive line leave no service. What is switched in between does not
   search by itself: a line that the carrier resumed comes back after the next search (most switches, and a reboot).
2. **Mobile data** works with service, the data switch on, allowance left, and abroad only if both phone and carrier
   allow roaming.
3. **Speed** is the middle of the range of the technology, times the strength, a tenth of it through a bad VPN, a fifth
   with data saver.
4. **Picture messages** need mobile data on 3G or better, the address of the message centre, the messaging app with its
   permissions for storage and SMS, and no Wi-Fi calling that takes picture messages.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from s1pro.base.errors import InputError

MODES: Mapping[str, str] = {"4g_5g_preferred": "5G", "4g_only": "4G", "3g_only": "3G", "2g_only": "2G"}
SIM_STATES = ("active", "missing", "locked_pin", "locked_puk")
TECHNOLOGIES = ("none", "2G", "3G", "4G", "5G")
STRENGTHS: Mapping[str, float] = {"none": 0.0, "poor": 0.2, "fair": 0.5, "good": 0.8, "excellent": 1.0}
SERVICES = ("connected", "searching", "no_service", "emergency_only")
PERMISSIONS = ("sms", "storage", "phone", "network")
ACCESS_POINTS = ("internet", "broken")
ACCESS_POINT: Mapping[str, Any] = {
    "apn_name": "internet", "reset_at_reboot": False, "mms_apn": "mms",
    "mmsc_url": "http://mms.carrier.com/mms/wapenc", "mms_proxy": None, "mms_port": None,
}  # fmt: skip
DEVICE: Mapping[str, Any] = {
    "sim_card_status": "active", "sim_card_missing": False, "airplane_mode": False, "network_signal_strength": "good",
    "network_technology_connected": "5G", "network_connection_status": "connected", "battery_level": 80,
    "data_enabled": True, "roaming_enabled": False, "network_mode_preference": "4g_5g_preferred",
    "active_apn_settings": ACCESS_POINT, "wifi_enabled": False, "wifi_connected": False, "wifi_ssid": None,
    "wifi_signal_strength": "none", "wifi_calling_enabled": False, "wifi_calling_mms_over_wifi": False,
    "data_saver_mode": False, "vpn_enabled_setting": False, "vpn_connected": False, "vpn_details": None,
    "app_statuses": {
        "messaging": {
            "app_name": "messaging",
            "permissions": {"sms": True, "storage": True, "phone": True, "network": False},
        },
        "browser": {
            "app_name": "browser",
            "permissions": {"sms": False, "storage": True, "phone": False, "network": True},
        },
    },
}  # fmt: skip
SURROUNDINGS: Mapping[str, Any] = {
    "name": None, "phone_number": None, "is_abroad": False, "roaming_allowed": False,
    "signal_strength": {"2G": "poor", "3G": "fair", "4G": "good", "5G": "excellent"},
    "mobile_data_usage_exceeded": False, "line_active": True, "payment_request": None,
}  # fmt: skip
VPN: Mapping[str, Any] = {"server_address": "192.168.1.1", "protocol": "OpenVPN", "server_performance": "excellent"}
_RANGES: Mapping[str, tuple[float, float]] = {
    "none": (0.0, 0.0), "2G": (0.1, 0.4), "3G": (1.0, 5.0), "4G": (10.0, 100.0), "5G": (50.0, 500.0),
}  # fmt: skip
_GRADES = ((1.0, "very poor"), (5.0, "poor"), (25.0, "fair"), (100.0, "good"), (float("inf"), "excellent"))


_VALUES: Mapping[str, tuple[str, ...]] = {
    "sim_card_status": SIM_STATES, "network_signal_strength": tuple(STRENGTHS),
    "wifi_signal_strength": tuple(STRENGTHS), "network_technology_connected": TECHNOLOGIES,
    "network_connection_status": SERVICES, "network_mode_preference": tuple(MODES),
}  # fmt: skip


def complete(user_db: Mapping[str, Any]) -> dict[str, Any]:
    """A database with everything that its file leaves to the defaults.

    Raises:
        InputError: a field is unknown, or has none of its values.
    """
    device = _filled(DEVICE, user_db.get("device", {}), "device")
    device["active_apn_settings"] = _filled(ACCESS_POINT, device["active_apn_settings"], "device.active_apn_settings")
    apps = _filled({}, device["app_statuses"], "device.app_statuses", open_ended=True)
    for name, app in apps.items():
        where = f"device.app_statuses.{name}"
        app = apps[name] = _filled({"app_name": name, "permissions": {}}, app, where)
        app["permissions"] = _filled(dict.fromkeys(PERMISSIONS, False), app["permissions"], f"{where}.permissions")
    device["app_statuses"] = apps
    for field, values in (*_VALUES.items(), ("apn_name", ACCESS_POINTS)):
        given = device["active_apn_settings"][field] if field == "apn_name" else device[field]
        if given not in values:
            raise InputError(f"device: {field} is {given!r:.60}, none of {', '.join(values)}")
    around = _filled(SURROUNDINGS, user_db.get("surroundings", {}), "surroundings")
    for technology, strength in _filled({}, around["signal_strength"], "signal_strength", open_ended=True).items():
        if technology not in TECHNOLOGIES or strength not in STRENGTHS:
            raise InputError(f"surroundings.signal_strength: {technology!r:.60} = {strength!r:.60} is unknown")
    return {"device": device, "surroundings": around}


def _filled(defaults: Mapping[str, Any], given: Any, where: str, *, open_ended: bool = False) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected an object, got {type(given).__name__}")
    unknown = sorted(map(str, given.keys() - defaults.keys()))
    if unknown and not open_ended:
        raise InputError(f"{where}: unknown field {unknown[0]!r:.60}; there are {', '.join(defaults)}")
    return copy.deepcopy({**defaults, **given})


class Phone:
    """A phone and where it is; both tables are changed in place."""

    def __init__(self, device: dict[str, Any], surroundings: dict[str, Any]) -> None:
        self.device, self.around = device, surroundings

    def sim(self) -> str:
        return "missing" if self.device["sim_card_missing"] else str(self.device["sim_card_status"])

    def search(self) -> None:
        """Looks for a network."""
        strength, technology = "none", "none"
        served = (
            self.sim() == "active"
            and not self.device["airplane_mode"]
            and self.device["active_apn_settings"]["apn_name"] != "broken"
            and self.around["line_active"]
        )
        if served:
            technology = MODES[self.device["network_mode_preference"]]
            strength = self.around["signal_strength"].get(technology, "none")
            if technology == "5G" and strength == "none":
                technology, strength = "4G", self.around["signal_strength"].get("4G", "none")
        self.device["network_connection_status"] = "connected" if served else "no_service"
        self.device["network_technology_connected"] = technology
        self.device["network_signal_strength"] = strength

    def leave_wifi(self) -> None:
        self.device.update(wifi_connected=False, wifi_ssid=None, wifi_signal_strength="none")

    def leave_vpn(self) -> bool:
        """False if there was none."""
        connected = bool(self.device["vpn_connected"])
        if connected:
            self.device.update(vpn_connected=False, vpn_details=None)
        return connected

    def has_data(self) -> bool:
        device, around = self.device, self.around
        roams = device["roaming_enabled"] and around["roaming_allowed"]
        return bool(
            not device["airplane_mode"]
            and device["network_signal_strength"] != "none"
            and device["network_connection_status"] != "no_service"
            and (roams or not around["is_abroad"])
            and device["data_enabled"]
            and not around["mobile_data_usage_exceeded"]
        )

    def speed(self) -> tuple[float, str] | None:
        """In Mbit/s, and its grade; None without mobile data."""
        if not self.has_data():
            return None
        vpn = self.device["vpn_details"] if self.device["vpn_connected"] else None
        factor = 0.1 if vpn and vpn["server_performance"] == "poor" else 1.0
        factor *= 0.2 if self.device["data_saver_mode"] else 1.0
        low, high = _RANGES[self.device["network_technology_connected"]]
        found = round((low + high) / 2 * STRENGTHS[self.device["network_signal_strength"]] * factor, 2)
        return found, next(grade for limit, grade in _GRADES if found < limit)

    def sends_pictures(self) -> bool:
        device = self.device
        over_wifi = device["wifi_calling_enabled"] and device["wifi_calling_mms_over_wifi"]
        centre = device["active_apn_settings"]["mmsc_url"] is not None
        if not self.has_data() or device["network_technology_connected"] == "2G" or over_wifi or not centre:
            return False
        app = device["app_statuses"].get("messaging")
        return app is not None and bool(app["permissions"]["storage"] and app["permissions"]["sms"])

    def status_bar(self) -> str:
        device = self.device
        shown = [f"battery {device['battery_level']} %"]
        if device["vpn_connected"]:
            shown.insert(0, "VPN")
        if device["wifi_enabled"] and device["wifi_connected"]:
            shown.insert(0, f"Wi-Fi {device['wifi_ssid'] or 'on'}")
        if device["airplane_mode"]:
            return " | ".join(["Airplane Mode", *shown])
        strength, technology = device["network_signal_strength"], device["network_technology_connected"]
        cells = ["No Signal" if strength == "none" else f"signal {strength}"]
        cells += [] if technology == "none" else [technology]
        data = device["data_enabled"] and technology != "none"
        cells += ["Data Enabled" if data else "Data Disabled"]
        cells += ["Data Saver"] if data and device["data_saver_mode"] else []
        return " | ".join([*cells, *shown])
