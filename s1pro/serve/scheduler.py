"""Which tokens of which requests run in the next step.

A request is a row of tokens of which some are in the cache; a step feeds it the next ones: one when it decodes, a chunk
of its prompt before that, all the same to the scheduler. Every step has a budget of tokens:

1. requests that need one token get it, oldest first: nobody's prompt makes the answers of others wait;
2. the rest of the budget goes to prompts under way, a long one taking at most half of a step if others need some, and
3. to waiting requests, first come, first served, while the batch has a place and the cache has room for all their
   tokens. Blocks with a known prefix are shared (`serve.blocks`) and their tokens never run. A request whose next block
   is being computed by another one right now waits for it. While half of the cache is free a known prefix is copied
   rather than shared, so that the sequence lies in a row.

Blocks for the answer are taken as it grows. If there is none the youngest request loses all its blocks and goes to the
head of the queue; when it runs again its prompt and answer so far are computed as one prompt, of which the prefix cache
may still hold a part. The oldest request always gets on, so everybody does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s1pro.serve.blocks import BlockPool
from s1pro.serve.prefix import extend_digests
from s1pro.serve.request import Request
from s1pro.serve.statistics import Counters

Drafter = Callable[[Request, int], Sequence[int]]
"""Guessed tokens behind a request, at most so many."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one request feeds in a step: tokens `start` to `start + count` of its ids, then guessed ones."""

    request: Request
    start: int
    count: int
    draft: Sequence[int] = ()

    @property
    def samples(self) -> bool:
        """Whether the step reaches the end of what is known, so that the next token can be drawn."""
        return self.start + self.count == len(self.request.ids)


class Scheduler:
    """Queue, running batch and block pool. Knows no tensors.

    Args:
        step_tokens: budget of a step.
        share_prefixes: whether blocks are kept and shared.

    Attributes:
        inbox: requests from any thread; they join the queue at the next step.
        changes: grows whenever a request enters or leaves the batch.
        grown: requests that got a block in the last `schedule`.
        copies: blocks whose content must be in other blocks before the step, as (from, to); `copied` ends it.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        max_batch: int,
        step_tokens: int,
        share_prefixes: bool = True,
        counters: Counters | None = None,
    ) -> None:
        self.block_size = block_size
        self.max_batch = max_batch
        self.step_tokens = step_tokens
        self.share_prefixes = share_prefixes
        self.counters = counters or Counters()
        self.lane = max(1, num_blocks // max_batch)
        self.pool = BlockPool(num_blocks, lane=self.lane)
        self.inbox: deque[Request] = deque()
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.changes = 0
        self.grown: list[Request] = []
        self.copies: list[tuple[list[int], list[int]]] = []
        self._preempted = False

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting or self.inbox)

    def schedule(self, drafter: Drafter | None = None) -> list[Share]:
        """The next step; its requests own the slots that it needs."""
        while self.inbox:
            self.waiting.append(self.inbox.popleft())
        self._preempted = False
        self.grown = []
        shares: list[Share] = []
        budget = self._decoding(shares, max(self.step_tokens, 1), drafter)
        budget = self._prompts(shares, budget)
        if self.waiting and not self._preempted:
            self._admit(shares, budget)
        return shares

    def leave(self, leaving: Sequence[Request]) -> None:
        """Takes requests out of the batch and frees their blocks; what these hold stays known."""
        gone = set(map(id, leaving))
        self.running = [request for request in self.running if id(request) not in gone]
        for request in leaving:
            self._give_back(request)
        self.changes += 1

    def take_aborted(self) -> list[Request]:
        """Removes the requests that nobody waits for any more."""
        running = [request for request in self.running if request.aborted]
        if running:
            self.leave(running)
        while self.inbox:
            self.waiting.append(self.inbox.popleft())
        waiting = [request for request in self.waiting if request.aborted]
        for request in waiting:
            self.waiting.remove(request)
        return running + waiting

    def preempt_all(self) -> None:
        """Everybody begins again: the cache is void."""
        while self.running:
            self._preempt(self.running[-1])

    def forget_prefixes(self) -> None:
        """Nothing in the cache can be shared any more (new weights), nor what is computed on top of it."""
        self.pool.forget()
        for request in self.running:
            request.num_named = self.pool.num_blocks

    def copied(self) -> None:
        """The engine has copied what `copies` says."""
        for source, _ in self.copies:
            self.pool.drop(source)
        self.copies = []

    def computed(self, share: Share, kept: int) -> None:
        """After a step: `kept` tokens of the share are in the cache for good. Its full blocks become known."""
        request = share.request
        before, request.num_computed = request.num_computed, share.start + kept
        if before // self.block_size != request.num_computed // self.block_size:
            self._name_blocks(request)
        if share.draft:
            self._trim(request, request.num_computed)

    def _decoding(self, shares: list[Share], budget: int, drafter: Drafter | None) -> int:
        for request in list(self.running):
            if budget == 0:
                break
            known = len(request.ids)
            if known - request.num_computed != 1 or not request.blocks:
                continue
            draft = drafter(request, min(budget - 1, request.limit - len(request.token_ids) - 1)) if drafter else ()
            if not self._grow(request, known):
                break
            if draft and not self._grow_for_draft(request, known + len(draft)):
                draft = ()
            shares.append(Share(request, known - 1, 1, draft))
            budget -= 1 + len(draft)
        if self._preempted:
            shares[:] = [share for share in shares if share.request.blocks]
        return budget

    def _prompts(self, shares: list[Share], budget: int) -> int:
        chosen = {share.request for share in shares}
        prompts = [request for request in self.running if request not in chosen]
        others = len(prompts) > 1 or (bool(self.waiting) and len(self.running) < self.max_batch)
        for request in prompts:
            count = self._chunk(request, budget, others=others)
            if count:
                shares.append(Share(request, request.num_computed, count))
                budget -= count
        return budget

    def _chunk(self, request: Request, budget: int, *, others: bool) -> int:
        """Tokens of a prompt in this step; a long one leaves half of the step to others."""
        most = max(self.step_tokens // 2, 1) if others else budget
        return min(len(request.ids) - request.num_computed, budget, most)

    def _admit(self, shares: list[Share], budget: int) -> None:
        held_back: list[Request] = []
        while self.waiting and len(self.running) < self.max_batch and budget > 0:
            request = self.waiting.popleft()
            known = self._known_prefix(request)
            if self._is_computed_by_another(request, len(known)):
                held_back.append(request)
                continue
            if not self._place(request, known):
                self.waiting.appendleft(request)
                break
            count = self._chunk(request, budget, others=bool(self.waiting))
            shares.append(Share(request, request.num_computed, count))
            budget -= count
        self.waiting.extendleft(reversed(held_back))

    def _place(self, request: Request, known: list[int]) -> bool:
        """Moves a request into the batch with blocks for all its tokens; false if there is no room."""
        size, pool = self.block_size, self.pool
        needed = -(-len(request.ids) // size) - len(known)
        spare = len(self.running)  # everybody who runs will soon need another one
        if self.running and pool.num_free_without(known) < needed + spare:
            return False
        copying = self._should_copy(request, known, needed)
        pool.share(known)
        first = 0 if copying else len(known)
        needed = -(-len(request.ids) // size) - first
        room = min(-(-request.num_slots // size) - first, max(needed, self.lane))
        blocks = pool.take(needed, owner=request.number, room=room, after=None if first == 0 else known[-1])
        assert blocks is not None, "an admitted request fits"
        if copying:
            self.copies.append((known, blocks[: len(known)]))
        request.blocks = blocks if copying else known + blocks
        request.in_a_row = _in_a_row(request.blocks)
        request.num_computed = len(known) * size
        request.num_named = len(known)
        if not request.timing.admitted:
            request.timing.admitted = time.monotonic()
            request.cached_tokens = min(request.num_computed, len(request.prompt_ids))
            self.counters.prompt_tokens += len(request.prompt_ids)
            self.counters.cached_tokens += request.cached_tokens
        self.running.append(request)
        self.changes += 1
        return True

    def _should_copy(self, request: Request, known: list[int], needed: int) -> bool:
        """Whether a known prefix is worth having twice: every step of an answer reads it, and faster in one row."""
        if not known or request.limit <= 1:
            return False
        if _in_a_row(known) and self.pool.is_empty_behind(known[-1], needed):
            return False
        left = self.pool.num_free_without(known) - len(known) - needed
        return left >= self.pool.num_blocks // 2

    def _known_prefix(self, request: Request) -> list[int]:
        """Blocks of the cache that the request can use; at least its last token is left to be computed."""
        if not self.share_prefixes:
            return []
        extend_digests(request.digests, request.ids, self.block_size, request.media_digests)
        if request.wants_prompt_logprobs:
            return []
        return self.pool.find(request.digests[: (len(request.ids) - 1) // self.block_size])

    def _is_computed_by_another(self, request: Request, known: int) -> bool:
        if request.wants_prompt_logprobs or known >= (len(request.ids) - 1) // self.block_size:
            return False
        if known >= len(request.digests):
            return False
        wanted, size = request.digests[known], self.block_size
        return any(
            other.num_computed // size <= known < len(other.digests) and other.digests[known] == wanted
            for other in self.running
        )

    def _grow(self, request: Request, tokens: int) -> bool:
        """Blocks for `tokens` tokens, taken from younger requests if need be; false if the request lost its own."""
        while len(request.blocks) * self.block_size < tokens:
            if self._take_next(request):
                continue
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is request:
                return False
        return True

    def _grow_for_draft(self, request: Request, tokens: int) -> bool:
        while len(request.blocks) * self.block_size < tokens:
            if not self._take_next(request):
                self._trim(request, len(request.ids))
                return False
        return True

    def _take_next(self, request: Request) -> bool:
        block = self.pool.take_next(request.blocks[-1], owner=request.number)
        if block is None:
            return False
        if block != request.blocks[-1] + 1:
            request.in_a_row = False
        request.blocks.append(block)
        self.grown.append(request)
        return True

    def _trim(self, request: Request, tokens: int) -> None:
        """Gives back blocks that were taken for guesses: a block comes with the token that needs it."""
        held = -(-tokens // self.block_size)
        if len(request.blocks) > held:
            self.pool.drop(request.blocks[held:])
            del request.blocks[held:]
            request.in_a_row = _in_a_row(request.blocks)

    def _preempt(self, request: Request) -> None:
        self.running.remove(request)
        if request.wants_prompt_logprobs:
            request.prompt_logprobs.clear()
        self._give_back(request)
        self.waiting.appendleft(request)
        self.counters.preemptions += 1
        self.changes += 1
        self._preempted = True

    def _give_back(self, request: Request) -> None:
        self._name_blocks(request)
        self.pool.release(request.blocks, owner=request.number)
        request.blocks = []
        request.num_computed = 0

    def _name_blocks(self, request: Request) -> None:
        """Tells the pool what the full blocks of a request contain."""
        if not self.share_prefixes:
            return
        size, full = self.block_size, request.num_computed // self.block_size
        extend_digests(request.digests, request.ids, size, request.media_digests)
        for i in range(request.num_named, full):
            self.pool.name(request.blocks[i], request.digests[i])
        request.num_named = max(request.num_named, full)


def _in_a_row(blocks: Sequence[int]) -> bool:
    return blocks == list(range(blocks[0], blocks[0] + len(blocks)))
