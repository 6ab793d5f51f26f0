"""Which experts compute in FP8 (paper: precision policy). Everything else of a network stays as it is.

The master weights keep their dtype; only the products see rounded numbers (`kernels.experts_fp8`). Layers whose numbers
FP8 does not hold well, often the first and the last, can be kept in the dtype of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from s1pro.kernels.experts_fp8 import Fp8Experts
from s1pro.kernels.fp8 import ScaleFormat
from s1pro.model.moe import Experts, MoE
from s1pro.model.network import Network


def use_fp8_experts(network: Network, *, scale_format: ScaleFormat = "fp32", keep_layers: Iterable[int] = ()) -> None:
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


def expert_layers(network: Network) -> Mapping[int, Experts]:
    """The experts by the number of their decoder layer."""
    layers = enumerate(network.model.language_model.layers)
    return {number: layer.mlp.experts for number, layer in layers if isinstance(layer.mlp, MoE)}
