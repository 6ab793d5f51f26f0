"""Numbers about a running engine.

Counters only grow and are cheap: the engine adds to them between steps. `EngineStats` is a copy that any thread may
read. Latencies of single requests are kept for the last `KEPT` requests; a server that fills histograms takes them from
the `Timing` of every request instead.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from s1pro.serve.request import Timing

KEPT = 4096


@dataclass
class Counters:
    """What the engine has done so far.

    Attributes:
        prompt_tokens: of admitted requests; `cached_tokens` of them were in the cache already.
        drafted_tokens, accepted_tokens: of speculative decoding.
        preemptions: how often a request lost its blocks and had to be computed again.
        time_to_first_token, time_per_token: seconds, of the last finished requests.
    """

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    preemptions: int = 0
    finished: int = 0
    aborted: int = 0
    time_to_first_token: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    time_per_token: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def left(self, timing: Timing, num_tokens: int) -> None:
        """A request is finished."""
        self.finished += 1
        if num_tokens:
            self.time_to_first_token.append(timing.time_to_first_token)
            self.time_per_token.append(timing.time_per_token(num_tokens))

    def copy(self) -> Counters:
        return replace(
            self,
            time_to_first_token=self.time_to_first_token.copy(),
            time_per_token=self.time_per_token.copy(),
        )


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """One look at an engine.

    Attributes:
        running, waiting: requests in the batch and before it.
        blocks, blocks_used, blocks_cached: of the cache: all, held by requests, free but kept for their prefixes.
        graphs: decoding steps that are recorded (`serve.decode_graphs`).
        counters: a copy.
    """

    running: int
    waiting: int
    blocks: int
    blocks_used: int
    blocks_cached: int
    policy_version: int
    asleep: bool
    graphs: int = 0
    counters: Counters

    @property
    def cache_use(self) -> float:
        """Share of the cache that requests hold."""
        return self.blocks_used / self.blocks if self.blocks else 0.0

    @property
    def prefix_hit_rate(self) -> float:
        """Share of prompt tokens that did not have to be computed."""
        counters = self.counters
        return counters.cached_tokens / counters.prompt_tokens if counters.prompt_tokens else 0.0
