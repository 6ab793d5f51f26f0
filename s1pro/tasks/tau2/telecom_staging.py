"""What prepares the customer of a `telecom` task, and what checks the end; no side may call it.

What `turn_..._on` finds on is switched off and on again, with all that follows (airplane mode ends Wi-Fi and VPN), as
upstream does it.
"""

from __future__ import annotations

from collections.abc import Callable

from s1pro.tasks.tau2.phone import SERVICES
from s1pro.tasks.tau2.telecom_phone import PhoneTools
from s1pro.tasks.tau2.world import ToolError

HIDDEN = frozenset(
    {
        "set_user_info", "set_user_location", "simulate_network_search", "turn_airplane_mode_on",
        "turn_airplane_mode_off", "turn_data_on", "turn_data_off", "turn_roaming_on", "turn_roaming_off",
        "turn_data_saver_mode_on", "turn_data_saver_mode_off", "unseat_sim_card", "lock_sim_card",
        "break_apn_settings", "break_apn_mms_setting", "set_wifi_calling", "break_vpn", "remove_app_permission",
        "assert_airplane_mode_status", "assert_service_status", "assert_mobile_data_status",
        "assert_mobile_roaming_status", "assert_mobile_data_saver_mode_status", "assert_internet_speed",
        "assert_internet_not_excellent", "assert_can_send_mms", "assert_mobile_data_usage_exceeded",
    }
)  # fmt: skip


class StagedPhone(PhoneTools):
    """See the module docstring."""

    # preparation

    def set_user_info(self, name: str, phone_number: str) -> None:
        self.user_db["surroundings"].update(name=name, phone_number=phone_number)

    def set_user_location(self, abroad: bool) -> None:
        self.user_db["surroundings"]["is_abroad"] = abroad

    def simulate_network_search(self) -> None:
        self.phone.search()

    def turn_airplane_mode_on(self) -> None:
        self._until(self._toggle_airplane_mode, True)

    def turn_airplane_mode_off(self) -> None:
        self._until(self._toggle_airplane_mode, False)

    def turn_data_on(self) -> None:
        self.device["data_enabled"] = True

    def turn_data_off(self) -> None:
        self._until(lambda: self._toggle("data_enabled", search=True), False)

    def turn_roaming_on(self) -> None:
        self._until(lambda: self._toggle("roaming_enabled", search=True), True)

    def turn_roaming_off(self) -> None:
        self._until(lambda: self._toggle("roaming_enabled", search=True), False)

    def turn_data_saver_mode_on(self) -> None:
        self.device["data_saver_mode"] = True

    def turn_data_saver_mode_off(self) -> None:
        self.device["data_saver_mode"] = False

    def unseat_sim_card(self) -> None:
        self.device["sim_card_missing"] = True
        self.phone.search()

    def lock_sim_card(self, mode: str) -> None:
        if mode in ("pin", "puk"):
            self.device["sim_card_status"] = f"locked_{mode}"
        self.phone.search()

    def break_apn_settings(self) -> None:
        self.device["active_apn_settings"]["apn_name"] = "broken"
        self.phone.search()

    def break_apn_mms_setting(self) -> None:
        self.device["active_apn_settings"]["mmsc_url"] = None

    def set_wifi_calling(self, enabled: bool, mms_over_wifi: bool | None = None) -> None:
        self.device["wifi_calling_enabled"] = enabled
        if mms_over_wifi is not None:
            self.device["wifi_calling_mms_over_wifi"] = mms_over_wifi

    def break_vpn(self) -> None:
        self.connect_vpn()
        if self.device["vpn_details"] is not None:
            self.device["vpn_details"]["server_performance"] = "poor"
        self.vpn_is_bad = True

    def remove_app_permission(self, app_name: str, permission: str) -> None:
        self._permit(app_name, permission, False)

    # checks

    def assert_airplane_mode_status(self, expected_status: bool) -> bool:
        return bool(self.device["airplane_mode"] == expected_status)

    def assert_service_status(self, expected_status: str) -> bool:
        if expected_status not in SERVICES:
            raise ToolError(f"there is no service {expected_status!r}")
        return bool(self.device["network_connection_status"] == expected_status)

    def assert_mobile_data_status(self, expected_status: bool) -> bool:
        return self.phone.has_data() == expected_status

    def assert_mobile_roaming_status(self, expected_status: bool) -> bool:
        return bool(self.device["roaming_enabled"] == expected_status)

    def assert_mobile_data_saver_mode_status(self, expected_status: bool) -> bool:
        return bool(self.device["data_saver_mode"] == expected_status)

    def assert_internet_speed(self, expected_speed: float, expected_desc: str | None = None) -> bool:
        speed, grade = self.phone.speed() or (0.0, "no connection")
        return speed >= expected_speed and (expected_desc is None or grade == expected_desc.lower())

    def assert_internet_not_excellent(self) -> bool:
        found = self.phone.speed()
        return found is None or found[1] != "excellent"

    def assert_can_send_mms(self, expected_status: bool) -> bool:
        return self.phone.sends_pictures() == expected_status

    def assert_mobile_data_usage_exceeded(self, expected_status: bool) -> bool:
        return bool(self.user_db["surroundings"]["mobile_data_usage_exceeded"] == expected_status)

    def _until(self, toggle: Callable[[], bool], wanted: bool) -> None:
        """Once, or twice if it was so already."""
        if toggle() != wanted:
            toggle()
