"""Which blocks of the paged cache belong to whom, and what the free ones still hold.

The cache is cut into blocks of a fixed number of token slots. A block is held by one request or, if it is full and its
content has a digest (`serve.prefix`), by several with an equal prefix; the last holder's release makes it free. A free
block keeps its content and digest until the room is needed, so that a later request with the same prefix takes it as it
is: that is the whole prefix cache. Blocks that were used longest ago go first; of one request its last block first, for
a block is worth nothing without those before it.

Blocks may lie anywhere, but attention reads keys and values faster where a sequence occupies consecutive slots, and
fastest where all sequences of a batch begin at equal distances. So the pool tries to give a request a run of blocks
with as much free room behind it as the request may need, beginning at a multiple of `lane`. The room is only a
reservation in pencil: who finds nothing else takes it. Runs are looked for with prefix sums over all blocks, cheapest
content first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NOBODY = 0


class BlockPool:
    """`num_blocks` blocks. Owners are positive numbers.

    Args:
        lane: preferred distance between the first blocks of two runs.
    """

    def __init__(self, num_blocks: int, *, lane: int = 1) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self._lane = max(1, lane)
        self._holders = np.zeros(num_blocks, dtype=np.int32)
        self._pencilled = np.full(num_blocks, NOBODY, dtype=np.int64)
        self._last_use = np.zeros(num_blocks, dtype=np.int64)  # of free blocks with a digest; 0 without
        self._clock = 0
        self._digests: list[bytes | None] = [None] * num_blocks
        self._by_digest: dict[bytes, int] = {}

    @property
    def num_cached(self) -> int:
        """Free blocks whose content could be used again."""
        return int(np.count_nonzero(self._last_use))

    def counts(self) -> dict[str, int]:
        """Blocks in all, held by requests, and free but of use for their content."""
        used = self.num_blocks - self.num_free
        return {"blocks": self.num_blocks, "blocks_used": used, "blocks_cached": self.num_cached}

    def holders(self, block: int) -> int:
        return int(self._holders[block])

    def find(self, digests: Sequence[bytes]) -> list[int]:
        """The blocks that hold the longest known prefix of `digests`; they are not taken yet."""
        found: list[int] = []
        for digest in digests:
            block = self._by_digest.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def num_free_without(self, blocks: Sequence[int]) -> int:
        """Free blocks besides those named."""
        return self.num_free - sum(1 for block in blocks if self._holders[block] == 0)

    def is_empty_behind(self, block: int, count: int) -> bool:
        """Whether the `count` blocks behind one are free, not reserved, and hold nothing."""
        return self._run_behind(block, count) is not None

    def share(self, blocks: Sequence[int]) -> None:
        """One more holder for blocks that `find` gave."""
        for block in blocks:
            if self._holders[block] == 0:
                self.num_free -= 1
                self._last_use[block] = 0
                self._pencilled[block] = NOBODY
            self._holders[block] += 1

    def take(self, count: int, *, owner: int, room: int, after: int | None = None) -> list[int] | None:
        """`count` blocks, in a row if possible; None if so many are not free.

        Args:
            room: blocks that the owner may need in all; those behind the first `count` are reserved in pencil.
            after: block before, behind which the run should begin.
        """
        if count > self.num_free:
            return None
        room = max(room, count)
        start = None
        if after is not None:
            start = self._run_behind(after, room) or self._run_behind(after, count)
        for length in (room, count):
            if start is None:
                start = self._find_run(length)
        if start is None:
            return [self._take(self._cheapest()) for _ in range(count)]
        behind = slice(start + count, min(start + room, self.num_blocks))
        free = (self._holders[behind] == 0) & (self._pencilled[behind] == NOBODY)
        self._pencilled[behind][free] = owner
        return [self._take(block) for block in range(start, start + count)]

    def take_next(self, after: int, *, owner: int) -> int | None:
        """One more block for a request whose last one is `after`, the next in the row if possible."""
        if self.num_free == 0:
            return None
        block = after + 1
        if block < self.num_blocks and self._holders[block] == 0 and self._pencilled[block] in (owner, NOBODY):
            return self._take(block)
        return self._take(self._cheapest())

    def name(self, block: int, digest: bytes) -> None:
        """Records what a held block contains; of two blocks with the same content only the first one is found."""
        assert self._holders[block] > 0, block
        if self._digests[block] is None and digest not in self._by_digest:
            self._digests[block] = digest
            self._by_digest[digest] = block

    def release(self, blocks: Sequence[int], *, owner: int) -> None:
        """One holder less; the owner's reservations end."""
        self.drop(blocks)
        self._pencilled[self._pencilled == owner] = NOBODY

    def drop(self, blocks: Sequence[int]) -> None:
        """One holder less."""
        for block in reversed(blocks):
            assert self._holders[block] > 0, f"block {block} is free already"
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self.num_free += 1
                if self._digests[block] is not None:
                    self._clock += 1
                    self._last_use[block] = self._clock

    def forget(self) -> None:
        """All contents are void (new weights)."""
        self._digests = [None] * self.num_blocks
        self._by_digest.clear()
        self._last_use[:] = 0

    def _take(self, block: int) -> int:
        digest = self._digests[block]
        if digest is not None:
            del self._by_digest[digest]
            self._digests[block] = None
        self._last_use[block] = 0
        self._pencilled[block] = NOBODY
        self._holders[block] = 1
        self.num_free -= 1
        return block

    def _cheapest(self) -> int:
        """The free block that is missed least, the last of several; those that somebody has reserved come last."""
        never = np.iinfo(np.int64).max
        cost = np.where(self._pencilled == NOBODY, self._last_use, self._last_use + never // 2)
        return self.num_blocks - 1 - int(np.argmin(np.where(self._holders > 0, never, cost)[::-1]))

    def _run_behind(self, after: int, length: int) -> int | None:
        """The run behind a block, if it is free and holds nothing."""
        run = slice(after + 1, after + 1 + length)
        held = self._holders[run].any() or self._pencilled[run].any() or self._last_use[run].any()
        return None if held or run.stop > self.num_blocks else run.start

    def _find_run(self, length: int) -> int | None:
        """First block of the cheapest free run, at a multiple of `lane` if there is one."""
        if length > self.num_blocks:
            return None
        unusable = _window_sums((self._holders > 0) | (self._pencilled != NOBODY), length) > 0
        for step in (self._lane, 1):
            starts = np.flatnonzero(~unusable[::step]) * step
            if len(starts):
                costs = _window_sums(self._last_use, length)[starts]
                return int(starts[np.argmin(costs)])
        return None


def _window_sums(values: npt.NDArray[np.generic], length: int) -> npt.NDArray[np.int64]:
    """Sum of every `length` neighbours."""
    sums = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
    return sums[length:] - sums[:-length]
