"""Text from tokens, one token at a time.

A token is not a character: one character may need several tokens, and the text of a token may depend on the token
before it. So the text is decoded in a small sliding window that always holds the last finished piece, and what the
window gained is appended. Text that ends in U+FFFD is an unfinished character; it waits for more tokens.

Stop strings may begin in one token and end in another. `StopWatcher` looks for them in the new text and holds back the
longest tail that could still become one, so that a stream never shows a part of a stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

MAX_UNFINISHED = 8  # no character needs more tokens: a longer unfinished tail is invalid bytes and is shown as such


class IncrementalText:
    """Decodes a growing sequence of tokens in linear time."""

    def __init__(self, decode: Decode) -> None:
        self.text = ""
        self._decode = decode
        self._window: list[int] = []
        self._known = 0  # tokens of the window whose text has been appended already

    def push(self, token_id: int) -> None:
        self._window.append(token_id)
        self._advance(unfinished_is_fine=len(self._window) - self._known > MAX_UNFINISHED)

    def flush(self) -> None:
        """Appends what is left, unfinished characters included."""
        self._advance(unfinished_is_fine=True)

    def _advance(self, *, unfinished_is_fine: bool) -> None:
        before, now = self._decode(self._window[: self._known]), self._decode(self._window)
        if len(now) <= len(before) or (now.endswith("\ufffd") and not unfinished_is_fine):
            return
        self.text += now[len(before) :]
        del self._window[: self._known]
        self._known = len(self._window)


class StopWatcher:
    """Finds the first stop string in a growing text."""

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise ValueError("a stop string must not be empty")
        self._stops = tuple(stops)
        self._longest = max((len(stop) for stop in stops), default=0)
        self._searched = 0

    def find(self, text: str) -> tuple[int, str | None]:
        """Position of the earliest stop string in `text`, and that string; (-1, None) if there is none.

        Calls must see a growing text. Of two that begin at one place the longer one is found.
        """
        start = max(0, self._searched - self._longest + 1)
        self._searched = len(text)
        found = [(position, -len(stop), stop) for stop in self._stops if (position := text.find(stop, start)) >= 0]
        if not found:
            return -1, None
        position, _, stop = min(found)
        return position, stop

    def safe_length(self, text: str) -> int:
        """How much of `text` can be shown: the rest may be the beginning of a stop string."""
        for held in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-held:]) for stop in self._stops):
                return len(text) - held
        return len(text)
