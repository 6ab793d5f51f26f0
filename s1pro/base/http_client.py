"""`HttpClient`: the `ModelClient` of an OpenAI-compatible server: our own, vLLM, LMDeploy, SGLang, or hosted.

    chat      POST {base}/chat/completions
    complete  POST {base}/completions
    generate  POST {root}/generate           token ids in and out; other engines' forms are in `base.engine_forms`
    post      POST {base}{path}              any JSON: engines that are no language models, and control of engines
    get       GET  {base}{path}              how a server is

One call goes this way:

1. A place among `concurrency` is waited for; callers may start any number of coroutines.
2. The circuit breaker of the endpoint is asked; then the token buckets for requests and tokens.
3. The request runs under one deadline for everything, so a server that drips a byte a minute is a time-out too. Answers
   of more than `max_answer_bytes` are refused, redirects are not followed.
4. What may work later is tried again, see `base.endpoint`; waiting for an open circuit counts as a try.
5. Tokens and costs are added to `usage`, failures too.

The key comes from an argument or from an environment variable that the user names (`base.connections`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from s1pro.base.connections import Connections, find_key, retry_after
from s1pro.base.endpoint import (
    CircuitBreaker,
    EndpointError,
    EndpointSettings,
    Now,
    Sleep,
    TokenBucket,
    asyncio_sleep,
    status_error,
)
from s1pro.base.engine_forms import FORMS, distribution
from s1pro.base.records import Completion, Message, Sampling
from s1pro.base.routing_file import read_trace
from s1pro.base.wire import (
    MalformedAnswerError,
    chat_completion,
    generation,
    message_json,
    routing_reference,
    sampling_json,
    text_completion,
)

CHARACTERS_PER_TOKEN = 4.0
TOKENS_PER_MEDIUM = 1024
Answer = TypeVar("Answer")

ROOT_PATHS = frozenset(
    {
        "/generate",
        "/health",
        "/collective_rpc",
        "/continue_generation",
        "/pause",
        "/pause_generation",
        "/reset_prefix_cache",
        "/resume",
        "/update_weights",
        "/update_weights_from_disk",
    }
)
"""Of our server and other engines: what is no part of the OpenAI API lies beside `/v1`."""


@dataclass(kw_only=True)
class UsageTotals:
    """What a client has used so far. `cost` is in the currency of the prices."""

    requests: int = 0
    attempts: int = 0
    failures: int = 0
    num_prompt_tokens: int = 0
    num_cached: int = 0
    num_tokens: int = 0
    cost: float = 0.0


class HttpClient:
    """See the module docstring.

    Args:
        api_key: sent as bearer token.
        api_key_variable: name of an environment variable that holds the key.
        now, sleep: replaced in tests.

    Raises:
        InputError: both keys are given, or the variable is not set.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        api_key: str | None = None,
        api_key_variable: str | None = None,
        now: Now = time.monotonic,
        sleep: Sleep = asyncio_sleep,
    ) -> None:
        self.settings = settings
        self.usage = UsageTotals()
        self._connections = Connections(settings, find_key(api_key, api_key_variable))
        self._sleep = sleep
        self._calls = itertools.count()
        self._breaker = CircuitBreaker(
            threshold=settings.breaker_threshold, cooldown_s=settings.breaker_cooldown_s, now=now
        )
        rates = (settings.requests_per_second, (settings.tokens_per_minute or 0) / 60 or None)
        capacities = (None, settings.tokens_per_minute)
        self._requests, self._tokens = (
            None if rate is None else TokenBucket(rate, now=now, sleep=sleep, capacity=capacity)
            for rate, capacity in zip(rates, capacities, strict=True)
        )

    def __repr__(self) -> str:
        return f"HttpClient({self.settings.base_url!r}, model={self.settings.model!r})"

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. The client may be used again."""
        await self._connections.aclose()

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return await self.chat_with_tools(messages, (), sampling)

    async def chat_with_tools(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], sampling: Sampling
    ) -> Completion:
        """As `chat`; the model may call tools, which is for it to decide."""
        turns = [message_json(message) for message in messages]
        body = {"messages": turns, **self._body(sampling)}
        if tools:
            body["tools"] = [dict(tool) for tool in tools]
        if self.settings.logprobs:
            body["logprobs"] = True
        return await self._call("/chat/completions", body, chat_completion, _estimate(turns, sampling))

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        body = {"prompt": prompt, **self._body(sampling)}
        if self.settings.logprobs:
            body["logprobs"] = 1
        return await self._call("/completions", body, text_completion, _estimate(prompt, sampling))

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        ids = [int(token) for token in prompt_token_ids]
        if self.settings.engine != "s1pro":
            return await self._generate_elsewhere(ids, sampling)
        body = {"input_ids": ids, "return_logprob": True, **self._body(sampling), "max_tokens": sampling.max_new_tokens}
        if self.settings.routing:
            body["return_routed_experts"] = True
        estimate = len(ids) + sampling.max_new_tokens
        announced: list[Any] = []

        def read(answer: Any) -> Completion:
            announced[:] = [routing_reference(answer)]
            return generation(answer, ids)

        completion = await self._call("/generate", body, read, estimate)
        reference = announced[0] if self.settings.routing else None
        return completion if reference is None else await self._with_routing(completion, *reference)

    async def _generate_elsewhere(self, ids: Sequence[int], sampling: Sampling) -> Completion:
        """`generate` in the form of another engine."""
        settings, form = self.settings, FORMS[self.settings.engine]
        body = {**form.body(ids, sampling, settings.model, settings.routing), **settings.extra_body}
        return await self._call(
            form.path,
            body,
            lambda answer: form.read(answer, ids, settings.routing_shape),
            len(ids) + sampling.max_new_tokens,
        )

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Answer]) -> Answer:
        """Any other call that takes and gives JSON, with everything that calls of models have.

        Args:
            path: behind the base address, may be empty; behind its root for the paths in `ROOT_PATHS`.
            read: makes something of the answer, None for an empty one; raises `MalformedAnswerError` if it is none.
        """
        found: list[Answer] = []

        def keep(answer: Any) -> Completion:
            found[:] = [read(answer)]
            return Completion(text="", finish_reason="stop")

        await self._call(path, body, keep, 0.0)
        return found[0]

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one GET, tried once: how a server is, and what it serves.

        Raises:
            EndpointError: nobody answers, or not in time.
        """
        import httpx

        where = self._address(path)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                status, _, data = await self._connections.exchange(where, None, "GET")
        except (TimeoutError, httpx.HTTPError, OSError) as error:
            raise EndpointError(f"{where}: {type(error).__name__}: {error}", kind="connection") from error
        return status, data

    async def _with_routing(self, completion: Completion, ref: str, shape: tuple[int, int, int]) -> Completion:
        """Fetches the trace that an answer announced, and lets the server forget it."""
        import httpx

        where = f"{self.settings.base_url.rstrip('/').removesuffix('/v1')}/routed_experts/{ref}"
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                status, _, data = await self._connections.exchange(where, None, "GET")
                await self._connections.exchange(where, None, "DELETE")
        except (TimeoutError, httpx.HTTPError, OSError) as error:
            raise EndpointError(f"{where}: {type(error).__name__}: {error}", kind="connection") from error
        if status != 200:
            raise status_error(status, self._connections.excerpt(data), where, attempts=1)
        try:
            trace = read_trace(data, shape, completion.policy_version)
        except ValueError as error:
            raise EndpointError(f"{where}: {error}", status=200, kind="malformed") from error
        return replace(completion, routing=trace)

    def _body(self, sampling: Sampling) -> dict[str, Any]:
        settings = self.settings
        body = {"model": settings.model, **sampling_json(sampling, settings.max_tokens_field)}
        if settings.engine != "s1pro":
            body |= distribution(sampling, settings.engine)
        return {**body, **settings.extra_body}

    def _address(self, path: str) -> str:
        base = self.settings.base_url.rstrip("/")
        from_root = path.startswith("/v1/") or path.partition("?")[0] in ROOT_PATHS
        return (base.removesuffix("/v1") if from_root else base) + path

    async def _call(
        self, path: str, body: Mapping[str, Any], read: Callable[[Any], Completion], estimate: float
    ) -> Completion:
        """Steps 1 to 5 of the module docstring."""
        # half a surrogate pair becomes its JSON escape
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        call, retries = next(self._calls), self.settings.retries
        self.usage.requests += 1
        async with self._connections.places:
            attempt = 0
            while True:
                try:
                    completion = await self._attempt(path, content, read, estimate, attempt + 1)
                except EndpointError as error:
                    if attempt + 1 >= retries.attempts or not error.may_work_later:
                        self.usage.failures += 1
                        raise
                    wanted = error.retry_after_s
                    await self._sleep(retries.delay(call, attempt) if wanted is None else wanted)
                else:
                    self._account(completion)
                    return completion
                attempt += 1

    async def _attempt(
        self, path: str, content: bytes, read: Callable[[Any], Completion], estimate: float, number: int
    ) -> Completion:
        """One try, with what it tells the circuit breaker."""
        if (wait := self._breaker.wait_s()) > 0:
            message = f"{self.settings.base_url}: not asked, the circuit is open after failures in a row"
            raise EndpointError(message, kind="circuit_open", attempts=number, retry_after_s=wait)
        told = False
        try:
            for bucket, amount in ((self._requests, 1.0), (self._tokens, estimate)):
                if bucket is not None:
                    await bucket.take(amount)
            self.usage.attempts += 1
            completion = await self._post(path, content, read, number)
            self._breaker.succeeded()
            told = True
        except EndpointError as error:
            if error.may_work_later and error.status != 429:
                self._breaker.failed()
                told = True
            elif error.status:  # it is alive
                self._breaker.succeeded()
                told = True
            raise
        finally:
            if not told:
                self._breaker.abandoned()
        if self._tokens is not None and completion.usage is not None:
            used = completion.usage.num_prompt_tokens + completion.usage.num_tokens
            self._tokens.give_back(estimate - used)
        return completion

    async def _post(self, path: str, content: bytes, read: Callable[[Any], Completion], number: int) -> Completion:
        import httpx

        settings, where = self.settings, self._address(path)
        try:
            async with asyncio.timeout(settings.timeout_s):
                status, headers, data = await self._connections.exchange(where, content)
        except (TimeoutError, httpx.TimeoutException) as error:
            message = f"{where}: no answer in {settings.timeout_s:g} s (attempt {number})"
            raise EndpointError(message, kind="timeout", attempts=number) from error
        except (httpx.HTTPError, OSError) as error:
            message = f"{where}: {type(error).__name__} (attempt {number}): {self._connections.clean(str(error))}"
            raise EndpointError(message, kind="connection", attempts=number) from error
        if status != 200:
            patience = retry_after(headers, settings.retries.longest_retry_after_s)
            raise status_error(status, self._connections.excerpt(data), where, attempts=number, retry_after_s=patience)
        try:
            return read(json.loads(data or b"null"))
        except (MalformedAnswerError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            body = self._connections.excerpt(data)
            message = f"{where}: the answer cannot be read ({type(error).__name__}: {error}): {body}"
            raise EndpointError(message, status=200, body=body, kind="malformed", attempts=number) from error

    def _account(self, completion: Completion) -> None:
        if completion.usage is None:
            return
        total, used, settings = self.usage, completion.usage, self.settings
        total.num_prompt_tokens += used.num_prompt_tokens
        total.num_cached += used.num_cached
        total.num_tokens += used.num_tokens
        cost = used.num_prompt_tokens * settings.price_prompt + used.num_tokens * settings.price_completion
        total.cost += cost / 1e6


def _estimate(turns: Any, sampling: Sampling) -> float:
    """Tokens that a request may use at most, roughly: text by its length, media by a fixed number."""
    if isinstance(turns, str):
        return len(turns) / CHARACTERS_PER_TOKEN + sampling.max_new_tokens
    characters, media = 0, 0
    for turn in turns:
        for part in [{"text": turn["content"]}] if isinstance(turn["content"], str) else turn["content"]:
            characters += len(str(part.get("text", "")))
            media += "text" not in part
    return characters / CHARACTERS_PER_TOKEN + media * TOKENS_PER_MEDIUM + sampling.max_new_tokens
