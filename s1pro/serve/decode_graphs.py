"""Decoding steps that are recorded once and replayed: buffers at fixed addresses, and a recording per size.

    ids_B, positions_B, block_table_BM  ──  network, keys and values, record of experts  ──>  logits_BV

All inputs and the logits lie in buffers that live as long as the cache. A step writes the tokens that were sampled into
`ids_B` and counts `positions_B` up; a request that gets a block writes it into its row of the table. Everything else
follows on the device (`kernels.attention_static`), so between the replay and the sampler nothing is asked for.

**Sizes.** A recording has a number of rows (1, 2, 4, 8, then multiples of 8) and of blocks per row (powers of two), so
that few sequences and short ones do not pay for many and long ones. Each is recorded when it is first needed. Rows
without a request have position 0 and the spare block, which nobody reads.

**How long a recording holds.** Weights that are replaced in place, as `update_weights` does, keep their addresses, and
the next replay reads them. A recording is void when a parameter has moved or a setting of the network has changed,
which is looked up whenever a batch is put together; with the cache, which `sleep` gives back, all of this goes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from s1pro.kernels.attention_static import StaticContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.network import Network
from s1pro.serve.recorders import Recorder, fingerprint
from s1pro.serve.request import Request
from s1pro.serve.routing_record import RoutingRecord
from s1pro.serve.steps import PlanOf

LEAST_SLOTS = 128
"""Of the narrowest recording, per row."""

MOST_SLOTS = 262_144
"""Of all rows of the largest recording, which gathers as many keys and values in every layer. Larger steps are not
recorded (`kernels.attention` computes them sequence by sequence)."""


class DecodeGraphs:
    """See the module docstring.

    Args:
        cache: its last block is nobody's.
        routing: with slots for that block too; None records no experts.
        max_batch: most rows.
        max_blocks: most blocks of a request.

    Attributes:
        replay_of: the recordings, by rows and blocks per row.
    """

    def __init__(
        self,
        network: Network,
        cache: PagedKVCache,
        routing: RoutingRecord | None,
        recorder: Recorder,
        *,
        max_batch: int,
        max_blocks: int,
    ) -> None:
        self._network, self._cache, self._routing, self._recorder = network, cache, routing, recorder
        self._max_batch, self._max_blocks = max_batch, max_blocks
        self._spare = cache.num_blocks - 1
        self.replay_of: dict[tuple[int, int], Callable[[], None]] = {}
        self._fingerprint: tuple[Hashable, ...] = ()
        head = network.lm_head.weight
        integers = {"dtype": torch.int64, "device": head.device}
        self._ids_B, self._positions_B = (torch.zeros(max_batch, **integers) for _ in range(2))
        self._table_BM = torch.full((max_batch, max_blocks), self._spare, **integers)
        logits_dtype = torch.promote_types(head.dtype, torch.float32)
        self._logits_BV = torch.zeros(max_batch, head.shape[0], dtype=logits_dtype, device=head.device)

    def can_run(self, requests: Sequence[Request]) -> bool:
        """Whether the network can be recorded as it is now, and the step is small enough. Forgets recordings that no
        longer hold."""
        if self._recorder.obstacle(self._network) is not None:
            return False
        now = fingerprint(self._network)
        if now != self._fingerprint:
            self.replay_of.clear()
            self._fingerprint = now
        return self.fits(len(requests), max(len(request.blocks) for request in requests))

    def fits(self, rows: int, blocks: int) -> bool:
        """Whether a step of so many rows, with so many blocks in the longest, is small enough."""
        size, width = self._sizes(rows, blocks)
        return size * width * self._cache.block_size <= MOST_SLOTS

    def begin(self, requests: Sequence[Request]) -> None:
        """Writes the next step of these requests into the buffers."""
        size, width = self._sizes(len(requests), max(len(request.blocks) for request in requests))
        ids, positions = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        table = np.full((size, width), self._spare, dtype=np.int64)
        for row, request in enumerate(requests):
            ids[row], positions[row] = request.ids[-1], request.num_computed
            table[row, : len(request.blocks)] = request.blocks
        self._ids_B[:size].copy_(torch.from_numpy(ids))
        self._positions_B[:size].copy_(torch.from_numpy(positions))
        self._table_BM[:size].fill_(self._spare)
        self._table_BM[:size, :width].copy_(torch.from_numpy(table))

    def add_block(self, row: int, number: int, block: int) -> None:
        """The request of a row got its block of this number."""
        self._table_BM[row, number] = block

    def run(self, rows: int, blocks: int) -> Tensor:
        """The step that is in the buffers: logits of the first `rows` rows, valid until the next one.

        Args:
            blocks: of the longest request.

        Raises:
            RecordingFailed: a step of this size could not be recorded.
        """
        sizes = self._sizes(rows, blocks)
        replay = self.replay_of.get(sizes)
        if replay is None:
            replay = self.replay_of[sizes] = self._recorder.record(lambda: self._step(*sizes))
        replay()
        return self._logits_BV[:rows]

    def advance(self, tokens_B: Tensor) -> None:
        """The step is done and these tokens are fed next."""
        self._ids_B[: len(tokens_B)].copy_(tokens_B)
        self._positions_B[: len(tokens_B)].add_(1)

    def _step(self, size: int, width: int) -> None:
        """What is recorded. Twice in a row it does the same as once."""
        ids_B, positions_B = self._ids_B[:size], self._positions_B[:size]
        context = StaticContext(self._cache, self._table_BM[:size, :width], positions_B)
        output = self._network(ids_B, positions_B, context)
        self._logits_BV[:size].copy_(output.logits)
        if self._routing is not None:
            self._routing.put(context.slots_B, ids_B, output.routers)

    def _sizes(self, rows: int, blocks: int) -> tuple[int, int]:
        size = 1 << (rows - 1).bit_length() if rows <= 8 else -(-rows // 8) * 8
        least = -(-LEAST_SLOTS // self._cache.block_size)
        width = 1 << (max(blocks, least) - 1).bit_length()
        return min(size, self._max_batch), min(width, self._max_blocks)


class StaticBatch:
    """As `steps.DecodeBatch`, for a batch that `DecodeGraphs` computes.

    Args:
        changes: the scheduler's counter that this batch belongs to.
    """

    def __init__(self, requests: Sequence[Request], plan_of: PlanOf, graphs: DecodeGraphs, changes: int) -> None:
        self.requests = tuple(requests)
        self.changes = changes
        self.plan = plan_of(self.requests)
        self._graphs = graphs
        self._rows = {id(request): row for row, request in enumerate(self.requests)}
        self._blocks = max(len(request.blocks) for request in self.requests)
        graphs.begin(self.requests)

    def logits(self) -> Tensor:
        """Of the next step, `[B, V]`."""
        return self._graphs.run(len(self.requests), self._blocks)

    def advance(self, tokens_B: Tensor) -> None:
        """The step is done."""
        self._graphs.advance(tokens_B)

    def grow(self, request: Request) -> bool:
        """A request got a block; false if the step has become too large."""
        last = len(request.blocks) - 1
        self._blocks = max(self._blocks, last + 1)
        if not self._graphs.fits(len(self.requests), self._blocks):
            return False
        self._graphs.add_block(self._rows[id(request)], last, request.blocks[last])
        return True
