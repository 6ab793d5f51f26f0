"""Which requests run in the next step.

First come, first served. Requests wait in a queue; before every step the first ones are admitted while there is room in
the batch, in the cache and in the budget of prompt tokens per step. A step is either the prefill of the newly admitted
requests, packed one after another, or one token for every running request. An admitted request owns all the blocks
that it can ever need, so nothing is preempted and no step can fail for lack of room.
"""

from __future__ import annotations

from collections import deque

from s1pro.serve.blocks import BlockAllocator
from s1pro.serve.request import Request


class Scheduler:
    """Waiting queue, running batch and block allocator. Knows no tensors."""

    def __init__(self, *, num_blocks: int, block_size: int, max_batch: int, max_prefill_tokens: int) -> None:
        self.allocator = BlockAllocator(num_blocks)
        self.block_size = block_size
        self.max_batch = max_batch
        self.max_prefill_tokens = max_prefill_tokens
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def blocks_needed(self, request: Request) -> int:
        return -(-request.num_slots // self.block_size)

    def admit(self) -> list[Request]:
        """Moves requests from the queue to the batch and gives them their blocks."""
        admitted: list[Request] = []
        budget = self.max_prefill_tokens
        while self.waiting and len(self.running) < self.max_batch:
            request = self.waiting[0]
            if admitted and len(request.prompt_ids) > budget:
                break  # a prompt longer than the whole budget goes alone
            blocks = self.allocator.allocate(self.blocks_needed(request))
            if blocks is None:
                break
            request.blocks = blocks
            budget -= len(request.prompt_ids)
            admitted.append(self.waiting.popleft())
            self.running.append(request)
        return admitted

    def leave(self, leaving: list[Request]) -> None:
        """Takes requests out of the batch and frees their blocks."""
        gone = set(map(id, leaving))
        self.running = [request for request in self.running if id(request) not in gone]
        for request in leaving:
            self.allocator.free(request.blocks)

    def take_aborted(self) -> list[Request]:
        """Removes the requests that nobody waits for any more."""
        running = [request for request in self.running if request.aborted]
        if running:
            self.leave(running)
        waiting = [request for request in list(self.waiting) if request.aborted]
        for request in waiting:
            self.waiting.remove(request)
        for request in (*running, *waiting):
            request.finish_reason = "abort"
        return running + waiting
