"""tau2-bench's tasks as records, and the reader of its files.

    folder/tasks.json         a list: user_scenario, initial_state, evaluation_criteria, ...
    folder/tasks/task_*.json  one each; where there are any, they count and tasks.json does not, as upstream
    folder/split_tasks.json   names of sets of tasks; upstream plays `base` unless told otherwise
    folder/policy.md          what the agent may do
    folder/db.json, user_db.json (or .toml)

What a task leaves out has upstream's default: a call is the assistant's, an assertion expects true, the reward is made
of DB and COMMUNICATE.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from s1pro.base.errors import InputError

Side = Literal["assistant", "user"]
Basis = Literal["DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE", "NL_ASSERTION"]
DEFAULT_BASIS: tuple[Basis, ...] = ("DB", "COMMUNICATE")


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A function that one side asks for. `arguments` is None if what the model wrote could not be read."""

    name: str
    arguments: Mapping[str, Any] | None
    side: Side = "assistant"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One step of a conversation: words, calls, or what a tool answered (`speaker` "tool", `side` who had asked)."""

    speaker: Literal["assistant", "user", "tool"]
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    side: Side = "assistant"
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class GoldAction:
    """A call that should happen. `compare` names the arguments that count; None leaves it to the profile."""

    call: ToolCall
    compare: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Assertion:
    call: ToolCall
    expected: bool = True


@dataclass(frozen=True, kw_only=True)
class Tau2Task:
    """One task. `actions` and `assertions` are None where the file has none, which upstream tells from empty lists;
    `user_tools` are those that the customer is shown, None for all, `documents` what the agent needs to know.
    """

    id: str
    instructions: str
    persona: str = ""
    ticket: str = ""
    user_tools: tuple[str, ...] | None = None
    documents: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    user_data: Mapping[str, Any] = field(default_factory=dict)
    preparation: tuple[ToolCall, ...] = ()
    history: tuple[Turn, ...] = ()
    has_criteria: bool = True
    actions: tuple[GoldAction, ...] | None = None
    assertions: tuple[Assertion, ...] | None = None
    communicate: tuple[str, ...] = ()
    nl_assertions: tuple[str, ...] = ()
    basis: tuple[Basis, ...] = DEFAULT_BASIS


def read_tasks(folder: Path) -> list[Tau2Task]:
    """The tasks of a domain.

    Raises:
        InputError: a file is missing, is not JSON, or a task has not the form of upstream; file, task and field are
            named.
    """
    path, single = folder / "tasks.json", sorted((folder / "tasks").glob("task_*.json"))
    if single:
        path, tasks = folder / "tasks", [_task(read_json(one, dict), f"{one}") for one in single]
    else:
        entries = read_json(path, list)
        tasks = [_task(entry, f"{path}, task {number}") for number, entry in enumerate(entries, start=1)]
    if len({task.id for task in tasks}) < len(tasks):
        raise InputError(f"{path}: two tasks have one id")
    return tasks


def in_split(tasks: Sequence[Tau2Task], folder: Path, name: str | None) -> list[Tau2Task]:
    """Those of a set that `split_tasks.json` names; without a name `base`, or all where there is no such set.

    Raises:
        InputError: there is no such set, or none of its tasks is there.
    """
    path = folder / "split_tasks.json"
    if name is None and not path.is_file():
        return list(tasks)
    splits = read_json(path, dict)
    wanted = "base" if name is None else name
    if wanted not in splits:
        if name is None:
            return list(tasks)
        raise InputError(f"{path}: has no split {wanted!r}; there are {', '.join(sorted(splits))}")
    chosen = {str(one) for one in splits[wanted]} if isinstance(splits[wanted], list) else set()
    found = [task for task in tasks if task.id in chosen]
    if not found:
        names = sorted(key for key, ids in splits.items() if {task.id for task in tasks} & set(map(str, ids)))
        there = ", ".join(names) or "none"
        raise InputError(f"{folder / 'tasks.json'}: has no task of the split {wanted!r}; it has tasks of {there}")
    return found


def read_json(path: Path, kind: type) -> Any:
    text = read_text(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, kind):
        raise InputError(f"{path}: expected a {kind.__name__}, got {type(data).__name__}")
    return data


def read_table(path: Path) -> dict[str, Any]:
    """An object from JSON or TOML; days and times of TOML become text."""
    found: dict[str, Any]
    if path.suffix != ".toml":
        found = read_json(path, dict)
        return found
    try:
        found = json.loads(json.dumps(tomllib.loads(read_text(path)), default=str))
        return found
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error})") from error


def _task(entry: Any, where: str) -> Tau2Task:
    name = _get(entry, "id", (str, int), where)
    where = f"{where} ({name})"
    scenario = _get(entry, "user_scenario", dict, where)
    state = _get(entry, "initial_state", dict, where, default={})
    prepared = _get(state, "initialization_data", dict, where, default={})
    criteria = _get(entry, "evaluation_criteria", dict, where, default=None)
    wanted = criteria or {}
    actions, assertions = (_get(wanted, key, list, where, default=None) for key in ("actions", "env_assertions"))
    basis = tuple(_get(wanted, "reward_basis", list, where, default=list(DEFAULT_BASIS)))
    for one in basis:
        if one not in get_args(Basis):
            raise InputError(f"{where}: reward_basis {one!r} is none of {', '.join(get_args(Basis))}")
    instructions = _get(scenario, "instructions", (str, dict), where)
    shown = _get(entry, "user_tools", list, where, default=None)
    return Tau2Task(
        id=str(name),
        instructions=instructions if isinstance(instructions, str) else json.dumps(instructions, ensure_ascii=False),
        persona=_get(scenario, "persona", str, where, default=""),
        ticket=_get(entry, "ticket", str, where, default=""),
        user_tools=None if shown is None else tuple(map(str, shown)),
        documents=tuple(map(str, _get(entry, "required_documents", list, where, default=[]))),
        data=_get(prepared, "agent_data", dict, where, default={}),
        user_data=_get(prepared, "user_data", dict, where, default={}),
        preparation=tuple(_function(f, where) for f in _get(state, "initialization_actions", list, where, default=[])),
        history=tuple(_turn(turn, where) for turn in _get(state, "message_history", list, where, default=[])),
        has_criteria=criteria is not None,
        actions=None if actions is None else tuple(_action(action, where) for action in actions),
        assertions=None if assertions is None else tuple(_assertion(one, where) for one in assertions),
        communicate=tuple(_get(wanted, "communicate_info", list, where, default=[])),
        nl_assertions=tuple(_get(wanted, "nl_assertions", list, where, default=[])),
        basis=basis,
    )


def _function(entry: Any, where: str) -> ToolCall:
    side = _side(_get(entry, "env_type", str, where), where)
    return ToolCall(
        name=_get(entry, "func_name", str, where), arguments=_get(entry, "arguments", dict, where), side=side
    )


def _assertion(entry: Any, where: str) -> Assertion:
    return Assertion(call=_function(entry, where), expected=_get(entry, "assert_value", bool, where, default=True))


def _action(entry: Any, where: str) -> GoldAction:
    compare = _get(entry, "compare_args", list, where, default=None)
    return GoldAction(call=_call(entry, where), compare=None if compare is None else tuple(compare))


def _call(entry: Any, where: str, side: Side = "assistant") -> ToolCall:
    return ToolCall(
        name=_get(entry, "name", str, where),
        arguments=_get(entry, "arguments", dict, where, default={}),
        side=_side(_get(entry, "requestor", str, where, default=side), where),
    )


def _turn(entry: Any, where: str) -> Turn:
    role = _get(entry, "role", str, where)
    text = _get(entry, "content", str, where, default="")
    if role == "tool":
        requestor = _side(_get(entry, "requestor", str, where, default="assistant"), where)
        return Turn(speaker="tool", text=text, side=requestor)
    side = _side(role, where)
    calls = tuple(_call(call, where, side) for call in _get(entry, "tool_calls", list, where, default=[]))
    return Turn(speaker=side, text=text, calls=calls)


def _side(name: str, where: str) -> Side:
    if name not in get_args(Side):
        raise InputError(f"{where}: {name!r} is neither assistant nor user")
    return name  # type: ignore[return-value]


_REQUIRED = object()


def _get(entry: Any, key: str, kind: type | tuple[type, ...], where: str, *, default: Any = _REQUIRED) -> Any:
    """A field of the right type; null counts as absent."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected an object with {key!r}, got {type(entry).__name__}")
    value = entry.get(key)
    if value is None:
        if default is _REQUIRED:
            raise InputError(f"{where}: the field {key!r} is missing")
        return default
    if not isinstance(value, kind):
        raise InputError(f"{where}: the field {key!r} is {value!r:.60}, of the wrong type")
    return value
