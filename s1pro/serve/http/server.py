"""Running the application: uvicorn, and an end in good order.

On SIGTERM or SIGINT the server takes no new connections, lets the answers under way finish for at most `drain_seconds`,
then closes the engine. A second signal does not wait. The process ends with code 0: it did what it was told.

If the engine fails for good (other ranks are lost), requests under way and new ones get 503, `/health` too, and after
`FAREWELL` seconds the server ends, so that whatever started it can start it again.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn

from s1pro.base.errors import InputError
from s1pro.serve.http.middleware import App

SIGNALS = (signal.SIGINT, signal.SIGTERM)

FAREWELL = 2.0
"""Seconds for which a server whose engine has failed still says so."""


class Server(uvicorn.Server):
    """uvicorn without its habit of raising the signal again at the end, and with an eye on the engine.

    Args:
        failed: whether the engine has failed for good.
    """

    def __init__(self, config: uvicorn.Config, failed: Callable[[], bool]) -> None:
        super().__init__(config)
        self._failed = failed
        self._failed_at: float | None = None

    async def on_tick(self, counter: int) -> bool:
        if self._failed_at is None and self._failed():
            self._failed_at = time.monotonic()
        if self._failed_at is not None and time.monotonic() > self._failed_at + FAREWELL:
            return True
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_server(
    app: App,
    *,
    host: str,
    port: int,
    drain_seconds: int = 60,
    access_log: bool = False,
    failed: Callable[[], bool] = lambda: False,
) -> tuple[Server, socket.socket]:
    """A server and its bound socket; `server.run(sockets=[socket])` serves until it is told to stop.

    Args:
        port: 0 takes a free one; it is the socket's.
        failed: whether the engine has failed for good; the server ends soon after.

    Raises:
        InputError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=drain_seconds,
        timeout_keep_alive=30,
        lifespan="on",
        ws="none",
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it every answer waits 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(f"cannot listen on {host}:{port}: {error}") from error
    listening.listen(2048)
    return Server(config, failed), listening
