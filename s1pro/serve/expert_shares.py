"""A rank's share of the experts of a network: cut from a whole one, or loaded as such.

Rank p of P holds the experts p E/P … (p + 1) E/P - 1 of every layer and everything else whole. From a folder each rank
reads headers, then only the tensors that it holds something of; memory is taken for its share alone. (Of experts that a
file stores stacked, the whole stack is read, one tensor at a time, and a part of it kept.)
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from s1pro.base.region import Region
from s1pro.checkpoint.released import Held, open_network, targets_of_boxes
from s1pro.model.exact import use_exact_operators
from s1pro.model.moe import Experts, MoE
from s1pro.model.network import Network
from s1pro.parallel.dispatch import DispatchName, build_dispatch


def spread_experts(network: Network, group: dist.ProcessGroup, dispatch: DispatchName = "auto") -> Network:
    """Keeps this rank's experts only, in place, and lets tokens travel. A network that is to be exact is switched
    before (`model.exact`), so that "auto" can choose.

    Raises:
        InputError: the experts or the router groups cannot be divided among the ranks.
    """
    exchange = build_dispatch(dispatch, network.config.text.router, group, exact=network.exact)
    for module in network.modules():
        if isinstance(module, MoE):
            module.dispatch = exchange
        if isinstance(module, Experts):
            for name, parameter in list(module.named_parameters(recurse=False)):
                local = parameter.detach().chunk(group.size())[group.rank()].clone()
                setattr(module, name, nn.Parameter(local, requires_grad=False))
    return network


def load_share(
    folder: str | Path,
    group: dist.ProcessGroup,
    *,
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device = "cpu",
    exact: bool = False,
    dispatch: DispatchName = "auto",
) -> Network:
    """The network of a released folder with this rank's experts only, which are all that is read of them.

    Args:
        dtype: as for `checkpoint.released.load_network`.
        exact: switches the network to exact mode.

    Raises:
        InputError: as `load_network` and `spread_experts`.
    """
    network, fill = open_network(folder, dtype=dtype)
    if exact:
        use_exact_operators(network)
    spread_experts(network, group, dispatch).to_empty(device=device)
    fill(targets_of_boxes(boxes(network, group)))
    return network


def boxes(network: Network, group: dist.ProcessGroup | None) -> Held:
    """What this rank holds of every tensor; everything without a group."""
    state, modules = network.state_dict(), network.named_modules()
    found = [(name, module) for name, module in modules if isinstance(module, Experts) and group is not None]
    experts = {f"{name}.{key}" for name, module in found for key, _ in module.named_parameters(recurse=False)}

    def held(name: str) -> tuple[Tensor, Region]:
        local = state[name]
        shape = tuple(local.shape)
        if group is None or name not in experts:
            return local, Region.whole(shape)
        others = (0,) * (len(shape) - 1)
        whole = (shape[0] * group.size(), *shape[1:])
        return local, Region(whole, (shape[0] * group.rank(), *others), shape)

    return held
