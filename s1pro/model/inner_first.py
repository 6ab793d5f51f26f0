"""Weights with the inner size first in memory: for networks that generate and are not trained.

The product of few rows with a weight reads the weight once and does little else. The library reads it faster when
neighbours in memory belong to different outputs. On an Intel Sapphire Rapids with one thread, float32, out of the
cache, milliseconds:

| tokens | 1 | 8 | 32 | 64 |
|---|---|---|---|---|
| six layers of 64 experts, 256 x 128, eight for each token | 2.10, 1.61 | 10.8, 9.98 | 17.9, 16.0 | 23.0, 19.3 |
| a head of 4096 x 256 | 0.40, 0.34 | 0.86, 0.65 | 0.99, 0.90 | |

`lay_inner_first` gives the parameters new strides. They keep identity, name, shape and numbers; loaders and
`update_weights` write into them as before, and there is no copy that could be out of date. But fused optimizers go
through memory without looking at strides. So whoever calls this says that nobody trains the network
(`Engine(serves_only=True)`), and the trainer's optimizer refuses it. So does exact mode: the bits would not be those
of a trainer.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from s1pro.kernels.processor import prefers_weight_first
from s1pro.model.adjacent import lay_together
from s1pro.model.layers import Linear
from s1pro.model.moe import Experts
from s1pro.model.network import Network


def lay_inner_first(network: Network) -> None:
    """Does so for plain float32 weights of decoder and head on a CPU, unless its library reads other orders faster."""
    if prefers_weight_first():
        return
    with torch.inference_mode(mode=False), torch.no_grad():
        for weight in _weights(network):
            if is_plain_float32(weight) and weight.is_contiguous():
                weight.data = weight.detach().mT.contiguous().mT
    lay_together(network)


def is_inner_first(weight: Tensor) -> bool:
    """Whether a weight, or one that is part of a larger one, lies so."""
    return not weight.is_contiguous() and weight.stride(-2) == 1


def _weights(network: Network) -> Iterator[nn.Parameter]:
    for module in (*network.model.language_model.modules(), network.lm_head):
        if isinstance(module, Linear):
            yield module.weight
        elif isinstance(module, Experts) and module.fp8 is None:
            yield from (module.gate_up_proj, module.down_proj)


def is_plain_float32(weight: nn.Parameter) -> bool:
    """Whether a parameter is an ordinary tensor (not sharded, not quantised) of float32 on a CPU."""
    return (
        type(weight) is nn.Parameter
        and type(weight.data) is Tensor
        and weight.dtype is torch.float32
        and weight.device.type == "cpu"
    )
