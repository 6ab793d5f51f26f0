"""How far the engine that answered is from the trainer that learns, with the same weights (paper, stable RL).

With l = log-probability by the trainer minus that by the engine, over all sampled tokens:

    k1 = mean(-l)                 estimates KL(engine || trainer), may come out negative
    k3 = mean(e^l - 1 - l)        the same, never negative, less noise

beside the largest |l|, the share of tokens outside bounds, and per layer how often the router of the trainer would have
chosen the very experts that the rollout used. `with_old_logprobs` computes the trainer's side, which the loss needs as
well when a step makes several updates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import token_logprobs
from s1pro.model.network import Network

MAX_LOG_RATIO = 20.0


@dataclass(frozen=True, kw_only=True)
class MismatchReport:
    """See the module docstring; over the sampled tokens of a step.

    Attributes:
        exact: every log-probability is the same bit for bit.
        routing_agreement: by layer with experts, the share of tokens with equal sets of experts; empty without records.
    """

    tokens: int
    k1: float
    k3: float
    largest: float
    exact: bool
    routing_agreement: tuple[float, ...] = ()

    def as_record(self) -> dict[str, object]:
        return dataclasses.asdict(self)


@torch.no_grad()
def with_old_logprobs(network: Network, batches: Sequence[PackedBatch], *, chunk: int = 1024) -> list[PackedBatch]:
    """The batches with the log-probabilities of the present weights, computed as the loss will compute them."""
    return [
        dataclasses.replace(batch, old_logprobs_T=_logprobs_T(network, batch.to(_device(network)), chunk).cpu())
        for batch in batches
    ]


@torch.no_grad()
def with_reference_logprobs(
    reference: Network, batches: Sequence[PackedBatch], *, chunk: int = 1024
) -> list[PackedBatch]:
    """The batches with the log-probabilities of a reference. It replays the experts of the rollout where the trainer
    does, so that a policy that has not moved is at distance 0."""
    device = _device(reference)
    return [
        dataclasses.replace(batch, reference_logprobs_T=_logprobs_T(reference, batch.to(device), chunk).cpu())
        for batch in batches
    ]


def mismatch(batches: Sequence[PackedBatch], agreement: Sequence[float] = ()) -> MismatchReport:
    """Compares `old_logprobs_T` with `rollout_logprobs_T`."""
    gaps = []
    for batch in batches:
        assert batch.old_logprobs_T is not None and batch.rollout_logprobs_T is not None
        learns_T = batch.loss_weights_T != 0
        gaps.append((batch.old_logprobs_T.double() - batch.rollout_logprobs_T.double())[learns_T])
    gap = torch.cat(gaps) if gaps else torch.zeros(0)
    bounded = gap.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    count = gap.numel()
    return MismatchReport(
        tokens=count,
        k1=float(-gap.mean()) if count else 0.0,
        k3=float((bounded.exp() - 1 - bounded).mean()) if count else 0.0,
        largest=float(gap.abs().max()) if count else 0.0,
        exact=bool((gap == 0).all()),
        routing_agreement=tuple(agreement),
    )


@torch.no_grad()
def routing_agreement(network: Network, batches: Sequence[PackedBatch]) -> tuple[float, ...]:
    """By layer, how often the trainer's router chooses the recorded experts by itself; rows of samples only."""
    equal: Tensor | None = None
    rows = 0
    for batch in batches:
        if batch.routed_experts_LTK is None:
            return ()
        batch = batch.to(_device(network))
        output = network(
            batch.input_ids_T,
            batch.position_ids_T,
            PackedContext(cu_seqlens=batch.cu_seqlens),
            media=batch.media,
            compute_logits=False,
        )
        own_LTK = torch.stack([router.topk_ids_TK for router in output.routers]).sort(dim=-1).values
        assert batch.routed_experts_LTK is not None
        same_LT = (own_LTK == batch.routed_experts_LTK.sort(dim=-1).values).all(dim=-1)
        counts_L = same_LT[:, : batch.num_real_rows].sum(dim=1)
        equal = counts_L if equal is None else equal + counts_L
        rows += batch.num_real_rows
    return () if equal is None else tuple((equal.double() / rows).tolist())


def _logprobs_T(network: Network, batch: PackedBatch, chunk: int) -> Tensor:
    output = network(
        batch.input_ids_T,
        batch.position_ids_T,
        PackedContext(cu_seqlens=batch.cu_seqlens),
        media=batch.media,
        routed_experts_LTK=batch.routed_experts_LTK,
        compute_logits=False,
    )
    return token_logprobs(output.hidden_TD, network.lm_head.weight, batch.targets_T, chunk=chunk, exact=network.exact)


def _device(network: Network) -> torch.device:
    return network.lm_head.weight.device
