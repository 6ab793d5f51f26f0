"""The tensors that a decoding step reads, looked up once for all steps (`model.decoding`).

They *are* the parameters' memory, experts as one view per matrix, so weights that are written in place are seen.
`are_in_place` and `are_all` tell whether the network still is what was looked up. `DecodingWeights.of` refuses whatever
the step does not compute: other kinds of layers, biases, dtypes and devices, experts elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from s1pro.model.decoder import Attention, Decoder, DecoderLayer
from s1pro.model.dispatch import LocalDispatch
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


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Gate and matrices of the experts of one layer, stacked and one by one."""

    gate_ED: Tensor
    gate_up_EFD: Tensor
    down_EDF: Tensor
    gate_ups: tuple[Tensor, ...]
    downs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The tensors of one layer; `feed_forward` of a layer without experts is its module."""

    norm_D: Tensor
    qkv_ND: Tensor
    q_norm_C: Tensor
    k_norm_C: Tensor
    o_DN: Tensor
    post_norm_D: Tensor
    feed_forward: ExpertWeights | DenseMLP


class DecodingWeights:
    """See the module docstring.

    Attributes:
        layers: of the decoder, in order.
        embedding_VD, norm_D, head_VD: before and behind them.
    """

    def __init__(self, network: Network, layers: tuple[LayerWeights, ...]) -> None:
        decoder = network.model.language_model
        self.layers = layers
        self.embedding_VD = decoder.embed_tokens.weight.detach()
        self.norm_D = decoder.norm.weight.detach()
        self.head_VD = network.lm_head.weight.detach()
        self._network = network
        modules = self._modules = _modules(network)
        self._addresses = [parameter.data_ptr() for parameter in _parameters(modules)]
        self._hooks = [hooks for module in modules for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        self._mixtures = [module for module in modules if isinstance(module, MoE)]
        self._norms = [module for module in modules if isinstance(module, RMSNorm)]

    @classmethod
    def of(cls, network: Network) -> DecodingWeights | None:
        """None if the network is not of the kind that `model.decoding` computes."""
        modules = _modules(network)
        if not all(type(module) in KINDS for module in modules) or not all(map(_is_plain, _parameters(modules))):
            return None
        with torch.inference_mode(mode=False):
            layers = [_layer(layer) for layer in network.model.language_model.layers]
            found = tuple(layer for layer in layers if layer is not None)
            return cls(network, found) if len(found) == len(layers) else None

    def are_in_place(self) -> bool:
        """Whether all modules are still the same, and every parameter lies where it lay."""
        modules = _modules(self._network)
        return modules == self._modules and self._addresses == [p.data_ptr() for p in _parameters(modules)]

    def are_all(self) -> bool:
        """Whether the network computes what its configuration says, with these tensors alone: no exact mode, no experts
        in FP8 or elsewhere, nobody listens in, no settings or methods replaced (as `rl.parity` does)."""
        text = self._network.config.text
        return (
            not self._network.exact
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


def _is_plain(parameter: nn.Parameter) -> bool:
    return (
        type(parameter) is nn.Parameter
        and type(parameter.data) is Tensor
        and parameter.dtype is torch.float32
        and parameter.device.type == "cpu"
        and parameter.is_contiguous()
    )


def _layer(layer: DecoderLayer) -> LayerWeights | None:
    """None where queries, keys and values do not lie together, or have biases."""
    attention = layer.self_attn
    qkv_ND = attention.adjacent.weight
    if qkv_ND is None:
        return None
    return LayerWeights(
        norm_D=layer.input_layernorm.weight.detach(),
        qkv_ND=qkv_ND,
        q_norm_C=attention.q_norm.weight.detach(),
        k_norm_C=attention.k_norm.weight.detach(),
        o_DN=attention.o_proj.weight.detach(),
        post_norm_D=layer.post_attention_layernorm.weight.detach(),
        feed_forward=layer.mlp if isinstance(layer.mlp, DenseMLP) else _experts(layer.mlp),
    )


def _experts(mlp: MoE) -> ExpertWeights:
    gate_up_EFD, down_EDF = mlp.experts.gate_up_proj.detach(), mlp.experts.down_proj.detach()
    views = gate_up_EFD.unbind(), down_EDF.unbind()
    return ExpertWeights(mlp.gate.weight.detach(), gate_up_EFD, down_EDF, *views)
