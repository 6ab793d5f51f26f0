"""The mesh: which ranks share what.

Every rank has its own micro-batches, so all W ranks are data-parallel. They form two meshes, row by row in the order of
ranks:

    everything but experts    [dp_replicate, dp_shard]
    experts                   [expert_replicate, expert_shard, ep]

`ep` is the innermost axis, so that the ranks which exchange tokens in every layer are neighbours (one machine). With 8
ranks, dp_shard = 8 and ep = 4, attention is cut into eight; rank r holds the experts of part r mod 4, cut into two
between the ranks r and r + 4. Expert parallelism takes nothing away from data parallelism: an expert sees the tokens of
all ranks in its `ep` group, and its gradient is the sum over all of them.

Sizes follow from `ParallelConfig` (`MeshSizes.of`): expert_shard = dp_shard / ep. An `ep` above dp_shard is allowed as
well, up to dp_shard = 1: experts apart, everything else copied (expert parallelism only).

Names kept for later axes, outside in: `pp` (pipeline stages) before dp_replicate, `tp` (tensor parallel) after ep.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from s1pro.base.errors import InputError
from s1pro.parallel.config import MeshSizes, ParallelConfig

DENSE_AXES = ("dp_replicate", "dp_shard")
BUCKET_NUMBERS = 2**24
"""Numbers that are added over the ranks in one message."""

EXPERT_AXES = ("expert_replicate", "expert_shard", "ep")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ranks of a run, seen from one of them. `Ranks()` is a single process without process group.

    Attributes:
        rank, size: number of this rank, and of all.
        sizes: of the axes.
        dense_mesh, expert_mesh: None in a single process.
    """

    rank: int = 0
    size: int = 1
    sizes: MeshSizes = field(default_factory=lambda: MeshSizes.of(ParallelConfig(), 1))
    dense_mesh: DeviceMesh | None = None
    expert_mesh: DeviceMesh | None = None

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what only one may write."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.dense_mesh is not None

    @property
    def expert_group(self) -> dist.ProcessGroup:
        """The ranks that share the experts with this one."""
        assert self.expert_mesh is not None
        return self.expert_mesh.get_group("ep")

    @property
    def everyone(self) -> dist.ProcessGroup:
        """All ranks."""
        group = dist.group.WORLD
        assert group is not None
        return group

    @property
    def shard_group(self) -> dist.ProcessGroup:
        """The ranks that share one copy of everything but experts with this one."""
        assert self.dense_mesh is not None
        return self.dense_mesh.get_group("dp_shard")

    def coordinates(self, rank: int, *, experts: bool) -> tuple[int, int, int]:
        """(replicate, shard, ep) of any rank in the mesh of experts, or (replicate, shard, 0) in the other."""
        if not experts:
            return rank // self.sizes.dp_shard, rank % self.sizes.dp_shard, 0
        row, ep = divmod(rank, self.sizes.ep)
        return row // self.sizes.expert_shard, row % self.sizes.expert_shard, ep

    def add(self, numbers: Sequence[float]) -> list[float]:
        """Sums of `numbers` over all ranks, the same bits everywhere. A single process gets its own back."""
        if not self.is_distributed:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        dist.all_reduce(total)
        result: list[float] = total.tolist()
        return result

    @torch.no_grad()
    def add_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces every tensor by its sum over all ranks, the same bits everywhere, a few large messages at a time."""
        bucket: list[torch.Tensor] = []
        for i, tensor in enumerate(tensors):
            bucket.append(tensor)
            last = i + 1 == len(tensors) or tensors[i + 1].dtype != tensor.dtype
            if last or sum(part.numel() for part in bucket) >= BUCKET_NUMBERS:
                flat = torch.cat([part.flatten() for part in bucket])
                dist.all_reduce(flat, group=self.everyone)
                sums = flat.split([part.numel() for part in bucket])
                for part, total in zip(bucket, sums, strict=True):
                    part.copy_(total.view_as(part))
                bucket = []

    def wait(self) -> None:
        """Returns when all ranks are here."""
        self.add([0.0])

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 runs the block before the others do: what it leaves on the disk they find there."""
        if not self.is_first:
            self.wait()
        try:
            yield
        finally:  # also when it fails: the others then meet the same fault, instead of waiting
            if self.is_first:
                self.wait()

    @cached_property
    def _device(self) -> torch.device:
        assert self.dense_mesh is not None
        kind = self.dense_mesh.device_type
        return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)


def launched_ranks() -> int:
    """Number of ranks that a launcher (torchrun, srun with its variables) says there are; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """Number of this rank, as the launcher says; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def local_device(kind: str) -> torch.device:
    """The device of this rank: the GPU with its number on this machine, or the CPU.

    Raises:
        InputError: `kind` is no device.
    """
    if kind != "cuda":
        try:
            return torch.device(kind)
        except RuntimeError as error:
            raise InputError(f"device={kind!r} is not a device; use cpu or cuda") from error
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def join(config: ParallelConfig, kind: str) -> Ranks:
    """Meets the other ranks that the launcher started (environment of torchrun) and builds the meshes.

    Args:
        kind: "cpu" or "cuda".

    Raises:
        InputError: the axes do not fit the number of ranks, or one rank alone was asked for several.
    """
    size = launched_ranks()
    sizes = MeshSizes.of(config, size)  # before anything is opened, so that all ranks stop with the same message
    if size == 1 and not dist.is_initialized():
        if config.async_checkpoint:
            raise InputError("parallel.async_checkpoint needs several ranks; start them with torchrun")
        return Ranks()
    if kind == "cuda":
        torch.cuda.set_device(local_device(kind))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=config.timeout))
    return build_ranks(sizes, kind)


def build_ranks(sizes: MeshSizes, kind: str) -> Ranks:
    """The meshes, in a process group that is there already."""
    dense = init_device_mesh(kind, (sizes.dp_replicate, sizes.dp_shard), mesh_dim_names=DENSE_AXES)
    shape = (sizes.expert_replicate, sizes.expert_shard, sizes.ep)
    experts = init_device_mesh(kind, shape, mesh_dim_names=EXPERT_AXES)
    return Ranks(rank=dist.get_rank(), size=dist.get_world_size(), sizes=sizes, dense_mesh=dense, expert_mesh=experts)


def leave() -> None:
    """Ends the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
