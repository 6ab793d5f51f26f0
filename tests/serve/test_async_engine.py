from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from s1pro.base.records import Completion, Sampling, StructuredOutput
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.serve.async_engine import AsyncEngine, EngineFull, EngineStopped
from s1pro.serve.client import build_engine
from s1pro.serve.engine import Engine
from tests.serve.traffic import make_network, make_processor

NETWORK = Network(tiny(vocab_size=96)).eval()
GREEDY = Sampling(max_new_tokens=12)


def letters(ids: Sequence[int]) -> str:
    return "".join(chr(32 + i) for i in ids)


def build(**settings: int) -> Engine:
    return Engine(NETWORK, decode=letters, **settings)  # type: ignore[arg-type]


def test_streams_and_results_equal_the_engine_and_arrive_piece_by_piece() -> None:
    prompts = [[1 + i, 2, 3] for i in range(5)]
    expected = build().generate(prompts, GREEDY)
    engine = AsyncEngine(build)

    async def ask(prompt: list[int]) -> tuple[Completion, int]:
        stream = engine.submit(prompt, GREEDY)
        deltas = [delta async for delta in stream]
        completion = stream.completion
        assert completion is not None
        assert "".join(delta.text for delta in deltas) == completion.text
        assert tuple(t for delta in deltas for t in delta.token_ids) == completion.token_ids
        assert tuple(p for delta in deltas for p in delta.logprobs) == completion.logprobs
        assert 0 < stream.timing.arrived <= stream.timing.first_token <= stream.timing.ended
        return completion, len(deltas)

    async def all_at_once() -> list[tuple[Completion, int]]:
        return await asyncio.gather(*(ask(prompt) for prompt in prompts))

    answers = asyncio.run(all_at_once())
    assert [a.token_ids for a, _ in answers] == [e.token_ids for e in expected]
    assert max(count for _, count in answers) > 1
    assert engine.stats().running == engine.stats().waiting == 0
    engine.close()


def test_two_event_loops_share_an_engine() -> None:
    engine, answers = AsyncEngine(build), []

    async def ask(prompt: list[int]) -> None:
        answers.append(await engine.submit(prompt, GREEDY, stream=False).result())

    threads = [threading.Thread(target=lambda i=i: asyncio.run(ask([i, i]))) for i in range(4)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and {len(answer.token_ids) for answer in answers} == {12}
    engine.close()


def test_cancelling_ends_a_request_and_its_caller() -> None:
    engine = AsyncEngine(build)

    async def ask() -> tuple[Completion, Completion]:
        stream = engine.submit([1, 2], Sampling(max_new_tokens=900))
        async for _ in stream:
            stream.cancel()
        task = asyncio.create_task(engine.submit([3], Sampling(max_new_tokens=900)).result())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.completion is not None
        return stream.completion, await engine.submit([4], GREEDY).result()

    cancelled, after = asyncio.run(ask())
    assert cancelled.finish_reason == "abort" and 0 < len(cancelled.token_ids) < 900
    assert len(after.token_ids) == 12
    engine.close()


def test_bad_requests_full_queues_and_closed_engines_are_refused() -> None:
    engine = AsyncEngine(build(), max_waiting=1)

    async def ask() -> None:
        with pytest.raises(ValueError, match="empty"):
            engine.submit([], GREEDY)
        engine.pause()
        waiting = engine.submit([1], GREEDY)
        with pytest.raises(EngineFull, match="1 requests wait"):
            engine.submit([2], GREEDY)
        engine.resume()
        assert len((await waiting.result()).token_ids) == 12
        left = engine.submit([1], Sampling(max_new_tokens=1000))
        engine.close()
        with pytest.raises(EngineStopped):
            await left.result()
        with pytest.raises(EngineStopped):
            engine.submit([1], GREEDY)

    asyncio.run(ask())


def test_draining_answers_what_is_there_and_refuses_the_rest() -> None:
    engine = AsyncEngine(build)

    async def ask() -> None:
        stream = engine.submit([1], Sampling(max_new_tokens=50))
        drained = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(EngineStopped):
            engine.submit([2], GREEDY)
        await drained
        assert stream.request.finish_reason == "length"
        assert len((await stream.result()).token_ids) == 50
        engine.accept()
        assert len((await engine.submit([2], GREEDY).result()).token_ids) == 12

    asyncio.run(ask())
    engine.close()


def test_an_error_of_a_step_reaches_all_and_the_engine_goes_on() -> None:
    engine = AsyncEngine(build)
    broken = Network(tiny(vocab_size=96)).eval()
    with torch.no_grad():
        broken.lm_head.weight.fill_(torch.nan)

    async def ask() -> None:
        engine.engine.network = broken
        answers = (engine.submit([i], GREEDY).result() for i in (1, 2))
        errors = await asyncio.gather(*answers, return_exceptions=True)
        assert all(isinstance(error, ValueError) and "not numbers" in str(error) for error in errors)
        engine.engine.network = NETWORK
        assert len((await engine.submit([1], GREEDY).result()).token_ids) == 12

    asyncio.run(ask())
    engine.close()


def test_an_engine_that_cannot_be_built_raises_where_it_is_asked_for() -> None:
    def fail() -> Engine:
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        AsyncEngine(fail)


def test_weights_and_memory_change_between_two_steps() -> None:
    engine = AsyncEngine(lambda: Engine(Network(tiny(vocab_size=96)).eval()))
    other = Network(tiny(vocab_size=96), seed=4).eval()
    expected = Engine(other).generate([[5, 6]], GREEDY)[0].token_ids

    async def ask() -> None:
        under_way = asyncio.create_task(engine.submit([1, 2], Sampling(max_new_tokens=800)).result())
        await asyncio.sleep(0.05)
        await engine.update_weights(other.state_dict(), version=2)
        assert (await engine.submit([5, 6], GREEDY).result()).token_ids == expected
        answer = await under_way
        assert answer.policy_version == 2 and len(answer.token_ids) == 800
        with pytest.raises(ValueError, match="no tensor"):
            await engine.update_weights({"x": torch.ones(1)}, version=3)
        await engine.sleep()
        waiting = asyncio.create_task(engine.submit([5, 6], GREEDY).result())
        await asyncio.sleep(0.02)
        assert engine.stats().asleep and not waiting.done()
        await engine.wake()
        assert (await waiting).token_ids == expected
        assert engine.stats().policy_version == 2

    asyncio.run(ask())
    engine.close()


def test_no_command_ends_the_engine_or_leaves_its_caller_waiting() -> None:
    engine = AsyncEngine(lambda: Engine(Network(tiny(vocab_size=96)).eval()))

    def clumsy(*_: Any, **__: Any) -> None:
        raise AttributeError("nothing of that name")

    async def ask() -> None:
        for _ in range(2):
            await engine.sleep()
        for _ in range(2):
            await engine.wake()
        engine.engine.update_weights = clumsy  # type: ignore[method-assign]
        with pytest.raises(AttributeError, match="of that name"):
            await asyncio.wait_for(engine.update_weights({}, version=2), 20)
        assert len((await engine.submit([5, 6], GREEDY).result()).token_ids) == GREEDY.max_new_tokens

    asyncio.run(ask())
    engine.close()
    with pytest.raises(AttributeError, match="of that name"):
        AsyncEngine(clumsy)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_nobody_foresaw_reaches_who_waits() -> None:
    class Odd(Exception):
        """Of no kind that anybody catches."""

    def odd(*_: Any, **__: Any) -> None:
        raise Odd

    with pytest.raises(EngineStopped, match="could not be built"):
        AsyncEngine(odd)  # type: ignore[arg-type]
    engine = AsyncEngine(lambda: Engine(Network(tiny(vocab_size=96)).eval()))
    engine.engine.update_weights = odd  # type: ignore[method-assign]

    async def ask() -> None:
        with pytest.raises(EngineStopped, match="in a command"):
            await asyncio.wait_for(engine.update_weights({}, version=2), 20)
        while engine.alive:
            await asyncio.sleep(0.01)
        assert engine.failure is not None
        with pytest.raises(EngineStopped, match="nobody foresaw"):
            engine.submit([5, 6], GREEDY)

    asyncio.run(ask())


def test_structured_requests_cross_threads() -> None:
    processor = make_processor()
    network = make_network(processor)
    engine = AsyncEngine(lambda: build_engine(network, processor))
    wanted = StructuredOutput(kind="regex", value="[ab]{4}")

    async def ask() -> str:
        return (await engine.submit([1, 2, 3], Sampling(structured=wanted)).result()).text

    text = asyncio.run(ask())
    assert len(text) == 4 and set(text) <= {"a", "b"}
    engine.close()


def test_who_leaves_a_paused_engine_is_not_kept_waiting() -> None:
    engine = AsyncEngine(build)

    async def ask() -> None:
        engine.pause()
        stream = engine.submit([1], GREEDY)
        stream.cancel()
        assert (await stream.result()).finish_reason == "abort"
        assert engine.stats().waiting == 0
        engine.resume()

    asyncio.run(ask())
    engine.close()
