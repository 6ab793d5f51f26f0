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


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=80), st.integers(1, 5))
def test_no_block_is_lost_or_given_twice_and_contents_are_true(actions: list[tuple[str, int]], lane: int) -> None:
    pool, held, contents, owner = BlockPool(12, lane=lane), {}, {}, 0
    for action, number in actions:
        some = sorted(held)[number % len(held)] if held else None
        if action == "take":
            owner += 1
            free = pool.num_free
            blocks = pool.take(number + 1, owner=owner, room=2 * number + 1, after=number if number % 3 == 0 else None)
            assert (blocks is None) == (number + 1 > free)
            if blocks is not None:
                assert not set(blocks) & {b for other in held.values() for b in other}
                held[owner] = blocks
                contents = {b: c for b, c in contents.items() if b not in blocks}
        elif action == "next" and some is not None:
            block = pool.take_next(held[some][-1], owner=some)
            assert (block is None) == (pool.num_free == 0 and block is None)
            if block is not None:
                assert block not in {b for other in held.values() for b in other}
                held[some].append(block)
                contents.pop(block, None)
        elif action == "share":
            found = pool.find([bytes([number])])
            for block in found:
                assert contents[block] == bytes([number])
                pool.share([block])
                owner += 1
                held[owner] = [block]
        elif action == "name" and some is not None:
            block, digest = held[some][0], bytes([number])
            if block not in contents and digest not in contents.values():
                contents[block] = digest
            pool.name(block, digest)
        elif action == "release" and some is not None:
            pool.release(held.pop(some), owner=some)
        elif action == "forget":
            pool.forget()
            contents = {}
        holders = Counter(b for blocks in held.values() for b in blocks)
        assert all(pool.holders(b) == holders[b] for b in range(12))
        assert pool.num_free == 12 - len(holders)
        assert pool.num_cached == len(set(contents) - set(holders))
    for name, blocks in held.items():
        pool.release(blocks, owner=name)
    rest = pool.take(12, owner=owner + 1, room=12)
    assert rest is not None and sorted(rest) == list(range(12))
