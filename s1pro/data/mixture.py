"""A weighted, endless and exactly resumable mixture of sources.

Weights are shares of *rows* (tokens), not of samples. No dice are thrown: the next sample comes from the source that is
furthest behind its share, `rows_drawn / weight` smallest. So the realised shares never drift by more than
one sample, and the state is two integers per source. Inside a source the order is a seeded permutation, another one in
every epoch (`data.permutation`).

Length policy, applied here so that dropped samples do not count for the shares:

* documents longer than `max_length` rows are split into chunks (`data.packing`), conversations are an error by default,
  because half a conversation teaches the wrong thing; both can be "split", "drop" (counted) or "error".
* samples with fewer than two tokens predict nothing and are dropped (counted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from s1pro.base.errors import InputError
from s1pro.data.permutation import Permutation
from s1pro.data.sources import Measured

TooLong = Literal["split", "drop", "error"]
AnySource = TypeVar("AnySource", bound=Measured)


@dataclass(frozen=True, kw_only=True)
class LengthPolicy:
    """What happens to samples longer than `max_length` rows."""

    max_length: int
    long_documents: TooLong = "split"
    long_conversations: TooLong = "error"

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length must be positive, got {self.max_length}")


@dataclass(frozen=True)
class Draw:
    """One sample that the mixture drew: which source, which sample, how many rows."""

    source: int
    index: int
    num_rows: int


@dataclass
class _Position:
    """How far one source has been read: samples drawn over all epochs, rows used, samples dropped."""

    drawn: int = 0
    rows: int = 0
    dropped: int = 0


class Mixture(Generic[AnySource]):
    """See the module docstring.

    Args:
        weights: one positive number per source, need not sum to 1.
        shuffle: false reads each source in order (validation).
        repeat: false ends after one epoch of every source; sources that are through drop out.
    """

    def __init__(
        self,
        sources: Sequence[AnySource],
        weights: Sequence[float],
        *,
        policy: LengthPolicy,
        seed: int = 0,
        shuffle: bool = True,
        repeat: bool = True,
    ) -> None:
        if not sources or len(sources) != len(weights):
            raise InputError(
                f"a mixture needs one weight per source, got {len(sources)} sources, {len(weights)} weights"
            )
        names = [source.name for source in sources]
        if len(set(names)) != len(names):
            raise InputError(f"source names must differ, got {', '.join(names)}")
        for source, weight in zip(sources, weights, strict=True):
            if not 0 < weight < float("inf"):
                raise InputError(f"source {source.name!r}: weight must be positive, got {weight}")
            if len(source) == 0:
                raise InputError(f"source {source.name!r} has no samples")
        self.sources = tuple(sources)
        self.weights = tuple(float(weight) for weight in weights)
        self.policy, self.seed, self.shuffle, self.repeat = policy, seed, shuffle, repeat
        self._positions = [_Position() for _ in sources]
        self._orders: dict[tuple[int, int], Permutation] = {}

    def next(self) -> Draw | None:
        """The next sample that passes the length policy; None when a mixture without repetition is through."""
        while (source := self._furthest_behind()) is not None:
            draw = self._draw_from(source)
            if draw is not None:
                self._positions[source].rows += draw.num_rows
                return draw
        return None

    def epochs(self) -> dict[str, float]:
        """How often each source has been read, in epochs."""
        return {s.name: p.drawn / len(s) for s, p in zip(self.sources, self._positions, strict=True)}

    def dropped(self) -> dict[str, int]:
        """Samples left out by the length policy, per source."""
        return {s.name: p.dropped for s, p in zip(self.sources, self._positions, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Exact position, JSON-able."""
        positions = {s.name: [p.drawn, p.rows, p.dropped] for s, p in zip(self.sources, self._positions, strict=True)}
        return {"seed": self.seed, "sizes": {s.name: len(s) for s in self.sources}, "positions": positions}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to the saved position.

        Raises:
            InputError: the sources, their sizes or the seed are not those of the saved state.
        """
        sizes = {source.name: len(source) for source in self.sources}
        if state["sizes"] != sizes or state["seed"] != self.seed:
            saved, here = f"{state['sizes']} seed {state['seed']}", f"{sizes} seed {self.seed}"
            raise InputError(f"the saved data position belongs to other data: saved {saved}, here {here}")
        self._positions = [_Position(*state["positions"][source.name]) for source in self.sources]

    def _furthest_behind(self) -> int | None:
        behind = [
            (position.rows / weight, i)
            for i, (position, weight) in enumerate(zip(self._positions, self.weights, strict=True))
            if self.repeat or position.drawn < len(self.sources[i])
        ]
        return min(behind)[1] if behind else None

    def _draw_from(self, i: int) -> Draw | None:
        """Moves source i on by one sample; None if that sample is dropped."""
        source, position = self.sources[i], self._positions[i]
        index = self._index(i, position.drawn)
        rows = source.num_rows(index)
        position.drawn += 1
        if not self._keeps(source, index, rows):
            position.dropped += 1
            if position.dropped >= len(source) and position.rows == 0:
                longest = self.policy.max_length
                raise InputError(
                    f"source {source.name!r}: all {len(source)} samples are empty or longer than {longest}"
                )
            return None
        return Draw(i, index, rows)

    def _index(self, i: int, drawn: int) -> int:
        epoch, place = divmod(drawn, len(self.sources[i]))
        if not self.shuffle:
            return place
        order = self._orders.get((i, epoch))
        if order is None:
            order = Permutation(len(self.sources[i]), self.seed, self.sources[i].name, epoch)
            self._orders = {key: kept for key, kept in self._orders.items() if key[0] != i} | {(i, epoch): order}
        return order[place]

    def _keeps(self, source: AnySource, index: int, rows: int) -> bool:
        if rows < 1:
            return False
        if rows <= self.policy.max_length:
            return True
        conversation = source.is_conversation(index)
        if source.has_media(index) and self.policy.long_conversations == "split":
            raise InputError(
                f"source {source.name!r}: conversation {index} has media and {rows + 1} tokens; it cannot be split: "
                f"raise max_length={self.policy.max_length}, or set long_conversations to drop"
            )
        rule = self.policy.long_conversations if conversation else self.policy.long_documents
        if rule == "error":
            kind, option = ("conversation", "long_conversations") if conversation else ("document", "long_documents")
            raise InputError(
                f"source {source.name!r}: {kind} {index} has {rows + 1} tokens, more than "
                f"max_length={self.policy.max_length} allows; raise max_length or set {option} to drop or split"
            )
        return rule == "split"
