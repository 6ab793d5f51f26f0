"""Switches a network to exact mode: a token's numbers do not depend, to the last bit, on what is computed beside it.

Then log-probabilities and routing of the engine are those of the trainer (paper: operators aligned between training and
rollout), whatever the batch, the chunks of a prompt or the cache. How, and what it guarantees: `kernels.exact`. Images,
videos and signals are encoded one by one (`model.media`). Experts in FP8 are exact too (`kernels.experts_fp8_exact`),
and so are experts on several ranks if each result travels by itself (`parallel.dispatch`): the bits are those of a
single process.
"""

from __future__ import annotations

from s1pro.model.decoder import Attention, Decoder
from s1pro.model.inner_first import is_inner_first
from s1pro.model.layers import Linear
from s1pro.model.moe import DenseMLP, Experts, MoE
from s1pro.model.network import Network
from s1pro.model.rope import RotaryEmbedding
from s1pro.model.router import Router


def use_exact_operators(network: Network, exact: bool = True) -> None:
    """Switches the decoder and the head; `exact=False` switches back.

    Raises:
        ValueError: experts on several ranks by a dispatch that adds their results in another order, or weights laid out
            for serving alone.
    """
    text = network.model.language_model
    if exact:
        _check(text)
    network.exact = exact
    for module in text.modules():
        if isinstance(module, Attention | DenseMLP | Experts | Linear | RotaryEmbedding | Router):
            module.exact = exact


def _check(text: Decoder) -> None:
    for module in text.modules():
        if isinstance(module, MoE) and not module.dispatch.can_be_exact:
            raise ValueError(
                f"{type(module.dispatch).__name__} adds the results of experts in an order of its own: spread the "
                "experts after switching to exact mode, or by all_to_all or counted"
            )
        if any(parameter.dim() > 1 and is_inner_first(parameter) for parameter in module.parameters(recurse=False)):
            raise ValueError("exact mode does not work with weights laid out for serving alone: load the network anew")
