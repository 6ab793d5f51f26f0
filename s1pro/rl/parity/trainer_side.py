"""What the trainer computes for the tokens of the probes, under any hypothesis about the engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.rl.parity.probes import Probe

MAX_ROWS = 4096
"""Of one forward pass."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainerSide:
    """For every sampled token of all probes, in order.

    Attributes:
        logprobs: of the token.
        mean_logprob, variance: of `log p` under the trainer's own distribution: what draws from it would show.
        top1: the most likely token.
        logits: float32 `[tokens, V]`, kept for fits of the sampler; None if not asked for.
        routing: own choice `[fed tokens of all probes, L, K]`, sorted; None for models without experts.
    """

    logprobs: Floats
    mean_logprob: Floats
    variance: Floats
    top1: npt.NDArray[np.int64]
    logits: Tensor | None = None
    routing: npt.NDArray[np.int64] | None = None


@torch.no_grad()
def trainer_side(
    network: Network,
    probes: Sequence[Probe],
    *,
    prefix: Sequence[int] = (),
    first_position: int = 0,
    keep_logits: bool = False,
) -> TrainerSide:
    """Runs every probe through the network, without its record of experts.

    Args:
        prefix: tokens that the engine may have put before every prompt.
        first_position: position of the first token.
    """
    device = network.lm_head.weight.device
    rows: list[Tensor] = []
    routing: list[Tensor] = []
    for some in _packs(probes):
        fed = [[*prefix, *probe.token_ids[:-1]] for probe in some]
        bounds = np.cumsum([0, *map(len, fed)]).tolist()
        counts = [len(probe.completion.token_ids) for probe in some]
        wanted = [row for stop, count in zip(bounds[1:], counts, strict=True) for row in range(stop - count, stop)]
        output = network(
            torch.tensor([token for ids in fed for token in ids], device=device),
            torch.cat([torch.arange(len(ids)) for ids in fed]).to(device) + first_position,
            PackedContext(cu_seqlens=tuple(bounds)),
            logits_index=torch.tensor(wanted, device=device),
        )
        rows.append(output.logits.float().cpu())
        if output.routers:
            choices = torch.stack([router.topk_ids_TK for router in output.routers], dim=1).sort(dim=-1).values.cpu()
            routing += [choices[start + len(prefix) : stop] for start, stop in itertools.pairwise(bounds)]
    logits = torch.cat(rows)
    logprobs = logits.double().log_softmax(dim=-1)
    own = logits.log_softmax(dim=-1) if network.exact else logprobs  # exact mode promises the bits of float32
    sampled = torch.tensor([token for probe in probes for token in probe.completion.token_ids])
    p = logprobs.exp()
    finite = torch.where(p > 0, logprobs, 0.0)
    mean = (p * finite).sum(-1)
    return TrainerSide(
        logprobs=own.gather(1, sampled[:, None])[:, 0].double().numpy(),
        mean_logprob=mean.numpy(),
        variance=((p * finite.square()).sum(-1) - mean.square()).clamp(min=0).numpy(),
        top1=logits.argmax(-1).numpy(),
        logits=logits if keep_logits else None,
        routing=torch.cat(routing).numpy() if routing else None,
    )


def _packs(probes: Sequence[Probe]) -> Iterator[list[Probe]]:
    """Probes that go through the network together."""
    some: list[Probe] = []
    for probe in probes:
        if some and sum(len(p.token_ids) for p in some) + len(probe.token_ids) > MAX_ROWS:
            yield some
            some = []
        some.append(probe)
    yield some


def engine_logprobs(probes: Sequence[Probe]) -> Floats:
    return np.array([value for probe in probes for value in probe.completion.logprobs or ()], dtype=np.float64)


def engine_routing(probes: Sequence[Probe]) -> npt.NDArray[np.int64] | None:
    """The records of all probes one after another, sorted per token; None if one is missing or of the wrong length."""
    traces = [probe.completion.routing for probe in probes]
    if any(
        trace is None or len(trace.experts_TLK) != len(probe.token_ids) - 1
        for trace, probe in zip(traces, probes, strict=True)
    ):
        return None
    return np.concatenate([np.sort(t.experts_TLK.astype(np.int64), axis=-1) for t in traces if t is not None])
