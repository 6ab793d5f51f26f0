"""GPUs and what connects them. Numbers are those of data sheets, without sparsity; a cluster in a JSON file may differ.

Links and networks are counted in one direction. `reserve_gb` is memory that no tensor gets: the driver's context,
buffers of the collectives, and what an allocator loses between blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from s1pro.base.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One device.

    Attributes:
        memory_gb: as sold, 10^9 bytes.
        bf16_tflops, fp8_tflops: dense matrix products; None without FP8 units.
        fp32_tflops: float32 products without TF32.
        hbm_gb_per_s: device memory.
        link_gb_per_s: to the other devices of its node.
    """

    name: str
    memory_gb: float
    bf16_tflops: float
    fp8_tflops: float | None
    fp32_tflops: float
    hbm_gb_per_s: float
    link_gb_per_s: float

    def __post_init__(self) -> None:
        for name in ("memory_gb", "bf16_tflops", "fp32_tflops", "hbm_gb_per_s", "link_gb_per_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"gpu.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Equal nodes of equal devices.

    Attributes:
        network_gb_per_s: share of one GPU of the network between nodes (400 Gbit/s are 50).
    """

    gpu: Gpu
    num_gpus: int
    gpus_per_node: int = 8
    network_gb_per_s: float = 50.0
    reserve_gb: float = 6.0

    def __post_init__(self) -> None:
        for name in ("num_gpus", "gpus_per_node"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_gpus > self.gpus_per_node and self.num_gpus % self.gpus_per_node:
            raise ValueError(f"num_gpus={self.num_gpus} is no multiple of gpus_per_node={self.gpus_per_node}")
        if not self.network_gb_per_s > 0:
            raise ValueError(f"network_gb_per_s must be positive, got {self.network_gb_per_s}")
        if not 0 <= self.reserve_gb < self.gpu.memory_gb:
            raise ValueError(f"reserve_gb={self.reserve_gb} must lie in [0, gpu.memory_gb={self.gpu.memory_gb})")

    @property
    def usable_bytes(self) -> float:
        return (self.gpu.memory_gb - self.reserve_gb) * 1e9


def _gpu(name: str, memory: float, bf16: float, fp8: float | None, fp32: float, hbm: float, link: float) -> Gpu:
    return Gpu(
        name=name,
        memory_gb=memory,
        bf16_tflops=bf16,
        fp8_tflops=fp8,
        fp32_tflops=fp32,
        hbm_gb_per_s=hbm,
        link_gb_per_s=link,
    )


GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("a100", 80, 312, None, 19.5, 2039, 300),
        _gpu("h20", 96, 148, 296, 44, 4000, 450),
        _gpu("h100", 80, 989, 1979, 67, 3350, 450),
        _gpu("h200", 141, 989, 1979, 67, 4800, 450),
        _gpu("b200", 180, 2250, 4500, 75, 7700, 900),
    )
}
"""SXM modules of NVIDIA by name."""


def gpu_named(name: str) -> Gpu:
    """Raises `InputError` with the names there are."""
    if name not in GPUS:
        raise InputError(f"there is no GPU {name!r} in the table; choose from {', '.join(GPUS)}, or give a JSON file")
    return GPUS[name]
