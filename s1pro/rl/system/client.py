"""The engine that answers a run's questions, wherever it is."""

from __future__ import annotations

from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.rl.config import RLRun
from s1pro.serve.client import LocalClient


def rollout_client(run: RLRun, network: Network, processor: Processor) -> LocalClient:
    """With room for every answer that is under way at once. A prompt with its answer fits into a micro-batch, and no
    longer ones are asked."""
    longest = run.data.tokens_per_batch
    return LocalClient.from_network(
        network,
        processor,
        max_batch=run.rollout.concurrency,
        cache_tokens=run.rollout.concurrency * longest,
        max_context=longest,
    )
