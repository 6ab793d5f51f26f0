"""`POST /v1/completions`: text or token ids in, text out, with the log-probs that evaluation programs need.

`prompt` is a text, a list of texts, a list of ids or a list of lists of ids; answers stand prompt by prompt, `n` to
each. Control tokens in a text are control tokens here: this is the interface for prompts that somebody has rendered.

With `echo` the answer begins with the prompt, and `logprobs` holds one entry per token of both, the first one null:
multiple choice by likelihood needs one request per option, `max_tokens` 1 or 0. With `max_tokens` 0 nothing is
generated.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from s1pro.base.records import Completion, Sampling
from s1pro.serve.http.bodies import CompletionBody
from s1pro.serve.http.connection import EventStream, answered
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import DONE, Json, event
from s1pro.serve.http.sampling import sampling_of, seeds_of, structure_of
from s1pro.serve.http.service import Run, Service
from s1pro.serve.http.token_text import completion_logprobs, usage
from s1pro.serve.request import Delta


def completion_routes(service: Service) -> APIRouter:
    """The route of this module."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(request: Request, body: CompletionBody) -> Response:
        """Continues text or token ids."""
        return await answered(request, _complete(service, body))

    return router


async def _complete(service: Service, body: CompletionBody) -> Response:
    count = body.n or 1
    given = _prompts(body)
    if body.stream and body.echo and body.logprobs is not None:
        raise ApiError(400, "log-probs of the prompt are not streamed: leave out stream, echo or logprobs")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.admit(count * len(given)))
        prompts = await service.in_worker(lambda: [_ids(service, prompt) for prompt in given])
        samplings = seeds_of(_sampling(service, body), count)
        run = await stack.enter_async_context(
            service.start(
                [(ids, None) for ids in prompts],
                samplings,
                stream=bool(body.stream),
                kind="cmpl",
                request_id=body.request_id,
            )
        )
        answer = _Answer(service=service, body=body, run=run, prompts=prompts)
        if body.stream:
            return EventStream(answer.frames(), stack.pop_all())
        return Json(answer.whole(await run.results()))


def _sampling(service: Service, body: CompletionBody) -> Sampling:
    most = service.settings.default_max_tokens if body.max_tokens is None else body.max_tokens
    echoed = body.echo and body.logprobs is not None
    return sampling_of(
        body,
        max_new_tokens=most,
        vocab_size=service.vocab_size,
        logprobs=body.logprobs or 0,
        prompt_logprobs=body.logprobs if echoed else 0 if most == 0 else None,
        structured=structure_of(body, body.response_format),
    )


def _prompts(body: CompletionBody) -> list[str | list[int]]:
    """One entry per prompt."""
    prompt = body.prompt
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
        return [prompt]  # type: ignore[list-item]
    if not prompt:
        raise ApiError(400, "the prompt is empty; give at least one token", param="prompt")
    return list(prompt)  # type: ignore[arg-type]


def _ids(service: Service, prompt: str | list[int]) -> list[int]:
    return service.processor.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Writes the answers of one run."""

    service: Service
    body: CompletionBody
    run: Run
    prompts: Sequence[list[int]]

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        choices = []
        for index, completion in enumerate(completions):
            echo = self._echo(index)
            choice = {
                "index": index,
                "text": echo + completion.text,
                "logprobs": self._logprobs(completion, len(echo)),
                "finish_reason": completion.finish_reason,
                **self._extras(index, completion),
            }
            if self.body.return_token_ids:
                choice["prompt_token_ids"] = list(completion.prompt_token_ids)
                choice["token_ids"] = list(completion.token_ids)
            choices.append(choice)
        return {**self._head(), "choices": choices, "usage": usage(completions, prompts=len(self.prompts))}

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Chunks with text, per answer one with the reason of its end, the usage if asked for, `[DONE]`."""
        finished: dict[int, Completion] = {}
        for index in range(len(self.run.streams)):
            if echo := self._echo(index):
                yield self._chunk(index, echo)
        lengths = [0] * len(self.run.streams)
        async for index, item in self.run.deltas():
            if isinstance(item, Completion):
                finished[index] = item
                reason = item.finish_reason
                yield self._chunk(index, "", finish_reason=reason, **self._extras(index, item))
            elif item.text or self.body.logprobs is not None or self.body.return_token_ids:
                fields = self._token_fields(item, lengths[index])
                lengths[index] += sum(map(len, (fields.get("logprobs") or {}).get("tokens", ())))
                yield self._chunk(index, item.text, **fields)
        if self.body.stream_options is not None and self.body.stream_options.include_usage:
            completions = [finished[index] for index in sorted(finished)]
            numbers = usage(completions, prompts=len(self.prompts))
            yield event({**self._head(), "choices": [], "usage": numbers})
        yield DONE

    def _token_fields(self, delta: Delta, offset: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self.body.logprobs is not None:
            tokenizer = self.service.processor.tokenizer
            fields["logprobs"] = completion_logprobs(
                tokenizer, delta.token_ids, delta.logprobs, delta.top_logprobs, offset=offset
            )
        if self.body.return_token_ids:
            fields["token_ids"] = list(delta.token_ids)
        return fields

    def _echo(self, index: int) -> str:
        """The prompt of an answer as text, where it is wanted."""
        if not self.body.echo:
            return ""
        prompt = self.prompts[index // (self.body.n or 1)]
        return self.service.processor.tokenizer.decode(prompt)

    def _logprobs(self, completion: Completion, offset: int) -> dict[str, Any] | None:
        if self.body.logprobs is None:
            return None
        tokenizer = self.service.processor.tokenizer
        ids, logprobs = completion.token_ids, completion.logprobs or ()
        tops = completion.top_logprobs if self.body.logprobs else None
        if not self.body.echo:
            return completion_logprobs(tokenizer, ids, logprobs, tops)
        before = completion.prompt_logprobs or ()
        before_tops = completion.prompt_top_logprobs or (None,) * len(before)
        return completion_logprobs(
            tokenizer,
            (*completion.prompt_token_ids, *ids),
            (*before, *logprobs),
            None if not self.body.logprobs else (*before_tops, *(tops or ())),
        )

    def _extras(self, index: int, completion: Completion) -> dict[str, Any]:
        if not self.body.return_routed_experts or completion.routing is None:
            return {}
        return {"routed_experts": self.service.routing.put(f"{self.run.id}-{index}", completion.routing)}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.run.id,
            "object": "text_completion",
            "created": self.run.created,
            "model": self.service.settings.model_name,
        }

    def _chunk(self, index: int, text: str, **fields: Any) -> bytes:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": None, **fields}
        return event({**self._head(), "choices": [choice]})
