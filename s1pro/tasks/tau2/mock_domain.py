"""The `mock` domain of tau2-bench: a list of tasks for the agent, an inbox for the user.

    agent   create_task, get_users, update_task_status, transfer_to_human_agents
    user    check_notifications, dismiss_notification

Functions that no side may call prepare a task (`add_notification`) or check its end (`assert_...`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from s1pro.tasks.tau2.records import Side
from s1pro.tasks.tau2.world import Domain, ToolError, Tools, World, known, tool

STATUSES = ("pending", "completed")
_TEXT = {"type": "string"}
_STATUS = {"type": "string", "enum": list(STATUSES)}
TOOLS: Tools = {
    "assistant": {
        "create_task": tool(
            "create_task", "Make a new task for a user.", ("user_id", "title"), user_id=_TEXT, title=_TEXT,
            description=_TEXT,
        ),
        "get_users": tool("get_users", "All users with the ids of their tasks.", ()),
        "update_task_status": tool(
            "update_task_status", "Change the status of a task.", ("task_id", "status"), task_id=_TEXT, status=_STATUS
        ),
        "transfer_to_human_agents": tool(
            "transfer_to_human_agents", "Hand the user over to a human, with a summary of the matter. Only if it "
            "cannot be done with the other tools.", ("summary",), summary=_TEXT,
        ),
    },
    "user": {
        "check_notifications": tool("check_notifications", "All notifications in your inbox.", ()),
        "dismiss_notification": tool(
            "dismiss_notification", "Mark a notification as read.", ("notification_id",), notification_id=_TEXT
        ),
    },
}  # fmt: skip


class MockWorld(World):
    """See the module docstring."""

    tools = TOOLS
    hidden: ClassVar[Mapping[Side, frozenset[str]]] = {
        "assistant": frozenset({"assert_number_of_tasks", "assert_task_status"}),
        "user": frozenset({"add_notification", "assert_notification_status"}),
    }

    # what the agent may call

    def create_task(self, user_id: str, title: str, description: str | None = None) -> Any:
        user = known(self.db["users"], user_id, "User")
        if not isinstance(title, str):
            raise ToolError("a task needs a title")
        name = f"task_{len(self.db['tasks']) + 1}"
        task = {"task_id": name, "title": title, "description": description, "status": "pending"}
        self.db["tasks"][name] = task
        user["tasks"].append(name)
        return dict(task)

    def get_users(self) -> Any:
        return list(self.db["users"].values())

    def update_task_status(self, task_id: str, status: str) -> Any:
        task = known(self.db["tasks"], task_id, "Task")
        if status not in STATUSES:
            raise ToolError(f"the status is one of {', '.join(STATUSES)}, got {status!r}")
        task["status"] = status
        return dict(task)

    def transfer_to_human_agents(self, summary: str) -> str:
        return "Transfer successful"

    # what the user may call

    def check_notifications(self) -> Any:
        return list(self.user_db["notifications"].values())

    def dismiss_notification(self, notification_id: str) -> str:
        known(self.user_db["notifications"], notification_id, "Notification")["status"] = "read"
        return f"Notification {notification_id} dismissed"

    # what nobody may call

    def add_notification(self, notification_id: str, message: str, task_id: str | None = None) -> Any:
        notification = {
            "notification_id": notification_id, "message": message, "status": "unread", "task_id": task_id,
        }  # fmt: skip
        self.user_db["notifications"][notification_id] = notification
        return dict(notification)

    def assert_number_of_tasks(self, user_id: str, expected_number: int) -> bool:
        return bool(len(known(self.db["users"], user_id, "User")["tasks"]) == expected_number)

    def assert_task_status(self, task_id: str, expected_status: str) -> bool:
        return bool(known(self.db["tasks"], task_id, "Task")["status"] == expected_status)

    def assert_notification_status(self, notification_id: str, expected_status: str) -> bool:
        found = known(self.user_db["notifications"], notification_id, "Notification")
        return bool(found["status"] == expected_status)


class MockDomain(Domain):
    """The files of the domain."""

    name = "mock"
    kind = MockWorld
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "db.json": ("tasks", "users"),
        "user_db.json": ("notifications",),
    }
