"""What an engine may do differently: each is a change of a copy of the trainer's network, tried on the measurements.

A hypothesis is never read from a configuration. It is believed if the changed network explains the engine's numbers and
the unchanged one does not (`rl.parity.diagnosis`). What is here are differences between implementations that exist, and
the classic slips; a difference that is not here is still found, and reported as unexplained with its whereabouts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from s1pro.model.layers import RMSNorm
from s1pro.model.moe import Experts
from s1pro.model.network import Network
from s1pro.model.precision import use_fp8_experts
from s1pro.model.rope import RopeTable, RotaryEmbedding
from s1pro.model.router import Router

Change = Callable[[Network], None]


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One way to compute differently.

    Attributes:
        name: short and stable; what it says for a person.
        change: of a copy of the network; None for those about the tokens.
        prefix: tokens before every prompt; first_position: of the first token.
    """

    name: str
    says: str
    change: Change | None = None
    prefix: tuple[int, ...] = ()
    first_position: int = field(default=0)

    def applied(self, network: Network) -> Network:
        """The changed copy; the network itself where nothing of it changes."""
        if self.change is None:
            return network
        changed = copy.deepcopy(network)
        self.change(changed)
        return changed.eval()


def hypotheses(network: Network, *, bos: int | None) -> Iterator[Hypothesis]:
    """All that make sense for this network."""
    text = network.config.text
    if text.rope.fope:
        yield Hypothesis(name="sine-padding-0", says="FoPE pads the sine with 0, not 1", change=_sine_padding)
        yield Hypothesis(name="rope-padding-0", says="FoPE pads sine and cosine with 0", change=_padding(0.0))
        yield Hypothesis(name="plain-rope", says="Fourier coefficients are ignored", change=_identity_coefficients)
        yield Hypothesis(
            name="rope-coefficients-bf16",
            says="Fourier coefficients are rounded to bfloat16",
            change=_round_coefficients,
        )
    yield Hypothesis(name="positions-from-1", says="positions begin at 1, not 0", first_position=1)
    if bos is not None:
        yield Hypothesis(name="extra-bos", says=f"a token {bos} is put before every prompt", prefix=(bos,))
    if text.moe_layers:
        yield from _mixture_hypotheses(network)
    for eps in (1e-5, 1e-6):
        if eps != text.rms_norm_eps:
            yield Hypothesis(name=f"norm-eps-{eps:g}", says=f"RMSNorm uses epsilon {eps:g}", change=_epsilon(eps))
    yield Hypothesis(name="head-bf16", says="the head is computed in bfloat16", change=_bfloat16_head)
    yield Hypothesis(name="bf16", says="the whole network is computed in bfloat16", change=_bfloat16)


def _mixture_hypotheses(network: Network) -> Iterator[Hypothesis]:
    router = network.config.text.router
    yield Hypothesis(name="router-gate-bf16", says="the router's gate is computed in bfloat16", change=_bfloat16_gate)
    flipped = not router.norm_topk_prob
    says = "weights of the chosen experts are" + (" " if flipped else " not ") + "divided by their sum"
    yield Hypothesis(name="router-normalisation", says=says, change=_router(norm_topk_prob=flipped))
    if router.num_groups > 1:
        yield Hypothesis(
            name="router-ungrouped", says="experts are chosen over all groups together", change=_router(num_groups=1)
        )
    for format_ in ("fp32", "ue8m0"):
        yield Hypothesis(
            name=f"experts-fp8-{format_}", says=f"experts compute in FP8, {format_} scales", change=_fp8(format_, False)
        )
        yield Hypothesis(
            name=f"experts-fp8-{format_}-of-bf16",
            says=f"experts compute in FP8, {format_} scales, quantised from bfloat16 copies of the weights",
            change=_fp8(format_, True),
        )
    if any(experts.fp8 is not None for experts in _experts(network)):
        yield Hypothesis(name="experts-unquantised", says="experts compute without FP8", change=_no_fp8)
    yield Hypothesis(name="experts-bf16", says="experts are rounded to bfloat16", change=_round_experts)


def _routers(network: Network) -> list[Router]:
    return [module for module in network.modules() if isinstance(module, Router)]


def _experts(network: Network) -> list[Experts]:
    return [module for module in network.modules() if isinstance(module, Experts)]


def _rotary(network: Network) -> RotaryEmbedding:
    return network.model.language_model.rotary_emb


def _sine_padding(network: Network) -> None:
    rotary = _rotary(network)
    forward = rotary.forward

    def with_zero(position_ids_T: Tensor) -> RopeTable:
        table = forward(position_ids_T)
        sin = table.sin.clone()
        sin[..., rotary.sin_coef.shape[-1] :] = 0.0
        return RopeTable(table.cos, sin)

    rotary.forward = with_zero  # type: ignore[method-assign]


def _padding(value: float) -> Change:
    def change(network: Network) -> None:
        rotary = _rotary(network)
        rotary.config = replace(rotary.config, pad_value=value)

    return change


@torch.no_grad()
def _identity_coefficients(network: Network) -> None:
    for coef in (_rotary(network).sin_coef, _rotary(network).cos_coef):
        coef.copy_(torch.eye(coef.shape[-1]).expand_as(coef))


@torch.no_grad()
def _round_coefficients(network: Network) -> None:
    for coef in (_rotary(network).sin_coef, _rotary(network).cos_coef):
        coef.copy_(coef.bfloat16().float())


def _bfloat16_gate(network: Network) -> None:
    for router in _routers(network):
        router._logits = _bfloat16_logits(router)  # type: ignore[method-assign,assignment]


def _bfloat16_logits(router: Router) -> Callable[[Tensor], Tensor]:
    return lambda x_TD: nn.functional.linear(x_TD.bfloat16(), router.weight.bfloat16()).float()


def _router(**changes: object) -> Change:
    def change(network: Network) -> None:
        for router in _routers(network):
            router.config = replace(router.config, **changes)  # type: ignore[arg-type]

    return change


def _fp8(scale_format: str, from_bfloat16: bool) -> Change:
    def change(network: Network) -> None:
        if from_bfloat16:
            _round_experts(network)
        use_fp8_experts(network, scale_format=scale_format)  # type: ignore[arg-type]

    return change


def _no_fp8(network: Network) -> None:
    for experts in _experts(network):
        experts.fp8 = None


@torch.no_grad()
def _round_experts(network: Network) -> None:
    for experts in _experts(network):
        for parameter in (experts.gate_up_proj, experts.down_proj):
            parameter.copy_(parameter.bfloat16().to(parameter.dtype))


def _epsilon(eps: float) -> Change:
    def change(network: Network) -> None:
        for module in network.model.language_model.modules():
            if isinstance(module, RMSNorm):
                module.eps = eps

    return change


def _bfloat16_head(network: Network) -> None:
    head = network.lm_head.weight
    network.logits = lambda hidden: nn.functional.linear(hidden.bfloat16(), head.bfloat16()).float()  # type: ignore[method-assign,assignment]


def _bfloat16(network: Network) -> None:
    from s1pro.train.setup import to_bfloat16

    to_bfloat16(network)
