"""Answers over a connection that the client may close at any time.

Nobody should compute for a client that has gone. `answered` awaits an answer and the client's leaving at once;
`EventStream` does the same while it sends. Whichever way the client leaves, the coroutine that computes is cancelled,
and leaving its `Run` takes the request out of the engine before its next step.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from s1pro.serve.http.errors import ApiError, ClientGone, as_api_error
from s1pro.serve.http.json_text import event

FAILURES = (ValueError, RuntimeError, MemoryError, LookupError, TypeError, AttributeError, AssertionError)
"""What computing an answer can raise."""


async def answered(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """Awaits `work` unless the client leaves before; a failure becomes an answer and leaves the connection open.

    Raises:
        ClientGone: it left; `work` was cancelled.
        ApiError: of `work`.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    except FAILURES as error:
        return as_api_error(error).response()
    finally:
        await _end(task, watcher)


class EventStream(Response):
    """Server-sent events from a generator of frames.

    An error after the first frame cannot change the status any more: it is sent as an event, and the stream ends.

    Args:
        frames: each one whole event.
        held: what the stream needs while it runs (its place on the server, its `Run`); closed at its end.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], held: contextlib.AsyncExitStack) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames, self._held = frames, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = asyncio.ensure_future(self._send(send))
        watcher = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()
        finally:
            await _end(sender, watcher)
            await self._held.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with contextlib.aclosing(self._frames) as frames:
            try:
                async for frame in frames:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
            except OSError:
                return  # the connection is gone
            except (ApiError, *FAILURES) as error:
                await send({"type": "http.response.body", "body": event(as_api_error(error).body()), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
