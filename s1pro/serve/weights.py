"""New weights for a network in service, copied into the parameters that it has.

Everything is checked before the first number is written: names, shapes and the architecture of a folder. Formats are
safe ones: tensors of this process, or a folder of safetensors in the released layout; nothing is unpickled. A rank that
holds a share of the experts takes its part of whatever it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial as bind
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.region import Region
from s1pro.checkpoint.config_file import config_json
from s1pro.checkpoint.released import Fill, Held, open_network, targets_of_boxes
from s1pro.model.network import Network
from s1pro.serve.expert_shares import boxes

Source = Mapping[str, Tensor] | str | Path
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Numbers that mean a weight by themselves: FP8 needs scales, and integers are something else."""


def checked_weights(
    network: Network, source: Source, *, partial: bool = False, group: dist.ProcessGroup | None = None
) -> Callable[[], None]:
    """Checks `source` and gives the function that copies it into `network`.

    Args:
        source: tensors by the names of `network.state_dict()`, or a folder in the released layout. Experts may be those
            of this rank, or all.
        partial: tensors may be missing from the mapping; the others stay as they are.
        group: ranks over which the experts are spread.

    Raises:
        InputError: an unknown or missing name, another shape or another architecture; nothing has been written. The
            function too, for a folder with a damaged file: then load another folder before going on.
    """
    held = boxes(network, group)
    if isinstance(source, Mapping):
        return bind(_copy, _parts(network, held, source, partial))
    return bind(_load, _opened(network, Path(source)), held)


def _parts(network: Network, held: Held, source: Mapping[str, Tensor], partial: bool) -> list[tuple[Tensor, Tensor]]:
    """Our memory and what belongs there."""
    names = network.state_dict().keys()
    unknown = sorted(source.keys() - names)
    if unknown:
        raise InputError(f"weights: {unknown[0]!r} is no tensor of this network ({len(unknown)} unknown names)")
    missing = sorted(names - source.keys())
    if missing and not partial:
        raise InputError(f"weights: {missing[0]!r} is missing ({len(missing)} tensors in all)")
    parts = []
    for name, tensor in source.items():
        if tensor.dtype not in DTYPES:
            raise InputError(f"weights: {name} holds {tensor.dtype}, expected float32, bfloat16, float16 or float64")
        local, mine = held(name)
        if tensor.shape == mine.shape:
            tensor = tensor[mine.inside(Region.whole(mine.shape))]
        elif tensor.shape != local.shape:
            raise InputError(f"weights: {name} has shape {tuple(tensor.shape)}, expected {mine.shape}")
        parts.append((local, tensor))
    return parts


def _opened(network: Network, folder: Path) -> Fill:
    other, fill = open_network(folder, dtype=None)
    if config_json(other.config) != config_json(network.config):
        raise InputError(f"{folder}: the weights are of another architecture than the network in service")
    return fill


@torch.no_grad()
def _copy(parts: list[tuple[Tensor, Tensor]]) -> None:
    for local, tensor in parts:
        local.copy_(tensor)


@torch.no_grad()
def _load(fill: Fill, held: Held) -> None:
    fill(targets_of_boxes(held))
