"""Seconds of an optimizer step: arithmetic, links, memory, each with the share of its peak that is reached.

    compute  = FLOPs / (peak * efficiency), product by product: experts, dense, attention, head
    exposed  = dispatch + what is left of the weight traffic behind `overlap` * compute
    update   = optimizer state read and written / memory bandwidth
    step     = compute + exposed + update

Training is three forward passes, four with recomputation (the head is never computed again). The head is a float32
product outside the tensor cores: a few percent of the arithmetic, and a large part of the time.

The efficiencies are assumptions, not measurements of this code on a GPU; they are printed with every plan. What a
cluster really reaches belongs into a JSON file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s1pro.model.config import ModelConfig
from s1pro.model.sizes import cache_bytes_per_token, count_parameters
from s1pro.parallel.planner.hardware import Cluster
from s1pro.parallel.planner.request import Job, Layout
from s1pro.parallel.planner.traffic import Flow
from s1pro.parallel.planner.weights import shards, unit_numel

PATCHES_PER_IMAGE_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """Share of the peak that each kind of work reaches.

    Attributes:
        overlap: share of computation that hides traffic.
        imbalance: rows of the busiest rank over the mean where routing does not fix them (the counted dispatch).
    """

    experts: float = 0.5
    dense: float = 0.65
    attention: float = 0.45
    head: float = 0.7
    node_links: float = 0.75
    network: float = 0.75
    memory: float = 0.75
    overlap: float = 0.8
    imbalance: float = 1.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "imbalance" and not 0 < value <= 1:
                raise ValueError(f"efficiency.{name} must lie in (0, 1], got {value}")
        if not 1 <= self.imbalance < float("inf"):
            raise ValueError(f"efficiency.imbalance must be at least 1, got {self.imbalance}")

    def busiest(self, layout: Layout) -> float:
        """Rows of the busiest rank over the mean."""
        return self.imbalance if layout.ep > 1 and layout.dispatch == "counted" else 1.0


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds by kind of work, and of the whole step."""

    compute: Mapping[str, float]
    node_links: float
    network: float
    exposed: float
    update: float
    flops: float

    @property
    def step(self) -> float:
        return sum(self.compute.values()) + self.exposed + self.update


def forward_flops(config: ModelConfig, job: Job) -> dict[str, float]:
    """Floating-point operations of one token's forward pass; without images that of `forward_flops_per_token`."""
    text = config.text
    experts = 2 * 3 * text.hidden_size * text.moe_intermediate_size * text.router.top_k * len(text.moe_layers)
    head = 2 * text.vocab_size * text.hidden_size
    dense = 2 * count_parameters(config).active - experts - head
    attention = 4 * text.num_hidden_layers * text.num_attention_heads * text.head_dim * job.sequence_length / 2
    towers = 2 * PATCHES_PER_IMAGE_TOKEN * count_parameters(config).vision * job.image_share
    return {"experts": experts, "dense": dense + towers, "attention": attention, "head": head}


def training_time(
    config: ModelConfig, job: Job, layout: Layout, cluster: Cluster, flows: Sequence[Flow], efficiency: Efficiency
) -> StepTime:
    """One optimizer step."""
    tokens = layout.accumulation(job.tokens_per_step) * layout.tokens_per_batch
    forward = forward_flops(config, job)
    passes = 4 if layout.checkpointing else 3
    flops = {kind: tokens * value * (3 if kind == "head" else passes) for kind, value in forward.items()}
    compute = {kind: value / _speed(kind, job, cluster, efficiency) for kind, value in flops.items()}
    compute["experts"] *= efficiency.busiest(layout)
    seconds = [_seconds(flow, cluster, efficiency) for flow in flows]
    hidden = [max(pair) for flow, pair in zip(flows, seconds, strict=True) if flow.overlaps]
    open_ = [max(pair) for flow, pair in zip(flows, seconds, strict=True) if not flow.overlaps]
    waited = sum(open_) * efficiency.busiest(layout)
    busy = sum(compute.values())
    state = shards(config, job, layout)
    moved = 2 * (state.parameters + state.optimizer) + 2 * max(state.gradients, state.accumulated)
    return StepTime(
        compute=compute,
        node_links=sum(pair[0] for pair in seconds),
        network=sum(pair[1] for pair in seconds),
        exposed=waited + max(sum(hidden) - efficiency.overlap * busy, 0.0),
        update=moved / (cluster.gpu.hbm_gb_per_s * 1e9 * efficiency.memory),
        flops=3 * tokens * sum(forward.values()),
    )


def decode_seconds(config: ModelConfig, job: Job, cluster: Cluster, efficiency: Efficiency) -> float:
    """One token for every running sequence of one engine copy: reading weights and caches, or arithmetic."""
    serving, text = job.serving, config.text
    memory = cluster.gpu.hbm_gb_per_s * 1e9 * efficiency.memory
    reads = _weights_read(config, job) + serving.sequences * serving.context * cache_bytes_per_token(config)
    flops = forward_flops(config, job)
    peaks = {kind: _speed(kind, job, cluster, efficiency) for kind in flops}
    arithmetic = serving.sequences * sum(value / peaks[kind] for kind, value in flops.items())
    exchanged = 2 * serving.sequences * text.router.top_k * text.hidden_size * 2 * len(text.moe_layers)
    inside = min(cluster.gpus_per_node, serving.ranks)
    outside = (serving.ranks - inside) / max(serving.ranks - 1, 1)
    link = exchanged * outside / (cluster.network_gb_per_s * 1e9 * efficiency.network)
    return max(reads / memory, arithmetic) + link


def engine_weight_bytes(config: ModelConfig, job: Job) -> float:
    """Of one rank of the engine: its experts, and a copy of everything else."""
    narrow = 1 if job.serving.fp8 else 2
    experts = unit_numel(config, "experts") * narrow / job.serving.ranks
    rest = unit_numel(config, "block") * narrow
    wide = unit_numel(config, "head") * 4 + unit_numel(config, "gate") * 4
    return experts + rest + wide + 2 * (unit_numel(config, "embedding") + unit_numel(config, "tower"))


def _weights_read(config: ModelConfig, job: Job) -> float:
    """Bytes of weights that a decoding step touches on one rank: experts in use, everything else once."""
    router, serving = config.text.router, job.serving
    rows = serving.sequences * serving.ranks * router.top_k
    used = 1 - (1 - 1 / router.num_experts) ** rows
    experts = unit_numel(config, "experts") * (1 if serving.fp8 else 2) / serving.ranks
    embedding = 2 * unit_numel(config, "embedding")
    towers = 2 * unit_numel(config, "tower")
    return engine_weight_bytes(config, job) - embedding - towers - experts * (1 - used)


def _speed(kind: str, job: Job, cluster: Cluster, efficiency: Efficiency) -> float:
    """FLOP/s that this kind of work reaches."""
    gpu = cluster.gpu
    if kind == "head" or job.dtype == "float32":
        peak = gpu.fp32_tflops
    elif kind == "experts" and job.expert_precision == "fp8":
        peak = gpu.fp8_tflops or gpu.bf16_tflops
    else:
        peak = gpu.bf16_tflops
    share: float = getattr(efficiency, kind)
    return peak * 1e12 * share


def _seconds(flow: Flow, cluster: Cluster, efficiency: Efficiency) -> tuple[float, float]:
    node = flow.node / (cluster.gpu.link_gb_per_s * 1e9 * efficiency.node_links)
    return node, flow.network / (cluster.network_gb_per_s * 1e9 * efficiency.network)
