"""Which box of which tensor every rank holds, computed from names, shapes and the mesh; nothing is exchanged.

FSDP2 cuts the first dim as `torch.chunk` does. Of a stack of experts a rank holds the part of its place on the `ep`
axis, and of that its shard. Copies of a box (axis `replicate`) are equal, so one of them, the *primary*, is
enough for a checkpoint, a norm or an export.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from s1pro.base.region import Region, chunk_bounds
from s1pro.model.moe import Experts
from s1pro.parallel.fp8_shards import Fp8Shard
from s1pro.parallel.mesh import Ranks


@dataclass(frozen=True)
class Place:
    """How one tensor of the network is spread: `kind` says over which mesh ("copied" is on every rank)."""

    shape: tuple[int, ...]
    kind: str

    def region(self, ranks: Ranks, rank: int) -> Region:
        """The box of any rank."""
        if self.kind == "copied" or not ranks.is_distributed:
            return Region.whole(self.shape)
        experts = self.kind == "experts"
        _, shard, ep = ranks.coordinates(rank, experts=experts)
        parts = ranks.sizes.expert_shard if experts else ranks.sizes.dp_shard
        rows = self.shape[0] // ranks.sizes.ep if experts else self.shape[0]
        start, length = chunk_bounds(rows, parts, shard)
        others = self.shape[1:]
        return Region(self.shape, (ep * rows + start, *(0 for _ in others)), (length, *others))

    def is_primary(self, ranks: Ranks, rank: int) -> bool:
        """Whether this rank answers for its box."""
        if self.kind == "copied" or not ranks.is_distributed:
            return rank == 0
        return ranks.coordinates(rank, experts=self.kind == "experts")[0] == 0


def places(network: nn.Module, ranks: Ranks) -> dict[str, Place]:
    """For every name of the state dict, how it is spread."""
    experts = {
        f"{name}.{key}"
        for name, module in network.named_modules()
        if isinstance(module, Experts)
        for key, _ in module.named_parameters(recurse=False)
    }
    return {name: _place(name in experts, tensor, ranks) for name, tensor in network.state_dict().items()}


def local_part(tensor: Tensor) -> Tensor:
    """What this rank holds of a parameter: plain memory, shared with it."""
    local = tensor.detach().to_local() if isinstance(tensor, DTensor) else tensor.detach()
    return local.plain() if isinstance(local, Fp8Shard) else local


def _place(is_expert: bool, tensor: Tensor, ranks: Ranks) -> Place:
    shape = tuple(tensor.shape)
    if is_expert and ranks.is_distributed:
        return Place((shape[0] * ranks.sizes.ep, *shape[1:]), "experts")
    return Place(shape, "sharded" if isinstance(tensor, DTensor) else "copied")
