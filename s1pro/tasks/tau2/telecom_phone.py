"""What the customer of the `telecom` domain can do with the phone.

    look     check_status_bar, check_network_status, check_network_mode_preference, check_sim_status,
             check_data_restriction_status, check_apn_settings, check_wifi_status, check_wifi_calling_status,
             check_vpn_status, check_installed_apps, check_app_status, check_app_permissions, run_speed_test,
             can_send_mms, check_payment_request
    change   toggle_airplane_mode, toggle_data, toggle_roaming, toggle_data_saver_mode, toggle_wifi,
             toggle_wifi_calling, set_network_mode_preference, reseat_sim_card, set_apn_settings, reset_apn_settings,
             connect_vpn, disconnect_vpn, grant_app_permission, reboot_device, make_payment

`phone` holds the rules. As upstream: new access point settings search, `reset_apn_settings` acts at the next reboot;
data saver, Wi-Fi, Wi-Fi calling and VPN do not search; turning airplane mode off does not bring Wi-Fi back; a broken
VPN is as bad after connecting again. `telecom_staging` prepares and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from s1pro.tasks.tau2.phone import ACCESS_POINT, ACCESS_POINTS, MODES, PERMISSIONS, VPN, Phone
from s1pro.tasks.tau2.world import ToolError, World

_SIM: Mapping[str, str] = {
    "active": "The SIM card works.",
    "missing": "There is no SIM card.",
    "locked_pin": "The SIM card is locked: it wants the PIN.",
    "locked_puk": "The SIM card is locked: it wants the PUK.",
}


class PhoneTools(World):
    """See the module docstring; the world of the domain adds the carrier."""

    vpn_is_bad = False

    @property
    def phone(self) -> Phone:
        return Phone(self.user_db["device"], self.user_db["surroundings"])

    @property
    def device(self) -> dict[str, Any]:
        device: dict[str, Any] = self.user_db["device"]
        return device

    def _shown(self, said: str) -> str:
        return f"{said}\nStatus bar: {self.phone.status_bar()}"

    def _toggle(self, name: str, *, search: bool) -> bool:
        self.device[name] = not self.device[name]
        if search:
            self.phone.search()
        return bool(self.device[name])

    # what only looks

    def check_status_bar(self) -> str:
        return f"Status bar: {self.phone.status_bar()}"

    def check_network_status(self) -> Any:
        device = self.device
        return {
            "airplane_mode": device["airplane_mode"], "sim_card": self.phone.sim(),
            "connection": device["network_connection_status"], "signal": device["network_signal_strength"],
            "network_type": device["network_technology_connected"], "mobile_data_enabled": device["data_enabled"],
            "data_roaming_enabled": device["roaming_enabled"], "wifi_enabled": device["wifi_enabled"],
            "wifi_connected": device["wifi_connected"], "wifi_network": device["wifi_ssid"],
        }  # fmt: skip

    def check_network_mode_preference(self) -> str:
        return f"Network mode preference: {self.device['network_mode_preference']}"

    def check_sim_status(self) -> str:
        return _SIM[self.phone.sim()]

    def check_data_restriction_status(self) -> str:
        return f"Data saver is {_switch(self.device['data_saver_mode'])}."

    def check_apn_settings(self) -> Any:
        settings = self.device["active_apn_settings"]
        return {"apn_name": settings["apn_name"], "mmsc_url": settings["mmsc_url"] or "not set"}

    def check_wifi_status(self) -> str:
        device = self.device
        if not device["wifi_enabled"]:
            return "Wi-Fi is OFF."
        if not device["wifi_connected"]:
            return "Wi-Fi is ON and not connected."
        return f"Wi-Fi is ON and connected to {device['wifi_ssid']}, signal {device['wifi_signal_strength']}."

    def check_wifi_calling_status(self) -> str:
        return f"Wi-Fi calling is {_switch(self.device['wifi_calling_enabled'])}."

    def check_vpn_status(self) -> Any:
        device = self.device
        if device["vpn_connected"]:
            return {"vpn": "connected", "details": device["vpn_details"]}
        return {"vpn": "on, but not connected" if device["vpn_enabled_setting"] else "off"}

    def check_installed_apps(self) -> Any:
        return list(self.device["app_statuses"])

    def check_app_status(self, app_name: str) -> Any:
        return {"app_name": app_name, "permissions": self._granted(app_name)}

    def check_app_permissions(self, app_name: str) -> Any:
        return self._granted(app_name)

    def run_speed_test(self) -> str:
        found = self.phone.speed()
        if found is None:
            return "The speed test failed: no connection."
        return f"Speed: {found[0]:.2f} Mbps ({found[1]})"

    def can_send_mms(self) -> str:
        return f"The messaging app {'can' if self.phone.sends_pictures() else 'cannot'} send picture messages (MMS)."

    def check_payment_request(self) -> str:
        request = self.user_db["surroundings"]["payment_request"]
        if request is None:
            return "There is no payment request."
        return f"You are asked to pay {request['amount_due']} USD for the bill {request['bill_id']}."

    # what changes

    def toggle_airplane_mode(self) -> str:
        return self._shown(f"Airplane mode is {_switch(self._toggle_airplane_mode())}.")

    def toggle_data(self) -> str:
        return self._shown(f"Mobile data is {_switch(self._toggle('data_enabled', search=True))}.")

    def toggle_roaming(self) -> str:
        return self._shown(f"Data roaming is {_switch(self._toggle('roaming_enabled', search=True))}.")

    def toggle_data_saver_mode(self) -> str:
        return self._shown(f"Data saver is {_switch(self._toggle('data_saver_mode', search=False))}.")

    def toggle_wifi(self) -> str:
        if self.device["airplane_mode"]:
            return self._shown("Wi-Fi cannot be switched in airplane mode.")
        now = self._toggle("wifi_enabled", search=False)
        if not now:
            self.phone.leave_wifi()
        return self._shown(f"Wi-Fi is {_switch(now)}.")

    def toggle_wifi_calling(self) -> str:
        return self._shown(f"Wi-Fi calling is {_switch(self._toggle('wifi_calling_enabled', search=False))}.")

    def set_network_mode_preference(self, mode: str) -> str:
        if mode not in MODES:
            return self._shown(f"There is no mode {mode!r}; there are {', '.join(MODES)}.")
        self.device["network_mode_preference"] = mode
        self.phone.search()
        return self._shown(f"Network mode preference: {mode}.")

    def reseat_sim_card(self) -> str:
        self.device["sim_card_missing"] = False
        self.phone.search()
        return self._shown("The SIM card was taken out and put in again.")

    def set_apn_settings(self, apn_settings: Mapping[str, Any]) -> str:
        for name, value in apn_settings.items():
            if not _ACCESS_POINT_FITS.get(name, _never)(value):
                raise ToolError(f"set_apn_settings: {name} cannot be {value!r:.60}")
        self.device["active_apn_settings"] = {**ACCESS_POINT, **apn_settings}
        self.phone.search()
        return self._shown(f"Access point: {self.device['active_apn_settings']['apn_name']}.")

    def reset_apn_settings(self) -> str:
        self.device["active_apn_settings"]["reset_at_reboot"] = True
        self.phone.search()
        return self._shown("The access point settings will be as new after a reboot.")

    def connect_vpn(self) -> str:
        if self.device["vpn_connected"]:
            return "The VPN is connected already."
        quality = "poor" if self.vpn_is_bad else VPN["server_performance"]
        self.device.update(vpn_connected=True, vpn_details={**VPN, "server_performance": quality})
        return self._shown("The VPN is connected.")

    def disconnect_vpn(self) -> str:
        return self._shown("The VPN is disconnected." if self.phone.leave_vpn() else "There is no VPN to disconnect.")

    def grant_app_permission(self, app_name: str, permission: str) -> str:
        return self._shown(self._permit(app_name, permission, True))

    def reboot_device(self) -> str:
        if self.device["active_apn_settings"]["reset_at_reboot"]:
            self.device["active_apn_settings"] = dict(ACCESS_POINT)
        self.phone.search()
        return self._shown("The phone was restarted.")

    def make_payment(self) -> str:
        request = self.user_db["surroundings"]["payment_request"]
        if request is None:
            return "There is no payment request."
        request["paid"] = True
        return f"You paid {request['amount_due']} USD for the bill {request['bill_id']}."

    # what these share

    def _toggle_airplane_mode(self) -> bool:
        on = self._toggle("airplane_mode", search=False)
        if on or self.device["wifi_enabled"]:
            self.phone.leave_wifi()
        if on:
            self.phone.leave_vpn()
        self.phone.search()
        return on

    def _granted(self, app_name: str) -> Any:
        app = self.device["app_statuses"].get(app_name)
        if app is None:
            return f"There is no app {app_name!r}."
        return [name for name in PERMISSIONS if app["permissions"][name]]

    def _permit(self, app_name: str, permission: str, value: bool) -> str:
        app, name = self.device["app_statuses"].get(app_name), permission.lower()
        if app is None:
            return f"Nothing was changed: there is no app {app_name!r}."
        if name not in PERMISSIONS:
            return f"Nothing was changed: there is no permission {name!r}; there are {', '.join(PERMISSIONS)}."
        app["permissions"][name] = value
        return f"{app_name} {'may' if value else 'may not'} use {name}."


def _switch(value: Any) -> str:
    return "ON" if value else "OFF"


def _never(value: Any) -> bool:
    return False


def _text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


_ACCESS_POINT_FITS: Mapping[str, Callable[[Any], bool]] = {
    "apn_name": lambda value: value in ACCESS_POINTS,
    "reset_at_reboot": lambda value: isinstance(value, bool),
    "mms_apn": _text_or_none, "mmsc_url": _text_or_none, "mms_proxy": _text_or_none,
    "mms_port": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
}  # fmt: skip
