"""Items of the responses interface as messages, and back.

| item | message |
|---|---|
| `message` (also without a type) | its role and content |
| `reasoning` | `reasoning_content` of the assistant's turn that follows |
| `function_call` | a call in the assistant's turn; neighbouring calls share one |
| `function_call_output` | a turn of role `tool` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from s1pro.serve.http.bodies import ChatMessage, Function, ResponsesTool, Tool
from s1pro.serve.http.errors import ApiError, body_error


def as_messages(given: str | Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """The conversation in `input`.

    Raises:
        ApiError: an item of another kind or form, named by its position.
    """
    if isinstance(given, str):
        return [ChatMessage(role="user", content=given)]
    turns: list[dict[str, Any]] = []
    reasoning = ""
    for number, item in enumerate(given):
        where = f"input[{number}]"
        kind = item.get("type", "message")
        if kind == "reasoning":
            reasoning += _text_of(item.get("content") or item.get("summary"), where)
        elif kind == "function_call":
            turn = turns[-1] if turns and turns[-1]["role"] == "assistant" else None
            if turn is None:
                turn = {"role": "assistant", "content": None}
                turns.append(turn)
            turn.setdefault("tool_calls", []).append(_call(item, where))
        elif kind == "function_call_output":
            content = item.get("output")
            if not isinstance(content, str | list):
                raise ApiError(400, f"{where}.output must be text or a list of parts", param=where)
            turns.append({"role": "tool", "content": content, "tool_call_id": item.get("call_id")})
        elif kind == "message":
            turns.append({name: item.get(name) for name in ("role", "content")})
        else:
            raise ApiError(400, f"{where}: items of type {kind!r:.40} are not supported", param=where)
        if reasoning and turns and turns[-1]["role"] == "assistant" and kind != "reasoning":
            turns[-1]["reasoning_content"] = turns[-1].get("reasoning_content") or reasoning
            reasoning = ""
    return [_checked(turn, number) for number, turn in enumerate(turns)]


def as_tools(given: Sequence[ResponsesTool]) -> list[Tool]:
    """Functions in the form of the chat interface.

    Raises:
        ApiError: a tool that the server would have to run itself.
    """
    tools = []
    for number, tool in enumerate(given):
        if tool.type != "function" or tool.name is None:
            raise ApiError(400, f"tools[{number}]: only functions with a name are supported", param="tools")
        function = Function(name=tool.name, description=tool.description, parameters=tool.parameters)
        tools.append(Tool(function=function))
    return tools


def assistant_message(output: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """The answer as a turn of the conversation."""
    content, reasoning, calls = "", "", []
    for item in output:
        if item["type"] == "message":
            content += "".join(part["text"] for part in item["content"])
        elif item["type"] == "reasoning":
            reasoning += "".join(part["text"] for part in item["content"])
        else:
            calls.append(_call(item, "output"))
    return [
        ChatMessage(role="assistant", content=content, reasoning_content=reasoning or None, tool_calls=calls or None)
    ]


def _call(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    name, arguments = item.get("name"), item.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise ApiError(400, f"{where}: a call needs name and arguments as text", param=where)
    return {"id": item.get("call_id"), "type": "function", "function": {"name": name, "arguments": arguments}}


def _text_of(parts: Any, where: str) -> str:
    if parts is None:
        return ""
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise ApiError(400, f"{where}: expected a list of parts", param=where)
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _checked(turn: dict[str, Any], number: int) -> ChatMessage:
    try:
        return ChatMessage.model_validate(turn)
    except ValidationError as error:
        problem = body_error(error.errors())
        raise ApiError(400, f"input: message {number}: {problem.message}", param="input") from error
