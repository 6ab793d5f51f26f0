"""New weights for a network in service, copied into the parameters that it has.

Everything is checked before the first number is written: names, shapes and the architecture of a folder. Formats are
safe ones: tensors of this process, or a folder of safetensors in the released layout; nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.config_file import config_json
from s1pro.checkpoint.released import open_network
from s1pro.model.network import Network


def replace_weights(network: Network, source: Mapping[str, Tensor] | str | Path, *, partial: bool = False) -> None:
    """Copies `source` into `network`.

    Args:
        source: tensors by the names of `network.state_dict()`, or a folder in the released layout.
        partial: tensors may be missing from the mapping; the others stay as they are.

    Raises:
        InputError: an unknown or missing name, another shape or another architecture; nothing has been written. From a
            folder also a damaged file, which may be noticed late: then load another folder before going on.
    """
    if isinstance(source, Mapping):
        _copy(network, source, partial)
    else:
        _load(network, Path(source))


@torch.no_grad()
def _copy(network: Network, source: Mapping[str, Tensor], partial: bool) -> None:
    state = network.state_dict()
    unknown = sorted(source.keys() - state.keys())
    if unknown:
        raise InputError(f"weights: {unknown[0]!r} is no tensor of this network ({len(unknown)} unknown names)")
    missing = sorted(state.keys() - source.keys())
    if missing and not partial:
        raise InputError(f"weights: {missing[0]!r} is missing ({len(missing)} tensors in all)")
    for name, tensor in source.items():
        if tensor.shape != state[name].shape:
            raise InputError(f"weights: {name} has shape {tuple(tensor.shape)}, expected {tuple(state[name].shape)}")
    for name, tensor in source.items():
        state[name].copy_(tensor)


@torch.no_grad()
def _load(network: Network, folder: Path) -> None:
    other, fill = open_network(folder, dtype=None)
    if config_json(other.config) != config_json(network.config):
        raise InputError(f"{folder}: the weights are of another architecture than the network in service")
    state = network.state_dict()
    fill(lambda piece: (piece.view(state[piece.own]), lambda whole: whole))
