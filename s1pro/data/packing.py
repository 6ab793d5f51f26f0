"""Greedy packing: which chunks of which samples fill the next batch of exactly T rows.

1. Draw samples from the mixture; cut each into chunks of at most `max_length` rows. Chunks share nothing: positions of
   every chunk restart at 0 and attention stops at its border. No prediction is lost at a cut, because the last row of a
   chunk still has the first token of the next one as its target.
2. Keep a buffer of `lookahead` pending chunks. Fill the batch with the first chunk that still fits, again and again.
   The oldest chunk opens every batch, so none waits forever.
3. What is left is a masked tail, usually well under one per cent.

A prompt group never mixes inside a sequence, because a segment is never more than one sample. Planning uses lengths
only; tokens are fetched afterwards (`Packer.materialise`), so a rank skips the batches of other ranks almost for
free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1pro.base.errors import InputError
from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.mixture import Mixture
from s1pro.data.sources import Source


@dataclass(frozen=True)
class Chunk:
    """Rows [start, stop) of sample `index` of source `source`."""

    source: int
    index: int
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        return self.stop - self.start


class Packer:
    """See the module docstring.

    Args:
        num_rows: T, rows of every batch.
        lookahead: pending chunks to choose from.
        pad_id: token of the masked tail.
    """

    def __init__(self, mixture: Mixture[Source], *, num_rows: int, lookahead: int = 64, pad_id: int = 0) -> None:
        longest = mixture.policy.max_length
        if num_rows < longest:
            raise InputError(f"a batch of {num_rows} tokens cannot hold sequences of max_length={longest}")
        if lookahead < 1:
            raise InputError(f"lookahead must be at least 1, got {lookahead}")
        self.mixture, self.num_rows, self.lookahead, self.pad_id = mixture, num_rows, lookahead, pad_id
        self._pending: list[Chunk] = []

    def plan(self) -> list[Chunk] | None:
        """The chunks of the next batch; None when the mixture is through."""
        chosen: list[Chunk] = []
        room = self.num_rows
        while True:
            self._refill()
            place = next((i for i, chunk in enumerate(self._pending) if chunk.num_rows <= room), None)
            if place is None:
                return chosen or None
            chunk = self._pending.pop(place)
            chosen.append(chunk)
            room -= chunk.num_rows

    def materialise(self, chunks: list[Chunk]) -> PackedBatch:
        """Fetches the tokens of a plan. An empty plan gives a batch that is all tail."""
        sources = self.mixture.sources
        segments = [
            Segment(sequence=sources[c.source].sequence(c.index), source=c.source, start=c.start, stop=c.stop)
            for c in chunks
        ]
        return collate(
            segments,
            num_rows=self.num_rows,
            source_names=[source.name for source in sources],
            pad_id=self.pad_id,
            max_tail_segment=self.mixture.policy.max_length,
        )

    def state_dict(self) -> dict[str, Any]:
        pending = [[c.source, c.index, c.start, c.stop] for c in self._pending]
        return {"mixture": self.mixture.state_dict(), "pending": pending}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mixture.load_state_dict(state["mixture"])
        self._pending = [Chunk(*numbers) for numbers in state["pending"]]

    def _refill(self) -> None:
        longest = self.mixture.policy.max_length
        while len(self._pending) < self.lookahead and (draw := self.mixture.next()) is not None:
            starts = range(0, draw.num_rows, longest)
            self._pending += [Chunk(draw.source, draw.index, a, min(a + longest, draw.num_rows)) for a in starts]
