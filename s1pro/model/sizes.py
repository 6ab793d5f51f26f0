"""Sizes of an architecture without building it: parameters, floating-point operations, cache bytes.

Everything is arithmetic on the configuration; a test counts a model on the meta device and compares.
"""

from __future__ import annotations

from dataclasses import dataclass

from s1pro.model.config import ModelConfig, TextConfig, TimeSeriesConfig, VisionConfig


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Parameter counts. `active` is what one text token uses: attention, gate, its K experts, norms and the head."""

    text: int
    vision: int
    active: int
    experts: int
    embedding: int
    time_series: int = 0

    @property
    def total(self) -> int:
        return self.text + self.vision + self.time_series


def count_parameters(config: ModelConfig) -> Sizes:
    """Parameters of every part (frozen FoPE coefficients are buffers and do not count)."""
    text = config.text
    expert = 3 * text.hidden_size * text.moe_intermediate_size
    moe = len(text.moe_layers)
    dense = text.num_hidden_layers - moe
    shared = text.num_hidden_layers * _attention_and_norms(text) + text.hidden_size
    shared += moe * text.router.num_experts * text.hidden_size
    shared += dense * 3 * text.hidden_size * text.intermediate_size
    embedding = text.vocab_size * text.hidden_size
    experts = moe * text.router.num_experts * expert
    return Sizes(
        text=shared + experts + 2 * embedding + _learned_rope(text),
        vision=0 if config.vision is None else _vision(config.vision),
        active=shared + moe * text.router.top_k * expert + embedding,
        experts=experts,
        embedding=embedding,
        time_series=0 if config.time_series is None else _time_series(config.time_series),
    )


def forward_flops_per_token(config: ModelConfig, context: float) -> float:
    """Multiply-adds times two of one token's forward pass that sees `context` tokens on average. Training: 3 times."""
    text = config.text
    attention = 4 * text.num_hidden_layers * text.num_attention_heads * text.head_dim * context
    return 2 * count_parameters(config).active + attention


def cache_bytes_per_token(config: ModelConfig, bytes_per_value: int = 2) -> int:
    """Keys and values of one token over all layers."""
    text = config.text
    return 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * bytes_per_value


def routing_bytes_per_token(config: ModelConfig) -> int:
    """One uint16 per expert and layer: the record that rollout router replay keeps."""
    return 2 * len(config.text.moe_layers) * config.text.router.top_k


def _attention_and_norms(text: TextConfig) -> int:
    q, kv = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    weights = text.hidden_size * (q + 2 * kv) + q * text.hidden_size
    biases = q + 2 * kv + text.hidden_size if text.attention_bias else 0
    return weights + biases + 2 * text.head_dim + 2 * text.hidden_size


def _learned_rope(text: TextConfig) -> int:
    if not (text.rope.fope and text.rope.learnable):
        return 0
    heads = text.num_key_value_heads if text.rope.sep_head else 1
    return 2 * heads * text.rope.kept_frequencies(text.head_dim) ** 2


def _vision(vision: VisionConfig) -> int:
    d, f = vision.hidden_size, vision.intermediate_size
    block = 4 * d * d + 4 * d + 2 * d * f + f + d + 4 * d
    merged = d * vision.spatial_merge_size**2
    merger = 2 * d + merged * merged + merged + merged * vision.out_hidden_size + vision.out_hidden_size
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    return vision.depth * block + merger + patch * d + d + vision.num_position_embeddings * d


def _time_series(series: TimeSeriesConfig) -> int:
    patch, d = series.patch_width, series.d_model
    front = 6 * patch + 4 * (patch * patch + patch) + _mlp(patch, series.subsampling_ffn_dim) + 4 * patch
    entry = (series.ts_adapt_in_dim + 1) * series.num_mel_bins + (3 * series.num_mel_bins + 1) * d + (3 * d + 1) * d
    layer = 4 * d * d + 3 * d + _mlp(d, series.encoder_ffn_dim) + 4 * d
    encoder = entry + series.max_source_positions * d + series.encoder_layers * layer + 2 * d
    adapted, out = series.ts_adapt_out_dim, series.out_hidden_size
    projector = 2 * adapted + (adapted + 1) * out + (out + 1) * out
    return front + encoder + (d + 1) * adapted + projector


def _mlp(width: int, inner: int) -> int:
    return 2 * width * inner + width + inner
