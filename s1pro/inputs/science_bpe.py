"""The science vocabularies: byte-pair encoding over characters, as SentencePiece runs it.

A vocabulary is a list of pieces in merge priority. To encode, the text starts as single characters; again and again the
adjacent pair whose concatenation is the piece of highest priority is merged, the leftmost first among equals, until no
pair makes a piece. It does not matter which two halves a piece was learned from. Spaces are written as U+2581.

What is left outside the vocabulary is not mapped to `<unk>`: neighbouring unknown characters form one run, and the
caller encodes each run with the plain vocabulary (spec 1.7).

A heap of candidate pairs over a linked list of symbols makes this O(n log n), so a chromosome is as safe as a drug.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

SPACE = "\u2581"
_CACHE_ENTRIES = 32_768
_CACHE_LENGTH = 512


class ScienceBPE:
    """One vocabulary. `encode` gives piece indices, and strings for what is not in it.

    Args:
        pieces: in merge priority; `pieces[0]` is `<unk>` and is never produced.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(pieces)
        self._index = {piece: index for index, piece in enumerate(self.pieces) if index > 0}
        self._cache: dict[str, tuple[int | str, ...]] = {}

    def encode(self, text: str) -> tuple[int | str, ...]:
        """Indices of pieces (never 0); runs of unknown characters as strings, with their spaces back."""
        found = self._cache.get(text)
        if found is None:
            found = self._encode(text)
            if len(text) <= _CACHE_LENGTH:
                if len(self._cache) >= _CACHE_ENTRIES:
                    self._cache.clear()
                self._cache[text] = found
        return found

    def _encode(self, text: str) -> tuple[int | str, ...]:
        result: list[int | str] = []
        for symbol in self._merge(text.replace(" ", SPACE)):
            index = self._index.get(symbol)
            if index is not None:
                result.append(index)
            elif result and isinstance(result[-1], str):
                result[-1] += symbol.replace(SPACE, " ")
            else:
                result.append(symbol.replace(SPACE, " "))
        return tuple(result)

    def _merge(self, text: str) -> list[str]:
        """The symbols of `text` after all merges."""
        index, size = self._index, len(text)
        symbols: list[str] = list(text)
        left = list(range(-1, size - 1))
        right = list(range(1, size + 1))
        heap = [(rank, i) for i in range(size - 1) if (rank := index.get(text[i : i + 2])) is not None]
        heapq.heapify(heap)
        while heap:
            rank, i = heapq.heappop(heap)
            j = right[i]
            # An entry is stale when one of its halves has been merged away since, or has grown.
            if j >= size or not symbols[i] or index.get(merged := symbols[i] + symbols[j]) != rank:
                continue
            symbols[i], symbols[j] = merged, ""
            after = right[i] = right[j]
            if after < size:
                left[after] = i
                if (rank := index.get(merged + symbols[after])) is not None:
                    heapq.heappush(heap, (rank, i))
            before = left[i]
            if before >= 0 and (rank := index.get(symbols[before] + merged)) is not None:
                heapq.heappush(heap, (rank, before))
        return [symbol for symbol in symbols if symbol]
