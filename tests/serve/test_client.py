from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from s1pro.base.client import ModelClient
from s1pro.base.records import Message, Sampling
from s1pro.inputs.processor import Encoded
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.serve.client import LocalClient
from s1pro.serve.engine import Engine

NETWORK = Network(tiny(vocab_size=96)).eval()
GREEDY = Sampling(max_new_tokens=12)


class LetterTokenizer:
    """One token per printable character."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - 32 for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(32 + i) for i in ids)


class Letters:
    """A processor of printable characters."""

    tokenizer = LetterTokenizer()

    def encode(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        enable_thinking: bool,
        allow_control_tokens: bool,
    ) -> Encoded:
        assert add_generation_prompt and not allow_control_tokens
        text = "".join(f"{m.role}:{m.content};" for m in messages) + ("think" if enable_thinking else "say")
        return Encoded(token_ids=self.tokenizer.encode(text), learned=[], media=None, media_parts=())


def client(**settings: Any) -> LocalClient:
    processor = Letters()
    return LocalClient(Engine(NETWORK, decode=processor.tokenizer.decode, **settings), processor)  # type: ignore[arg-type]


def test_it_is_a_model_client_and_its_three_calls_agree() -> None:
    local = client()
    assert isinstance(local, ModelClient)

    async def ask() -> tuple[str, str, str]:
        by_chat = await local.chat([Message(role="user", content="hi")], GREEDY)
        by_text = await local.complete("user:hi;say", GREEDY)
        by_ids = await local.generate(by_text.prompt_token_ids, GREEDY)
        return by_chat.text, by_text.text, by_ids.text

    texts = asyncio.run(ask())
    assert len(set(texts)) == 1 and len(texts[0]) == 12


def test_concurrent_requests_share_steps_and_equal_single_ones() -> None:
    local = client()
    steps: list[int] = []
    step = local.engine.step

    def counting() -> Any:
        steps.append(1)
        return step()

    local.engine.step = counting  # type: ignore[method-assign]
    prompts = [[1 + i, 2, 3] for i in range(10)]

    async def ask() -> list[tuple[int, ...]]:
        return [c.token_ids for c in await asyncio.gather(*(local.generate(p, GREEDY) for p in prompts))]

    together = asyncio.run(ask())
    assert len(steps) < 30  # 12 tokens each: one by one it would take 120
    assert together == [c.token_ids for c in Engine(NETWORK).generate(prompts, GREEDY)]
    assert asyncio.run(ask()) == together  # the client outlives an event loop


def test_streaming_gives_the_text_of_chat() -> None:
    local, messages = client(), [Message(role="user", content="tell me")]

    async def stream() -> list[str]:
        return [piece async for piece in local.stream_chat(messages, GREEDY)]

    pieces = asyncio.run(stream())
    assert len(pieces) > 1
    assert "".join(pieces) == asyncio.run(local.chat(messages, GREEDY)).text


def test_leaving_a_stream_frees_the_engine() -> None:
    local = client(max_batch=1)

    async def leave() -> str:
        stream = local.stream_chat([Message(role="user", content="go")], Sampling(max_new_tokens=900))
        async for _ in stream:
            break
        await stream.aclose()
        return (await local.complete("next", GREEDY)).finish_reason

    assert asyncio.run(leave()) == "length"
    assert not local.engine.has_work


def test_a_cancelled_request_leaves_the_others_alone() -> None:
    local = client(max_batch=2)

    async def ask() -> int:
        long = asyncio.create_task(local.complete("long", Sampling(max_new_tokens=900)))
        short = asyncio.create_task(local.complete("short", Sampling(max_new_tokens=40)))
        await asyncio.sleep(0.02)
        long.cancel()
        answer = await short
        with pytest.raises(asyncio.CancelledError):
            await long
        return len(answer.token_ids)

    assert asyncio.run(ask()) == 40


def test_bad_prompts_and_engine_errors_reach_the_caller() -> None:
    local = client()
    with pytest.raises(ValueError, match="empty"):
        asyncio.run(local.complete("", GREEDY))
    broken = Network(tiny(vocab_size=96)).eval()
    with torch.no_grad():
        broken.lm_head.weight.fill_(torch.nan)
    local.engine.network = broken

    async def both() -> list[Any]:
        return await asyncio.gather(local.complete("a", GREEDY), local.complete("b", GREEDY), return_exceptions=True)

    errors = asyncio.run(both())
    assert all(isinstance(error, ValueError) and "not numbers" in str(error) for error in errors)
    local.engine.network = NETWORK
    assert len(asyncio.run(local.complete("a", GREEDY)).token_ids) == 12  # it goes on with healthy weights
