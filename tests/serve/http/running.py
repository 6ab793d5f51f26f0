"""Servers for tests: a real one over a tiny random model, and one whose answers are written in the test."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx

from s1pro.base.records import Completion, Sampling
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model import presets
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.serve.async_engine import AsyncEngine
from s1pro.serve.client import build_engine
from s1pro.serve.http.app import create_app
from s1pro.serve.http.paper_figures import FiguresOfPdf
from s1pro.serve.http.server import make_server
from s1pro.serve.http.service import Service
from s1pro.serve.http.settings import RequestLimits, ServerSettings
from s1pro.serve.request import Delta, Timing
from s1pro.serve.statistics import Counters, EngineStats

TEXTS = (
    "What is the weather in Ghent? The answer is 42, yes or no.",
    "The quick brown fox jumps over the lazy dog; aspirin is CC(=O)OC1=CC=CC=C1C(=O)O.",
    '{"name": "get_weather", "arguments": {"city": "Ghent"}}',
)
WEB = httpx.Client(timeout=200)
_SETTINGS = ("enable_thinking", "api_keys")
SETTINGS = ServerSettings(model_name="tiny", control=True, requests=RequestLimits(max_waiting=64))


@functools.cache
def processor() -> Processor:
    tokenizer = train_tokenizer(TEXTS * 3, smiles=["CCO", "CCN", "CCCC"], vocab_size=300, science_sizes={"SMILES": 8})
    return Processor(tokenizer, preparation=Preparation(images=ImageSettings(min_pixels=1024, max_pixels=8192)))


@functools.cache
def config() -> ModelConfig:
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "ts": "<TS_CONTEXT>"}
    ids = {f"{kind}_token_id": processor().tokenizer.token_to_id(token) for kind, token in names.items()}
    small = presets.with_media(presets.tiny(384), **ids)
    rope = replace(small.text.rope, max_position_embeddings=4096)
    rope = replace(rope, num_inv_freq=rope.kept_frequencies(small.text.head_dim))  # as a folder has it
    return replace(small, text=replace(small.text, rope=rope))


def engine(*, max_batch: int = 8, cache_tokens: int = 8192, **settings: Any) -> AsyncEngine:
    network = Network(config(), seed=3).eval()
    return AsyncEngine(build_engine(network, processor(), max_batch=max_batch, cache_tokens=cache_tokens, **settings))


@contextmanager
def running(
    service: Service, *, port: int = 0, drain_seconds: int = 5, figures_of_pdf: FiguresOfPdf | None = None
) -> Iterator[str]:
    """Serves on a free port; gives the address."""
    app = create_app(service, figures_of_pdf=figures_of_pdf)
    server, listening = make_server(app, host="127.0.0.1", port=port, drain_seconds=drain_seconds)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield url
    finally:
        server.should_exit = True
        thread.join(200)
        assert not thread.is_alive(), "the server did not stop"


def post(url: str, body: Any, **options: Any) -> httpx.Response:
    return WEB.post(url, json=body, **options)


class ScriptedEngine:
    """Stands for an `AsyncEngine`: answers are what `write` makes of the text of the prompt, token by token.

    Attributes:
        prompts: texts of all prompts that came.
        cancelled: requests that were taken back.
        inside: requests that are neither finished nor cancelled.
        allowed: answers stop before this token until it is raised.
    """

    accepting = True
    failure = None
    allowed: float = math.inf

    def __init__(self, write: Callable[[str], str]) -> None:
        self.engine = SimpleNamespace(
            network=SimpleNamespace(config=config()), max_context=4096, asleep=False, policy_version=7
        )
        self.write = write
        self.prompts: list[str] = []
        self.samplings: list[Sampling] = []
        self.inside = 0
        self.cancelled = 0

    def submit(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, media: Any = None, stream: bool = True
    ) -> ScriptedStream:
        text = processor().tokenizer.decode(prompt_ids)
        self.prompts.append(text)
        self.samplings.append(sampling)
        return ScriptedStream(self, tuple(prompt_ids), self.write(text), sampling)

    def stats(self) -> EngineStats:
        return EngineStats(
            running=self.inside,
            waiting=0,
            blocks=10,
            blocks_used=self.inside,
            blocks_cached=0,
            policy_version=7,
            asleep=False,
            counters=Counters(),
        )

    def close(self) -> None:
        self.accepting = False


class ScriptedStream:
    """Stands for a `Stream`."""

    def __init__(self, owner: ScriptedEngine, prompt: tuple[int, ...], text: str, sampling: Sampling) -> None:
        self.owner, self.prompt, self.text, self.sampling = owner, prompt, text, sampling
        self.timing = Timing()
        self.completion: Completion | None = None
        self.cancelled = False
        owner.inside += 1

    async def __aiter__(self) -> AsyncIterator[Delta]:
        tokenizer = processor().tokenizer
        ids = tokenizer.encode(self.text)[: self.sampling.max_new_tokens]
        whole = len(ids) < self.sampling.max_new_tokens
        for i, token in enumerate(ids):
            await asyncio.sleep(0)
            while i >= self.owner.allowed:
                await asyncio.sleep(0.01)
            yield Delta(token_ids=(token,), text=tokenizer.decode([token]), logprobs=(-0.5 - i,))
        if not self.cancelled:
            self.owner.inside -= 1
        self.completion = Completion(
            text=tokenizer.decode(ids),
            finish_reason="stop" if whole else "length",
            prompt_token_ids=self.prompt,
            token_ids=tuple(ids),
            logprobs=tuple(-0.5 - i for i in range(len(ids))),
        )

    async def result(self) -> Completion:
        async for _ in self:
            pass
        assert self.completion is not None
        return self.completion

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            self.owner.cancelled += 1
            self.owner.inside -= 1


@contextmanager
def scripted(write: Callable[[str], str], **options: Any) -> Iterator[tuple[str, ScriptedEngine]]:
    """A server whose answers are written by `write`."""
    settings = replace(SETTINGS, **{name: options.pop(name) for name in _SETTINGS if name in options})
    around = {name: options.pop(name) for name in ("port", "drain_seconds", "figures_of_pdf") if name in options}
    fake = ScriptedEngine(write)
    assert not options, f"unknown: {options}"
    with running(Service(fake, processor(), settings), **around) as url:  # type: ignore[arg-type]
        yield url, fake
