"""`LocalClient`: the `ModelClient` of a network in this process.

Callers are concurrent coroutines, the engine is one loop. While any request is under way, one driver task steps the
engine and lets the others run between two steps; requests that arrive meanwhile join the batch at the next step.
Requests that are awaited together are therefore batched together, whoever sent them.

The steps run in the thread of the event loop. A worker thread would bring an OpenMP team of its own, and with more
threads than cores the teams no longer wait actively: generation was 4 times slower, in both threads.

A cancelled caller frees its place in the batch. An error of the engine reaches every caller that waits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from s1pro.base.media import Media
from s1pro.base.records import Completion, Message, Sampling, ToolRequest
from s1pro.inputs.processor import Processor
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.serve.answer_text import THINK, AnswerParser, Content, Reasoning, ToolCall
from s1pro.serve.engine import Engine
from s1pro.serve.request import OnText, Request
from s1pro.serve.structure import Grammars


def build_engine(network: Network, processor: Processor, **settings: Any) -> Engine:
    """An engine that knows the end-of-sequence ids, the pieces and the text of a tokenizer."""
    tokenizer, vocab_size = processor.tokenizer, network.config.text.vocab_size
    stop_ids = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    return Engine(
        network,
        eos_token_ids=stop_ids,
        sampleable=_sampleable(tokenizer.sampleable_ids(vocab_size), network.config),
        decode=functools.partial(tokenizer.decode, skip_special_tokens=True),
        grammars=Grammars(tokenizer, vocab_size, stop_ids),
        **settings,
    )


def _sampleable(mask: npt.NDArray[np.bool_], config: ModelConfig) -> npt.NDArray[np.bool_]:
    """Without the placeholders of media: nobody can write a picture, and what is learned from would not add up."""
    mask = mask.copy()
    for token, tower in (
        (config.image_token_id, config.vision),
        (config.video_token_id, config.vision),
        (config.ts_token_id, config.time_series),
    ):
        if tower is not None and token < len(mask):
            mask[token] = False
    return mask


class LocalClient:
    """See the module docstring.

    Args:
        engine: used by this client alone.
        processor: tokenizer and chat template of the model.
        enable_thinking: whether `chat` asks the model to reason before it answers.
    """

    def __init__(self, engine: Engine, processor: Processor, *, enable_thinking: bool = False) -> None:
        self.engine = engine
        self.processor = processor
        self.enable_thinking = enable_thinking
        self._waiting: dict[Request, asyncio.Future[Completion]] = {}
        self._driver: asyncio.Task[None] | None = None

    @classmethod
    def from_network(
        cls, network: Network, processor: Processor, *, enable_thinking: bool = False, **engine_settings: Any
    ) -> LocalClient:
        """A client with an engine of its own, which knows the end-of-sequence ids and the pieces of the tokenizer."""
        return cls(build_engine(network, processor, **engine_settings), processor, enable_thinking=enable_thinking)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        enable_thinking: bool = False,
        **engine_settings: Any,
    ) -> LocalClient:
        """Loads a model folder in the released layout with its tokenizer. Raises `InputError` if it is not one.

        The network is nobody else's, so it is laid out for serving alone, unless it is to be exact.
        """
        from s1pro.checkpoint.released import load_network

        network = load_network(folder, dtype=getattr(torch, dtype), device=device).eval()
        processor = Processor.from_pretrained(folder)
        settings = {"serves_only": not engine_settings.get("exact", False)} | engine_settings
        return cls.from_network(network, processor, enable_thinking=enable_thinking, **settings)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return await self._run(self._prepare_chat(messages, sampling))

    async def chat_with_tools(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], sampling: Sampling
    ) -> Completion:
        """As `chat`, read as the server reads it: reasoning, text and calls apart."""
        request = self._prepare_chat(messages, sampling, tools=tools)
        completion = await self._run(request)
        reasoning = request.prompt_ids[-1] == self.processor.tokenizer.token_to_id(THINK)
        parser = AnswerParser(reasoning=reasoning, tools=bool(tools))
        pieces = [*parser.push(completion.text), *parser.finish()]
        calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
        thought = "".join(piece.text for piece in pieces if isinstance(piece, Reasoning))
        return dataclasses.replace(
            completion,
            text="".join(piece.text for piece in pieces if isinstance(piece, Content)),
            reasoning_content=thought or None,
            tool_calls=tuple(ToolRequest(id=call.id, name=call.name, arguments=call.arguments) for call in calls),
        )

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        return await self.generate(self.processor.tokenizer.encode(prompt), sampling)

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        return await self._run(self.engine.prepare(prompt_token_ids, sampling))

    async def generate_with_media(
        self, prompt_token_ids: Sequence[int], media: Media[Any], sampling: Sampling
    ) -> Completion:
        """As `generate`; the placeholders of the media are among the ids."""
        return await self._run(self.engine.prepare(prompt_token_ids, sampling, media=media))

    async def stream_chat(self, messages: Sequence[Message], sampling: Sampling) -> AsyncIterator[str]:
        """The answer of `chat` piece by piece. Leaving the loop early ends the generation."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        run = asyncio.ensure_future(self._run(self._prepare_chat(messages, sampling, pieces.put_nowait)))
        run.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await run  # raises what the engine raised
        finally:
            run.cancel()

    def _prepare_chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        on_text: OnText | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Request:
        """A conversation that waits for the assistant, with its media. Control tokens in messages are plain text."""
        described: dict[str, Any] = {"tools": tools} if tools else {}
        encoded = self.processor.encode(
            messages,
            add_generation_prompt=True,
            enable_thinking=self.enable_thinking,
            allow_control_tokens=False,
            **described,
        )
        return self.engine.prepare(encoded.token_ids, sampling, media=encoded.media, on_text=on_text)

    async def _run(self, request: Request) -> Completion:
        future = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        self.engine.submit(request)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
            self._driver.add_done_callback(self._driver_ended)
        try:
            return await future
        finally:
            self._waiting.pop(request, None)
            if request.finish_reason is None:
                self.engine.abort(request)

    async def _drive(self) -> None:
        """Steps the engine until it is idle."""
        while self.engine.has_work:
            for request in self.engine.step():
                future = self._waiting.get(request)
                if future is not None and not future.done():
                    future.set_result(self.engine.completion(request))
            await asyncio.sleep(0)

    def _driver_ended(self, driver: asyncio.Task[None]) -> None:
        if driver.cancelled():
            for future in self._waiting.values():
                future.cancel()
        elif (error := driver.exception()) is not None:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
