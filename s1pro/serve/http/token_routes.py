"""Tokens in, tokens out: `/generate` for reinforcement learning, and the tokenizer for clients that have none.

`POST /generate` takes `input_ids` (or a `prompt`) and gives ids, raw log-probs and the version of the weights:

    {"id", "output_ids", "text", "meta_info": {"output_token_logprobs": [[logprob, id], ...], "finish_reason",
     "prompt_tokens", "completion_tokens", "cached_tokens", "policy_version", ...}}

With `n` above 1 the answer is a list of such objects. Streamed, every event has the ids and log-probs that are new, the
last one the rest of `meta_info`. Routed experts come by reference (`routing_store`).

`/tokenize`, `/detokenize` and `/tokenizer_info` are what lm-eval's remote tokenizer asks for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from s1pro.base.records import Completion, TopLogprobs
from s1pro.serve.http.bodies import DetokenizeBody, GenerateBody, TokenizeBody
from s1pro.serve.http.connection import EventStream, answered
from s1pro.serve.http.conversation import chat_prompt
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import DONE, Json, event, finite
from s1pro.serve.http.routing_store import as_npy
from s1pro.serve.http.sampling import sampling_of, seeds_of, structure_of
from s1pro.serve.http.service import Run, Service


def token_routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    tokenizer = service.processor.tokenizer

    @router.post("/generate")
    async def generate(request: Request, body: GenerateBody) -> Response:
        """Continues token ids, with log-probs, routing and the version of the weights."""
        return await answered(request, _generate(service, body))

    @router.get("/routed_experts/{ref}")
    async def routed_experts(ref: str) -> Response:
        """A routing trace as `.npy`, uint16 `[tokens, layers, experts per token]`."""
        trace = service.routing.get(ref)
        if trace is None:
            raise ApiError(404, "there is no such routing trace, or it was forgotten for newer ones")
        return Response(as_npy(trace), media_type="application/octet-stream")

    @router.delete("/routed_experts/{ref}")
    async def forget_routed_experts(ref: str) -> Response:
        """Frees the memory of a routing trace."""
        return Json({"deleted": service.routing.drop(ref)})

    @router.post("/tokenize")
    async def tokenize(request: Request, body: TokenizeBody) -> Response:
        """Ids of a text, or of messages through the chat template."""
        ids = await _tokenized(service, body)
        return Json({"tokens": ids, "count": len(ids), "max_model_len": service.max_context})

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> Response:
        """Text of ids."""
        beyond = next((token for token in body.tokens if token >= service.vocab_size), None)
        if beyond is not None:
            message = f"tokens: ids must lie in [0, {service.vocab_size}), got {beyond}"
            raise ApiError(400, message, param="tokens")
        return Json({"prompt": tokenizer.decode(body.tokens, skip_special_tokens=bool(body.skip_special_tokens))})

    @router.get("/tokenizer_info")
    async def tokenizer_info() -> Response:
        """Special tokens and the chat template."""
        return Json(
            {
                "eos_token": tokenizer.id_to_token(tokenizer.eos_token_id),
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token": tokenizer.id_to_token(tokenizer.pad_token_id),
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token": None,
                "vocab_size": tokenizer.vocab_size,
                "chat_template": service.processor.template.source,
            }
        )

    return router


async def _tokenized(service: Service, body: TokenizeBody) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "give prompt or messages")
    if body.prompt is not None:
        text = body.prompt
        return await service.in_worker(lambda: service.processor.tokenizer.encode(text))
    assert body.messages is not None
    prompt = await chat_prompt(
        service,
        body.messages,
        tools=body.tools or (),
        enable_thinking=service.settings.enable_thinking if body.enable_thinking is None else body.enable_thinking,
        add_generation_prompt=body.add_generation_prompt is not False,
    )
    return prompt.token_ids


async def _generate(service: Service, body: GenerateBody) -> Response:
    if (body.input_ids is None) == (body.prompt is None):
        raise ApiError(400, "give input_ids or prompt")
    count = body.n or 1
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.admit(count))
        ids = body.input_ids
        if ids is None:
            ids = await service.in_worker(lambda: service.processor.tokenizer.encode(body.prompt or ""))
        most = body.max_new_tokens if body.max_new_tokens is not None else body.max_tokens
        most = max(1, service.max_context - len(ids)) if most is None else most
        sampling = sampling_of(
            body,
            max_new_tokens=most,
            vocab_size=service.vocab_size,
            logprobs=body.top_logprobs or 0,
            structured=structure_of(body),
            prompt_logprobs=(body.top_logprobs or 0) if body.return_prompt_logprob or most == 0 else None,
        )
        samplings = seeds_of(sampling, count)
        run = await stack.enter_async_context(
            service.start([(ids, None)], samplings, stream=bool(body.stream), kind="gen", request_id=body.request_id)
        )
        if body.stream:
            return EventStream(_frames(service, body, run), stack.pop_all())
        records = [_record(service, body, run, i, answer) for i, answer in enumerate(await run.results())]
        return Json(records[0] if count == 1 else records)


async def _frames(service: Service, body: GenerateBody, run: Run) -> AsyncGenerator[bytes, None]:
    async for index, item in run.deltas():
        if isinstance(item, Completion):
            yield event({"id": run.id, "index": index, "meta_info": _meta(service, body, run, index, item)})
            continue
        record: dict[str, Any] = {"id": run.id, "index": index, "output_ids": list(item.token_ids), "text": item.text}
        if news := _logprobs(body, item.token_ids, item.logprobs, item.top_logprobs):
            record["meta_info"] = news
        yield event(record)
    yield DONE


def _record(service: Service, body: GenerateBody, run: Run, index: int, completion: Completion) -> dict[str, Any]:
    meta = _meta(service, body, run, index, completion)
    meta |= _logprobs(body, completion.token_ids, completion.logprobs or (), completion.top_logprobs)
    ids = list(completion.token_ids)
    return {"id": run.id, "index": index, "text": completion.text, "output_ids": ids, "meta_info": meta}


def _meta(service: Service, body: GenerateBody, run: Run, index: int, completion: Completion) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "prompt_tokens": len(completion.prompt_token_ids),
        "completion_tokens": len(completion.token_ids),
        "cached_tokens": completion.cached_tokens,
        "policy_version": completion.policy_version,
    }
    if completion.token_versions is not None:
        meta["token_versions"] = list(completion.token_versions)
    if body.return_prompt_logprob:
        meta["input_token_logprobs"] = _pairs(completion.prompt_logprobs or (), completion.prompt_token_ids)
    if body.return_routed_experts and completion.routing is not None:
        meta["routed_experts"] = service.routing.put(f"{run.id}-{index}", completion.routing)
    return meta


def _logprobs(
    body: GenerateBody, ids: Sequence[int], logprobs: Sequence[float], tops: Sequence[TopLogprobs] | None
) -> dict[str, Any]:
    """Those of generated tokens, as far as they are wanted."""
    found: dict[str, Any] = {}
    if body.return_logprob:
        found["output_token_logprobs"] = _pairs(logprobs, ids)
    if body.top_logprobs:
        found["output_top_logprobs"] = [_tops(top) for top in tops or ()]
    return found


def _pairs(logprobs: Sequence[float | None], ids: Sequence[int]) -> list[list[float | int | None]]:
    return [[None if lp is None else finite(lp), token] for lp, token in zip(logprobs, ids, strict=True)]


def _tops(top: Sequence[tuple[int, float]]) -> list[list[float | int]]:
    return [[finite(logprob), token] for token, logprob in top]
