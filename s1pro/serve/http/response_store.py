"""Responses that clients may refer to later, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from s1pro.serve.http.bodies import ChatMessage
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import dump


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A response, and the conversation that ends with it."""

    record: dict[str, Any]
    messages: list[ChatMessage]
    size: int


class ResponseStore:
    """The newest responses.

    Args:
        max_bytes: of all of them as JSON; a larger one is not kept.
    """

    def __init__(self, max_bytes: int = 64 * 2**20) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._stored: OrderedDict[str, Stored] = OrderedDict()

    def put(self, name: str, record: dict[str, Any], messages: Sequence[ChatMessage]) -> None:
        size = len(dump(record)) + sum(len(dump(message.model_dump())) for message in messages)
        self._stored[name] = Stored(record=record, messages=list(messages), size=size)
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, oldest = self._stored.popitem(last=False)
            self.bytes -= oldest.size

    def get(self, name: str) -> Stored:
        """Raises `ApiError` 404 if there is none."""
        if name not in self._stored:
            raise ApiError(404, f"there is no response {name[:80]!r}, or it was forgotten for newer ones")
        return self._stored[name]

    def drop(self, name: str) -> None:
        """Forgets one; raises `ApiError` 404 if there is none."""
        self.bytes -= self.get(name).size
        del self._stored[name]
