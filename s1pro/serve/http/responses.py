"""`POST /v1/responses`: OpenAI's newer interface, whole and as a stream of named events.

    response.created, response.in_progress
      response.output_item.added
        response.reasoning_text.delta … .done                 for the reasoning
        response.content_part.added, response.output_text.delta … .done, response.content_part.done
        response.function_call_arguments.delta, .done         for a call
      response.output_item.done
    response.completed or response.incomplete

`response_writer` turns pieces of the answer into items and events; the whole answer is what it holds at the end.

A response is kept (unless `store` is false) so that the next one can say `previous_response_id` instead of sending the
conversation again. The store is bounded in bytes; what is older is forgotten (404). Left out: background responses and
tools that the server would run itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from s1pro.base.records import Completion, StructuredOutput
from s1pro.serve.answer_text import Content
from s1pro.serve.http.bodies import ChatMessage, ResponsesBody
from s1pro.serve.http.chat import finish_reason, first_call, pieces_of, reasoning_tokens
from s1pro.serve.http.connection import EventStream, answered
from s1pro.serve.http.conversation import ChatPrompt, chat_prompt, forced_call, wants_thinking
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import Json, event
from s1pro.serve.http.response_items import as_messages, as_tools, assistant_message
from s1pro.serve.http.response_store import ResponseStore
from s1pro.serve.http.response_writer import Writer
from s1pro.serve.http.sampling import sampling_of, schema_structure, structure_of
from s1pro.serve.http.service import Run, Service
from s1pro.serve.http.token_text import chat_logprobs

LOGPROBS = "message.output_text.logprobs"


def response_routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    store = ResponseStore()

    @router.post("/v1/responses")
    async def create_response(request: Request, body: ResponsesBody) -> Response:
        """Answers a conversation."""
        return await answered(request, _respond(service, store, body))

    @router.get("/v1/responses/{response_id}")
    async def retrieve_response(response_id: str) -> Response:
        """A response that was kept."""
        return Json(store.get(response_id).record)

    @router.delete("/v1/responses/{response_id}")
    async def delete_response(response_id: str) -> Response:
        """Forgets a response."""
        store.drop(response_id)
        return Json({"id": response_id, "object": "response", "deleted": True})

    return router


async def _respond(service: Service, store: ResponseStore, body: ResponsesBody) -> Response:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.admit(1))
        earlier = store.get(body.previous_response_id).messages if body.previous_response_id else []
        messages = [*earlier, *as_messages(body.input)]
        if not messages:
            raise ApiError(400, "input: there is nothing to answer; give a text or at least one item", param="input")
        prompt, structured = await _prompt(service, body, messages)
        room = max(1, service.max_context - len(prompt.token_ids))
        wants_logprobs = LOGPROBS in (body.include or ()) or bool(body.top_logprobs)
        sampling = sampling_of(
            body,
            max_new_tokens=body.max_output_tokens or room,
            vocab_size=service.vocab_size,
            logprobs=body.top_logprobs or 0,
            structured=structured,
        )
        run = await stack.enter_async_context(
            service.start(
                [(prompt.token_ids, prompt.media)],
                [sampling],
                stream=bool(body.stream) or prompt.single_call,
                kind="resp",
                request_id=body.request_id,
            )
        )
        answer = _Answer(
            service=service,
            store=store,
            body=body,
            run=run,
            prompt=prompt,
            messages=messages,
            wants_logprobs=wants_logprobs,
        )
        if body.stream:
            return EventStream(answer.frames(), stack.pop_all())
        [completion] = await run.results(first_call(prompt, 1))
        return Json(answer.whole(completion))


async def _prompt(
    service: Service, body: ResponsesBody, messages: Sequence[ChatMessage]
) -> tuple[ChatPrompt, StructuredOutput | None]:
    tools, forced = forced_call(as_tools(body.tools or ()), body.tool_choice)
    structured = _structure(body)
    if forced is not None and structured is not None:
        raise ApiError(400, "tool_choice and text.format both prescribe the answer", param="tool_choice")
    thinking = wants_thinking(
        service,
        template_kwargs=body.chat_template_kwargs,
        enable_thinking=body.enable_thinking,
        effort=None if body.reasoning is None else body.reasoning.effort,
        forced=forced is not None,
    )
    instructed = [ChatMessage(role="system", content=body.instructions)] if body.instructions else []
    prompt = await chat_prompt(
        service,
        [*instructed, *messages],
        tools=tools,
        forced=forced,
        single_call=body.parallel_tool_calls is False,
        enable_thinking=thinking,
    )
    return prompt, prompt.form(structured)


def _structure(body: ResponsesBody) -> StructuredOutput | None:
    wanted = None if body.text is None else body.text.format
    if wanted is None or wanted.type == "text":
        return structure_of(body)
    if wanted.type == "json_object":
        return StructuredOutput(kind="json_object")
    if wanted.schema_ is None:
        raise ApiError(400, "text.format.schema must be a JSON schema", param="text.format")
    return schema_structure(wanted.schema_)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Writes the answer of one run."""

    service: Service
    store: ResponseStore
    body: ResponsesBody
    run: Run
    prompt: ChatPrompt
    messages: Sequence[ChatMessage]
    wants_logprobs: bool

    def whole(self, completion: Completion) -> dict[str, Any]:
        writer = Writer()
        writer.push(pieces_of(self.prompt, completion) or [Content(text="")])
        return self._end(writer, completion)[0]

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """The stream; see the module docstring."""
        number = 0

        def frame(record: dict[str, Any]) -> bytes:
            nonlocal number
            number += 1
            return event({**record, "sequence_number": number - 1}, record["type"])

        begun = self._record([], "in_progress", None)
        yield frame({"type": "response.created", "response": begun})
        yield frame({"type": "response.in_progress", "response": begun})
        parser, writer = self.prompt.parser(), Writer()
        forced = self.prompt.forced
        if forced is not None:
            parser.push(forced.prefix)
        async for _, item in self.run.deltas():
            if not isinstance(item, Completion):
                for record in writer.push(parser.push(item.text)):
                    yield frame(record)
                if self.prompt.single_call and parser.num_calls:
                    self.run.streams[0].cancel()
                continue
            last = parser.push(forced.suffix) if forced is not None and item.finish_reason == "stop" else []
            pieces = [*last, *parser.finish()]
            for record in writer.push(pieces if pieces or writer.output else [Content(text="")]):
                yield frame(record)
            response, closing = self._end(writer, item)
            for record in closing:
                yield frame(record)
            yield frame({"type": f"response.{response['status']}", "response": response})

    def _end(self, writer: Writer, completion: Completion) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The finished response, kept if wanted, and the events that close its last item."""
        calls = sum(item["type"] == "function_call" for item in writer.output)
        ended = finish_reason(self.prompt, completion, calls) in ("stop", "tool_calls")
        status = "completed" if ended else "incomplete"
        writer.logprobs = self._logprobs(completion)
        closing = writer.close(status)
        response = self._record(writer.output, status, completion)
        if self.body.store is not False:
            self.store.put(self.run.id, response, [*self.messages, *assistant_message(writer.output)])
        return response, closing

    def _logprobs(self, completion: Completion) -> list[dict[str, Any]]:
        if not self.wants_logprobs:
            return []
        tokenizer = self.service.processor.tokenizer
        return chat_logprobs(tokenizer, completion.token_ids, completion.logprobs or (), completion.top_logprobs)

    def _record(self, output: list[dict[str, Any]], status: str, completion: Completion | None) -> dict[str, Any]:
        body = self.body
        text_format = {"type": "text"} if body.text is None or body.text.format is None else body.text.format
        if not isinstance(text_format, dict):
            text_format = text_format.model_dump(by_alias=True, exclude_none=True)
        cut = status == "incomplete" and completion is not None and completion.finish_reason == "length"
        incomplete = {"reason": "max_output_tokens"} if cut else None
        return {
            "id": self.run.id,
            "object": "response",
            "created_at": self.run.created,
            "status": status,
            "error": None,
            "incomplete_details": incomplete,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": self.service.settings.model_name,
            "output": output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": None if body.reasoning is None else body.reasoning.effort, "summary": None},
            "store": body.store is not False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": {"format": text_format},
            "tool_choice": body.tool_choice or "auto",
            "tools": [tool.model_dump(exclude_none=True) for tool in body.tools or ()],
            "top_p": body.top_p or 1.0,
            "truncation": "disabled",
            "metadata": body.metadata or {},
            "usage": None if completion is None else self._usage(completion),
        }

    def _usage(self, completion: Completion) -> dict[str, Any]:
        prompt, generated = len(completion.prompt_token_ids), len(completion.token_ids)
        reasoning = reasoning_tokens(self.service, self.prompt, [completion])
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": completion.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": generated,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": prompt + generated,
        }
