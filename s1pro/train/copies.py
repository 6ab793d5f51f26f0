"""How far the copies of an expert have come apart since an expansion.

Per layer, over all pairs of copies of one original:

    expert_distance   norm of the difference of their matrices over the mean of their norms; 0 is equal
    expert_cosine     cosine between their matrices
    router_distance   the same distance between their router rows
    identical         share of pairs whose matrices are equal in every bit

`copies_hook` measures it during training, next to the validation loss; a run in one process that starts from a folder
that `s1pro expand` wrote does so by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.expansion_plan import Origins
from s1pro.model.moe import MoE
from s1pro.model.network import Network
from s1pro.parallel.mesh import Ranks

EXPANSION_FILE = "expansion.json"
MAX_EXPANSION_BYTES = 64 * 1024 * 1024


@torch.no_grad()
def copy_similarity(network: Network, origins: Origins) -> dict[str, dict[str, float]]:
    """The numbers of the module docstring by the number of the layer; only layers with experts, counted from 0.

    Args:
        origins: `[L, E]`, of the expansion that made the network.

    Raises:
        ValueError: the network has other layers or experts.
    """
    mixtures = [layer.mlp for layer in network.model.language_model.layers if isinstance(layer.mlp, MoE)]
    expected = (len(mixtures), network.config.text.router.num_experts)
    if origins.shape != expected:
        raise ValueError(f"origins of {origins.shape} (layers, experts) for a network of {expected}")
    return {str(index): _layer(mlp, origins[index]) for index, mlp in enumerate(mixtures)}


def copies_hook(origins: Origins) -> Callable[[Any], Mapping[str, Any]]:
    """An evaluation hook for training: adds `copies`, the result of `copy_similarity`, to the validation record."""
    return lambda trainer: {"copies": copy_similarity(trainer.network, origins)}


def with_copies(
    hook: Callable[[Any], Mapping[str, Any]] | None, init_from: Path | None, ranks: Ranks
) -> Callable[[Any], Mapping[str, Any]] | None:
    """`hook`, joined by `copies_hook` where training begins with an expanded model that lies whole in this process."""
    if init_from is None or ranks.is_distributed or not (init_from / EXPANSION_FILE).is_file():
        return hook
    copies = copies_hook(read_origins(init_from))
    return copies if hook is None else lambda trainer: {**copies(trainer), **hook(trainer)}


def read_origins(folder: Path) -> Origins:
    """The origins that `s1pro expand` left in the folder it wrote.

    Raises:
        InputError: the folder was not made by an expansion.
    """
    path = folder / EXPANSION_FILE
    if not path.is_file():
        raise InputError(f"{path}: missing; the folder was not written by s1pro expand")
    if path.stat().st_size > MAX_EXPANSION_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes is no record of an expansion")
    try:
        origins = np.asarray(json.loads(path.read_text(encoding="utf-8"))["origins"], dtype=np.int64)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no origins in it ({error})") from error
    if origins.ndim != 2:
        raise InputError(f"{path}: origins must be a table [layers, experts]")
    return origins


def _layer(mixture: MoE, origins_E: Any) -> dict[str, float]:
    experts = mixture.experts
    sums = {"expert_distance": 0.0, "expert_cosine": 0.0, "router_distance": 0.0, "identical": 0.0}
    pairs = 0
    for original in np.unique(origins_E):
        copies = np.flatnonzero(origins_E == original).tolist()
        matrices = [torch.cat((experts.gate_up_proj[e].flatten(), experts.down_proj[e].flatten())) for e in copies]
        for second in range(1, len(copies)):
            for first in range(second):
                a, b = matrices[first], matrices[second]
                sums["expert_distance"] += _distance(a, b)
                sums["expert_cosine"] += float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))
                sums["identical"] += float(torch.equal(a, b))
                sums["router_distance"] += _distance(
                    mixture.gate.weight[copies[first]], mixture.gate.weight[copies[second]]
                )
                pairs += 1
    return {name: total / max(pairs, 1) for name, total in sums.items()} if pairs else {}


def _distance(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float((a - b).norm() / (0.5 * (a.norm() + b.norm())).clamp(min=1e-30))
