"""A conversation on its way to a prompt: messages, tools, whether to think, and calls that must come.

*Thinking.* `chat_template_kwargs.enable_thinking`, then `enable_thinking`, then `reasoning_effort` ("none" and
"minimal" switch it off), then the settings of the server. A prescribed form of the answer holds behind the reasoning.
A call that must come does not think: its beginning is in the prompt.

*Tools.* The model sees them in its prompt unless `tool_choice` is "none". "auto" leaves the decision to the model.
"required" and a named function are certain, not a request: the beginning of the call is put into the prompt, and what
follows must match the JSON schema of the parameters. That gives one call; several at once come with "auto", unless
`parallel_tool_calls` is false: then the answer ends with its first call, and the engine is told to stop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s1pro.base.media import Media
from s1pro.base.records import StructuredOutput
from s1pro.serve.answer_text import CALL, CALL_END, THINK, AnswerParser
from s1pro.serve.http.bodies import ChatMessage, Tool
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.sampling import after_thinking, schema_structure
from s1pro.serve.http.service import Service

NO_THINKING = ("none", "minimal")
MAX_TOOLS = 128


@dataclass(frozen=True, kw_only=True)
class Forced:
    """A call that must come: `prefix` goes into the prompt, `suffix` behind the answer."""

    prefix: str
    suffix: str
    structured: StructuredOutput


@dataclass(frozen=True, kw_only=True)
class ChatPrompt:
    """What the engine gets, and how its answer is to be read.

    Attributes:
        reasoning: whether the answer begins inside `<think>`.
        tools: whether calls are looked for.
        single_call: whether the answer ends with its first call.
    """

    token_ids: list[int]
    media: Media[Any] | None
    reasoning: bool
    tools: bool
    forced: Forced | None
    single_call: bool = False

    def form(self, wanted: StructuredOutput | None) -> StructuredOutput | None:
        """The form of what the engine writes, if `wanted` is that of the answer."""
        if self.forced is not None:
            return self.forced.structured
        return wanted if wanted is None or not self.reasoning else after_thinking(wanted)

    def parser(self) -> AnswerParser:
        """A fresh parser for one answer."""
        return AnswerParser(reasoning=self.reasoning, tools=self.tools, single_call=self.single_call)


def wants_thinking(
    service: Service,
    *,
    template_kwargs: Mapping[str, Any] | None,
    enable_thinking: bool | None,
    effort: str | None,
    forced: bool,
) -> bool | None:
    """Whether the answer begins by reasoning; None leaves it to the template.

    Raises:
        ApiError: no truth value, or thinking was asked for before a call that must come.
    """
    chosen: Any = (template_kwargs or {}).get("enable_thinking")
    if chosen is None:
        chosen = enable_thinking
    if not isinstance(chosen, bool | None):
        raise ApiError(400, f"enable_thinking must be true or false, got {chosen!r:.40}", param="chat_template_kwargs")
    if forced:
        if chosen:
            raise ApiError(400, "a call that must come does not think: switch thinking or tool_choice off")
        return False
    if chosen is None and effort is not None:
        chosen = effort not in NO_THINKING
    return service.settings.enable_thinking if chosen is None else chosen


def forced_call(tools: Sequence[Tool], choice: str | Mapping[str, Any] | None) -> tuple[list[Tool], Forced | None]:
    """The tools that the model may see, and the call that it must make.

    Raises:
        ApiError: a choice that is none, or of a function that is not among the tools.
    """
    if len(tools) > MAX_TOOLS:
        raise ApiError(400, f"{len(tools)} tools, more than the limit of {MAX_TOOLS}", param="tools")
    if choice in (None, "auto"):
        return list(tools), None
    if choice == "none":
        return [], None
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        inner = choice.get("allowed_tools", choice)
        if not isinstance(inner, Mapping) or not isinstance(inner.get("tools"), list):
            raise _bad_choice(choice)
        names = [_chosen_name(tool) for tool in inner["tools"]]
        return forced_call([tool for tool in tools if tool.function.name in names], inner.get("mode", "auto"))
    if choice == "required":
        allowed = list(tools)
    else:
        name = _chosen_name(choice)
        allowed = [tool for tool in tools if tool.function.name == name]
    if not allowed:
        raise _bad_choice(choice)
    return list(tools), _one(allowed[0]) if len(allowed) == 1 else _any(allowed)


async def chat_prompt(
    service: Service,
    messages: Sequence[ChatMessage] | Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Tool] = (),
    forced: Forced | None = None,
    single_call: bool = False,
    enable_thinking: bool | None,
    add_generation_prompt: bool = True,
) -> ChatPrompt:
    """Reads media, renders and encodes.

    Raises:
        InputError: anything that is wrong with the messages; named by its position.
    """
    plain = [_plain(message) for message in messages]
    read = await service.media.read(plain)
    described = [tool.model_dump(exclude_none=True) for tool in tools]
    processor, limits = service.processor, service.settings.media.limits

    def encode() -> Any:
        return processor.encode(
            read,
            tools=described or None,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=enable_thinking,
            allow_control_tokens=False,
            limits=limits,
        )

    encoded = await service.in_worker(encode)
    ids = list(encoded.token_ids)
    reasoning = bool(ids) and add_generation_prompt and ids[-1] == processor.tokenizer.token_to_id(THINK)
    if forced is not None:
        ids += processor.tokenizer.encode(forced.prefix)
    return ChatPrompt(
        token_ids=ids,
        media=encoded.media,
        reasoning=reasoning,
        tools=bool(tools),
        forced=forced,
        single_call=single_call and bool(tools) and forced is None,
    )


def _plain(message: ChatMessage | Mapping[str, Any]) -> dict[str, Any]:
    plain = message.model_dump(exclude_none=True) if isinstance(message, ChatMessage) else dict(message)
    if plain["role"] == "developer":
        plain["role"] = "system"
    return plain


def _one(tool: Tool) -> Forced:
    name = json.dumps(tool.function.name)
    return Forced(
        prefix=f'{CALL}\n{{"name": {name}, "arguments": ',
        suffix=f"}}\n{CALL_END}",
        structured=schema_structure(_parameters(tool)),
    )


def _any(tools: Sequence[Tool]) -> Forced:
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.function.name}, "arguments": _parameters(tool)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return Forced(prefix=f"{CALL}\n", suffix=f"\n{CALL_END}", structured=schema_structure({"anyOf": calls}))


def _parameters(tool: Tool) -> dict[str, Any]:
    """The schema of the arguments, which are an object whatever it says."""
    return {**(tool.function.parameters or {}), "type": "object"}


def _chosen_name(choice: Any) -> str:
    """`{"type": "function", "function": {"name": ...}}` or the flat form of the responses interface."""
    inner = choice.get("function", choice) if isinstance(choice, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str):
        raise _bad_choice(choice)
    return name


def _bad_choice(choice: Any) -> ApiError:
    message = f"tool_choice must be auto, none, required or a function among the tools, got {choice!r:.120}"
    return ApiError(400, message, param="tool_choice")
