"""Grouped router: which K experts a token uses, and with which weights.

Selection (paper: grouped routing). Softmax over *all* E logits, view as G groups, the K / G best of every group,
weights gathered and divided by their sum. With one group per expert-parallel rank every rank gets the same number of
rows by construction. Order of the output: group by group, best first inside a group.

Straight-through gradient (paper: router gradient). The forward value is the sparse weight, bit for bit; backwards it is
the dense softmax with temperature tau, so every router row learns, selected or not:

    p_hat_i = sg(p_sparse_i) + (p_tau_i - sg(p_tau_i)),   p_tau = softmax(z / tau) over all E

Replay. Given ids (from a rollout engine) the selection is skipped; weights still come from this router's own softmax
at those ids, with gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from s1pro.kernels.exact import exact_linear
from s1pro.kernels.linear import wide_product
from s1pro.kernels.precision import without_autocast
from s1pro.model.config import RouterConfig

ROUTER_PRESETS: dict[str, dict[str, object]] = {
    "s1pro": {"gate_dtype": "float32", "weight_dtype": "float32", "renorm_eps": 1e-20},
    "hf": {"gate_dtype": "model", "weight_dtype": "model", "renorm_eps": 1e-20},
    "lmdeploy": {"gate_dtype": "model", "weight_dtype": "float32", "renorm_eps": 0.0},
    "xtuner": {"gate_dtype": "float32", "weight_dtype": "float32", "renorm_eps": 1e-20},
}
"""Numerics of this project and of the three upstream implementations (spec table 1.3)."""


def router_preset(config: RouterConfig, name: str) -> RouterConfig:
    """`config` with the numerics of `ROUTER_PRESETS[name]`."""
    if name not in ROUTER_PRESETS:
        raise ValueError(f"unknown router preset {name!r}; choose from {sorted(ROUTER_PRESETS)}")
    return replace(config, **ROUTER_PRESETS[name])  # type: ignore[arg-type]


NO_CHANGE = 2.0**-55
"""The chosen experts include the likeliest, so their probabilities add up to 1 / E at least. Less than this times that
does not change even a float64, and the addition can be spared."""


class RouterOutput(NamedTuple):
    """What the router of one layer decided. A tuple, so that hooks on the outputs of modules see its tensors.

    Attributes:
        topk_ids_TK: int64, global expert ids.
        topk_weights_TK: weights that combine the experts, with gradient.
        logits_TE: before the softmax, in the dtype of the gate.
    """

    topk_ids_TK: Tensor
    topk_weights_TK: Tensor
    logits_TE: Tensor


class Router(nn.Module):
    """The gate of one layer: `weight` `[E, D]` and the selection above."""

    def __init__(self, config: RouterConfig, hidden_size: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, hidden_size))
        self.exact = False

    def forward(self, x_TD: Tensor, replay_ids_TK: Tensor | None = None) -> RouterOutput:
        return route(self._logits(x_TD), self.config, replay_ids_TK, model_dtype=x_TD.dtype)

    def _logits(self, x_TD: Tensor) -> Tensor:
        linear = exact_linear if self.exact else nn.functional.linear
        if self.config.gate_dtype == "model":
            return linear(x_TD, self.weight)
        with without_autocast(x_TD.device):
            if not self.exact and (wide_TE := wide_product(x_TD, self.weight)) is not None:
                return wide_TE
            return linear(_at_least_float32(x_TD), _at_least_float32(self.weight))


def route(
    logits_TE: Tensor,
    config: RouterConfig,
    replay_ids_TK: Tensor | None = None,
    *,
    model_dtype: torch.dtype = torch.float32,
) -> RouterOutput:
    """Selects experts for logits `[T, E]`, or takes `replay_ids_TK` as they are.

    Raises:
        ValueError: replayed ids of the wrong shape, out of range, or not K / G per group.
    """
    probs_TE = _at_least_float32(logits_TE).softmax(dim=-1)
    if replay_ids_TK is None:
        ids_TK = select_experts(probs_TE, config)
    else:
        ids_TK = replay_ids_TK.to(torch.int64)
        check_replay(ids_TK, config, num_tokens=logits_TE.shape[0])
    weights_TK = probs_TE.gather(1, ids_TK)
    if config.norm_topk_prob:
        total_T1 = weights_TK.sum(dim=-1, keepdim=True)
        if replay_ids_TK is not None or config.renorm_eps * config.num_experts > NO_CHANGE:
            total_T1 = total_T1 + config.renorm_eps
        weights_TK = weights_TK / total_T1
    if config.straight_through and torch.is_grad_enabled():
        weights_TK = _straight_through(weights_TK, ids_TK, logits_TE, config.temperature)
    if config.weight_dtype == "model":
        weights_TK = weights_TK.to(model_dtype)
    return RouterOutput(ids_TK, weights_TK, logits_TE)


def select_experts(probs_TE: Tensor, config: RouterConfig) -> Tensor:
    """Global ids `[T, K]`, group by group, best first inside a group."""
    grouped_TGX = probs_TE.view(-1, config.num_groups, config.experts_per_group)
    if config.top_k_per_group == 1:
        local_TGk = grouped_TGX.argmax(dim=-1, keepdim=True)
    else:
        local_TGk = grouped_TGX.topk(config.top_k_per_group, dim=-1).indices
    if config.num_groups > 1:
        plain = type(probs_TE) is Tensor and not torch.compiler.is_compiling()  # fake tensors must not be kept
        first = _cached_first_of_groups if plain else _first_of_groups
        local_TGk = local_TGk + first(config.num_experts, config.experts_per_group, probs_TE.device)
    return local_TGk.view(-1, config.top_k)


class Selection:
    """`route` for a decoding step: the bits of its result without its choices, for float32 logits on a CPU."""

    def __init__(self, config: RouterConfig) -> None:
        self._groups = (-1, config.num_groups, config.experts_per_group)
        self._top_k, self._per_group = config.top_k, config.top_k_per_group
        self._normalise = config.norm_topk_prob
        self._eps = config.renorm_eps if config.renorm_eps * config.num_experts > NO_CHANGE else 0.0
        self._first_G1 = _first_of_groups(config.num_experts, config.experts_per_group, torch.device("cpu"))

    def __call__(self, logits_TE: Tensor) -> RouterOutput:
        probs_TE = logits_TE.softmax(-1)
        grouped_TGX = probs_TE.view(self._groups)
        if self._per_group == 1:
            local_TGk = grouped_TGX.argmax(-1, True)
        else:
            local_TGk = grouped_TGX.topk(self._per_group, -1).indices
        ids_TK = (local_TGk + self._first_G1).view(-1, self._top_k)
        weights_TK = probs_TE.gather(1, ids_TK)
        if self._normalise:
            total_T1 = weights_TK.sum(-1, True)
            weights_TK /= total_T1 + self._eps if self._eps else total_T1
        return RouterOutput(ids_TK, weights_TK, logits_TE)


def _first_of_groups(num_experts: int, per_group: int, device: torch.device) -> Tensor:
    """`[G, 1]`"""
    return torch.arange(0, num_experts, per_group, device=device)[:, None]


_cached_first_of_groups = cache(_first_of_groups)


def check_replay(ids_TK: Tensor, config: RouterConfig, num_tokens: int) -> None:
    """Recorded ids must be K distinct experts, K / G of every group: anything else means a misaligned record."""
    if ids_TK.shape != (num_tokens, config.top_k):
        raise ValueError(f"routed_experts has shape {tuple(ids_TK.shape)}, expected {(num_tokens, config.top_k)}")
    if ids_TK.numel() == 0 or ids_TK.is_meta:
        return
    if int(ids_TK.min()) < 0 or int(ids_TK.max()) >= config.num_experts:
        low, high = int(ids_TK.min()), int(ids_TK.max())
        raise ValueError(f"routed_experts must lie in [0, {config.num_experts}), got values from {low} to {high}")
    sorted_TK = ids_TK.sort(dim=-1).values
    per_group = config.top_k_per_group
    group_K = torch.arange(config.top_k, device=ids_TK.device) // per_group
    in_group = (sorted_TK // config.experts_per_group == group_K).all(dim=-1)
    distinct = (sorted_TK[:, 1:] != sorted_TK[:, :-1]).all(dim=-1)
    bad = (~(in_group & distinct)).nonzero()
    if bad.numel():
        row = int(bad[0])
        raise ValueError(
            f"routed_experts of token {row} are {ids_TK[row].tolist()}: expected {per_group} distinct experts in each "
            f"of {config.num_groups} groups; the record does not belong to these tokens or to this model"
        )


def _straight_through(sparse_TK: Tensor, ids_TK: Tensor, logits_TE: Tensor, temperature: float) -> Tensor:
    dense_TE = (logits_TE.to(sparse_TK.dtype) / temperature).softmax(dim=-1)
    dense_TK = dense_TE.gather(1, ids_TK)
    return sparse_TK.detach() + (dense_TK - dense_TK.detach())


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def balance_loss(routers: Sequence[RouterOutput], valid_T: Tensor | None = None) -> Tensor:
    """Load-balancing loss of the selection that is really used; 1 when experts and probabilities are uniform.

    Mean over layers of `E / K * sum_e f_e P_e`, with f_e the share of tokens that use expert e and P_e its mean
    probability (Switch Transformer; ST-MoE).

    Args:
        routers: one output per MoE layer.
        valid_T: bool, tokens that count (padding and masked tails do not); None counts all.
    """
    losses = []
    for router in routers:
        probs_TE, one_hot_TE = _probabilities_and_choices(router)
        share_E, prob_E = _masked_mean(one_hot_TE, valid_T), _masked_mean(probs_TE, valid_T)
        num_experts, top_k = probs_TE.shape[1], router.topk_ids_TK.shape[1]
        losses.append(num_experts / top_k * (share_E * prob_E).sum())
    return torch.stack(losses).mean()


def released_balance_loss(routers: Sequence[RouterOutput], valid_T: Tensor | None = None) -> Tensor:
    """The released form, kept for comparison: *ungrouped* top-k, all layers concatenated, K at uniform routing."""
    logits_NE = torch.cat([router.logits_TE for router in routers])
    top_k = routers[0].topk_ids_TK.shape[1]
    probs_NE = _at_least_float32(logits_NE).softmax(dim=-1)
    one_hot_NE = torch.zeros_like(probs_NE).scatter_(1, probs_NE.topk(top_k, dim=-1).indices, 1.0)
    valid_N = None if valid_T is None else valid_T.repeat(len(routers))
    share_E, prob_E = _masked_mean(one_hot_NE, valid_N), _masked_mean(probs_NE, valid_N)
    return probs_NE.shape[1] * (share_E * prob_E).sum()


def z_loss(routers: Sequence[RouterOutput], valid_T: Tensor | None = None) -> Tensor:
    """Mean squared log-partition of the router logits (ST-MoE), mean over layers."""
    per_layer = [_masked_mean(r.logits_TE.float().logsumexp(dim=-1).square()[:, None], valid_T).sum() for r in routers]
    return torch.stack(per_layer).mean()


def _probabilities_and_choices(router: RouterOutput) -> tuple[Tensor, Tensor]:
    probs_TE = _at_least_float32(router.logits_TE).softmax(dim=-1)
    one_hot_TE = torch.zeros_like(probs_TE).scatter_(1, router.topk_ids_TK, 1.0)
    return probs_TE, one_hot_TE.detach()


def _masked_mean(values_TX: Tensor, valid_T: Tensor | None) -> Tensor:
    if valid_T is None:
        return values_TX.mean(dim=0)
    weights_T = valid_T.to(values_TX.dtype)
    return weights_T @ values_TX / weights_T.sum().clamp(min=1)
