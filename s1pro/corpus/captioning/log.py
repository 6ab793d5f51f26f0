"""Write-ahead log of calls: one JSON line per answer, written before anybody uses it.

    {"request_id": ..., "attempt": 0, "final": true, "row": {...}}

A killed process loses only the calls that were under way. A line that was cut in two by the kill is removed when the
log is opened again, so the file is never damaged further. Attempts that were answered but not accepted (repetition, not
finished) are lines too: the next run goes on with the attempt after them instead of paying for them again.

Numbers of calls: `answered` counts lines of this and earlier runs, so a run that finds everything makes no call.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import IO, Any

from s1pro.base.errors import InputError
from s1pro.corpus.records import CaptionRow


class CallLog:
    """See the module docstring.

    Args:
        path: created with its folder if it is missing; None keeps everything in memory.
        retry_errors: outcomes that are errors are forgotten, so they are asked again.
        sync: force every line to the disk (`fsync`), which a crash of the machine survives, not only of the process.

    Raises:
        InputError: a line that is not the last one is no line of such a log.
    """

    def __init__(self, path: Path | None, *, sync: bool = True, retry_errors: bool = False) -> None:
        self.path, self.sync, self.retry_errors = path, sync, retry_errors
        self._final: dict[str, CaptionRow] = {}
        self._attempts: dict[str, int] = {}
        self._file: IO[bytes] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read(path)
            self._file = path.open("ab")

    def __enter__(self) -> CallLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def answered(self) -> int:
        return sum(self._attempts.values())

    def row(self, request_id: str) -> CaptionRow | None:
        """The outcome of a request, None if it has none yet."""
        return self._final.get(request_id)

    def attempts(self, request_id: str) -> int:
        """How many answers of a request were written down."""
        return self._attempts.get(request_id, 0)

    def write(self, row: CaptionRow, *, final: bool) -> None:
        """Adds the answer of one attempt; final ones are outcomes, errors among them."""
        attempt = self.attempts(row.request_id)
        line = {"request_id": row.request_id, "attempt": attempt, "final": final, "row": _plain(row)}
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            if self.sync:
                os.fsync(self._file.fileno())
        self._remember(row, final)

    def _remember(self, row: CaptionRow, final: bool) -> None:
        self._attempts[row.request_id] = self.attempts(row.request_id) + 1
        if final:
            self._final[row.request_id] = row

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                row = _row(entry["row"])
                final = bool(entry["final"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}: line {number} is no line of a log of calls ({error}); remove it") from error
            self._remember(row, final)
        if self.retry_errors:
            for request_id in [name for name, row in self._final.items() if row.error]:
                del self._final[request_id], self._attempts[request_id]
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)


def _plain(row: CaptionRow) -> dict[str, Any]:
    pairs = ((field, getattr(row, field.name)) for field in dataclasses.fields(row))
    return {field.name: value for field, value in pairs if value != field.default}


def _row(values: dict[str, Any]) -> CaptionRow:
    return CaptionRow(**{**values, "flags": tuple(values.get("flags", ()))})
