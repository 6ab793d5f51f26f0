"""Drafts for speculative decoding, looked up in the text itself.

Answers repeat what stands before: names, formulas, table rows, code. If the last n tokens of a sequence occurred
earlier, the tokens that followed them there are a guess of what follows now. The guess costs no model, and feeding it
with the last token costs a step little more than without: a step on a CPU is bound by reading the weights.

The network then gives the distribution behind every guessed token, and each position is sampled with its own uniform
number, as it would have been in a step of its own. Guesses are kept as long as they equal what was sampled; the first
sampled token that differs is kept too. So every kept token was drawn from the true distribution given true tokens, with
the number that belongs to its position: with or without drafts a request gets the same tokens, up to rounding, greedy
or not.

Left out: a draft model, and trees of guesses.
"""

from __future__ import annotations

LONGEST = 4
SHORTEST = 2


class PromptLookup:
    """Index of the n-grams of one growing sequence, and how long drafts should be.

    A draft of which nothing was right halves the length of the next one, down to one; a draft that was right to its end
    doubles it.

    Args:
        most: longest draft.
    """

    def __init__(self, most: int) -> None:
        self._most = self._length = most
        self._indexed = 0
        self._ends: dict[tuple[int, ...], int] = {}  # n-gram -> position behind its latest occurrence with a successor

    def draft(self, token_ids: list[int], room: int) -> list[int]:
        """At most `room` tokens that may follow `token_ids`."""
        length = min(self._length, room)
        if length < 1 or len(token_ids) <= SHORTEST:
            return []
        self._index(token_ids)
        for n in range(LONGEST, SHORTEST - 1, -1):
            place = self._ends.get(tuple(token_ids[-n:])) if len(token_ids) >= n else None
            if place is not None:
                return token_ids[place : place + length]
        return []

    def learn(self, drafted: int, accepted: int) -> None:
        """What became of a draft."""
        if accepted == drafted:
            self._length = min(2 * self._length, self._most)
        elif accepted == 0:
            self._length = max(self._length // 2, 1)

    def _index(self, token_ids: list[int]) -> None:
        for end in range(max(self._indexed, SHORTEST), len(token_ids)):  # the last token has no successor yet
            for n in range(SHORTEST, min(LONGEST, end) + 1):
                self._ends[tuple(token_ids[end - n : end])] = end
        self._indexed = len(token_ids)
