"""Validation loss: mean weighted negative log-likelihood per token, over all batches and per source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from s1pro.data.batch import PackedBatch
from s1pro.model.network import Network
from s1pro.train.losses import LanguageModelLoss, LossConfig, StepTotals, source_weights


@torch.no_grad()
def validation_loss(network: Network, batches: Sequence[PackedBatch], *, chunk: int = 1024) -> dict[str, Any]:
    """`{"loss": mean, "source_loss": {name: mean}, "tokens": sum of weights}`.

    Raises:
        ValueError: no batches, or no token with a loss weight.
    """
    if not batches or StepTotals.of(batches).weight == 0:
        raise ValueError("validation needs at least one token with a loss weight")
    loss = LanguageModelLoss(LossConfig(balance=0.0, z=0.0, chunk=chunk))
    totals = StepTotals.of(batches)
    device = network.lm_head.weight.device
    nll = torch.zeros(len(batches[0].source_names), dtype=torch.float64)
    for batch in batches:
        output = loss(network, batch.to(device), totals)
        assert output.source_nll is not None
        nll += output.source_nll.cpu()
    weights = source_weights(batches)
    rows = zip(batches[0].source_names, nll.tolist(), weights.tolist(), strict=True)
    return {
        "loss": float(nll.sum() / weights.sum()),
        "source_loss": {name: nll / weight for name, nll, weight in rows if weight},
        "tokens": float(weights.sum()),
    }
