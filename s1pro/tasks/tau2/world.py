"""A domain of tau2 in memory: databases, and functions on them that the two sides may call.

A call that fails changes nothing. Functions that no side may call prepare a task or check its end. Two worlds are equal
if the hashes of their databases are. Domains (`mock_domain`, `retail_domain`, ...) say which functions there are.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.records import Side, Tau2Task, ToolCall, Turn, read_table, read_text

Tools = Mapping[Side, Mapping[str, Mapping[str, Any]]]


class ToolError(ValueError):
    """A call that cannot be done; its message is what the caller reads."""


class World:
    """The databases of one conversation.

    Args:
        db, user_db: copied, never changed.

    Attributes:
        tools: what each side may call, as the models see it.
        hidden: functions of each side that nobody may call.

    Raises:
        InputError: the databases are not of the domain.
    """

    tools: Tools
    hidden: ClassVar[Mapping[Side, frozenset[str]]] = {"assistant": frozenset(), "user": frozenset()}

    def __init__(self, db: Mapping[str, Any], user_db: Mapping[str, Any]) -> None:
        self.db, self.user_db = json.loads(json.dumps([db, user_db]))  # ten times as fast as a deep copy
        self.settle()

    def settle(self) -> None:
        """Adds what the databases leave out, and refuses what they must not hold. Nothing, unless a domain says so."""

    def sync(self) -> None:
        """What each database learns from the other, after every call. Nothing, unless a domain says so."""

    def prepare(self, task: Tau2Task) -> None:
        """The beginning of a task: its data, its preparation, the calls of its history that were answered there."""
        _merge(self.db, task.data)
        _merge(self.user_db, task.user_data)
        self.settle()
        for call in task.preparation:
            self.function(call)
            self.sync()
        open_calls = task.history[-1:] if task.history and task.history[-1].calls else ()
        for turn in task.history:
            for call in () if turn in open_calls else turn.calls:
                self.answer(call)
        self.sync()

    def answer(self, call: ToolCall, *, synced: bool = True) -> Turn:
        """Does what a side asks for; errors are answers too."""
        allowed = self.tools[call.side]
        try:
            if call.arguments is None:
                raise ToolError("the call cannot be read: write one JSON object with name and arguments")
            if call.name not in allowed:
                raise ToolError(f"there is no tool {call.name!r}; there are {', '.join(allowed)}")
            value = self.function(call)
            if synced:
                self.sync()
        except ToolError as error:
            return Turn(speaker="tool", text=f"Error: {error}", side=call.side, failed=True)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return Turn(speaker="tool", text=text, side=call.side)

    def function(self, call: ToolCall) -> Any:
        """Any function of the domain. Raises `ToolError` for unknown ones, wrong arguments, and what cannot be done."""
        if call.name not in self.tools[call.side] and call.name not in self.hidden[call.side]:
            raise ToolError(f"there is no function {call.name!r}")
        method: Callable[..., Any] = getattr(self, call.name)
        try:
            bound = inspect.signature(method).bind(**(call.arguments or {}))
        except TypeError as error:
            raise ToolError(f"{call.name}: {error}") from error
        for name, value in bound.arguments.items():
            self._check_argument(call.name, name, value)
        return method(*bound.args, **bound.kwargs)

    def _check_argument(self, function: str, name: str, value: Any) -> None:
        if not isinstance(value, str | int | None):
            raise ToolError(f"{function}: {name} must be text, got {type(value).__name__}")

    def digest(self) -> str:
        """Of both databases."""
        text = json.dumps([self.db, self.user_db], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Domain:
    """The files of a domain: fresh worlds, and the policy. Raises `InputError` for files that are wrong.

    Attributes:
        label: its name in results.
        tables: that its databases have, by file; the agent's database is `db`, the user's `user_db`.
        rows: what a table is.
        policies, solo_policies: their files by the name of the part; a policy of one part is its text.
    """

    name: ClassVar[str]
    kind: ClassVar[type[World]]
    tables: ClassVar[Mapping[str, tuple[str, ...]]]
    rows: ClassVar[type] = dict
    policies: ClassVar[Mapping[str, str]] = {"policy": "policy.md"}
    solo_policies: ClassVar[Mapping[str, str]] = {"policy": "policy_solo.md"}

    def __init__(self, folder: Path) -> None:
        self.tools, self.folder, self.label = self.kind.tools, folder, self.name
        data: dict[str, Any] = {}
        for file, tables in self.tables.items():
            found = data[file.partition(".")[0]] = read_table(folder / file)
            for table in tables:
                if not isinstance(found.get(table), dict | self.rows):
                    raise InputError(f"{folder / file}: the field {table!r} is missing or no {self.rows.__name__}")
        self._db, self._user_db = data["db"], data.get("user_db", {})
        try:
            self.kind(self._db, self._user_db)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        self.policy = self.read_policy(self.policies)

    def read_policy(self, files: Mapping[str, str]) -> str:
        """Of several parts, each in the tag of its name. Raises `InputError` for a missing file."""
        parts = {name: read_text(self.folder / file) for name, file in files.items()}
        if len(parts) == 1:
            return next(iter(parts.values()))
        return "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in parts.items())

    def policy_of(self, task: Tau2Task) -> str:
        """The policy as the agent of a task reads it."""
        return self.policy

    def tools_of(self, task: Tau2Task) -> Tools:
        """The tools that the two sides of a task are shown."""
        if task.user_tools is None:
            return self.tools
        shown = {name: one for name, one in self.tools["user"].items() if name in task.user_tools}
        return {**self.tools, "user": shown}

    def world(self, task: Tau2Task) -> World:
        """As the task begins."""
        world = self.kind(self._db, self._user_db)
        world.prepare(task)
        return world


def tool(name: str, about: str, required: tuple[str, ...], /, **properties: Any) -> dict[str, Any]:
    """A tool as models see it."""
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": about, "parameters": parameters}


def known(table: Mapping[str, Any], name: Any, kind: str) -> Any:
    """Raises `ToolError` for a name that is not there."""
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
