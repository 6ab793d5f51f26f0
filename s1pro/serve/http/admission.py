"""How many sequences are on the server, and who comes in next.

A server that lets everybody in collapses: its queue grows until nobody is answered in time. So there is a fixed number
of places. Whoever finds none waits at the door, first come, first served, for at most `patience` seconds and is then
told to come back later (429 with `Retry-After`); if too many stand at the door already, at once.

The door is there for fairness. Without it a place that becomes free goes to whoever happens to ask at that moment,
which is mostly the client that has just been answered, and a client that was refused could be unlucky for a long time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from s1pro.serve.http.errors import ApiError

KEEP = 0.9  # of the old value in the running mean of how long a place is held
LONGEST_RETRY = 30


class Admission:
    """See the module docstring.

    Args:
        places: sequences on the server at once. A larger request comes in when nobody else is there.
        max_at_door: requests that may wait for a place.
        patience: seconds that they wait.
    """

    def __init__(self, places: int, *, max_at_door: int, patience: float) -> None:
        self.places, self.max_at_door, self.patience = places, max_at_door, patience
        self.inside = 0
        self._door: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._seconds = 1.0

    @asynccontextmanager
    async def place(self, sequences: int) -> AsyncIterator[None]:
        """Places for so many sequences while the block runs.

        Raises:
            ApiError: 429, the server is full.
        """
        await self._enter(sequences)
        begin = time.monotonic()
        try:
            yield
        finally:
            self._seconds = KEEP * self._seconds + (1 - KEEP) * (time.monotonic() - begin)
            self._leave(sequences)

    async def _enter(self, sequences: int) -> None:
        if not self._door and self._fits(sequences):
            self.inside += sequences
            return
        if len(self._door) >= self.max_at_door:
            raise self._full()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (sequences, turn)
        self._door.append(entry)
        try:
            await asyncio.wait((turn,), timeout=self.patience)
        except asyncio.CancelledError:
            if turn.done():
                self._leave(sequences)
            else:
                self._go_away(entry)
            raise
        if not turn.done():
            self._go_away(entry)
            raise self._full()

    def _leave(self, sequences: int) -> None:
        self.inside -= sequences
        self._let_in()

    def _go_away(self, entry: tuple[int, asyncio.Future[None]]) -> None:
        self._door.remove(entry)
        self._let_in()  # the one behind may be smaller

    def _let_in(self) -> None:
        while self._door and self._fits(self._door[0][0]):
            sequences, turn = self._door.popleft()
            self.inside += sequences
            turn.set_result(None)

    def _fits(self, sequences: int) -> bool:
        return not self.inside or self.inside + sequences <= self.places

    def _full(self) -> ApiError:
        wait = max(1, min(LONGEST_RETRY, math.ceil(self._seconds)))
        return ApiError(429, "the server is full; try again later", code="server_full", retry_after=wait)
