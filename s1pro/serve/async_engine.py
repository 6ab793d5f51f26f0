"""`AsyncEngine`: one engine for many coroutines, stepped by a thread of its own.

    submit(ids, sampling) ──> Stream: `async for delta in stream`, then `stream.completion`
                                      or at once `await stream.result()`

All work on tensors happens in the thread of the engine: two threads with an OpenMP team each made generation 4 times
slower. Give a function that builds the engine, and even its weights are loaded there. Callers check their requests in
their own thread, which needs no tensors, and put them into a queue; the engine takes them between two steps. What a
step gained is handed to each event loop in one call. A reader that falls behind gets several steps as one delta, so
nothing piles up and nobody is waited for.

Between two steps also: cancelled requests leave, weights are replaced, the cache sleeps or wakes, a pause begins.

With experts spread over ranks (`serve.lockstep`) every rank has an `AsyncEngine` with requests of its own. Who has none
goes on lending its experts, and `close` waits until all ranks are closed.

If a step raises (logits that are not numbers, memory that ends), every request of that moment gets the error and the
engine goes on with an empty batch. If its thread dies all later calls raise `EngineStopped`, and `failure` says why. It
does so when other ranks are lost (`RanksLost`): nobody can go on without them. The process group of such an engine must
be its own: a collective of the caller in the middle of a pass would be taken for one of the pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from s1pro.base.media import Media
from s1pro.base.records import Completion, Sampling
from s1pro.serve.engine import Engine
from s1pro.serve.lockstep import NAP, RanksLost
from s1pro.serve.request import Delta, Request, Timing
from s1pro.serve.statistics import EngineStats

Result = TypeVar("Result")
COMMAND_FAILURES = (
    ValueError, RuntimeError, OSError, MemoryError, LookupError, TypeError, AttributeError, AssertionError, ImportError,
)  # fmt: skip
"""What building an engine and a command between two steps can raise: the caller's to know, no end of the engine."""


class EngineStopped(RuntimeError):
    """The engine has been closed, or its thread has died."""


class EngineFull(RuntimeError):
    """More requests wait than `max_waiting` allows: try again later."""


class Stream:
    """The answer to one request, in the event loop that submitted it.

    Attributes:
        request: number, prompt and settings; changed by the thread of the engine.
        completion: the whole answer, once the iteration is over.
    """

    def __init__(self, request: Request, owner: AsyncEngine, *, streamed: bool) -> None:
        self.request = request
        self.streamed = streamed
        self.completion: Completion | None = None
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._delta: Delta | None = None
        self._error: BaseException | None = None

    @property
    def timing(self) -> Timing:
        return self.request.timing

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Everything that is new since the last delta; leaving the loop early does not cancel the request.

        Raises:
            ValueError, RuntimeError: what the engine raised.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            delta, self._delta = self._delta, None
            if delta is not None:
                yield delta
            if self._error is not None:
                raise self._error
            if self.completion is not None and self._delta is None:
                return

    async def result(self) -> Completion:
        """Waits for the end. A caller that is cancelled cancels the request."""
        try:
            async for _ in self:
                pass
        except asyncio.CancelledError:
            self.cancel()
            raise
        assert self.completion is not None
        return self.completion

    def cancel(self) -> None:
        """Ends the request before its next step; its completion comes with `finish_reason="abort"`. Any thread."""
        self._owner.abort(self.request)

    def deliver(self, delta: Delta | None, completion: Completion | None, error: BaseException | None) -> None:
        """For the owner; in the thread of the event loop."""
        if delta is not None:
            self._delta = delta if self._delta is None else self._delta + delta
        self.completion = completion if completion is not None else self.completion
        self._error = error
        self._news.set()


_News = tuple[Stream, "Delta | None", "Completion | None", "BaseException | None"]


class AsyncEngine:
    """See the module docstring.

    Args:
        engine: used by nobody else from now on; or a function that builds it, called in the thread of the engine.
        max_waiting: how many requests may wait for a place in the batch; None does not limit them.

    Attributes:
        engine: for its settings; its methods belong to its thread.
        failure: why the thread has ended without being told to; None while it runs and after `close`.
    """

    engine: Engine

    def __init__(self, engine: Engine | Callable[[], Engine], *, max_waiting: int | None = None) -> None:
        self.max_waiting = max_waiting
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._streams: dict[Request, Stream] = {}
        self.failure: Exception | None = None
        self._paused = self._draining = self._closing = False
        self._idle_waiters: list[Future[None]] = []
        ready: Future[Engine] = Future()
        self._thread = threading.Thread(target=self._run, args=(engine, ready), name="s1pro-engine", daemon=True)
        self._thread.start()
        self.engine = ready.result()

    @property
    def alive(self) -> bool:
        """Whether requests can be answered."""
        return self._thread.is_alive() and not self._closing

    @property
    def accepting(self) -> bool:
        """Whether new requests are taken."""
        return self.alive and not self._draining

    def submit(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        media: Media[Any] | None = None,
        stream: bool = True,
    ) -> Stream:
        """Queues a request; call it in a running event loop.

        Args:
            stream: false spares the deltas: only the completion is delivered.

        Raises:
            ValueError: the request cannot be served (`InputError`).
            EngineFull: too many requests wait.
            EngineStopped: the engine is closed or drained.
        """
        if not self.accepting:
            raise self._stopped("the engine takes no requests any more")
        if self.max_waiting is not None and self.engine.num_waiting >= self.max_waiting:
            raise EngineFull(f"{self.engine.num_waiting} requests wait already; try again later")
        request = self.engine.prepare(prompt_ids, sampling, media=media, streamed=stream)
        answer = Stream(request, self, streamed=stream)
        self._streams[request] = answer
        self.engine.submit(request)
        self._commands.put(_nothing)  # wakes the thread
        if not self.alive and self._streams.pop(request, None) is not None:
            raise self._stopped("the engine has stopped")
        return answer

    def abort(self, request: Request) -> None:
        """Ends a request before its next step. Any thread."""
        self.engine.abort(request)
        self._commands.put(_nothing)

    def stats(self) -> EngineStats:
        """Numbers about the engine; any thread."""
        return self.engine.stats()

    def pause(self) -> None:
        """Stops stepping after the step under way; requests keep their place and new ones queue up."""
        self._command(lambda: setattr(self, "_paused", True)).result()

    def resume(self) -> None:
        """Ends a pause."""
        self._command(lambda: setattr(self, "_paused", False)).result()

    async def drain(self) -> None:
        """Takes no new requests and returns when all the others are answered. `accept` ends it."""
        self._draining = True
        idle: Future[None] = Future()
        self._command(lambda: self._idle_waiters.append(idle))
        await asyncio.wrap_future(idle)

    def accept(self) -> None:
        """Takes requests again after `drain`."""
        self._draining = False

    async def update_weights(self, source: Mapping[str, Tensor] | str | Path, version: int, **options: Any) -> None:
        """`Engine.update_weights` between two steps; requests under way go on with the new weights. With several ranks
        every one of them must get weights, at the same time."""
        await asyncio.wrap_future(self._command(lambda: self.engine.update_weights(source, version, **options)))

    async def sleep(self) -> None:
        """Gives the memory of the cache back; requests wait until `wake`. Every rank must be told, as with weights.
        An engine that sleeps stays asleep."""
        await asyncio.wrap_future(self._command(lambda: None if self.engine.asleep else self.engine.sleep()))

    async def wake(self) -> None:
        """Takes the memory of the cache again."""
        await asyncio.wrap_future(self._command(self.engine.wake))

    def close(self) -> None:
        """Ends the thread after the step under way; requests that are left raise `EngineStopped`. Returns when all
        ranks are closed, if there are several."""
        self._closing = True
        self._commands.put(_nothing)
        self._thread.join()

    def _command(self, call: Callable[[], Result]) -> Future[Result]:
        """Runs `call` in the thread of the engine, between two steps."""
        if not self.alive:
            raise self._stopped("the engine has been closed")
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            if self._closing:
                future.set_exception(self._stopped("the engine has been closed"))
                return
            try:
                future.set_result(call())
            except COMMAND_FAILURES as error:
                future.set_exception(error)
            finally:
                if not future.done():  # the thread dies; nobody is to wait for it
                    future.set_exception(self._stopped("the engine died of an error in a command"))

        self._commands.put(run)
        return future

    def _stopped(self, otherwise: str) -> EngineStopped:
        return EngineStopped(otherwise if self.failure is None else f"the engine has stopped: {self.failure}")

    # from here on: the thread of the engine

    def _run(self, engine: Engine | Callable[[], Engine], ready: Future[Engine]) -> None:
        try:
            self.engine = engine if isinstance(engine, Engine) else engine()
        except COMMAND_FAILURES as error:
            ready.set_exception(error)
            return
        finally:
            if not ready.done() and not hasattr(self, "engine"):
                ready.set_exception(EngineStopped("the engine could not be built; its thread has written why"))
        ready.set_result(self.engine)
        try:
            while not self._closing:
                self._turn()
            self._end()
            if self.engine.lockstep is not None:
                self.engine.lockstep.leave()
        except RanksLost as error:
            self.failure = error
        finally:
            if not self._closing and self.failure is None:
                self.failure = EngineStopped("its thread died of an error that nobody foresaw")
            self._closing = True
            self._end()

    def _end(self) -> None:
        """Tells everybody who still waits."""
        self._fail(list(self._streams), self._stopped("the engine has stopped"))
        for future in self._idle_waiters:
            if not future.done():
                future.set_exception(self._stopped("the engine has stopped"))
        while not self._commands.empty():
            self._commands.get()()

    def _turn(self) -> None:
        """Commands, then one step; without work it waits for a command."""
        busy = self.engine.has_work and not self._paused and not self.engine.asleep
        if not busy:
            if not self.engine.has_work:
                self._tell_idle()
            self._wait()
        while not self._commands.empty():
            self._commands.get()()
        if self._paused or self.engine.asleep:
            self.engine.progressed = []
            self._hand_out(self.engine.take_aborted())
            return
        if not busy:
            return
        try:
            finished = self.engine.step()
        except RanksLost:
            raise
        except (ValueError, RuntimeError, MemoryError) as error:
            self._fail(self.engine.reset(), error)
            return
        self._hand_out(finished)

    def _wait(self) -> None:
        """Until there is a command; with other ranks only as long as they have nothing to do either."""
        if self.engine.lockstep is None:
            self._commands.get()()
            return
        self.engine.lockstep.idle()
        if self.engine.all_idle:
            with contextlib.suppress(queue.Empty):
                self._commands.get(timeout=NAP)()

    def _hand_out(self, finished: list[Request]) -> None:
        news: defaultdict[asyncio.AbstractEventLoop, list[_News]] = defaultdict(list)
        for request in self.engine.progressed:
            stream = self._streams.get(request)
            if stream is not None and stream.streamed and request.finish_reason is None:
                delta = request.take_delta()
                if delta.token_ids or delta.text:
                    news[stream.loop].append((stream, delta, None, None))
        for request in finished:
            stream = self._streams.pop(request, None)
            if stream is not None:
                last = request.take_delta() if stream.streamed else None
                news[stream.loop].append((stream, last, self.engine.completion(request), None))
        _deliver(news)

    def _fail(self, requests: Sequence[Request], error: BaseException) -> None:
        news: defaultdict[asyncio.AbstractEventLoop, list[_News]] = defaultdict(list)
        for request in requests:
            stream = self._streams.pop(request, None)
            if stream is not None:
                news[stream.loop].append((stream, None, None, error))
        _deliver(news)

    def _tell_idle(self) -> None:
        waiters, self._idle_waiters = self._idle_waiters, []
        for future in waiters:
            if future.set_running_or_notify_cancel():
                future.set_result(None)


def _nothing() -> None:
    """A command that only wakes the thread."""


def _deliver(news: Mapping[asyncio.AbstractEventLoop, list[_News]]) -> None:
    for loop, items in news.items():
        with contextlib.suppress(RuntimeError):  # a closed loop: its coroutines are gone
            loop.call_soon_threadsafe(_deliver_in_loop, items)


def _deliver_in_loop(items: list[_News]) -> None:
    for stream, delta, completion, error in items:
        stream.deliver(delta, completion, error)
