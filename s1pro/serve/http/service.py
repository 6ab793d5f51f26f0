"""What all routes share: the engine behind the server, who is inside, and the way of a prompt into it.

    route ──admit──> encode (worker threads) ──start──> Run ──> completions or deltas

*Admission.* The server holds at most `max_batch + max_waiting` sequences; see `admission`.

*Encoding* (chat template, tokenizer, pictures, signals) runs in two worker threads with numpy alone, so a large picture
holds up neither the event loop nor the engine.

A `Run` is the answers to one request. Whoever leaves its block, for whatever reason, takes the unfinished ones out
of the engine.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

from s1pro.base.media import Media
from s1pro.base.records import Completion, Sampling
from s1pro.inputs.processor import Processor
from s1pro.serve.async_engine import AsyncEngine, EngineFull, EngineStopped, Stream
from s1pro.serve.http.admission import Admission
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.media import MediaReader
from s1pro.serve.http.metrics import Metrics
from s1pro.serve.http.routing_store import RoutingStore
from s1pro.serve.http.settings import ServerSettings
from s1pro.serve.request import Delta

Result = TypeVar("Result")


class Service:
    """See the module docstring.

    Args:
        engine: of this server alone.
        processor: of the same model.
        max_batch: sequences that the engine runs at once.
    """

    def __init__(
        self, engine: AsyncEngine, processor: Processor, settings: ServerSettings, *, max_batch: int = 32
    ) -> None:
        self.engine, self.processor, self.settings = engine, processor, settings
        self.metrics = Metrics(engine)
        self.routing = RoutingStore(settings.requests.routing_bytes)
        self.media = MediaReader(settings.media, max_media=settings.requests.max_media)
        self.created = int(time.time())
        limits = settings.requests
        self.admission = Admission(
            max_batch + limits.max_waiting, max_at_door=limits.max_waiting, patience=limits.patience_seconds
        )
        self.runs: dict[str, list[Run]] = {}
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="s1pro-encode")

    @property
    def vocab_size(self) -> int:
        return int(self.engine.engine.network.config.text.vocab_size)

    @property
    def max_context(self) -> int:
        return self.engine.engine.max_context

    @property
    def failure(self) -> Exception | None:
        """Why the engine has ended without being told to."""
        return self.engine.failure

    @asynccontextmanager
    async def admit(self, sequences: int) -> AsyncIterator[None]:
        """Places for so many sequences while the block runs.

        Raises:
            ApiError: 400 for more than one request may have, 429 if the server is full, 503 if it takes nothing now.
        """
        limit = self.settings.requests.max_sequences
        if sequences > limit:
            raise ApiError(400, f"{sequences} answers in one request, more than the limit of {limit}", param="n")
        self._check_awake()
        async with self.admission.place(sequences):
            yield

    async def in_worker(self, call: Callable[[], Result]) -> Result:
        """Runs work that needs numpy but no tensors beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, call)

    def check_prompt(self, ids: Sequence[int], media: Media[Any] | None) -> None:
        """What the engine would refuse with less to say.

        Raises:
            ApiError: nothing to read, too much, or placeholders without media.
        """
        if not ids:
            raise ApiError(400, "the prompt is empty; give at least one token", param="prompt")
        if len(ids) >= self.max_context:
            message = f"the prompt has {len(ids)} tokens, the context of this server holds {self.max_context}"
            raise ApiError(400, message, code="context_length_exceeded")
        config = self.engine.engine.network.config
        present = set(ids)
        for kind, token, part in (
            ("image", config.image_token_id, media and media.images),
            ("video", config.video_token_id, media and media.videos),
            ("signal", config.ts_token_id, media and media.signals),
        ):
            if part is None and token in present:
                raise ApiError(400, f"the prompt has {kind} placeholders (token {token}) without {kind}s")

    def start(
        self,
        prompts: Sequence[tuple[Sequence[int], Media[Any] | None]],
        samplings: Sequence[Sampling],
        *,
        stream: bool,
        kind: str,
        request_id: str | None = None,
    ) -> Run:
        """Submits every prompt with every setting, in this order. Use the result in an `async with` block."""
        self._check_awake()
        for ids, media in prompts:
            self.check_prompt(ids, media)
        run = Run(self, f"{kind}-{uuid.uuid4().hex}", request_id)
        try:
            for ids, media in prompts:
                for sampling in samplings:
                    run.streams.append(self.engine.submit(ids, sampling, media=media, stream=stream))
        except EngineFull as error:
            run.cancel()
            raise ApiError(429, str(error), code="server_full", retry_after=1) from error
        except EngineStopped as error:
            run.cancel()
            raise ApiError(503, str(error), code="stopping") from error
        except ValueError as error:  # preparing a request only checks it
            run.cancel()
            raise ApiError(400, str(error)) from error
        return run

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self.engine.close()

    def _check_awake(self) -> None:
        if self.failure is not None:
            raise ApiError(503, f"the engine has stopped: {self.failure}", code="failed")
        if not self.engine.accepting:
            raise ApiError(503, "the server is stopping", code="stopping", retry_after=5)
        if self.engine.engine.asleep:
            raise ApiError(503, "the engine sleeps; POST /wakeup wakes it", code="asleep", retry_after=5)


class Run:
    """The answers to one request. See the module docstring.

    Attributes:
        id: as the answer names itself.
        created: seconds since 1970.
        streams: one per answer.
    """

    def __init__(self, service: Service, run_id: str, request_id: str | None) -> None:
        self.id = run_id
        self.created = int(time.time())
        self.streams: list[Stream] = []
        self._service = service
        self._names = {run_id, request_id or run_id}

    async def __aenter__(self) -> Run:
        for name in self._names:
            self._service.runs.setdefault(name, []).append(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        for name in self._names:
            runs = self._service.runs[name]
            runs.remove(self)
            if not runs:
                del self._service.runs[name]

    def cancel(self) -> None:
        """Takes unfinished answers out of the engine."""
        for stream in self.streams:
            if stream.completion is None:
                stream.cancel()

    async def results(self, enough: Callable[[int, str], bool] | None = None) -> list[Completion]:
        """All answers, whole.

        Args:
            enough: told the number of an answer and the text that came; true ends it. The run must be a streamed one.
        """
        if enough is not None:
            found: dict[int, Completion] = {}
            async for number, item in self.deltas():
                if isinstance(item, Completion):
                    found[number] = item
                elif enough(number, item.text):
                    self.streams[number].cancel()
            return [found[number] for number in range(len(self.streams))]
        completions = await asyncio.gather(*(stream.result() for stream in self.streams))
        for stream, completion in zip(self.streams, completions, strict=True):
            self._service.metrics.ended(stream, completion)
        return list(completions)

    async def deltas(self) -> AsyncIterator[tuple[int, Delta | Completion]]:
        """What comes, with the number of its answer; the last of each answer is its completion."""
        queue: asyncio.Queue[tuple[int, Delta | Completion | BaseException]] = asyncio.Queue(len(self.streams))
        readers = [asyncio.create_task(_read(i, stream, queue)) for i, stream in enumerate(self.streams)]
        try:
            left = len(self.streams)
            while left:
                number, item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, Completion):
                    left -= 1
                    self._service.metrics.ended(self.streams[number], item)
                yield number, item
        finally:
            for reader in readers:
                reader.cancel()


async def _read(
    number: int, stream: Stream, queue: asyncio.Queue[tuple[int, Delta | Completion | BaseException]]
) -> None:
    try:
        async for delta in stream:
            await queue.put((number, delta))
    except (ValueError, RuntimeError, MemoryError, LookupError, TypeError, AttributeError, AssertionError) as error:
        await queue.put((number, error))
        return
    assert stream.completion is not None
    await queue.put((number, stream.completion))
