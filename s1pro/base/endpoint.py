"""What stands between us and a server that is slow, busy or broken: errors, back-off, token bucket, circuit breaker.

    failure                                  what happens
    429, 408, 409, 5xx, time-out, lost line  tried again: Retry-After if the server says it, else back-off with jitter
    400, 413, 422                            `PromptRefusedError`: this prompt will never work; others may
    401, 403, 404, other 3xx and 4xx         `EndpointRefusedError`: no prompt will work; the user must repair it
    an answer that is no answer              tried again, then `EndpointError` with an excerpt of what came

Back-off of attempt n (from 0): a delay drawn uniformly from [d/2, d] with d = min(first * 2^n, longest). The draw is a
function of a seed, the number of the call and of the attempt, so tests see the same delays.

The token bucket holds `capacity` units and gains `rate` per second. Who takes more than there is goes into debt and
waits until it is paid, so that large requests are not starved by small ones, and the order is that of arrival. A
request pays for the tokens it may use at most; what it did not use is given back.

The circuit breaker counts failures of the endpoint (not of prompts) in a row. At `threshold` it opens: nobody asks for
`cooldown_s`. Then one call is let through; if it works the circuit closes, else it stays open for another period.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from s1pro.base.errors import InputError

RETRIED_STATUSES = frozenset({408, 409, 425, 429})
PROMPT_STATUSES = frozenset({400, 413, 422})
EXCERPT = 400

EngineName = Literal["s1pro", "vllm", "lmdeploy", "sglang"]
"""Who serves: this project, or another engine."""

Now = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class EndpointError(RuntimeError):
    """A call failed for good.

    Attributes:
        status: HTTP status; 0 if there was no answer.
        body: excerpt of what came back.
        kind: "status", "timeout", "connection", "malformed", "too_large" or "circuit_open".
        attempts: how often it was tried.
        retry_after_s: how long the server, or the open circuit, wants us to wait; None if that is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        body: str = "",
        kind: str = "status",
        attempts: int = 1,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.body, self.kind, self.attempts = status, body, kind, attempts
        self.retry_after_s = retry_after_s

    @property
    def may_work_later(self) -> bool:
        """Whether the same request may work another time."""
        if self.kind == "status":
            return is_retried(self.status)
        return self.kind in ("timeout", "connection", "malformed", "circuit_open")


class PromptRefusedError(EndpointError, ValueError):
    """The server cannot take this prompt (400, 413, 422); others may work."""


class EndpointRefusedError(EndpointError, InputError):
    """The server takes no prompt from us: wrong address, model, or key (401, 403, 404 and the like)."""


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """How often and how long to try.

    Attributes:
        attempts: tries of one call, the first one included.
        first_s, longest_s: delays of the back-off.
        longest_retry_after_s: a server that asks for more patience than this gets this much.
        seed: of the jitter.
    """

    attempts: int = 6
    first_s: float = 0.5
    longest_s: float = 30.0
    longest_retry_after_s: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_s < 0 or self.longest_s < self.first_s or self.longest_retry_after_s < 0:
            raise InputError(f"retries: at least one attempt, and 0 <= first_s <= longest_s, got {self}")

    def delay(self, call: int, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 0) of call number `call`."""
        longest = min(self.first_s * 2.0**attempt, self.longest_s)
        digest = hashlib.blake2b(f"{self.seed}|{call}|{attempt}".encode(), digest_size=8).digest()
        return longest * (0.5 + 0.5 * int.from_bytes(digest, "big") / 2**64)


def check_address(url: str, name: str) -> None:
    """Whether `url` is one of an endpoint.

    Args:
        name: of the field or option that it was given as.

    Raises:
        InputError: no address of HTTP, or one with a key in it.
    """
    wrong = f"{name} must be like http://localhost:8000/v1, got {url!r}"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(wrong) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(wrong)
    if parts.username or parts.password or parts.query:
        raise InputError(f"{name} must not carry names, keys or a query; keys come from variables of the environment")


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """Where a model is and how to treat it.

    Attributes:
        base_url: with the `/v1`, as OpenAI clients want it.
        model: name that the server knows.
        concurrency: most requests under way at once.
        timeout_s: of one attempt, everything included; `connect_timeout_s` of its first part.
        requests_per_second, tokens_per_minute: limits of the account; None for none.
        breaker_threshold, breaker_cooldown_s: see the module docstring.
        price_prompt, price_completion: per million tokens, in any currency; for `usage.cost`.
        max_tokens_field: some hosted models want `max_completion_tokens`.
        extra_body: added to every request, for example `{"chat_template_kwargs": {"enable_thinking": False}}`.
        logprobs: ask for the log-probs of the answer.
        routing: `generate` asks for the experts of every token.
        engine: whose form `generate` has, see `base.engine_forms`.
        routing_shape: layers with experts and experts per token; SGLang needs it, others are checked against it.
    """

    base_url: str
    model: str
    concurrency: int = 16
    timeout_s: float = 300.0
    connect_timeout_s: float = 10.0
    requests_per_second: float | None = None
    tokens_per_minute: float | None = None
    retries: RetrySettings = field(default_factory=RetrySettings)
    breaker_threshold: int = 8
    breaker_cooldown_s: float = 20.0
    price_prompt: float = 0.0
    price_completion: float = 0.0
    max_tokens_field: str = "max_tokens"
    max_answer_bytes: int = 32 * 2**20
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    routing: bool = False
    engine: EngineName = "s1pro"
    routing_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_address(self.base_url, "base_url")
        for name in ("concurrency", "timeout_s", "connect_timeout_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{self.base_url}: {name} must be positive, got {getattr(self, name)}")
        if self.engine not in get_args(EngineName):
            raise InputError(f"engine must be one of {', '.join(get_args(EngineName))}, got {self.engine!r}")
        if self.routing and self.engine == "sglang" and self.routing_shape is None:
            raise InputError(
                "routing from sglang needs routing_shape: layers with experts and experts per token, which its answers "
                "do not tell"
            )


class TokenBucket:
    """See the module docstring.

    Args:
        rate: units per second.
        capacity: most units that are saved up; default what one second brings.
    """

    def __init__(self, rate: float, *, now: Now, sleep: Sleep, capacity: float | None = None) -> None:
        if not rate > 0 or (capacity is not None and not capacity > 0):
            raise InputError(f"a rate limit must be positive, got rate={rate}, capacity={capacity}")
        self.rate, self.capacity = rate, max(rate, 1.0) if capacity is None else capacity
        self._now, self._sleep = now, sleep
        self._level, self._time = self.capacity, now()

    async def take(self, amount: float) -> None:
        """Waits until earlier debts are paid, then takes `amount`."""
        self._fill()
        wait = max(0.0, min(amount, self.capacity) - self._level) / self.rate
        self._level -= amount
        if wait > 0:
            await self._sleep(wait)

    def give_back(self, amount: float) -> None:
        """Corrects an estimate: positive if less was used, negative if more."""
        self._fill()
        self._level = min(self._level + amount, self.capacity)

    def _fill(self) -> None:
        time = self._now()
        self._level = min(self._level + (time - self._time) * self.rate, self.capacity)
        self._time = time


class CircuitBreaker:
    """See the module docstring. `threshold=0` switches it off."""

    def __init__(self, *, threshold: int, cooldown_s: float, now: Now) -> None:
        if threshold < 0 or cooldown_s < 0:
            raise InputError(f"circuit breaker: threshold and cooldown must not be negative: {threshold}, {cooldown_s}")
        self.threshold, self.cooldown_s = threshold, cooldown_s
        self._now = now
        self._failures, self._opened, self._probing = 0, 0.0, False

    @property
    def is_open(self) -> bool:
        return 0 < self.threshold <= self._failures

    def wait_s(self) -> float:
        """0 if a call may go now (as the probe, if the circuit is open), else how long to wait before asking again."""
        if not self.is_open:
            return 0.0
        rest = self._opened + self.cooldown_s - self._now()
        if rest > 0:
            return rest
        if self._probing:
            return max(self.cooldown_s, 0.01)
        self._probing = True
        return 0.0

    def succeeded(self) -> None:
        self._failures, self._probing = 0, False

    def failed(self) -> None:
        self._failures += 1
        self._probing = False
        if self.is_open:
            self._opened = self._now()

    def abandoned(self) -> None:
        """A call ended without telling anything about the endpoint (cancelled, or its prompt was refused)."""
        self._probing = False


def status_error(
    status: int, body: str, where: str, *, attempts: int = 1, retry_after_s: float | None = None
) -> EndpointError:
    """The error that an HTTP status means."""
    message = f"{where}: HTTP {status} after {attempts} attempt{'s' if attempts > 1 else ''}: {body or '(empty)'}"
    if status in PROMPT_STATUSES:
        return PromptRefusedError(message, status=status, body=body, attempts=attempts)
    if is_retried(status):
        return EndpointError(message, status=status, body=body, attempts=attempts, retry_after_s=retry_after_s)
    advice = {401: "; check the API key", 403: "; check the API key", 404: "; check the address and the model name"}
    return EndpointRefusedError(message + advice.get(status, ""), status=status, body=body, attempts=attempts)


def is_retried(status: int) -> bool:
    """Whether the same request may work later."""
    return status in RETRIED_STATUSES or status >= 500


async def asyncio_sleep(seconds: float) -> None:
    """`asyncio.sleep` with the type of `Sleep`."""
    await asyncio.sleep(seconds)
