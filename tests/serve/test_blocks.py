from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.serve.blocks import BlockPool


def test_runs_have_room_to_grow_and_begin_at_lanes() -> None:
    pool = BlockPool(16, lane=4)
    assert pool.take(2, owner=1, room=4) == [0, 1]
    assert pool.take(1, owner=2, room=3) == [4]
    assert pool.take(1, owner=3, room=5) == [8]
    assert [pool.take_next(1, owner=1), pool.take_next(2, owner=1)] == [2, 3]
    assert pool.take_next(4, owner=2) == 5
    pool.release([0, 1, 2, 3], owner=1)
    assert pool.take(3, owner=4, room=3) == [0, 1, 2]


def test_reservations_are_given_up_only_when_nothing_else_is_free() -> None:
    pool = BlockPool(8, lane=4)
    assert pool.take(1, owner=1, room=6) == [0]  # 1 to 5 in pencil
    assert pool.take(2, owner=2, room=2) == [6, 7]
    assert pool.take_next(7, owner=2) == 5  # somebody else's pencil, from its end
    assert pool.take_next(0, owner=1) == 1
    assert pool.num_free == 3


def test_contents_are_found_until_their_room_is_needed_oldest_first() -> None:
    pool = BlockPool(4)
    first = pool.take(2, owner=1, room=2)
    assert first == [0, 1]
    for block, digest in zip(first, [b"a", b"ab"], strict=True):
        pool.name(block, digest)
    assert pool.find([b"a", b"ab", b"abc"]) == [0, 1]
    assert pool.find([b"b"]) == []
    pool.release(first, owner=1)
    assert (pool.num_free, pool.num_cached) == (4, 2)
    pool.share(pool.find([b"a"]))
    assert (pool.num_free, pool.holders(0)) == (3, 1)
    pool.share([0])
    assert pool.holders(0) == 2
    assert pool.take(2, owner=2, room=2) == [2, 3]  # in a row, nothing forgotten
    assert pool.find([b"a", b"ab"]) == [0, 1]
    assert pool.take(1, owner=3, room=1) == [1]  # the end of a prefix goes before its beginning
    assert pool.find([b"a", b"ab"]) == [0]
    assert pool.take(1, owner=4, room=1) is None
    pool.forget()
    assert pool.find([b"a"]) == []


def test_freeing_twice_is_caught() -> None:
    pool = BlockPool(4)
    run = pool.take(2, owner=1, room=2)
    assert run is not None
    pool.release(run, owner=1)
    with pytest.raises(AssertionError, match="free already"):
        pool.release(run, owner=1)


ACTIONS = st.tuples(st.sampled_from(["take", "next", "share", "name", "release", "forget"]), st.integers(0, 7))


class Model:
    """What the pool should know, said plainly."""

    def __init__(self, lane: int) -> None:
        self.pool = BlockPool(12, lane=lane)
        self.held: dict[int, list[int]] = {}
        self.contents: dict[int, bytes] = {}
        self.owner = 0

    def some(self, number: int) -> int | None:
        return sorted(self.held)[number % len(self.held)] if self.held else None

    def got(self, blocks: list[int]) -> None:
        """Blocks that nobody may have had; what they held is gone."""
        assert not set(blocks) & {b for other in self.held.values() for b in other}
        self.contents = {b: c for b, c in self.contents.items() if b not in blocks}

    def take(self, number: int) -> None:
        self.owner += 1
        free, after = self.pool.num_free, number if number % 3 == 0 else None
        blocks = self.pool.take(number + 1, owner=self.owner, room=2 * number + 1, after=after)
        assert (blocks is None) == (number + 1 > free)
        if blocks is not None:
            self.got(blocks)
            self.held[self.owner] = blocks

    def next(self, number: int) -> None:
        if (some := self.some(number)) is None:
            return
        free = self.pool.num_free
        block = self.pool.take_next(self.held[some][-1], owner=some)
        assert (block is None) == (free == 0)
        if block is not None:
            self.got([block])
            self.held[some].append(block)

    def share(self, number: int) -> None:
        for block in self.pool.find([bytes([number])]):
            assert self.contents[block] == bytes([number])
            self.pool.share([block])
            self.owner += 1
            self.held[self.owner] = [block]

    def name(self, number: int) -> None:
        if (some := self.some(number)) is None:
            return
        block, digest = self.held[some][0], bytes([number])
        if block not in self.contents and digest not in self.contents.values():
            self.contents[block] = digest
        self.pool.name(block, digest)

    def release(self, number: int) -> None:
        if (some := self.some(number)) is not None:
            self.pool.release(self.held.pop(some), owner=some)

    def forget(self, number: int) -> None:
        self.pool.forget()
        self.contents = {}


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=80), st.integers(1, 5))
def test_no_block_is_lost_or_given_twice_and_contents_are_true(actions: list[tuple[str, int]], lane: int) -> None:
    model = Model(lane)
    pool = model.pool
    for action, number in actions:
        getattr(model, action)(number)
        holders = Counter(b for blocks in model.held.values() for b in blocks)
        assert all(pool.holders(b) == holders[b] for b in range(12))
        assert pool.num_free == 12 - len(holders)
        assert pool.num_cached == len(set(model.contents) - set(holders))
    for name, blocks in model.held.items():
        pool.release(blocks, owner=name)
    rest = pool.take(12, owner=model.owner + 1, room=12)
    assert rest is not None and sorted(rest) == list(range(12))
