"""The connections of an endpoint's client, its key, and what of an answer may be shown.

`Connections.exchange` is one request and its answer as bytes: bounded in size, without redirects, with the key as
bearer token. What to send, how often to try and what an answer means is the business of `base.http_client`.

Connections belong to an event loop. A client outlives loops (`asyncio.run` for every stage of a job), so those of an
earlier loop are forgotten and new ones opened.

The key is in no log, no `repr` and no error: `clean` takes it out of what a server echoes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from s1pro.base.endpoint import EXCERPT, EndpointError, EndpointSettings
from s1pro.base.errors import InputError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Connections:
    """See the module docstring.

    Args:
        key: sent as bearer token; empty for none.
    """

    def __init__(self, settings: EndpointSettings, key: str) -> None:
        self.settings = settings
        self._key = key
        self._session: _Session | None = None

    @property
    def places(self) -> asyncio.Semaphore:
        """As many as requests may be under way at once."""
        return self._connect().places

    async def aclose(self) -> None:
        """Closes what is open. The next request opens it again."""
        session, self._session = self._session, None
        if session is not None and session.loop is asyncio.get_running_loop():
            await session.http.aclose()

    async def exchange(
        self, where: str, content: bytes | None, method: str = "POST"
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body.

        Raises:
            EndpointError: the answer is larger than `max_answer_bytes`.
            httpx.HTTPError, OSError: nobody answers.
        """
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = bytearray()
        async with self._connect().http.stream(method, where, content=content, headers=headers) as response:
            async for piece in response.aiter_bytes():
                data += piece
                if len(data) > self.settings.max_answer_bytes:
                    limit = self.settings.max_answer_bytes
                    raise EndpointError(f"{where}: the answer is larger than {limit} bytes", kind="too_large")
            return response.status_code, response.headers, bytes(data)

    def excerpt(self, data: bytes) -> str:
        """The beginning of an answer, for an error."""
        return self.clean(data[: 4 * EXCERPT].decode("utf-8", "replace"))

    def clean(self, text: str) -> str:
        """Text of the other side without our key, and not too much of it."""
        if self._key:
            text = text.replace(self._key, "***")
        return text[:EXCERPT]

    def _connect(self) -> _Session:
        """The connections of the running event loop."""
        import httpx

        loop = asyncio.get_running_loop()
        if self._session is None or self._session.loop is not loop:
            settings = self.settings
            limits = httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
            http = httpx.AsyncClient(
                timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
                limits=limits,
                follow_redirects=False,
                trust_env=urlsplit(settings.base_url).hostname not in _LOOPBACK,
            )
            self._session = _Session(loop=loop, http=http, places=asyncio.Semaphore(settings.concurrency))
        return self._session


@dataclass(frozen=True, kw_only=True)
class _Session:
    loop: asyncio.AbstractEventLoop
    http: Any
    places: asyncio.Semaphore


def find_key(api_key: str | None, variable: str | None) -> str:
    """The key itself, or what the named environment variable holds; empty without both.

    Raises:
        InputError: both are given, or the variable is not set.
    """
    if api_key is not None and variable is not None:
        raise InputError("give the API key itself or the name of its environment variable, not both")
    if variable is None:
        return (api_key or "").strip()
    if not os.environ.get(variable, "").strip():
        raise InputError(f"the environment variable {variable} for the API key is not set")
    return os.environ[variable].strip()


def retry_after(headers: Mapping[str, str], longest: float) -> float | None:
    """Seconds of `Retry-After` (a number or a date); None if there is none."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), longest) if seconds == seconds else None
