"""The tensors that a decoding step reads, looked up once for all steps (`model.decoding`).

They *are* the parameters' memory, experts as one view per matrix, so weights that are written in place are seen. What
multiplies by them is chosen here too: usual or exact products.
`are_in_place` and `are_all` tell whether the network still is what was looked up. `DecodingWeights.of` refuses whatever
the step does not compute: other kinds of layers, biases, dtypes and devices, experts elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as plain_linear

from s1pro.kernels.exact import ExactProducts
from s1pro.kernels.linear import linear
from s1pro.model.decoder import Attention, Decoder, DecoderLayer
from s1pro.model.dispatch import LocalDispatch
from s1pro.model.inner_first import is_inner_first, is_plain
from s1pro.model.layers import Embedding, Linear, RMSNorm
from s1pro.model.moe import DenseMLP, Experts, MoE
from s1pro.model.network import Network, Towers
from s1pro.model.rope import RotaryEmbedding
from s1pro.model.router import Router

KINDS = frozenset(
    {
        Network, Towers, Decoder, DecoderLayer, Attention, MoE, Experts, DenseMLP, Router, RotaryEmbedding, RMSNorm,
        Linear, Embedding, nn.ModuleList,
    }
)  # fmt: skip
"""Modules whose computation `model.decoding` knows; a subclass is something else."""

Product = Callable[[Tensor], Tensor]
"""Rows times a weight."""


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Of one layer: the gate and the product with it, and the matrices of the experts, stacked and one by one."""

    gate_ED: Tensor
    gate: Product
    gate_up_EFD: Tensor
    down_EDF: Tensor
    gate_ups: tuple[Tensor, ...]
    downs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The tensors of one layer, and its products; `feed_forward` of a layer without experts is its module."""

    norm_D: Tensor
    qkv_ND: Tensor
    qkv: Product
    q_norm_C: Tensor
    k_norm_C: Tensor
    o_ND: Tensor
    o: Product
    post_norm_D: Tensor
    feed_forward: ExpertWeights | DenseMLP


class DecodingWeights:
    """See the module docstring.

    Attributes:
        layers: of the decoder, in order.
        embedding_VD, norm_D, head_VD, head: before and behind them.
        rows_of_one: rows that a single sequence is computed with, which repeat it: exact products may want more than 1.
    """

    def __init__(self, network: Network, layers: tuple[LayerWeights, ...]) -> None:
        decoder = network.model.language_model
        self.layers = layers
        self.embedding_VD = decoder.embed_tokens.weight.detach()
        self.norm_D = decoder.norm.weight.detach()
        self.head_VD = network.lm_head.weight.detach()
        self.head = _product(network.lm_head.weight, network.exact)
        products = [self.head, *(product for layer in layers for product in (layer.qkv, layer.o))]
        self.rows_of_one = max(p.calls[0] for p in products if isinstance(p, ExactProducts)) if network.exact else 1
        self._network = network
        self._chosen_for = network.exact, torch.get_num_threads()
        modules = self._modules = _modules(network)
        self._addresses = [parameter.data_ptr() for parameter in _parameters(modules)]
        self._hooks = [hooks for module in modules for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        self._mixtures = [module for module in modules if isinstance(module, MoE)]
        self._switched = [module for module in decoder.modules() if hasattr(module, "exact")]
        self._norms = [module for module in modules if isinstance(module, RMSNorm)]

    @classmethod
    def of(cls, network: Network) -> DecodingWeights | None:
        """None if the network is not of the kind that `model.decoding` computes."""
        modules = _modules(network)
        dtype = network.lm_head.weight.dtype
        if not all(type(module) in KINDS for module in modules) or not _are_plain(modules, dtype):
            return None
        with torch.inference_mode(mode=False):
            layers = [_layer(layer, network.exact) for layer in network.model.language_model.layers]
            found = tuple(layer for layer in layers if layer is not None)
            return cls(network, found) if len(found) == len(layers) else None

    def are_in_place(self) -> bool:
        """Whether all modules are still the same, every parameter lies where it lay, and the same products fit."""
        if self._chosen_for != (self._network.exact, torch.get_num_threads()):
            return False
        modules = _modules(self._network)
        return modules == self._modules and self._addresses == [p.data_ptr() for p in _parameters(modules)]

    def are_all(self) -> bool:
        """Whether the network computes what its configuration says, with these tensors alone: all of it exact or
        nothing, no experts in FP8 or elsewhere, nobody listens in, no settings or methods replaced (as `rl.parity`
        does)."""
        text = self._network.config.text
        return (
            all(module.exact == self._network.exact for module in self._switched)
            and not any(self._hooks)
            and not any(map(_has_own_methods, self._modules))
            and all(norm.eps == text.rms_norm_eps for norm in self._norms)
            and all(mixture.gate.config == text.router for mixture in self._mixtures)
            and all(mixture.experts.fp8 is None for mixture in self._mixtures)
            and all(type(mixture.dispatch) is LocalDispatch for mixture in self._mixtures)
        )


def _modules(network: Network) -> list[nn.Module]:
    return [network, network.model, network.lm_head, *network.model.language_model.modules()]


def _parameters(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    return (parameter for module in modules for parameter in module._parameters.values() if parameter is not None)


def _has_own_methods(module: nn.Module) -> bool:
    return not _methods(type(module)).isdisjoint(vars(module))  # type: ignore[arg-type]


@cache
def _methods(kind: type[nn.Module]) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if inspect.isfunction(getattr(kind, name)))


def _are_plain(modules: Sequence[nn.Module], dtype: torch.dtype) -> bool:
    """Whether all parameters are ordinary ones of this dtype, float32 or bfloat16; those of rotary positions stay
    float32."""
    rotary = {id(p) for module in modules if isinstance(module, RotaryEmbedding) for p in module.parameters()}
    return dtype in (torch.float32, torch.bfloat16) and all(
        is_plain(parameter, (torch.float32 if id(parameter) in rotary else dtype,))
        and (parameter.is_contiguous() or is_inner_first(parameter))
        for parameter in _parameters(modules)
    )


def _layer(layer: DecoderLayer, exact: bool) -> LayerWeights | None:
    """None where queries, keys and values do not lie together, or have biases."""
    attention = layer.self_attn
    qkv_ND = attention.adjacent.weight
    if qkv_ND is None:
        return None
    q_k_v = (layer.weight.detach() for layer in (attention.q_proj, attention.k_proj, attention.v_proj))
    return LayerWeights(
        norm_D=layer.input_layernorm.weight.detach(),
        qkv_ND=qkv_ND,
        qkv=ExactProducts(*q_k_v, together=qkv_ND) if exact else partial(plain_linear, weight=qkv_ND),
        q_norm_C=attention.q_norm.weight.detach(),
        k_norm_C=attention.k_norm.weight.detach(),
        o_ND=attention.o_proj.weight.detach(),
        o=_product(attention.o_proj.weight, exact),
        post_norm_D=layer.post_attention_layernorm.weight.detach(),
        feed_forward=layer.mlp if isinstance(layer.mlp, DenseMLP) else _experts(layer.mlp, exact),
    )


def _experts(mlp: MoE, exact: bool) -> ExpertWeights:
    gate_ED = mlp.gate.weight.detach()
    gate_up_EFD, down_EDF = mlp.experts.gate_up_proj.detach(), mlp.experts.down_proj.detach()
    gate = ExactProducts(gate_ED) if exact else partial(plain_linear, weight=gate_ED)
    return ExpertWeights(gate_ED, gate, gate_up_EFD, down_EDF, gate_up_EFD.unbind(), down_EDF.unbind())


def _product(weight: Tensor, exact: bool) -> Product:
    return ExactProducts(weight.detach()) if exact else partial(linear, weight_ND=weight.detach())
