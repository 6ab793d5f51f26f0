"""Switches a network to exact mode: a token's numbers do not depend, to the last bit, on what is computed beside it.

Then log-probabilities and routing of the engine are those of the trainer (paper: operators aligned between training and
rollout), whatever the batch, the chunks of a prompt or the cache. How, and what it guarantees: `kernels.exact`.

Left out: media, whose towers compute as they always do (numbers that depend on what is batched), so that a network
in exact mode takes none; and experts in FP8 or spread over ranks.
"""

from __future__ import annotations

from s1pro.model.decoder import Attention, Decoder
from s1pro.model.dispatch import LocalDispatch
from s1pro.model.inner_first import is_inner_first
from s1pro.model.layers import Linear
from s1pro.model.moe import DenseMLP, Experts, MoE
from s1pro.model.network import Network
from s1pro.model.rope import RotaryEmbedding
from s1pro.model.router import Router


def use_exact_operators(network: Network, exact: bool = True) -> None:
    """Switches the decoder and the head; `exact=False` switches back.

    Raises:
        ValueError: a network with FP8 experts, with experts on several ranks, or laid out for serving alone.
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
        if isinstance(module, MoE) and not isinstance(module.dispatch, LocalDispatch):
            raise ValueError("exact mode does not work with experts on several ranks")
        if isinstance(module, Experts) and module.fp8 is not None:
            raise ValueError("exact mode does not work with experts in FP8")
        if any(parameter.dim() > 1 and is_inner_first(parameter) for parameter in module.parameters(recurse=False)):
            raise ValueError("exact mode does not work with weights laid out for serving alone: load the network anew")
