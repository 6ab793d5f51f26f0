"""What a model writes, taken apart while it is written: reasoning, answer, tool calls.

    <think>first this, then that</think>

    The answer.
    <tool_call>
    {"name": "weather", "arguments": {"city": "Ghent"}}
    </tool_call>

`AnswerParser.push` takes text as it comes and gives back the pieces that are certain: a tail that may still become a
tag is held back, so no part of a tag is ever shown. The prompt of a thinking model ends with `<think>`, so its text
begins inside; else a `<think>` at the very beginning of the text opens reasoning.

A tool call is given out whole, when its JSON is complete, and its arguments are JSON for certain: clients parse
them without a guard. A block that is no call (bad JSON, no name, cut off by the length limit) stays visible text:
nothing that the model wrote is lost. Inside a block a `</tool_call>` within a JSON string does not end it. White space
around calls is not part of the answer.

The HTTP server and the agents of reinforcement learning read answers with this one parser.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from s1pro.base.records import encodable
from s1pro.serve.strict_json import loads_strict

THINK, THINK_END = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, kw_only=True)
class Reasoning:
    """A piece of the reasoning."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A complete call; `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


Piece = Reasoning | Content | ToolCall


class AnswerParser:
    """See the module docstring.

    Args:
        reasoning: whether the text begins inside `<think>`.
        tools: whether calls are looked for.
        single_call: the answer ends with its first call; what the model writes behind it is not part of it.
    """

    def __init__(self, *, reasoning: bool, tools: bool, single_call: bool = False) -> None:
        self.num_calls = 0
        self._single_call = single_call
        self.in_reasoning = reasoning
        self._tools = tools
        self._buffer = ""
        self._in_call = False
        self._at_start = True  # nothing but white space was seen since the answer began
        self._may_think = not reasoning
        self._space = ""  # white space that is shown only if text follows

    def push(self, text: str) -> list[Piece]:
        """The pieces that `text` completes."""
        self._buffer += text
        return list(self._advance(final=False))

    def finish(self) -> list[Piece]:
        """What was held back; the text has ended."""
        pieces = list(self._advance(final=True))
        if self._in_call:
            pieces += self._unfinished_call()
        if self._space and not self.num_calls and not self._at_start:
            pieces.append(Content(text=self._space))
            self._space = ""
        return pieces

    def _advance(self, *, final: bool) -> Iterator[Piece]:
        while True:
            if self._single_call and self.num_calls:
                self._buffer = self._space = ""
                return
            before = (len(self._buffer), self.in_reasoning, self._in_call)
            if self.in_reasoning:
                yield from self._reason(final)
            elif self._in_call:
                yield from self._call()
            else:
                yield from self._answer(final)
            if (len(self._buffer), self.in_reasoning, self._in_call) == before:
                return

    def _reason(self, final: bool) -> Iterator[Piece]:
        text, found, rest = self._buffer.partition(THINK_END)
        if not found:
            text, rest = (self._buffer, "") if final else _hold(self._buffer, THINK_END)
        self._buffer = rest
        self.in_reasoning = not found
        if text:
            yield Reasoning(text=text)

    def _answer(self, final: bool) -> Iterator[Piece]:
        if self._may_think and self._opens_reasoning(final):
            return
        text, found, rest = self._buffer.partition(CALL) if self._tools else (self._buffer, "", "")
        if not found and self._tools:
            text, rest = (self._buffer, "") if final else _hold(self._buffer, CALL)
        self._buffer = rest
        self._in_call = bool(found)
        yield from self._show(text)

    def _opens_reasoning(self, final: bool) -> bool:
        """Whether the beginning is, or may still become, `<think>`."""
        stripped = self._buffer.lstrip()
        if stripped.startswith(THINK):
            self._buffer, self.in_reasoning, self._may_think = stripped[len(THINK) :], True, False
            return True
        if not final and THINK.startswith(stripped):
            return True
        self._may_think = False
        return False

    def _show(self, text: str) -> Iterator[Piece]:
        if self._at_start:
            text = text.lstrip("\n")
        if not self._tools:
            visible = text
        else:
            text = self._space + text
            visible = text.rstrip()
            self._space = text[len(visible) :]
        if visible:
            self._at_start = False
            yield Content(text=visible)

    def _call(self) -> Iterator[Piece]:
        """Ends the block if its JSON is complete, or can no longer become a call."""
        if CALL_END not in self._buffer:
            return
        body = self._buffer.lstrip()
        try:
            value, end = json.JSONDecoder().raw_decode(body)
        except json.JSONDecodeError as error:
            if CALL_END not in body[error.pos :] or error.msg.startswith("Unterminated string"):
                return  # so far it is the beginning of JSON: the end tag stands inside a string
            value, end = None, body.index(CALL_END)
        except RecursionError:
            value, end = None, body.index(CALL_END)
        rest = body[end:].lstrip()
        if value is not None and CALL_END.startswith(rest) and rest != CALL_END:
            return
        call = as_tool_call(value) if rest.startswith(CALL_END) else None
        self._in_call = False
        if call is None:
            block, _, self._buffer = self._buffer.partition(CALL_END)
            yield from self._show(CALL + block + CALL_END)
            return
        self._buffer = rest[len(CALL_END) :]
        self._space = ""
        self._at_start = True
        self.num_calls += 1
        yield call

    def _unfinished_call(self) -> Iterator[Piece]:
        """A block without its end: a call if the JSON is complete, else text."""
        text, self._buffer, self._in_call = self._buffer, "", False
        try:
            call = as_tool_call(loads_strict(text))
        except ValueError:
            call = None
        if call is None:
            yield from self._show(CALL + text)
        else:
            self.num_calls += 1
            self._space = ""
            yield call


def as_tool_call(value: Any) -> ToolCall | None:
    """A call from its JSON; None if it is none."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    try:
        if isinstance(arguments, str):
            arguments = loads_strict(arguments)
        if not isinstance(arguments, dict):
            return None
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return ToolCall(id=f"call_{uuid.uuid4().hex[:24]}", name=encodable(value["name"]), arguments=encodable(text))


def _hold(text: str, tag: str) -> tuple[str, str]:
    """`text` cut before the longest tail that may become `tag`."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-length:]):
            return text[:-length], text[-length:]
    return text, ""
