"""JSON for clients, and the frames of an event stream.

Python's encoder writes `NaN` and `Infinity`, which is no JSON, and fails on lone surrogates, which clients can send as
`"\\ud800"` and which then come back in echoes and messages of errors. Here the first become what clients of OpenAI's
API expect of impossible log-probs, and the second a question mark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

IMPOSSIBLE = -9999.0
DONE = b"data: [DONE]\n\n"


class Json(Response):
    """A JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return dump(content)


def dump(content: Any) -> bytes:
    """UTF-8 text of a value whose floats are finite (`finite`)."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", errors="replace")


def event(content: Any, name: str | None = None) -> bytes:
    """One server-sent event; `name` is for streams whose events have names."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + dump(content) + b"\n\n"


def finite(logprob: float) -> float:
    """A log-prob as JSON can hold it."""
    return logprob if math.isfinite(logprob) else IMPOSSIBLE


def without_none(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}
