"""How far one network is from another on the same text: losses of both, and the divergence of their predictions.

KL = mean over targets of  sum_v p(v) (log p(v) - log q(v))        p: before, q: after, in nats
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.router import RouterOutput
from s1pro.train.router_statistics import RouterStatistics


@torch.no_grad()
def compare_networks(
    before: Network, after: Network, batches: Sequence[PackedBatch], *, chunk: int = 256
) -> dict[str, Any]:
    """`loss_before`, `loss_after` and `kl` per target, the sum of loss weights as `tokens`, and `routers` of `after`.

    Args:
        chunk: rows whose logits are in memory at once.

    Raises:
        ValueError: no token has a loss weight.
    """
    statistics = RouterStatistics(after.config.text.router.num_groups)
    sums = torch.zeros(4, dtype=torch.float64)
    for batch in batches:
        hidden, _ = _hidden(before, batch)
        other, routers = _hidden(after, batch)
        statistics.add(routers, batch.num_real_rows)
        rows = batch.loss_weights_T.nonzero()[:, 0]
        for part in rows.split(chunk):
            sums += _sums(before.logits(hidden[part]), after.logits(other[part]), batch, part)
    if not sums[3]:
        raise ValueError("a comparison needs at least one token with a loss weight")
    loss_before, loss_after, kl = (sums[:3] / sums[3]).tolist()
    tokens = float(sums[3])
    return {
        "loss_before": loss_before,
        "loss_after": loss_after,
        "kl": kl,
        "tokens": tokens,
        "routers": statistics.report(),
    }


def _hidden(network: Network, batch: PackedBatch) -> tuple[Tensor, tuple[RouterOutput, ...]]:
    moved = batch.to(network.lm_head.weight.device)
    context = PackedContext(cu_seqlens=moved.cu_seqlens)
    output = network(moved.input_ids_T, moved.position_ids_T, context, media=moved.media, compute_logits=False)
    return output.hidden_TD, output.routers


def _sums(before_NV: Tensor, after_NV: Tensor, batch: PackedBatch, rows_N: Tensor) -> Tensor:
    """Weighted sums of both losses and the divergence, and the sum of the weights."""
    weights_N = batch.loss_weights_T[rows_N].double()
    targets_N1 = batch.targets_T[rows_N][:, None]
    p_NV, q_NV = before_NV.log_softmax(-1).cpu(), after_NV.log_softmax(-1).cpu()
    nll = [-x.gather(1, targets_N1)[:, 0].double() for x in (p_NV, q_NV)]
    kl_N = (p_NV.exp() * (p_NV - q_NV)).sum(-1).double()
    return torch.stack([(weights_N * value).sum() for value in (*nll, kl_N, torch.ones_like(kl_N))])
