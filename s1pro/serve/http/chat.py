"""`POST /v1/chat/completions`.

Whole:     {"choices": [{"index", "message": {"role", "content", "reasoning_content", "tool_calls"}, "finish_reason",
           "logprobs"}], "usage"}
Streamed:  per answer a chunk with the role, chunks with what came, a chunk with the reason of its end; then the usage
           if `stream_options.include_usage` asks for it, and `[DONE]`.

`content` is always text, also beside tool calls and when the length limit fell into the reasoning. `finish_reason` is
`tool_calls` if there are any, else what the engine says: `stop`, `length` or `abort`.

Beyond OpenAI: `return_token_ids` adds `prompt_token_ids` and `token_ids`, `return_routed_experts` a reference to the
routing of every answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from s1pro.base.records import Completion, Sampling
from s1pro.serve.answer_text import THINK, THINK_END, Content, Piece, Reasoning, ToolCall
from s1pro.serve.http.bodies import ChatBody
from s1pro.serve.http.connection import EventStream, answered
from s1pro.serve.http.conversation import ChatPrompt, chat_prompt, forced_call, wants_thinking
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import DONE, Json, event
from s1pro.serve.http.sampling import sampling_of, seeds_of, structure_of
from s1pro.serve.http.service import Run, Service
from s1pro.serve.http.token_text import chat_logprobs, usage
from s1pro.serve.request import Delta


def chat_routes(service: Service) -> APIRouter:
    """The route of this module."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(request: Request, body: ChatBody) -> Response:
        """Answers a conversation."""
        return await answered(request, _chat(service, body))

    return router


async def _chat(service: Service, body: ChatBody) -> Response:
    count = body.n or 1
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.admit(count))
        prompt, sampling = await prepare_chat(service, body)
        samplings = seeds_of(sampling, count)
        run = await stack.enter_async_context(
            service.start(
                [(prompt.token_ids, prompt.media)],
                samplings,
                stream=bool(body.stream) or prompt.single_call,
                kind="chatcmpl",
                request_id=body.request_id,
            )
        )
        answer = _Answer(service=service, body=body, run=run, prompt=prompt)
        if body.stream:
            return EventStream(answer.frames(), stack.pop_all())
        return Json(answer.whole(await run.results(first_call(prompt, count))))


async def prepare_chat(service: Service, body: ChatBody) -> tuple[ChatPrompt, Sampling]:
    """Prompt and settings of a request.

    Raises:
        ApiError, InputError: anything that is wrong with it.
    """
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs has no effect without logprobs=true", param="top_logprobs")
    tools, forced = forced_call(body.tools or [], body.tool_choice)
    structured = structure_of(body, body.response_format)
    if forced is not None and structured is not None:
        raise ApiError(400, "tool_choice and response_format both prescribe the answer", param="tool_choice")
    thinking = wants_thinking(
        service,
        template_kwargs=body.chat_template_kwargs,
        enable_thinking=body.enable_thinking,
        effort=body.reasoning_effort,
        forced=forced is not None,
    )
    prompt = await chat_prompt(
        service,
        body.messages,
        tools=tools,
        forced=forced,
        single_call=body.parallel_tool_calls is False,
        enable_thinking=thinking,
    )
    room = max(1, service.max_context - len(prompt.token_ids))
    sampling = sampling_of(
        body,
        max_new_tokens=body.max_completion_tokens or body.max_tokens or room,
        vocab_size=service.vocab_size,
        logprobs=body.top_logprobs or 0 if body.logprobs else 0,
        structured=prompt.form(structured),
    )
    return prompt, sampling


@dataclass
class Parsed:
    """One answer taken apart."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def add(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Content):
                self.content.append(piece.text)
            elif isinstance(piece, Reasoning):
                self.reasoning.append(piece.text)
            else:
                self.calls.append(piece)


def pieces_of(prompt: ChatPrompt, completion: Completion) -> list[Piece]:
    """The parts of a finished answer, in their order."""
    parser, text = prompt.parser(), completion.text
    if prompt.forced is not None:
        text = prompt.forced.prefix + text + (prompt.forced.suffix if completion.finish_reason == "stop" else "")
    return [*parser.push(text), *parser.finish()]


def reasoning_tokens(service: Service, prompt: ChatPrompt, completions: Sequence[Completion]) -> int:
    """How many generated tokens are reasoning, the tags included; an answer may also begin it by itself."""
    begin, end = (service.processor.tokenizer.token_to_id(tag) for tag in (THINK, THINK_END))
    return sum(
        completion.token_ids.index(end) + 1 if end in completion.token_ids else len(completion.token_ids)
        for completion in completions
        if prompt.reasoning or completion.token_ids[:1] == (begin,)
    )


def first_call(prompt: ChatPrompt, count: int) -> Callable[[int, str], bool] | None:
    """Says when an answer has its one call; None where answers may have several."""
    if not prompt.single_call:
        return None
    parsers = [prompt.parser() for _ in range(count)]

    def enough(number: int, text: str) -> bool:
        parsers[number].push(text)
        return parsers[number].num_calls > 0

    return enough


def finish_reason(prompt: ChatPrompt, completion: Completion, calls: int) -> str:
    ended = completion.finish_reason == "stop" or prompt.single_call
    return "tool_calls" if calls and ended else completion.finish_reason


def call_record(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Writes the answers of one run."""

    service: Service
    body: ChatBody
    run: Run
    prompt: ChatPrompt

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        choices = []
        for index, completion in enumerate(completions):
            parsed = Parsed()
            parsed.add(pieces_of(self.prompt, completion))
            message: dict[str, Any] = {"role": "assistant", "content": "".join(parsed.content)}
            if parsed.reasoning:
                message["reasoning_content"] = "".join(parsed.reasoning)
            if parsed.calls:
                message["tool_calls"] = [call_record(call) for call in parsed.calls]
            choice = {
                "index": index,
                "message": message,
                "logprobs": self._logprobs(completion.token_ids, completion.logprobs or (), completion.top_logprobs),
                "finish_reason": finish_reason(self.prompt, completion, len(parsed.calls)),
                **self._extras(index, completion),
            }
            if self.body.return_token_ids:
                choice["token_ids"] = list(completion.token_ids)
            choices.append(choice)
        record = {**self._head("chat.completion"), "choices": choices, "usage": self._usage(completions)}
        if self.body.return_token_ids:
            record["prompt_token_ids"] = list(self.prompt.token_ids)
        return record

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """The stream; see the module docstring."""
        count = len(self.run.streams)
        parsers = [self.prompt.parser() for _ in range(count)]
        calls = [0] * count
        finished: dict[int, Completion] = {}
        for index in range(count):
            role = {"role": "assistant", "content": ""}
            yield self._chunk(index, role)
            if self.prompt.forced is not None:
                parsers[index].push(self.prompt.forced.prefix)
        async for index, item in self.run.deltas():
            if isinstance(item, Completion):
                finished[index] = item
                pieces = self._last_pieces(parsers[index], item)
            else:
                pieces = parsers[index].push(item.text)
            for frame in self._pieces(index, pieces, calls):
                yield frame
            if self.prompt.single_call and calls[index]:
                self.run.streams[index].cancel()
            if isinstance(item, Delta) and (self.body.logprobs or self.body.return_token_ids):
                yield self._tokens(index, item)
            if isinstance(item, Completion):
                reason = finish_reason(self.prompt, item, calls[index])
                yield self._chunk(index, {}, finish=reason, **self._extras(index, item))
        if self.body.stream_options is not None and self.body.stream_options.include_usage:
            completions = [finished[index] for index in sorted(finished)]
            head = self._head("chat.completion.chunk")
            yield event({**head, "choices": [], "usage": self._usage(completions)})
        yield DONE

    def _last_pieces(self, parser: Any, completion: Completion) -> list[Piece]:
        pieces: list[Piece] = []
        if self.prompt.forced is not None and completion.finish_reason == "stop":
            pieces += parser.push(self.prompt.forced.suffix)
        return pieces + parser.finish()

    def _pieces(self, index: int, pieces: Sequence[Piece], calls: list[int]) -> list[bytes]:
        frames = []
        for piece in pieces:
            if isinstance(piece, Content):
                delta: dict[str, Any] = {"content": piece.text}
            elif isinstance(piece, Reasoning):
                delta = {"reasoning_content": piece.text}
            else:
                delta = {"tool_calls": [{"index": calls[index], **call_record(piece)}]}
                calls[index] += 1
            frames.append(self._chunk(index, delta))
        return frames

    def _tokens(self, index: int, delta: Delta) -> bytes:
        """Log-probs and ids of what came, in a chunk of their own: text may wait for the tokens after it."""
        extra: dict[str, Any] = {"logprobs": self._logprobs(delta.token_ids, delta.logprobs, delta.top_logprobs)}
        if self.body.return_token_ids:
            extra["token_ids"] = list(delta.token_ids)
        return self._chunk(index, {}, **extra)

    def _logprobs(self, ids: Sequence[int], logprobs: Sequence[float], tops: Any) -> dict[str, Any] | None:
        if not self.body.logprobs:
            return None
        return {"content": chat_logprobs(self.service.processor.tokenizer, ids, logprobs, tops), "refusal": None}

    def _extras(self, index: int, completion: Completion) -> dict[str, Any]:
        if not self.body.return_routed_experts or completion.routing is None:
            return {}
        return {"routed_experts": self.service.routing.put(f"{self.run.id}-{index}", completion.routing)}

    def _usage(self, completions: Sequence[Completion]) -> dict[str, Any]:
        reasoning = reasoning_tokens(self.service, self.prompt, completions)
        return usage(completions, reasoning_tokens=reasoning)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.run.id,
            "object": kind,
            "created": self.run.created,
            "model": self.service.settings.model_name,
            "system_fingerprint": f"v{self.service.engine.engine.policy_version}",
        }

    def _chunk(self, index: int, delta: dict[str, Any], *, finish: str | None = None, **extra: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **extra}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})
