"""What happens before a request reaches its route: who it is, what it may send, and what is counted.

Plain ASGI, so that the routes keep the connection in their own hands (a client that leaves must be noticed while its
answer is computed).

`Gate`, in this order:

1. the `Host` header must name this server. A page of the web can make a browser ask 127.0.0.1 under a name of its own
   (DNS rebinding); that name is not on the list;
2. a request with an `Origin` must come from a page of this server: other pages cannot use it through a browser;
3. an API key, compared in constant time; `/health` and the page itself need none;
4. a body that is announced too long is refused at once, one that grows too long while it is read, and one that stops
   arriving is given up after `body_seconds`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException

from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.settings import ServerSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health", "/"})
OPEN_FOLDER = "/static/"
WEIGHTS_PATH = "/update_weights"
HEADERS: Mapping[bytes, bytes] = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}


class Gate:
    """See the module docstring.

    Args:
        app: what comes behind the gate.
        observe: told of every answer: method, path, status.
    """

    def __init__(self, app: App, settings: ServerSettings, observe: Callable[[Scope, int], None]) -> None:
        self.app, self.settings, self.observe = app, settings, observe
        self._keys = [key.encode() for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        started = False

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                present = {name.lower() for name, _ in message.get("headers", ())}
                extra = [(name, value) for name, value in HEADERS.items() if name not in present]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, self._bounded(scope, receive), counted)
        except HTTPException as error:
            if not started:
                await ApiError(error.status_code, error.detail).response()(scope, receive, counted)
        except ApiError as error:
            if not started:
                await error.response()(scope, receive, counted)
        finally:
            self.observe(scope, status)

    def _check(self, scope: Scope) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        allowed = self.settings.allowed_hosts
        if allowed and _host_name(host) not in allowed:
            raise ApiError(403, f"the host {host[:80]!r} is not a name of this server (--allowed-hosts)")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and _origin_host(origin) != host:
            raise ApiError(403, "pages of other origins cannot use this server")
        if self._keys and not _is_open(scope):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            right = [hmac.compare_digest(given.strip(), key) for key in self._keys]
            if scheme.lower() != b"bearer" or not any(right):
                raise ApiError(401, "give one of the API keys of this server: Authorization: Bearer KEY")
        length, limit = headers.get(b"content-length", b"0"), self._limit(scope)
        if length.isdigit() and int(length) > limit:
            raise _too_long(limit)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        seconds, limit = self.settings.requests.body_seconds, self._limit(scope)
        read, complete = 0, False

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal read, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(seconds):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"no part of the body came for {seconds:g} seconds") from error
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if read > limit:
                    raise _too_long(limit)
            return message

        return bounded

    def _limit(self, scope: Scope) -> int:
        limits = self.settings.requests
        return limits.max_weights_bytes if scope["path"] == WEIGHTS_PATH else limits.max_body_bytes


def _too_long(limit: int) -> HTTPException:
    """Of FastAPI's own kind: it turns any other error while a body is read into 400."""
    return HTTPException(413, f"the body is larger than the limit of {limit} bytes")


def _host_name(host: str) -> str:
    """The name without the port; an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _origin_host(origin: str) -> str:
    """Host and port of an origin; empty for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_open(scope: Scope) -> bool:
    return scope["method"] in ("GET", "HEAD") and (scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER))
