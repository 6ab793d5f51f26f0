"""A rendered conversation cut where the assistant begins and ends.

Training encodes it piece by piece: that is where generation begins in service, so no token may reach across.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from s1pro.inputs.chat import Rendered


def turns(rendered: Rendered) -> Iterator[tuple[str, list[tuple[int, int]], bool]]:
    """Text of each piece, the literal spans in it, and whether the assistant wrote it."""
    spans = deque(rendered.literal_spans)
    for start, end, by_assistant in _cuts(rendered):
        literal: list[tuple[int, int]] = []
        while spans and spans[0][0] < end:
            a, b = spans.popleft()
            literal.append((a - start, b - start))
        yield rendered.text[start:end], literal, by_assistant


def _cuts(rendered: Rendered) -> Iterator[tuple[int, int, bool]]:
    position = 0
    for start, end in rendered.assistant_spans:
        yield position, start, False
        yield start, end, True
        position = end
    yield position, len(rendered.text), False
