from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s1pro.base.client import ModelClient
from s1pro.base.connections import find_key
from s1pro.base.endpoint import (
    CircuitBreaker,
    EndpointError,
    EndpointRefusedError,
    EndpointSettings,
    PromptRefusedError,
    RetrySettings,
    TokenBucket,
)
from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Completion, Message, Sampling
from tests.fake_endpoint import Behave, FakeEndpoint, Reply, chat_answer

QUESTION = [Message(role="user", content="What is visible?")]
SAMPLING = Sampling(max_new_tokens=50)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


def talk(
    behave: Behave,
    calls: Callable[[HttpClient], Coroutine[Any, Any, Any]],
    *,
    api_key: str | None = None,
    **settings: Any,
) -> tuple[Any, HttpClient, FakeEndpoint, Clock]:
    """Runs `calls(client)` against a fake server, with a clock that never really waits."""
    clock = Clock()

    async def run(url: str) -> tuple[Any, HttpClient]:
        made = EndpointSettings(base_url=url, model="m", **settings)
        async with HttpClient(made, api_key=api_key, now=clock.now, sleep=clock.sleep) as client:
            return await calls(client), client

    with FakeEndpoint(behave) as server:
        outcome, client = asyncio.run(run(server.url))
    return outcome, client, server, clock


async def ask(client: HttpClient) -> Completion:
    return await client.chat(QUESTION, SAMPLING)


async def failure(client: HttpClient) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        await ask(client)
    return caught.value


def scripted(*replies: Reply | str) -> Behave:
    """The replies one after another; the last one for ever."""
    return lambda number, path, body: replies[min(number, len(replies) - 1)]


def test_a_chat_goes_out_and_its_answer_comes_back() -> None:
    answer = chat_answer("A curve.", prompt=20, tokens=3, reasoning_content="I look.")
    done, client, server, _ = talk(scripted(answer), ask, price_prompt=2.0, price_completion=10.0)
    assert isinstance(client, ModelClient)
    assert (done.text, done.finish_reason, done.reasoning_content) == ("A curve.", "stop", "I look.")
    path, _, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "What is visible?"}],
        "max_tokens": 50,
        "temperature": 0.0,
    }
    assert (client.usage.num_prompt_tokens, client.usage.num_tokens, client.usage.attempts) == (20, 3, 1)
    assert client.usage.cost == pytest.approx((20 * 2 + 3 * 10) / 1e6)


def test_sampling_sends_what_differs_from_the_defaults() -> None:
    sampling = Sampling(max_new_tokens=7, temperature=0.5, top_k=4, seed=3, stop=("\n",), stop_token_ids=(2,))
    _, _, server, _ = talk(
        scripted("ok"),
        lambda client: client.chat(QUESTION, sampling),
        max_tokens_field="max_completion_tokens",
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    body = server.requests[0][2]
    del body["messages"]
    assert body == {
        "model": "m", "max_completion_tokens": 7, "temperature": 0.5, "top_k": 4, "seed": 3, "stop": ["\n"],
        "stop_token_ids": [2], "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip


def test_media_travel_as_data_urls(tmp_path: Path) -> None:
    picture = np.zeros((4, 5, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    signal = np.arange(6, dtype=np.float32).reshape(3, 2)
    parts = [
        {"type": "image", "image": picture},
        {"type": "image", "image": str(tmp_path / "a.jpg")},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "time_series", "time_series": signal, "sampling_rate": 250, "unit": "mV"},
        {"type": "text", "text": "Same?"},
    ]
    _, _, server, _ = talk(scripted("ok"), lambda c: c.chat([Message(role="user", content=parts)], SAMPLING))
    sent = server.requests[0][2]["messages"][0]["content"]
    urls = [part[part["type"]]["url"] for part in sent[:4]]
    assert [url.split(",")[0] for url in urls] == [
        "data:image/png;base64", "data:image/jpeg;base64", "https://example.org/a.png", "data:application/x-npy;base64",
    ]  # fmt: skip
    with Image.open(io.BytesIO(base64.b64decode(urls[0].split(",")[1]))) as image:
        assert np.array_equal(np.asarray(image), picture)
    assert np.array_equal(np.load(io.BytesIO(base64.b64decode(urls[3].split(",")[1]))), signal)
    assert sent[3]["time_series_url"]["sampling_rate"] == 250 and sent[3]["time_series_url"]["unit"] == "mV"
    assert sent[4] == {"type": "text", "text": "Same?"}


@pytest.mark.parametrize("source", ["missing.png", 7])
def test_a_medium_that_cannot_be_read_is_an_input_error(source: Any) -> None:
    parts = [{"type": "image", "image": source}]
    with pytest.raises(InputError, match=r"cannot be read|a medium is"):
        talk(scripted("ok"), lambda c: c.chat([Message(role="user", content=parts)], SAMPLING))


def test_completions_and_token_ids() -> None:
    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        if path == "/generate":
            assert body["input_ids"] == [5, 6]
            meta = {"finish_reason": {"type": "length"}, "output_token_logprobs": [[-0.5, 8], [-1.5, 9]]}
            return Reply(body={"text": "ab", "output_ids": [8, 9], "meta_info": meta})
        logprobs = {"token_logprobs": [-0.25]}
        return Reply(body={"choices": [{"text": "x", "finish_reason": "stop", "logprobs": logprobs}]})

    async def calls(client: HttpClient) -> tuple[Completion, Completion]:
        return await client.complete("once", SAMPLING), await client.generate([5, 6], SAMPLING)

    (text, ids), _, server, _ = talk(behave, calls, logprobs=True)
    assert server.requests[0][0] == "/v1/completions" and server.requests[0][2]["prompt"] == "once"
    assert (text.text, text.logprobs) == ("x", (-0.25,))
    assert (ids.token_ids, ids.logprobs, ids.finish_reason) == ((8, 9), (-0.5, -1.5), "length")
    assert ids.prompt_token_ids == (5, 6) and ids.usage is not None and ids.usage.num_tokens == 2


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_work_later_is_tried_again_with_back_off(status: int) -> None:
    bad = Reply(status=status, body="busy")
    done, client, server, clock = talk(scripted(bad, bad, bad, "at last"), ask, retries=RetrySettings(first_s=1.0))
    assert done.text == "at last" and len(server.requests) == 4
    assert (client.usage.requests, client.usage.attempts, client.usage.failures) == (1, 4, 0)
    for delay, longest in zip(clock.slept, (1.0, 2.0, 4.0), strict=True):
        assert longest / 2 <= delay <= longest
    again = talk(scripted(bad, bad, bad, "at last"), ask, retries=RetrySettings(first_s=1.0))[3]
    assert again.slept == clock.slept
    other = talk(scripted(bad, bad, bad, "at last"), ask, retries=RetrySettings(first_s=1.0, seed=1))[3]
    assert other.slept != clock.slept


def test_the_server_says_how_long_to_wait() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    replies = [Reply(status=429, headers={"Retry-After": value}) for value in ("7", at, "100000", "soon")]
    done, _, _, clock = talk(scripted(*replies, "ok"), ask)
    assert done.text == "ok"
    assert clock.slept[0] == 7 and 35 < clock.slept[1] <= 40 and clock.slept[2] == 120 and 2 <= clock.slept[3] <= 4


def test_it_gives_up_and_says_what_came() -> None:
    error, client, server, _ = talk(scripted(Reply(status=503, body="x" * 5000)), failure, breaker_threshold=0)
    assert (error.status, error.attempts, len(server.requests), client.usage.failures) == (503, 6, 6, 1)
    assert error.body == "x" * 400 and "HTTP 503 after 6 attempts" in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, PromptRefusedError), (413, PromptRefusedError), (422, PromptRefusedError),
        (401, EndpointRefusedError), (404, EndpointRefusedError), (302, EndpointRefusedError),
    ],
)  # fmt: skip
def test_what_never_works_is_not_tried_again(status: int, kind: type[EndpointError]) -> None:
    error, _, server, _ = talk(scripted(Reply(status=status, body='{"error": "no"}')), failure)
    assert type(error) is kind and len(server.requests) == 1 and "no" in error.body
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    "body",
    [
        "not json", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 3}}]}', '{"choices": [7]}',
        b"\xff\xfe", '{"choices": [{"message": null}]}', "[" * 100_000, '{"choices": [{"message": {"content": null}}]}',
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_tried_again(body: str | bytes) -> None:
    done, _, server, _ = talk(scripted(Reply(body=body), "good"), ask)
    assert done.text == "good" and len(server.requests) == 2
    error, *_ = talk(scripted(Reply(body=body)), failure, retries=RetrySettings(attempts=2))
    assert error.kind == "malformed" and error.attempts == 2


@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_a_hanging_server_is_a_time_out(mode: str) -> None:
    slow = Reply(mode=mode, body=b" " * 1000)
    done, *_ = talk(scripted(slow, "good"), ask, timeout_s=1.0)
    assert done.text == "good"
    error, *_ = talk(scripted(slow), failure, timeout_s=0.1, retries=RetrySettings(attempts=2))
    assert error.kind == "timeout"


def test_a_lost_connection_is_tried_again() -> None:
    done, *_ = talk(scripted(Reply(mode="close"), "good"), ask)
    assert done.text == "good"


def test_nobody_listens() -> None:
    async def run() -> EndpointError:
        retries = RetrySettings(attempts=2, first_s=0.0, longest_s=0.0)
        with FakeEndpoint(scripted("x")) as server:
            url = server.url
        async with HttpClient(EndpointSettings(base_url=url, model="m", retries=retries)) as client:
            return await failure(client)

    error = asyncio.run(run())
    assert error.kind == "connection" and error.attempts == 2


def test_a_huge_answer_is_refused() -> None:
    error, _, server, _ = talk(scripted(Reply(body=b"x" * 100_000)), failure, max_answer_bytes=10_000)
    assert error.kind == "too_large" and len(server.requests) == 1


def test_requests_under_way_are_bounded() -> None:
    async def many(client: HttpClient) -> list[Completion]:
        return await asyncio.gather(*(ask(client) for _ in range(12)))

    answers, _, server, _ = talk(lambda *_: dataclasses.replace(chat_answer("ok"), delay_s=0.2), many, concurrency=3)
    assert len(answers) == 12 and server.most_at_once == 3


def test_the_circuit_opens_and_closes_again() -> None:
    bad = Reply(status=500, body="down")

    async def calls(client: HttpClient) -> list[str]:
        found = []
        for _ in range(4):
            try:
                found.append((await ask(client)).text)
            except EndpointError as error:
                found.append(error.kind)
        await client._sleep(60.0)
        return [*found, (await ask(client)).text, (await ask(client)).text]

    single = RetrySettings(attempts=1)
    found, _, server, _ = talk(
        scripted(bad, bad, "back"), calls, retries=single, breaker_threshold=2, breaker_cooldown_s=30
    )
    assert found == ["status", "status", "circuit_open", "circuit_open", "back", "back"]
    assert len(server.requests) == 4


def test_waiting_for_the_open_circuit_counts_as_a_try() -> None:
    bad = Reply(status=500, body="down")
    done, _, server, clock = talk(
        scripted(bad, bad, "back"), ask, breaker_threshold=2, breaker_cooldown_s=30, retries=RetrySettings(attempts=4)
    )
    assert done.text == "back" and len(server.requests) == 3 and clock.time >= 30


def test_refused_prompts_do_not_open_the_circuit() -> None:
    async def calls(client: HttpClient) -> list[str]:
        return [(await failure(client)).kind for _ in range(5)]

    found, *_ = talk(scripted(Reply(status=400)), calls, breaker_threshold=2)
    assert found == ["status"] * 5


def test_one_probe_at_a_time() -> None:
    clock = Clock()
    breaker = CircuitBreaker(threshold=1, cooldown_s=10, now=clock.now)
    breaker.failed()
    assert breaker.wait_s() == 10
    clock.time = 10
    assert breaker.wait_s() == 0 and breaker.wait_s() > 0
    breaker.abandoned()
    assert breaker.wait_s() == 0
    breaker.failed()
    assert breaker.wait_s() == 10


def test_the_bucket_lets_through_what_its_rate_allows() -> None:
    clock = Clock()
    bucket = TokenBucket(2.0, now=clock.now, sleep=clock.sleep, capacity=4.0)

    async def take() -> None:
        for _ in range(10):
            await bucket.take(1.0)

    asyncio.run(take())
    assert clock.time == pytest.approx((10 - 4) / 2)
    bucket.give_back(100.0)
    asyncio.run(bucket.take(4.0))
    assert clock.time == pytest.approx(3.0)
    asyncio.run(bucket.take(400.0))  # more than it can ever hold: waits for a full bucket, and leaves a debt
    assert clock.time == pytest.approx(5.0)
    asyncio.run(bucket.take(1.0))
    assert clock.time == pytest.approx(5.0 + 397 / 2)


def test_tokens_that_were_not_used_are_given_back() -> None:
    async def calls(client: HttpClient) -> None:
        for _ in range(5):
            await ask(client)

    # 54 tokens are estimated for each (50 to write) and 15 used; 60 may go at once, then one per second
    *_, clock = talk(scripted("ok"), calls, tokens_per_minute=60.0)
    assert clock.time == pytest.approx(9 + 15 + 15 + 15)


def test_requests_per_second() -> None:
    async def calls(client: HttpClient) -> None:
        await asyncio.gather(*(ask(client) for _ in range(6)))

    *_, clock = talk(scripted("ok"), calls, requests_per_second=2.0, concurrency=1)
    assert clock.time == pytest.approx(2.0)


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    error, client, server, _ = talk(
        scripted(Reply(status=401, body="bad key sk-secret-1 given")), failure, api_key="sk-secret-1"
    )
    assert server.requests[0][1]["authorization"] == "Bearer sk-secret-1"
    shown = f"{error} {error.body} {error!r} {client!r} {client.settings}"
    assert "sk-secret" not in shown and "***" in shown
    settings = EndpointSettings(base_url="http://localhost/v1", model="m")
    monkeypatch.setenv("MY_KEY", "sk-2")
    assert find_key(None, "MY_KEY") == "sk-2"
    assert "sk-2" not in repr(vars(HttpClient(settings, api_key_variable="MY_KEY")))
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(InputError, match="MY_KEY"):
        HttpClient(settings, api_key_variable="MY_KEY")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://user:pw@host/v1", "http://host/v1?key=1", ""])
def test_a_wrong_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="base_url"):
        EndpointSettings(base_url=url, model="m")


def test_one_client_in_several_event_loops() -> None:
    with FakeEndpoint(scripted("ok")) as server:
        client = HttpClient(EndpointSettings(base_url=server.url, model="m"))
        assert [asyncio.run(ask(client)).text for _ in range(3)] == ["ok"] * 3


def test_a_cancelled_call_frees_its_place() -> None:
    arrived = threading.Event()

    def hangs_once(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        arrived.set()
        return "ok" if number else Reply(mode="hang")

    async def calls(client: HttpClient) -> str:
        task = asyncio.ensure_future(ask(client))
        await asyncio.to_thread(arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await ask(client)).text

    found, *_ = talk(hangs_once, calls, concurrency=1)
    assert found == "ok"
