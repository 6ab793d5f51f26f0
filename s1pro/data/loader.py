"""The loader: an iterator of batches whose position can be saved and restored exactly.

`state_dict()` after the n-th batch, loaded into a fresh loader, continues with batch n + 1, bit for bit. This also
holds with `prefetch`: a background thread works ahead, and every batch carries the state that belongs right behind
it.

With several ranks all of them walk the same global stream of batches and each materialises its own (`rank` of
`num_ranks`), so the global position is one number and a run may resume on another number of ranks. At the end of a
stream without repetition, ranks without a batch get an empty one: all ranks make the same number of steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class BatchPlanner(Protocol[BatchOut]):
    """What a batch holds is planned first, cheaply, and fetched afterwards: `data.packing` and `data.pairs`."""

    def plan(self) -> list[Any] | None:
        """What is in the next batch; None at the end."""
        ...

    def materialise(self, chunks: list[Any], /) -> BatchOut:
        """The batch of a plan. An empty plan is that of a rank for which nothing was left."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Loader(Generic[Batch]):
    """See the module docstring. `close()` (or leaving a `with` block) ends the background thread."""

    def __init__(self, packer: BatchPlanner[Batch], *, rank: int = 0, num_ranks: int = 1, prefetch: int = 0) -> None:
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank must lie in 0 .. {num_ranks - 1}, got {rank}")
        if prefetch < 0:
            raise ValueError(f"prefetch must not be negative, got {prefetch}")
        self._packer, self._rank, self._num_ranks, self._prefetch = packer, rank, num_ranks, prefetch
        self._state = packer.state_dict()
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: deque[Future[tuple[Batch, dict[str, Any]] | None]] = deque()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        item = self._next_from_thread() if self._prefetch else self._produce()
        if item is None:
            raise StopIteration
        batch, self._state = item
        return batch

    @property
    def packer(self) -> BatchPlanner[Batch]:
        return self._packer

    def state_dict(self) -> dict[str, Any]:
        """Position behind the last batch that was handed out. JSON-able."""
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues behind the batch at which `state` was taken."""
        self._stop_thread()
        self._packer.load_state_dict(state)
        self._state = self._packer.state_dict()

    def close(self) -> None:
        """Stops working ahead. The loader can be used again and continues where it was."""
        if self._thread is not None:
            self.load_state_dict(self._state)

    def __enter__(self) -> Loader[Batch]:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _produce(self) -> tuple[Batch, dict[str, Any]] | None:
        """One batch of this rank, and the state behind the batches of all ranks."""
        plans = [self._packer.plan() for _ in range(self._num_ranks)]
        if all(plan is None for plan in plans):
            return None
        return self._packer.materialise(plans[self._rank] or []), self._packer.state_dict()

    def _next_from_thread(self) -> tuple[Batch, dict[str, Any]] | None:
        """A single worker makes the batches in order; its errors surface here, at the batch they belong to."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        while len(self._ahead) <= self._prefetch:
            self._ahead.append(self._thread.submit(self._produce))
        return self._ahead.popleft().result()

    def _stop_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
            self._ahead.clear()
