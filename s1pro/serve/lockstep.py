"""Expert-parallel engines: every rank serves requests of its own, and its share of the experts serves all.

The dispatch of experts (`parallel.dispatch`) exchanges tokens in every layer, so all ranks must run every pass together
and with equally many rows. Before a pass they tell each other how many rows they have; who has fewer fills up with
dummy tokens, sequences of one token each, which read nothing and write into a slot that nobody reads. Who has no
request runs a pass of dummies alone. When nobody has a row there is no pass.

Attention, cache and scheduler stay a rank's own affair (data-parallel attention); weights other than experts are held
by every rank.

New weights must take effect on all ranks after the same pass, and so must sleep: `meet` lends this rank's experts until
every rank is there for the same purpose. Which pass is the last one is part of the agreement before each.

A rank that is done still lends its experts: `leave` runs passes with the others until all of them leave.

**A rank that is lost ends all of them.** Nobody can compute a layer without its experts, and whoever goes on after an
error in the middle of a pass is out of step with the others. So any error in a pass or in the agreement before it is a
`RanksLost`, on every rank, and no further pass is run. The others notice at once when the process of a rank is gone
(its connections close), and otherwise when the time limit of their process group has passed. This group must belong to
the lockstep alone: a collective of somebody else in between would be taken for one of ours.

Left out: sending requests to the least busy rank, overlapping the exchange with computation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.kernels.attention import MixedContext, PagedContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.network import Network, NetworkOutput

MEETING_SECONDS = 60.0
"""For which a rank with new weights waits for the others to get theirs."""

SLEEP, WAKE = -1, -2
"""Purposes of a meeting; others are versions of new weights."""

NAP = 0.005
"""Seconds between two agreements of ranks that wait."""


class RanksLost(RuntimeError):
    """Ranks that compute together have lost each other: one died, failed in the middle of a pass, or did not answer.
    `__cause__` is what this rank has seen of it."""


def wait_for_all(group: dist.ProcessGroup | None = None) -> None:
    """Returns when all ranks of the group are here.

    Raises:
        RanksLost: one of them died, or did not come in time.
    """
    try:
        dist.barrier(group)
    except RuntimeError as error:
        raise RanksLost("a rank died or did not come in time; start all ranks again") from error


class LockStep:
    """Passes of one network whose experts are spread over `group`.

    Args:
        scratch_slot: slot of the cache for the keys of dummy tokens.

    Attributes:
        cache: None while all ranks sleep.
        all_idle: nobody had a row the last time.
        all_left: everybody wanted to leave the last time.
        is_lost: a pass has failed; there will be no other.
    """

    def __init__(self, network: Network, group: dist.ProcessGroup, cache: PagedKVCache, scratch_slot: int) -> None:
        self.all_idle = self.all_left = self.is_lost = False
        self._leaving = False
        self._offer: int | None = None
        self._meeting: tuple[int, int] | None = None
        self._network, self._group = network, group
        self.cache: PagedKVCache | None = cache
        self._scratch_slot = scratch_slot
        self._device = network.lm_head.weight.device

    @torch.inference_mode()
    def idle(self) -> None:
        """The pass of a rank that has nothing to do."""
        with self._together():
            dummies = self._agree(0)
            if dummies:
                zeros_T = torch.zeros(dummies, dtype=torch.int64, device=self._device)
                self._network(zeros_T, zeros_T, self._dummies(dummies), compute_logits=False)

    def leave(self) -> None:
        """Lends this rank's experts until all ranks leave."""
        self._leaving = True
        while not self.all_left:
            self.idle()

    def meet(self, purpose: int, patience: float = MEETING_SECONDS) -> None:
        """Lends this rank's experts until all ranks are here; returns on all of them after the same pass.

        Args:
            purpose: version of new weights, `SLEEP` or `WAKE`.

        Raises:
            InputError: they did not come in time (this rank is withdrawn), or came for something else.
        """
        self._offer, deadline = purpose, time.monotonic() + patience
        try:
            self.idle()
            while self._meeting is None:
                if time.monotonic() > deadline:
                    raise InputError(
                        f"{_named(purpose)}: not every rank was told within {patience:g} s; tell all at the same time"
                    )
                if self.all_idle:
                    time.sleep(NAP)
                self.idle()
        finally:
            self._offer = None
        least, most = self._meeting
        if least != most:
            raise InputError(f"ranks were told different things: {_named(least)} and {_named(most)}")

    def __call__(
        self,
        ids_T: Tensor,
        positions_T: Tensor,
        context: PagedContext | MixedContext,
        *,
        inputs_embeds_TD: Tensor | None = None,
        logits_index: Tensor | None = None,
        compute_logits: bool = True,
    ) -> NetworkOutput:
        """The pass of a rank with rows; arguments and result are those of the network."""
        rows = len(ids_T)
        with self._together():
            dummies = self._agree(rows) - rows
        if dummies:
            parts = context.parts if isinstance(context, MixedContext) else (context,)
            context = MixedContext((*parts, self._dummies(dummies)))
            ids_T, positions_T = (torch.cat((x, x.new_zeros(dummies))) for x in (ids_T, positions_T))
            if inputs_embeds_TD is not None:
                filler = inputs_embeds_TD.new_zeros(dummies, inputs_embeds_TD.shape[1])
                inputs_embeds_TD = torch.cat((inputs_embeds_TD, filler))
            if logits_index is None and compute_logits:
                logits_index = torch.arange(rows, device=self._device)
        with self._together():
            output: NetworkOutput = self._network(
                ids_T,
                positions_T,
                context,
                inputs_embeds_TD=inputs_embeds_TD,
                logits_index=logits_index,
                compute_logits=compute_logits,
            )
        if not dummies:
            return output
        routers = tuple(router._replace(topk_ids_TK=router.topk_ids_TK[:rows]) for router in output.routers)
        return replace(output, hidden_TD=output.hidden_TD[:rows], routers=routers)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """What all ranks do at the same time."""
        if self.is_lost:
            raise RanksLost("the ranks have lost each other; start all of them again")
        self.is_lost = True
        try:
            yield
        except (RuntimeError, ValueError, MemoryError) as error:
            rank, size = self._group.rank(), self._group.size()
            raise RanksLost(
                f"rank {rank} of {size} cannot go on: a pass that all ranks compute together failed, because another "
                "one died or did not answer in time, or by a fault of this one; start all ranks again"
            ) from error
        self.is_lost = False

    def _agree(self, rows: int) -> int:
        """The largest number of rows of any rank."""
        offer = self._offer or 0
        mine = (rows, not self._leaving, self._offer is None, offer, -offer)
        largest = torch.tensor(mine, dtype=torch.int64, device=self._device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self._group)
        most, staying, working, newest, oldest = largest.tolist()
        self.all_idle, self.all_left = most == 0, staying == 0
        self._meeting = None if working else (-oldest, newest)
        return int(most)

    def _dummies(self, count: int) -> PagedContext:
        assert self.cache is not None, "who sleeps has no rows, nor has anybody else"
        slots_T = torch.full((count,), self._scratch_slot, dtype=torch.int64, device=self._device)
        return PagedContext(
            cache=self.cache,
            cu_seqlens_q=tuple(range(count + 1)),
            block_table_BM=slots_T[:, None] // self.cache.block_size,
            context_lens=(1,) * count,
            slot_mapping_T=slots_T,
        )


def _named(purpose: int) -> str:
    return {SLEEP: "sleep", WAKE: "wake"}.get(purpose, f"weights of version {purpose}")
