"""Numbers for Prometheus, at `/metrics`.

Names follow the habit `s1pro_what_unit`. The engine's own numbers are read when somebody asks; latencies of requests go
into histograms when a request ends. Every server has a registry of its own: two servers in one process do not mix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from s1pro.base.errors import MissingExtraError
from s1pro.base.records import Completion
from s1pro.serve.async_engine import AsyncEngine, Stream

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """See the module docstring."""

    def __init__(self, engine: AsyncEngine) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError as error:
            raise MissingExtraError("prometheus-client", "serve") from error
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "s1pro_http_requests", "Answers by route and status", ("route", "status"), registry=self.registry
        )
        self.finished = Counter("s1pro_sequences", "Finished sequences by reason", ("reason",), registry=self.registry)
        self.first_token = Histogram(
            "s1pro_time_to_first_token_seconds", "From submission", buckets=_SECONDS, registry=self.registry
        )
        self.per_token = Histogram(
            "s1pro_time_per_token_seconds", "Between two tokens", buckets=_SECONDS, registry=self.registry
        )
        self.duration = Histogram(
            "s1pro_sequence_seconds", "From submission to the end", buckets=_SECONDS, registry=self.registry
        )
        self.registry.register(_EngineNumbers(engine))  # type: ignore[arg-type]

    def ended(self, stream: Stream, completion: Completion) -> None:
        """Takes the numbers of a finished sequence."""
        self.finished.labels(completion.finish_reason).inc()
        timing = stream.timing
        if timing.first_token:
            self.first_token.observe(timing.time_to_first_token)
            if len(completion.token_ids) > 1:
                self.per_token.observe(timing.time_per_token(len(completion.token_ids)))
        if timing.ended:
            self.duration.observe(timing.ended - timing.arrived)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


class _EngineNumbers:
    """Reads the statistics of the engine when asked."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = self._engine.stats()
        for name, text, value in (
            ("s1pro_running_sequences", "Sequences in the batch", stats.running),
            ("s1pro_waiting_sequences", "Sequences before the batch", stats.waiting),
            ("s1pro_cache_blocks", "Blocks of the cache", stats.blocks),
            ("s1pro_cache_blocks_used", "Blocks that sequences hold", stats.blocks_used),
            ("s1pro_cache_blocks_cached", "Free blocks kept for their prefixes", stats.blocks_cached),
            ("s1pro_decode_graphs", "Recorded decoding steps (CUDA graphs)", stats.graphs),
            ("s1pro_policy_version", "Version of the weights", stats.policy_version),
            ("s1pro_asleep", "1 while the engine sleeps", float(stats.asleep)),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        counters = stats.counters
        for name, text in (
            ("steps", "Steps of the engine"),
            ("prompt_tokens", "Tokens of prompts"),
            ("cached_tokens", "Tokens of prompts found in the cache"),
            ("generated_tokens", "Tokens that were sampled"),
            ("drafted_tokens", "Tokens proposed by speculation"),
            ("accepted_tokens", "Proposed tokens that were kept"),
            ("preemptions", "Sequences that lost their blocks"),
        ):
            yield CounterMetricFamily(f"s1pro_{name}", text, value=getattr(counters, name))
