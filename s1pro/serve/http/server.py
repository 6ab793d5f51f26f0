"""Running the application: uvicorn, and an end in good order.

On SIGTERM or SIGINT the server takes no new connections, lets the answers under way finish for at most `drain_seconds`,
then closes the engine. A second signal does not wait. The process ends with code 0: it did what it was told.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn

from s1pro.base.errors import InputError
from s1pro.serve.http.middleware import App

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn without its habit of raising the signal again at the end."""

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
    app: App, *, host: str, port: int, drain_seconds: int = 60, access_log: bool = False
) -> tuple[Server, socket.socket]:
    """A server and its bound socket; `server.run(sockets=[socket])` serves until it is told to stop.

    Args:
        port: 0 takes a free one; it is the socket's.

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
    return Server(config), listening
