"""What the agent of tau2's bank can always do: look customers up, note who was verified, give tools to the customer,
and find its own.

Most tools are hidden. The documents name them; the agent unlocks one (`unlock_discoverable_agent_tool`), reads what it
takes, and calls it through `call_discoverable_agent_tool`. The bank writes down which of them were called, whether or
not it refused; those that only look are written down where the golden actions of the task call them too, so that an
extra look costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from s1pro.tasks.tau2.banking_customer import Customer
from s1pro.tasks.tau2.banking_tables import BankTool, made_id
from s1pro.tasks.tau2.world import ToolError

REASONS = (
    "fraud_or_security_concern", "account_closure_request", "deceased_account_holder", "legal_or_regulatory_matter",
    "account_ownership_dispute", "complex_billing_dispute", "abusive_customer_behavior", "third_party_inquiry",
    "technical_system_error", "unconfirmed_external_communication",
    "customer_demands_after_unavailable_offer_refusal", "kb_search_unsuccessful_customer_requests_transfer",
    "specialized_department_required", "accessibility_or_special_needs", "customer_frustrated_demands_human",
    "supervisor_request_service_complaint", "customer_requests_human_no_specific_reason",
    "request_completed_customer_wants_human_followup", "other",
)  # fmt: skip


class FrontDesk(Customer):
    """See the module docstring.

    Attributes:
        unlocked: hidden tools that the agent may call by now.
        noted: looking tools whose calls are written down.
    """

    catalogue: ClassVar[Mapping[str, BankTool]]
    unlocked: set[str]
    noted: frozenset[str]

    # what only looks

    def transfer_to_human_agents(self, summary: str, reason: str = "other") -> str:
        if reason not in REASONS:
            return f"Error: the reason is one of {', '.join(REASONS)}"
        return f"Transfer successful ({reason}). A human agent takes over."

    def get_current_time(self) -> str:
        return "It is 2025-11-14 03:40:00 EST."

    def get_user_information_by_id(self, user_id: str) -> Any:
        return self._found("users", "user_id", user_id)

    def get_user_information_by_name(self, customer_name: str) -> Any:
        return self._found("users", "name", customer_name)

    def get_user_information_by_email(self, email: str) -> Any:
        return self._found("users", "email", email)

    def get_referrals_by_user(self, user_id: str) -> Any:
        return self._found("referrals", "referrer_id", user_id)

    def get_credit_card_transactions_by_user(self, user_id: str) -> Any:
        return self._found("credit_card_transaction_history", "user_id", user_id)

    def get_credit_card_accounts_by_user(self, user_id: str) -> Any:
        return self._found("credit_card_accounts", "user_id", user_id)

    def list_discoverable_agent_tools(self) -> Any:
        called = [row["tool_name"] for row in self.rows("agent_discoverable_tools").values()]
        return called or "No hidden tool has been called yet. The knowledge base names them."

    # what changes

    def change_user_email(self, user_id: str, new_email: str) -> Any:
        users = self.rows("users")
        if user_id not in users:
            return f"Error: the user {user_id!r} is not found"
        users[user_id]["email"] = new_email
        return {"message": "The email is changed.", "user_id": user_id, "email": new_email}

    def log_verification(self, name: str, user_id: str, address: str, email: str, phone_number: str,
                         date_of_birth: str, time_verified: str) -> Any:  # fmt: skip
        when = time_verified.replace(" ", "_").replace(":", "").replace("-", "")
        record = {
            "name": name, "user_id": user_id, "address": address, "email": email, "phone_number": phone_number,
            "date_of_birth": date_of_birth, "time_verified": time_verified,
        }  # fmt: skip
        if not self.add("verification_history", f"{user_id}_{when}", record):
            return "This verification was noted before; it is not noted again."
        return {"message": "The verification is noted.", "user_id": user_id, "time_verified": time_verified}

    def give_discoverable_user_tool(self, discoverable_tool_name: str, arguments: str = "{}") -> Any:
        if not isinstance(discoverable_tool_name, str):
            raise ToolError("discoverable_tool_name must be text")
        method = self.given_tool(discoverable_tool_name)
        if method is None:
            return f"Error: there is no tool {discoverable_tool_name!r} for customers"
        try:
            given = json.loads(arguments)
        except json.JSONDecodeError as error:
            return f"Error: the arguments are not JSON ({error})"
        takes = method.__code__.co_varnames[: method.__code__.co_argcount]
        for name in given:
            if name not in takes:
                return f"Error: there is no argument {name}"
        record = {"tool_name": discoverable_tool_name, "status": "GIVEN"}
        name = made_id(f"user_discoverable_tool:{discoverable_tool_name}", 16)
        self.add("user_discoverable_tools", name, record)
        return {
            "message": "The customer has the tool now and calls it with call_discoverable_user_tool.",
            "discoverable_tool_name": discoverable_tool_name, "arguments": given,
        }  # fmt: skip

    def unlock_discoverable_agent_tool(self, agent_tool_name: str) -> str:
        if agent_tool_name not in self.catalogue:
            return f"Error: there is no tool {agent_tool_name!r}"
        self.unlocked.add(agent_tool_name)
        shown = self.catalogue[agent_tool_name].shown()
        return f"Unlocked. Call it with call_discoverable_agent_tool.\n\n{shown}"

    def call_discoverable_agent_tool(self, agent_tool_name: str, arguments: str = "{}") -> Any:
        if agent_tool_name not in self.catalogue:
            return f"Error: there is no tool {agent_tool_name!r}"
        if agent_tool_name not in self.unlocked:
            return f"Error: {agent_tool_name} is not unlocked: call unlock_discoverable_agent_tool first"
        try:
            given = json.loads(arguments, parse_int=float)
        except json.JSONDecodeError as error:
            return f"Error: the arguments are not JSON ({error})"
        try:
            value = getattr(self, agent_tool_name)(**given)
        except ToolError as error:
            value = f"Error: {error}"
        except TypeError as error:
            return f"Error: wrong arguments for {agent_tool_name} ({error})"
        if self.catalogue[agent_tool_name].writes or agent_tool_name in self.noted:
            name = made_id(f"agent_discoverable_tool:{agent_tool_name}", 16)
            self.add("agent_discoverable_tools", name, {"tool_name": agent_tool_name, "status": "CALLED"})
        return value

    def example_agent_tool_0000(self) -> str:
        return "Done."

    def _found(self, table: str, field: str, value: Any) -> Any:
        try:
            return self.where(table, field, value) or f"No records found in {table}."
        except ToolError as error:
            return f"Error: {error}"
