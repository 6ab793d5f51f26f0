"""Which experts compute in FP8 (paper: precision policy). Everything else of a network stays as it is.

The master weights keep their dtype; only the products see rounded numbers (`kernels.experts_fp8`). Layers whose numbers
FP8 does not hold well, often the first and the last, can be kept in the dtype of the network.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from s1pro.kernels.experts_fp8 import Fp8Experts
from s1pro.kernels.fp8 import ScaleFormat
from s1pro.model.moe import Experts


def use_fp8_experts(network: nn.Module, *, scale_format: ScaleFormat = "fp32", keep_layers: Iterable[int] = ()) -> None:
    """Switches the experts of all layers but `keep_layers` (numbers of decoder layers) to FP8 products.

    Raises:
        ValueError: a layer to keep that has no experts.
    """
    layers, kept = expert_layers(network), set(keep_layers)
    unknown = sorted(kept - layers.keys())
    if unknown:
        raise ValueError(f"layers {unknown} have no experts to keep out of FP8; there are {sorted(layers)}")
    for layer, experts in layers.items():
        experts.fp8 = None if layer in kept else Fp8Experts(scale_format)


def expert_layers(network: nn.Module) -> dict[int, Experts]:
    """The experts by the number of their decoder layer; none in a network without experts."""
    named = [(name.split("."), module) for name, module in network.named_modules() if isinstance(module, Experts)]
    return {int(path[path.index("layers") + 1]): module for path, module in named}
