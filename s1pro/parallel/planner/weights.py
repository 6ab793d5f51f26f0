"""Parameters of one rank, exactly: the shapes of every tensor, and how FSDP2 cuts them.

FSDP2 cuts the first dim of each tensor into ceil(size / ranks) rows and pads the last ranks, so every rank takes the
memory of the first one: with more ranks than rows some of it is lost. Experts are divided among the `ep` ranks first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt, prod
from typing import Literal

from s1pro.model.config import ModelConfig, TextConfig, VisionConfig
from s1pro.model.sizes import count_parameters
from s1pro.parallel.planner.request import Job, Layout

Unit = Literal["experts", "gate", "block", "embedding", "head", "decoder", "rope", "tower"]
WIDE_UNITS = frozenset({"gate", "head", "rope"})
"""Parameters that stay float32 in a bfloat16 network."""


@dataclass(frozen=True)
class Weight:
    """`count` equal tensors of one FSDP2 unit."""

    unit: Unit
    shape: tuple[int, ...]
    count: int = 1
    is_matrix: bool = False  # Muon takes it

    @property
    def numel(self) -> int:
        return self.count * prod(self.shape)

    def on_rank(self, layout: Layout) -> int:
        """Numbers on one rank, padding included."""
        rows, ranks = self.shape[0], layout.dp_shard
        if self.unit == "experts":
            rows, ranks = rows // layout.ep, layout.expert_shard
        return self.count * -(-rows // ranks) * prod(self.shape[1:])

    def value_bytes(self, job: Job) -> int:
        return 4 if self.unit in WIDE_UNITS else job.value_bytes


@lru_cache(maxsize=16)
def weights_of(config: ModelConfig) -> tuple[Weight, ...]:
    """Every trained tensor of the network."""
    found = list(_decoder(config.text))
    if config.vision is not None:
        found += _vision(config.vision)
    signals = count_parameters(config).time_series
    if signals:
        found.append(Weight("tower", (signals,)))  # as one piece: padding of its small tensors is left out
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Bytes of one rank. `gradients` are those of the last micro-batch; `accumulated` the float32 ones of masters."""

    parameters: int
    gradients: int
    accumulated: int
    optimizer: int


def shards(config: ModelConfig, job: Job, layout: Layout) -> Shards:
    """What lies on one rank between and during steps. Master weights count as optimizer."""
    parameters = accumulated = optimizer = 0
    for weight in weights_of(config):
        numel, size = weight.on_rank(layout), weight.value_bytes(job)
        moments = 4 if job.optimizer == "muon" and weight.is_matrix else 8
        parameters += numel * size
        optimizer += numel * (moments + (4 if size < 4 else 0))
        accumulated += numel * (4 if size < 4 else 0)
    return Shards(parameters=parameters, gradients=parameters, accumulated=accumulated, optimizer=optimizer)


def unit_numel(config: ModelConfig, unit: Unit) -> int:
    """Numbers of all units of one kind, on all ranks together."""
    return sum(weight.numel for weight in weights_of(config) if weight.unit == unit)


def _decoder(text: TextConfig) -> Iterator[Weight]:
    d, f, e = text.hidden_size, text.moe_intermediate_size, text.router.num_experts
    q, kv = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    layers, moe = text.num_hidden_layers, len(text.moe_layers)
    yield Weight("embedding", (text.vocab_size, d))
    yield Weight("block", (q, d), layers, is_matrix=True)
    yield Weight("block", (kv, d), 2 * layers, is_matrix=True)
    yield Weight("block", (d, q), layers, is_matrix=True)
    yield Weight("block", (d,), 2 * layers)
    yield Weight("block", (text.head_dim,), 2 * layers)
    if text.attention_bias:
        yield Weight("block", (q,), layers)
        yield Weight("block", (kv,), 2 * layers)
        yield Weight("block", (d,), layers)
    if moe:
        yield Weight("gate", (e, d), moe)
        yield Weight("experts", (e, 2 * f, d), moe, is_matrix=True)
        yield Weight("experts", (e, d, f), moe, is_matrix=True)
    if layers > moe:
        yield Weight("block", (text.intermediate_size, d), 2 * (layers - moe), is_matrix=True)
        yield Weight("block", (d, text.intermediate_size), layers - moe, is_matrix=True)
    yield Weight("decoder", (d,))
    if text.rope.fope and text.rope.learnable:
        kept = text.rope.kept_frequencies(text.head_dim)
        heads = (text.num_key_value_heads,) if text.rope.sep_head else ()
        yield Weight("rope", (*heads, kept, kept), 2)
    yield Weight("head", (text.vocab_size, d))


def _vision(vision: VisionConfig) -> list[Weight]:
    d, f = vision.hidden_size, vision.intermediate_size
    wide = d * vision.spatial_merge_size**2
    side = isqrt(vision.num_position_embeddings)
    patch = (vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
    matrices = [((3 * d, d), 1), ((d, d), 1), ((f, d), 1), ((d, f), 1)]
    vectors = [((3 * d,), 1), ((d,), 6), ((f,), 1)]  # biases; two layer norms
    return [
        Weight("tower", (d, *patch)),
        Weight("tower", (side * side, d)),
        *(Weight("tower", shape, count * vision.depth, is_matrix=True) for shape, count in matrices),
        *(Weight("tower", shape, count * vision.depth) for shape, count in vectors),
        Weight("tower", (d,), 3),  # bias of the patches, layer norm of the merger
        Weight("tower", (wide, wide), is_matrix=True),
        Weight("tower", (wide,)),
        Weight("tower", (vision.out_hidden_size, wide), is_matrix=True),
        Weight("tower", (vision.out_hidden_size,)),
    ]
