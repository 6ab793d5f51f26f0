"""Weights with the inner size first in memory: for networks that generate and are not trained.

The product of few rows with a weight reads the weight once and does little else. It is read faster when neighbours in
memory belong to different outputs: by the library, and all the more by compiled kernels, which want them so
(`kernels.compiled`). On an Intel Sapphire Rapids with one thread, float32, out of the cache, milliseconds:

| tokens | 1 | 8 | 32 | 64 |
|---|---|---|---|---|
| six layers of 64 experts, 256 x 128, eight for each token: outputs first | 2.10 | 10.8 | 17.9 | 23.0 |
| inner size first, by the library | 1.61 | 9.98 | 16.0 | 19.3 |
| inner size first, compiled | 0.87 | 5.1 | 10.5 | 12.4 |
| the same in bfloat16 | 0.52 | 2.6 | 5.2 | 7.9 |

`lay_inner_first` gives the parameters new strides. They keep identity, name, shape and numbers; loaders and
`update_weights` write into them as before, and there is no copy that could be out of date. But fused optimizers go
through memory without looking at strides. So whoever calls this says that nobody trains the network
(`Engine(serves_only=True)`), and the trainer's optimizer refuses it. So does exact mode: the bits would not be those
of a trainer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from s1pro.kernels import compiled
from s1pro.kernels.processor import prefers_weight_first
from s1pro.model.adjacent import lay_together
from s1pro.model.layers import Linear
from s1pro.model.moe import Experts
from s1pro.model.network import Network
from s1pro.model.router import Router


def lay_inner_first(network: Network) -> None:
    """Does so for plain weights of decoder and head on a CPU: of float32 and bfloat16 where kernels are compiled, else
    of float32, unless the library of this processor reads other orders faster."""
    dtypes = (torch.float32, torch.bfloat16) if compiled.is_available() else (torch.float32,)
    if prefers_weight_first() and not compiled.is_available():
        return
    with torch.inference_mode(mode=False), torch.no_grad():
        for weight in _weights(network):
            if is_plain(weight, dtypes) and weight.is_contiguous():
                weight.data = weight.detach().mT.contiguous().mT
    lay_together(network)


def is_inner_first(weight: Tensor) -> bool:
    """Whether a weight, or one that is part of a larger one, lies so."""
    return not weight.is_contiguous() and weight.stride(-2) == 1


def _weights(network: Network) -> Iterator[nn.Parameter]:
    for module in (*network.model.language_model.modules(), network.lm_head):
        if isinstance(module, Linear | Router):
            yield module.weight
        elif isinstance(module, Experts) and module.fp8 is None:
            yield from (module.gate_up_proj, module.down_proj)


def is_plain(weight: nn.Parameter, dtypes: Collection[torch.dtype]) -> bool:
    """Whether a parameter is an ordinary tensor (not sharded, not quantised) of one of the dtypes on a CPU."""
    return (
        type(weight) is nn.Parameter
        and type(weight.data) is Tensor
        and weight.dtype in dtypes
        and weight.device.type == "cpu"
    )
