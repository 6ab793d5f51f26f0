"""Weights of several linear layers side by side in memory, so that inference computes them as one product.

`lay_together` moves the weights of queries, keys and values of every layer into one piece of memory, of which each
parameter is a part: its rows, or its columns where they lie so (`model.inner_first`). Nothing else changes: parameters
keep their identity, name and shape, optimizers and loaders write into them in place, and there is no copy that could be
out of date. Whoever gives a parameter new memory (a cast, a move to a device, sharding) undoes it: addresses are
compared at every use, and then the layers are computed one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Adjacent:
    """Layers with the same input, without bias.

    Not a module: it owns no parameter, and copies of a network do not share memory with it.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = tuple(layers)
        self._together: Tensor | None = None
        self._addresses: tuple[int, ...] = ()

    def lay(self) -> None:
        """Puts the weights side by side, if they are plain float32 weights in the memory of a CPU, or bfloat16 ones
        with the inner size first."""
        weights = [layer.weight for layer in self._layers]
        if self._is_valid() or not all(_is_plain(layer) for layer in self._layers):
            return
        with torch.inference_mode(mode=False), torch.no_grad():
            together = torch.cat([weight.detach() for weight in weights])
            if not weights[0].is_contiguous():
                together = together.t().contiguous().t()
            for weight, part in zip(weights, together.split([w.shape[0] for w in weights]), strict=True):
                weight.data = part
        self._together = together
        self._addresses = tuple(weight.data_ptr() for weight in weights)

    def product(self, x_TD: Tensor) -> Tensor | None:
        """All outputs side by side, or None where the weights are not."""
        if self._together is None or x_TD.dtype is not torch.float32 or not self._is_valid():
            return None
        return linear(x_TD, self._together)

    @property
    def weight(self) -> Tensor | None:
        """All weights, one above the other, or None where they do not lie together."""
        return self._together if self._is_valid() else None

    def _is_valid(self) -> bool:
        if self._together is None:
            return False
        pairs = zip((layer.weight for layer in self._layers), self._addresses, strict=True)
        return all(type(weight) is nn.Parameter and weight.data_ptr() == address for weight, address in pairs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Adjacent:
        return Adjacent([copy.deepcopy(layer, memo) for layer in self._layers])


def _is_plain(layer: nn.Linear) -> bool:
    weight = layer.weight
    inner_first = weight.t().is_contiguous()
    return (
        layer.bias is None
        and type(weight) is nn.Parameter
        and type(weight.data) is Tensor
        and (weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and inner_first))
        and weight.device.type == "cpu"
        and (weight.is_contiguous() or inner_first)
    )


def lay_together(network: nn.Module) -> None:
    """Does so wherever the network has such layers. Called by whoever is going to generate with it."""
    for module in network.modules():
        adjacent = getattr(module, "adjacent", None)
        if isinstance(adjacent, Adjacent):
            adjacent.lay()
