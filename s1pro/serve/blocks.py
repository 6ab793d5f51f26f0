"""Which blocks of the paged cache belong to whom.

The cache is cut into blocks of a fixed number of token slots. A sequence gets its blocks when it is admitted and gives
them back when it ends. Blocks are handed out as one contiguous run: the keys of a sequence then lie in consecutive
slots, so attention reads them through a view instead of gathering them, and the slot of the next token is the slot
of the last one plus one.

A run is found first fit, lowest address first; neighbouring free runs are merged when they are returned.
"""

from __future__ import annotations

from bisect import bisect_left


class BlockAllocator:
    """Free runs of `num_blocks` blocks, kept sorted by their first block."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        self.num_blocks = num_blocks
        self._starts: list[int] = [0]
        self._lengths: list[int] = [num_blocks]

    @property
    def num_free(self) -> int:
        return sum(self._lengths)

    def allocate(self, count: int) -> range | None:
        """The block ids of a contiguous run, or None if no free run is long enough."""
        assert count >= 1, count
        for i, length in enumerate(self._lengths):
            if length >= count:
                start = self._starts[i]
                if length == count:
                    del self._starts[i], self._lengths[i]
                else:
                    self._starts[i], self._lengths[i] = start + count, length - count
                return range(start, start + count)
        return None

    def free(self, blocks: range) -> None:
        """Returns a run that `allocate` gave."""
        i = bisect_left(self._starts, blocks.start)
        before_ends = i > 0 and self._starts[i - 1] + self._lengths[i - 1]
        assert not (i > 0 and before_ends > blocks.start), f"block {blocks.start} is free already"
        assert not (i < len(self._starts) and self._starts[i] < blocks.stop), f"block {self._starts[i]} is free already"
        self._starts.insert(i, blocks.start)
        self._lengths.insert(i, len(blocks))
        if i + 1 < len(self._starts) and self._starts[i + 1] == blocks.stop:
            self._lengths[i] += self._lengths.pop(i + 1)
            del self._starts[i + 1]
        if i > 0 and before_ends == blocks.start:
            self._lengths[i - 1] += self._lengths.pop(i)
            del self._starts[i]
