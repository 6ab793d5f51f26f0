"""The `mock` domain of tau2-bench in memory: a list of tasks for the agent, an inbox for the user.

    agent   create_task, get_users, update_task_status, transfer_to_human_agents
    user    check_notifications, dismiss_notification

Functions that no side may call prepare a task (`add_notification`) or check its end (`assert_...`). A call that fails
changes nothing. Two worlds are equal if the hashes of their databases are.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.records import Side, Tau2Task, ToolCall, Turn, read_json

STATUSES = ("pending", "completed")
_INBOX = ("notifications",)
_TEXT = {"type": "string"}
_STATUS = {"type": "string", "enum": list(STATUSES)}


class ToolError(ValueError):
    """A call that cannot be done; its message is what the caller reads."""


class MockWorld:
    """Both databases of one conversation.

    Args:
        db, user_db: copied, never changed.
    """

    def __init__(self, db: Mapping[str, Any], user_db: Mapping[str, Any]) -> None:
        self.db, self.user_db = copy.deepcopy(dict(db)), copy.deepcopy(dict(user_db))

    def prepare(self, task: Tau2Task) -> None:
        """The beginning of a task: its data, its preparation, the calls of its history that were answered there."""
        _merge(self.db, task.data)
        _merge(self.user_db, task.user_data)
        for call in task.preparation:
            self.function(call)
        open_calls = task.history[-1:] if task.history and task.history[-1].calls else ()
        for turn in task.history:
            for call in () if turn in open_calls else turn.calls:
                self.answer(call)

    def answer(self, call: ToolCall) -> Turn:
        """Does what a side asks for; errors are answers too."""
        allowed = TOOLS[call.side]
        try:
            if call.arguments is None:
                raise ToolError("the call cannot be read: write one JSON object with name and arguments")
            if call.name not in allowed:
                raise ToolError(f"there is no tool {call.name!r}; there are {', '.join(allowed)}")
            value = self.function(call)
        except ToolError as error:
            return Turn(speaker="tool", text=f"Error: {error}", side=call.side, failed=True)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return Turn(speaker="tool", text=text, side=call.side)

    def function(self, call: ToolCall) -> Any:
        """Any function of the domain. Raises `ToolError` for unknown ones, wrong arguments, and what cannot be done."""
        names = FUNCTIONS[call.side]
        if call.name not in names:
            raise ToolError(f"there is no function {call.name!r}")
        method: Callable[..., Any] = getattr(self, call.name)
        try:
            bound = inspect.signature(method).bind(**(call.arguments or {}))
        except TypeError as error:
            raise ToolError(f"{call.name}: {error}") from error
        for name, value in bound.arguments.items():
            if not isinstance(value, str | int | None):
                raise ToolError(f"{call.name}: {name} must be text, got {type(value).__name__}")
        return method(*bound.args, **bound.kwargs)

    def digest(self) -> str:
        """Of both databases."""
        text = json.dumps([self.db, self.user_db], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    # what the agent may call

    def create_task(self, user_id: str, title: str, description: str | None = None) -> Any:
        user = _known(self.db["users"], user_id, "User")
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
        task = _known(self.db["tasks"], task_id, "Task")
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
        _known(self.user_db["notifications"], notification_id, "Notification")["status"] = "read"
        return f"Notification {notification_id} dismissed"

    # what nobody may call

    def add_notification(self, notification_id: str, message: str, task_id: str | None = None) -> Any:
        notification = {
            "notification_id": notification_id, "message": message, "status": "unread", "task_id": task_id,
        }  # fmt: skip
        self.user_db["notifications"][notification_id] = notification
        return dict(notification)

    def assert_number_of_tasks(self, user_id: str, expected_number: int) -> bool:
        return bool(len(_known(self.db["users"], user_id, "User")["tasks"]) == expected_number)

    def assert_task_status(self, task_id: str, expected_status: str) -> bool:
        return bool(_known(self.db["tasks"], task_id, "Task")["status"] == expected_status)

    def assert_notification_status(self, notification_id: str, expected_status: str) -> bool:
        found = _known(self.user_db["notifications"], notification_id, "Notification")
        return bool(found["status"] == expected_status)


def _tool(name: str, about: str, required: tuple[str, ...], /, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": about, "parameters": parameters}


TOOLS: dict[Side, dict[str, dict[str, Any]]] = {
    "assistant": {
        "create_task": _tool(
            "create_task", "Make a new task for a user.", ("user_id", "title"), user_id=_TEXT, title=_TEXT,
            description=_TEXT,
        ),
        "get_users": _tool("get_users", "All users with the ids of their tasks.", ()),
        "update_task_status": _tool(
            "update_task_status", "Change the status of a task.", ("task_id", "status"), task_id=_TEXT, status=_STATUS
        ),
        "transfer_to_human_agents": _tool(
            "transfer_to_human_agents", "Hand the user over to a human, with a summary of the matter. Only if it "
            "cannot be done with the other tools.", ("summary",), summary=_TEXT,
        ),
    },
    "user": {
        "check_notifications": _tool("check_notifications", "All notifications in your inbox.", ()),
        "dismiss_notification": _tool(
            "dismiss_notification", "Mark a notification as read.", ("notification_id",), notification_id=_TEXT
        ),
    },
}  # fmt: skip
FUNCTIONS: dict[Side, frozenset[str]] = {
    "assistant": frozenset({*TOOLS["assistant"], "assert_number_of_tasks", "assert_task_status"}),
    "user": frozenset({*TOOLS["user"], "add_notification", "assert_notification_status"}),
}


class MockDomain:
    """The files of the domain: fresh worlds, and the policy. Raises `InputError` for files that are wrong."""

    name = "mock"
    tools = TOOLS

    def __init__(self, folder: Path) -> None:
        self._db, self._user_db = read_json(folder / "db.json", dict), read_json(folder / "user_db.json", dict)
        try:
            self.policy = (folder / "policy.md").read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{folder / 'policy.md'}: {error.strerror}") from error
        for path, data, tables in (("db.json", self._db, ("tasks", "users")), ("user_db.json", self._user_db, _INBOX)):
            for table in tables:
                if not isinstance(data.get(table), dict):
                    raise InputError(f"{folder / path}: the field {table!r} is missing or no object")

    def world(self, task: Tau2Task) -> MockWorld:
        """As the task begins."""
        world = MockWorld(self._db, self._user_db)
        world.prepare(task)
        return world


def _known(table: Mapping[str, Any], name: Any, kind: str) -> Any:
    if name not in table:
        raise ToolError(f"{kind} {name} not found")
    return table[name]


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Objects are merged, everything else is replaced."""
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
