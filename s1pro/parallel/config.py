"""How a run is spread over ranks: sizes of the mesh axes and options of the exchange. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s1pro.base.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """See `parallel.mesh` for what the axes mean.

    Attributes:
        dp_replicate: copies of the sharded network; gradients are added up between them.
        dp_shard: ranks that share one copy (FSDP). None: all ranks there are, divided by `dp_replicate`.
        ep: ranks that share the experts of a layer; they are data-parallel ranks at the same time.
        dispatch: how tokens reach their experts (`parallel.dispatch`); "auto" moves least.
        overlap: parts in which tokens travel to their experts, one while another is computed; 1 for no overlap.
        async_checkpoint: tensors are copied and written in the background while training goes on.
        timeout: seconds that a rank waits for the others before it gives up.
    """

    dp_replicate: int = 1
    dp_shard: int | None = None
    ep: int = 1
    dispatch: Literal["auto", "all_gather", "all_to_all", "counted"] = "auto"
    overlap: int = 1
    async_checkpoint: bool = False
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name in ("dp_replicate", "dp_shard", "ep"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"parallel.{name} must be at least 1, got {value}")
        if self.overlap < 1:
            raise ValueError(f"parallel.overlap must be at least 1, got {self.overlap}")
        if self.overlap > 1 and self.ep == 1:
            raise ValueError(f"parallel.overlap={self.overlap} has no effect with parallel.ep=1")
        if self.timeout <= 0:
            raise ValueError(f"parallel.timeout must be positive, got {self.timeout}")
        if self.dispatch != "auto" and self.ep == 1:
            raise ValueError(f"parallel.dispatch={self.dispatch!r} has no effect with parallel.ep=1")


@dataclass(frozen=True, kw_only=True)
class MeshSizes:
    """Sizes of all axes for a number of ranks.

    Attributes:
        dp_replicate, dp_shard: of the mesh for everything but experts.
        expert_replicate, expert_shard, ep: of the mesh for experts, over the same ranks in the same order.
    """

    dp_replicate: int
    dp_shard: int
    expert_replicate: int
    expert_shard: int
    ep: int

    @property
    def num_ranks(self) -> int:
        return self.dp_replicate * self.dp_shard

    @staticmethod
    def of(config: ParallelConfig, num_ranks: int) -> MeshSizes:
        """Fills in what the configuration leaves open.

        Raises:
            InputError: sizes that do not multiply to the number of ranks, or do not divide each other.
        """
        replicate = config.dp_replicate
        if num_ranks == 1 and max(replicate, config.dp_shard or 1, config.ep) > 1:
            raise InputError(
                f"parallel.dp_replicate={replicate}, dp_shard={config.dp_shard} and ep={config.ep} need several ranks, "
                "but this is one process; start it with torchrun (docs/parallel.md)"
            )
        if num_ranks % replicate:
            raise InputError(f"parallel.dp_replicate={replicate} does not divide the {num_ranks} ranks of this run")
        shard = config.dp_shard if config.dp_shard is not None else num_ranks // replicate
        if replicate * shard != num_ranks:
            raise InputError(
                f"parallel.dp_replicate={replicate} times dp_shard={shard} is {replicate * shard}, but this run has "
                f"{num_ranks} ranks; start as many (torchrun --nproc-per-node), or leave dp_shard out"
            )
        if num_ranks % config.ep or (shard % config.ep and config.ep % shard):
            raise InputError(
                f"parallel.ep={config.ep} must divide the {num_ranks} ranks, and divide dp_shard={shard} or be a "
                "multiple of it"
            )
        expert_shard = max(shard // config.ep, 1)
        return MeshSizes(
            dp_replicate=replicate,
            dp_shard=shard,
            expert_replicate=num_ranks // config.ep // expert_shard,
            expert_shard=expert_shard,
            ep=config.ep,
        )
