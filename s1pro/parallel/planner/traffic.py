"""Bytes that one rank receives per optimizer step, by purpose and by link.

| purpose | per micro-batch | over |
|---|---|---|
| gather weights | every unit once forwards and once backwards, (n - 1)/n of its bytes | the ranks that share it |
| reduce gradients | once, in float32 | the same |
| dispatch tokens | two exchanges per layer forwards, two backwards, and in recomputation | `ep` |
| copies (per step) | 2 (n - 1)/n of this rank's gradients in float32 | `dp_replicate` |

An all-gather dispatch over P ranks moves T (P - 1) rows per exchange, an all-to-all T K (P - 1) / P. Recomputation ends
where nothing more is kept: before the way back of an all-gather dispatch, behind that of an all-to-all.

Ranks are numbered node by node, and a group takes every s-th rank. Of its n members m are in one node; a rank then
gets (m - 1)/(n - 1) of its bytes over the links of the node and the rest through the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from s1pro.model.config import ModelConfig
from s1pro.parallel.planner.hardware import Cluster
from s1pro.parallel.planner.request import Job, Layout
from s1pro.parallel.planner.weights import weights_of


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Bytes per step over the links of a node and through the network. `overlaps` with computation."""

    purpose: str
    node: float
    network: float
    overlaps: bool

    @property
    def total(self) -> float:
        return self.node + self.network


@dataclass(frozen=True)
class Group:
    """`size` ranks, every `stride`-th one."""

    size: int
    stride: int

    def split(self, received: float, gpus_per_node: int) -> tuple[float, float]:
        """`received` bytes over links and through the network."""
        if self.size == 1:
            return 0.0, 0.0
        inside = min(max(gpus_per_node // self.stride, 1), self.size)
        share = (inside - 1) / (self.size - 1)
        return received * share, received * (1 - share)


def training_traffic(config: ModelConfig, job: Job, layout: Layout, cluster: Cluster) -> list[Flow]:
    """All flows of one optimizer step."""
    batches = layout.accumulation(job.tokens_per_step)
    dense, experts = Group(layout.dp_shard, 1), Group(layout.expert_shard, layout.ep)
    sizes = _unit_bytes(config, job, layout)
    flows = []
    for name, group, kind in (("dense", dense, "dense"), ("experts", experts, "experts")):
        gathered, reduced = sizes[kind]
        share = (group.size - 1) / group.size
        times = {"gather": 2 * batches * gathered, "reduce": batches * reduced}
        for verb, total in times.items():
            node, network = group.split(total * share, cluster.gpus_per_node)
            purpose = f"{verb} {'weights' if verb == 'gather' else 'gradients'}, {name}"
            flows.append(Flow(purpose=purpose, node=node, network=network, overlaps=True))
    flows.append(_copies(sizes, layout, cluster))
    flows.append(_dispatch(config, job, layout, cluster, batches))
    return [flow for flow in flows if flow.total]


def dispatch_rows(layout: Layout, top_k: int) -> float:
    """Rows that one rank receives in one exchange of one layer."""
    ranks = layout.ep
    if ranks == 1:
        return 0.0
    if layout.dispatch == "all_gather":
        return layout.tokens_per_batch * (ranks - 1)
    return layout.tokens_per_batch * top_k * (ranks - 1) / ranks


def _unit_bytes(config: ModelConfig, job: Job, layout: Layout) -> Mapping[str, tuple[float, float]]:
    """Whole bytes (gathered in their dtype, reduced in float32) of what a group shares."""
    sums = {"dense": [0.0, 0.0], "experts": [0.0, 0.0]}
    for weight in weights_of(config):
        kind = "experts" if weight.unit == "experts" else "dense"
        numel = weight.numel / (layout.ep if kind == "experts" else 1)
        once = weight.unit in ("head", "tower")  # gathered for the whole step, not again backwards
        sums[kind][0] += numel * weight.value_bytes(job) * (0.5 if once else 1)
        sums[kind][1] += numel * 4
    return {kind: (gathered, reduced) for kind, (gathered, reduced) in sums.items()}


def _copies(sizes: Mapping[str, tuple[float, float]], layout: Layout, cluster: Cluster) -> Flow:
    """Gradients of copies, added up once per micro-batch in shards."""
    node = network = 0.0
    shapes = {
        "dense": (layout.dp_replicate, layout.dp_shard, layout.dp_shard),
        "experts": (layout.expert_replicate, layout.ep * layout.expert_shard, layout.expert_shard),
    }
    for kind, (copies, stride, parts) in shapes.items():
        received = 2 * (copies - 1) / copies * sizes[kind][1] / parts
        inside, outside = Group(copies, stride).split(received, cluster.gpus_per_node)
        node, network = node + inside, network + outside
    return Flow(purpose="add gradients of copies", node=node, network=network, overlaps=True)


def _dispatch(config: ModelConfig, job: Job, layout: Layout, cluster: Cluster, batches: int) -> Flow:
    text = config.text
    again = 1 if layout.dispatch == "all_gather" else 2
    exchanges = 2 + 2 + (again if layout.checkpointing else 0)
    rows = dispatch_rows(layout, text.router.top_k) * exchanges * len(text.moe_layers) * batches
    received = rows * text.hidden_size * job.value_bytes
    node, network = Group(layout.ep, 1).split(received, cluster.gpus_per_node)
    return Flow(purpose="dispatch tokens", node=node, network=network, overlaps=False)
