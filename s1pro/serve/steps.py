"""One forward pass of the engine as tensors: which rows, at which positions, into which slots.

A step in which every request decodes is the common one, and on a CPU it is bound by Python and memory traffic. So
`DecodeBatch` rebuilds nothing from step to step: positions and slots are counted up in place, sampled ids feed the next
step without leaving the device, and the block table is written only where a request got a block out of the row.

Any other step is a `MixedBatch`, made anew. Its rows stand in the order

    one token of each decoding request | whole prompts | each further chunk, and each token with its guesses

and each part is a paged context of its own, so that attention can take its fastest way for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from s1pro.base.records import Sampling
from s1pro.kernels.attention import MixedContext, PagedContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.serve.request import Request
from s1pro.serve.sampler import Draws, Row, SamplingPlan
from s1pro.serve.scheduler import Share

SPARE_BLOCKS = 64

PlanOf = Callable[[Sequence[Row]], SamplingPlan]


class DecodeBatch:
    """Tensors of a batch in which every request feeds its last token; valid until one enters or leaves.

    Args:
        changes: the scheduler's counter that this batch belongs to.
    """

    def __init__(
        self, requests: Iterable[Request], plan_of: PlanOf, cache: PagedKVCache, device: torch.device, changes: int
    ) -> None:
        self.requests = tuple(sorted(requests, key=lambda request: request.blocks[0]))
        self.changes = changes
        self.plan = plan_of(self.requests)
        self._cache, size = cache, cache.block_size
        self._cu_seqlens = tuple(range(len(self.requests) + 1))
        self._rows = {id(request): row for row, request in enumerate(self.requests)}
        self._lengths = [request.num_computed for request in self.requests]
        self._first_slots = _first_slots(self.requests, size)
        self._table_BM = _block_table(self.requests, cache, device, spare=SPARE_BLOCKS)
        self.ids_B = torch.tensor([request.ids[-1] for request in self.requests], device=device)
        self.positions_B = torch.tensor(self._lengths, device=device)
        slots = [r.blocks[r.num_computed // size] * size + r.num_computed % size for r in self.requests]
        self.slots_B = torch.tensor(slots, device=device)
        self._one = torch.ones((), dtype=torch.int64, device=device)

    def context(self) -> PagedContext:
        """Of the next step."""
        return PagedContext(
            cache=self._cache,
            cu_seqlens_q=self._cu_seqlens,
            block_table_BM=self._table_BM,
            context_lens=tuple([length + 1 for length in self._lengths]),
            slot_mapping_T=self.slots_B,
            first_slots=self._first_slots,
        )

    def advance(self, tokens_B: Tensor) -> None:
        """The step is done."""
        self.ids_B = tokens_B
        self._lengths = [length + 1 for length in self._lengths]
        self.positions_B = self.positions_B + self._one
        self.slots_B = self.slots_B + self._one

    def grow(self, request: Request) -> bool:
        """A request got a block; false if the block table is too narrow."""
        row, last, size = self._rows[id(request)], len(request.blocks) - 1, self._cache.block_size
        if last >= self._table_BM.shape[1]:
            return False
        if not request.in_a_row:
            self._first_slots = None
            self._table_BM[row, last] = request.blocks[last]
            self.slots_B[row] = request.blocks[request.num_computed // size] * size + request.num_computed % size
        return True


@dataclass(frozen=True)
class _Ahead:
    """A row of a request as it will be if the guesses before are right."""

    request: Request
    ahead: int

    @property
    def sampling(self) -> Sampling:
        return self.request.sampling

    @property
    def uniforms(self) -> Draws:
        return self.request.uniforms

    @property
    def prompt_ids(self) -> Sequence[int]:
        return ()

    @property
    def token_ids(self) -> Sequence[int]:
        return range(len(self.request.token_ids) + self.ahead)

    @property
    def stop_ids(self) -> frozenset[int]:
        return self.request.stop_ids

    structure = None


class MixedBatch:
    """Tensors of a step of any kind.

    Attributes:
        shares: in the order of their rows.
        firsts: first row of each share.
        sampled: (share, its first row among the sampled ones).
        rows: what the sampler needs to know of each sampled row.
        logits_index: the sampled rows.
    """

    def __init__(self, shares: Sequence[Share], cache: PagedKVCache, device: torch.device) -> None:
        decoding = [s for s in shares if s.count == 1 and s.start > 0 and not s.draft]
        fresh = [s for s in shares if s.start == 0]
        single = set(map(id, (*decoding, *fresh)))
        others = [s for s in shares if id(s) not in single]
        self.shares = [*decoding, *fresh, *others]
        self._cache, self._device = cache, device
        ids: list[int] = []
        positions: list[npt.NDArray[np.int64]] = []
        slots: list[npt.NDArray[np.int64]] = []
        self.firsts: list[int] = []
        for share in self.shares:
            self.firsts.append(len(ids))
            ids += share.request.ids[share.start : share.start + share.count]
            ids += share.draft
            positions.append(np.arange(share.start, share.start + share.count + len(share.draft)))
            slots.append(_slots(share.request.blocks, positions[-1], cache.block_size))
        self.ids_T = torch.tensor(ids, device=device)
        self.positions_T = torch.from_numpy(np.concatenate(positions)).to(device)
        self.slots_T = torch.from_numpy(np.concatenate(slots)).to(device)
        parts = [part for part in (decoding, fresh) if part] + [[share] for share in others]
        self.context = self._context(parts)
        self._choose_rows()

    @cached_property
    def logits_index(self) -> Tensor:
        return torch.tensor(self._sampled_rows, device=self._device)

    def _choose_rows(self) -> None:
        self.sampled: list[tuple[Share, int]] = []
        self.rows: list[Row] = []
        self._sampled_rows: list[int] = []
        for share, first in zip(self.shares, self.firsts, strict=True):
            if not share.samples or share.request.limit == 0:
                continue
            self.sampled.append((share, len(self.rows)))
            last = first + share.count - 1
            self._sampled_rows += range(last, last + 1 + len(share.draft))
            self.rows.append(share.request)
            self.rows += [_Ahead(share.request, i + 1) for i in range(len(share.draft))]

    def _context(self, parts: list[list[Share]]) -> PagedContext | MixedContext:
        contexts, row = [], 0
        for part in parts:
            requests = [share.request for share in part]
            lengths = [share.count + len(share.draft) for share in part]
            bounds = (0, *np.cumsum(lengths).tolist())
            contexts.append(
                PagedContext(
                    cache=self._cache,
                    cu_seqlens_q=bounds,
                    block_table_BM=_block_table(requests, self._cache, self._device),
                    context_lens=tuple(s.start + length for s, length in zip(part, lengths, strict=True)),
                    slot_mapping_T=self.slots_T[row : row + bounds[-1]],
                    first_slots=_first_slots(requests, self._cache.block_size),
                )
            )
            row += bounds[-1]
        return contexts[0] if len(contexts) == 1 else MixedContext(tuple(contexts))


def slots_of(request: Request, count: int, block_size: int) -> npt.NDArray[np.int64]:
    """Slots of the first `count` tokens of a request."""
    return _slots(request.blocks, np.arange(count), block_size)


def _slots(blocks: Sequence[int], positions: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    result: npt.NDArray[np.int64] = np.asarray(blocks, dtype=np.int64)[positions // size] * size + positions % size
    return result


def _first_slots(requests: Sequence[Request], block_size: int) -> tuple[int, ...] | None:
    if not all(request.in_a_row for request in requests):
        return None
    return tuple(request.blocks[0] * block_size for request in requests)


def _block_table(requests: Sequence[Request], cache: PagedKVCache, device: torch.device, *, spare: int = 0) -> Tensor:
    """Block ids `[B, M]`. Behind the end of a row stand the blocks that would follow it in the cache."""
    widest = min(max(len(request.blocks) for request in requests) + spare, cache.num_blocks)
    table = np.zeros((len(requests), widest), dtype=np.int64)
    for row, request in enumerate(requests):
        held = len(request.blocks)
        table[row, :held] = request.blocks
        following = request.blocks[-1] + 1 + np.arange(widest - held)
        table[row, held:] = np.minimum(following, cache.num_blocks - 1)
    return torch.from_numpy(table).to(device)
