"""Write-ahead log of what an engine answered: one JSON line per page, written before anybody uses it.

    {"request": "5f1c...", "answer": {...}}
    {"request": "5f1c...", "error": "HTTP 500", "again": 0}

A request is named by the digest of what was sent: picture, engine and protocol. A killed process loses only the calls
that were under way; a line that the kill cut in two is removed when the log is opened again. Errors count for their
round only (`layout.again`), answers for ever.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from s1pro.base.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back for one page: the JSON of the answer, or why there is none."""

    answer: Any = None
    error: str = ""


class ReplyLog:
    """See the module docstring.

    Raises:
        InputError: a line that is not the last one is no line of such a log.
    """

    def __init__(self, path: Path, *, again: int = 0) -> None:
        self.path, self.again = path, again
        self._known: dict[str, Reply] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._read()
        self._file: IO[bytes] = path.open("ab")

    def __enter__(self) -> ReplyLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def reply(self, request: str) -> Reply | None:
        """What is known about a request."""
        return self._known.get(request)

    def write(self, request: str, reply: Reply) -> None:
        """Adds a reply; it is on the disk when this returns."""
        entry: dict[str, Any] = {"request": request}
        entry |= {"error": reply.error, "again": self.again} if reply.error else {"answer": reply.answer}
        self._file.write(json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._known[request] = reply

    def _read(self) -> None:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                request, error = str(entry["request"]), str(entry.get("error", ""))
                counts = not error or entry["again"] == self.again
                reply = Reply(error=error) if error else Reply(answer=entry["answer"])
            except (ValueError, KeyError, TypeError, AttributeError) as wrong:
                raise InputError(f"{self.path}: line {number} is no reply of an engine ({wrong}); remove it") from wrong
            if counts:
                self._known[request] = reply
        if whole < len(data):
            with self.path.open("r+b") as file:
                file.truncate(whole)
