from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.serve.blocks import BlockAllocator


def test_runs_are_contiguous_first_fit_and_merge_when_freed() -> None:
    allocator = BlockAllocator(8)
    first, second, third = (allocator.allocate(n) for n in (2, 3, 3))
    assert (first, second, third) == (range(2), range(2, 5), range(5, 8))
    assert allocator.allocate(1) is None
    assert first is not None and second is not None and third is not None
    allocator.free(first)
    allocator.free(third)
    assert allocator.num_free == 5
    assert allocator.allocate(4) is None  # five are free, but not in a row
    allocator.free(second)
    assert allocator.allocate(8) == range(8)


def test_freeing_twice_is_caught() -> None:
    allocator = BlockAllocator(4)
    run = allocator.allocate(2)
    assert run is not None
    allocator.free(run)
    with pytest.raises(AssertionError, match="free already"):
        allocator.free(run)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=60))
def test_no_block_is_ever_given_twice_or_lost(steps: list[tuple[bool, int]]) -> None:
    allocator, held = BlockAllocator(16), []
    for take, number in steps:
        if take:
            run = allocator.allocate(number)
            if run is not None:
                assert not {b for other in held for b in other} & set(run)
                held.append(run)
        elif held:
            allocator.free(held.pop(number % len(held)))
        assert allocator.num_free == 16 - sum(map(len, held))
    for run in held:
        allocator.free(run)
    assert allocator.allocate(16) == range(16)
