"""Tools: what they are called, what they take, and what comes back, whatever a model writes.

A call is answered by text, always: by the result, or by `Error: …` with what was wrong, which a model can read and
repair. Arguments are checked against the schema that the model saw, before the tool runs. A result is cut at a limit,
and a call that takes too long is given up.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from s1pro.base.records import encodable
from s1pro.tasks.task import Item

ERROR = "Error: "
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class ToolError(ValueError):
    """A call that cannot be done; its message is what the model reads."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool.

    Attributes:
        parameters: JSON schema of an object: `properties` with type, description and `enum`, and `required`.
        run: the call; raises `ToolError` for what cannot be done.
        limits_itself: it ends in time by itself, and may wait for its turn before its time begins.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], Awaitable[str]]
    limits_itself: bool = False

    @property
    def described(self) -> dict[str, Any]:
        """As a model, a template and OpenAI-compatible servers take it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@runtime_checkable
class HasTools(Protocol):
    """A task whose questions come with tools of their own."""

    def tools(self, item: Item) -> Sequence[Tool]:
        """Fresh tools for one answer: their state ends with it. Their descriptions are those of the prompt."""
        ...


@dataclass(frozen=True, kw_only=True)
class Toolbox:
    """The tools of one episode."""

    tools: tuple[Tool, ...]
    seconds: float
    max_chars: int

    @property
    def described(self) -> tuple[dict[str, Any], ...]:
        return tuple(tool.described for tool in self.tools)

    async def answer(self, name: str, arguments: str) -> str:
        """What a call gives; never raises for anything that a model can write.

        Args:
            arguments: text of a JSON object.
        """
        tool = next((tool for tool in self.tools if tool.name == name), None)
        try:
            if tool is None:
                names = ", ".join(tool.name for tool in self.tools)
                raise ToolError(f"there is no tool {name[:60]!r}; there are {names or 'none'}")
            given = _object(arguments)
            check_arguments(given, tool.parameters)
            async with asyncio.timeout(None if tool.limits_itself else self.seconds):
                result = await tool.run(given)
        except ToolError as error:
            result = f"{ERROR}{error}"
        except TimeoutError:
            result = f"{ERROR}took longer than {self.seconds:g} seconds"
        return shortened(encodable(result), self.max_chars)


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolError("the arguments are no JSON object") from error


def check_arguments(given: Any, schema: Mapping[str, Any]) -> None:
    """Compares arguments with a schema, as far as tools here describe them. Raises `ToolError`."""
    if not isinstance(given, dict):
        raise ToolError("the arguments are no JSON object")
    properties: Mapping[str, Any] = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in given]
    if missing:
        raise ToolError(f"missing argument {', '.join(missing)}")
    unknown = [name for name in given if name not in properties]
    if unknown:
        raise ToolError(f"unknown argument {', '.join(unknown)[:80]}; there are {', '.join(properties)}")
    for name, value in given.items():
        wanted = properties[name].get("type")
        right = wanted is None or isinstance(value, _TYPES[wanted])
        if not right or (isinstance(value, bool) and wanted in ("number", "integer")):
            raise ToolError(f"{name} must be of type {wanted}, got {json.dumps(value)[:60]}")
        if "enum" in properties[name] and value not in properties[name]["enum"]:
            choices = ", ".join(map(str, properties[name]["enum"]))
            raise ToolError(f"{name} must be one of {choices}, got {json.dumps(value)[:60]}")


def shortened(text: str, most: int) -> str:
    """At most `most` characters of the text, with a word about the rest."""
    return text if len(text) <= most else f"{text[:most]}\n[{len(text) - most} more characters]"


def parameters(required: Sequence[str], /, **properties: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of an object."""
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def text_of(value: Any) -> str:
    """A result as JSON; text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
