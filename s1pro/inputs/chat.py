"""Conversations to text: the released ChatML format, and what the text alone does not tell.

`chat_template.jinja` beside this file is the format (spec 1.7 and 1.10, quirks included). It is saved into every
folder, so tools that read such templates render the same text. It runs in Jinja's immutable sandbox.

Two things are needed besides the text: where the assistant speaks (for the loss of training), and which characters
came from a message (so that a `<|im_end|>` that somebody typed is not a control token). Searching the finished text
for them would be guessing: messages may hold anything. So they are marked before or while rendering, with characters
that Unicode reserves for such internal use (U+FDD0 … U+FDEF) and that occur in no message, and the marks are taken out
again:

    message strings:  "<|im_end|>"           ->  "<" guard "|im_end|>"          only with allow_control_tokens=False
    template:         {% generation %} … {% endgeneration %}  ->  open … close

One deviation from the release: a part `{"type": "time_series", …}` without text becomes `<|ts|><TS_CONTEXT><|/ts|>`
instead of vanishing, unless a text part of its message places `<TS_CONTEXT>` itself, which was the only way before.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message

TEMPLATE_FILE = "chat_template.jinja"
ROLES = ("system", "user", "assistant", "tool")
MAX_TEMPLATE_BYTES = 2**20

_PART_KEYS = ("text", "image", "image_url", "video", "time_series")
_PART_TYPES = _PART_KEYS
_GENERATION_TAG = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_NONCHARACTERS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: what the model reads.
        assistant_spans: ranges that the assistant wrote, `<|im_end|>` included.
        literal_spans: ranges in which control tokens are just characters.
    """

    text: str
    assistant_spans: tuple[tuple[int, int], ...]
    literal_spans: tuple[tuple[int, int], ...]


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja text, as other tools read it from `chat_template.jinja`.

    Raises:
        InputError: the template has a syntax error.
    """

    def __init__(self, source: str) -> None:
        from jinja2 import TemplateError

        self.source = source
        self.marks_assistant = _GENERATION_TAG.search(source) is not None
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise InputError(f"{TEMPLATE_FILE}: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process compiles it again."""
        return ChatTemplate, (self.source,)

    def render(
        self,
        messages: Iterable[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
        control_tokens: re.Pattern[str] | None = None,
    ) -> Rendered:
        """Renders a conversation.

        Args:
            messages: records or OpenAI-style dictionaries.
            tools: function descriptions for the system turn.
            add_generation_prompt: whether to end with the beginning of an assistant turn.
            enable_thinking: whether that turn begins by reasoning; None leaves it to the template.
            control_tokens: what to disarm wherever a message or a tool contains it; None disarms nothing.

        Raises:
            InputError: a message with an unknown role, part or field type, named by its position.
        """
        from jinja2 import TemplateError

        plain = checked_messages(messages)
        guard, opening, closing = _unused_characters((plain, tools))
        if control_tokens is not None:
            plain = [_disarm_message(message, control_tokens, guard) for message in plain]
            tools = _disarm(tools, control_tokens, guard)
        try:
            marked = self._template.render(
                messages=plain,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                generation_marks=(opening, closing),
                **({} if enable_thinking is None else {"enable_thinking": enable_thinking}),
            )
        except (TemplateError, TypeError) as error:
            raise InputError(f"{TEMPLATE_FILE} cannot render this conversation: {error}") from error
        return _unmark(marked, guard, opening, closing)


def checked_messages(messages: Iterable[Message | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A conversation as dictionaries whose content is text or a list of parts.

    Raises:
        InputError: a message with an unknown role, part or field type, named by its position.
    """
    return [_checked(_as_dict(message), index) for index, message in enumerate(messages)]


@functools.cache
def default_template() -> ChatTemplate:
    """The released format."""
    return ChatTemplate((Path(__file__).parent / TEMPLATE_FILE).read_text(encoding="utf-8"))


@functools.cache
def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %} … {% endgeneration %}` with a mark at both ends."""

        tags = {"generation"}  # noqa: RUF012  (the attribute that Jinja reads)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_mark", [nodes.ContextReference()])
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _mark(self, context: Any, caller: Any) -> str:
            opening, closing = context["generation_marks"]
            return f"{opening}{caller()}{closing}"

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    """Unlike Jinja's own filter: characters and key order are kept, nothing is escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _as_dict(message: Message | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(message, Message):
        return message.as_dict()
    if isinstance(message, Mapping):
        return dict(message)
    raise InputError(f"a message must be a Message or an object with role and content, got {message!r}")


def _checked(message: dict[str, Any], index: int) -> dict[str, Any]:
    """The message with its content present. The template would drop what it does not know; here it is an error."""
    where = f"messages[{index}]"
    if message.get("role") not in ROLES:
        raise InputError(f"{where}.role must be one of {', '.join(ROLES)}, got {message.get('role')!r}")
    content = message.get("content")
    if content is None:
        content = ""  # clients send null beside tool calls
    if not isinstance(content, str):
        if not isinstance(content, Sequence) or isinstance(content, bytes):
            raise InputError(f"{where}.content must be text or a list of parts, got {content!r}")
        content = [_checked_part(part, f"{where}.content[{number}]") for number, part in enumerate(content)]
    reasoning = message.get("reasoning_content")
    if reasoning is not None and not isinstance(reasoning, str):
        raise InputError(f"{where}.reasoning_content must be text, got {reasoning!r}")
    calls = message.get("tool_calls") or ()
    if isinstance(calls, (str, Mapping)) or any(not _is_call(call) for call in calls):
        raise InputError(f"{where}.tool_calls must be a list of calls with name and arguments, got {calls!r}")
    return {**message, "content": content, "tool_calls": [dict(call) for call in calls]}


def _checked_part(part: Any, where: str) -> dict[str, Any]:
    if not isinstance(part, Mapping) or not (part.get("type") in _PART_TYPES or any(key in part for key in _PART_KEYS)):
        raise InputError(f"{where}: expected a part of type {', '.join(_PART_TYPES)}, got {part!r}")
    if not isinstance(part.get("text", ""), str) or (part.get("type") == "text" and "text" not in part):
        raise InputError(f"{where}.text must be text, got {part.get('text')!r}")
    return dict(part)


def _is_call(call: Any) -> bool:
    function = call.get("function") or call if isinstance(call, Mapping) else None
    return isinstance(function, Mapping) and isinstance(function.get("name"), str) and "arguments" in function


def _unused_characters(value: Any) -> list[str]:
    """Three reserved characters that occur nowhere in `value`."""
    used = set(json.dumps(value, ensure_ascii=False, default=str))
    free = [character for character in _NONCHARACTERS if character not in used]
    if len(free) < 3:
        raise InputError("the conversation uses nearly all of U+FDD0 … U+FDEF, which are reserved for internal marks")
    return free[:3]


def _disarm_message(message: dict[str, Any], tokens: re.Pattern[str], guard: str) -> dict[str, Any]:
    """Every string of the message disarmed, except the reasoning tags that the template takes out of an answer."""
    disarmed = _disarm(message, tokens, guard)
    content = message["content"]
    if message["role"] == "assistant" and message.get("reasoning_content") is None and isinstance(content, str):
        reasoning, end, answer = content.rpartition("</think>")
        tags = ("<think>", "</think>")
        reasoning = tokens.sub(lambda m: m.group() if m.group() in tags else _guarded(m, guard), reasoning)
        disarmed["content"] = reasoning + end + _disarm(answer, tokens, guard)
    return disarmed


def _disarm(value: Any, tokens: re.Pattern[str], guard: str) -> Any:
    """A copy of a JSON value with a guard inside every control token; keys of objects included."""
    if isinstance(value, str):
        return tokens.sub(lambda match: _guarded(match, guard), value)
    if isinstance(value, Mapping):
        return {_disarm(key, tokens, guard): _disarm(item, tokens, guard) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_disarm(item, tokens, guard) for item in value]
    return value


def _guarded(match: re.Match[str], guard: str) -> str:
    token = match.group()
    return f"{token[0]}{guard}{token[1:]}"


def _unmark(marked: str, guard: str, opening: str, closing: str) -> Rendered:
    """Takes the marks out and notes where they were."""
    pieces = re.split(f"([{guard}{opening}{closing}])", marked)
    position, start = 0, 0
    assistant: list[tuple[int, int]] = []
    literal: list[tuple[int, int]] = []
    for piece in pieces:
        if piece == guard:
            literal.append((position - 1, position + 1))
        elif piece == opening:
            start = position
        elif piece == closing:
            assistant.append((start, position))
        else:
            position += len(piece)
    return Rendered(text="".join(pieces[::2]), assistant_spans=tuple(assistant), literal_spans=tuple(literal))
