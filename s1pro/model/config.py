"""Configuration of the network: frozen dataclasses beside what they configure.

These classes describe *what the network is*. How it is stored on disk (the released `config.json` schema) is
`checkpoint.config_file`; how it is trained or served is configured in `train` and `serve`.

Sources: released configuration (`config.json` of Intern-S1-Pro), paper sections on grouped routing and FoPE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

GateDtype = Literal["float32", "model"]
"""Arithmetic of the router's gate GEMM: always float32, or the dtype of the hidden states."""


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """Grouped top-k router (paper: grouped routing and straight-through estimator).

    Attributes:
        num_experts: E.
        top_k: K, experts per token over all groups.
        num_groups: G; top_k / num_groups experts are taken in each group. 1 is ordinary top-k.
        norm_topk_prob: divide the K weights by their sum plus `renorm_eps`.
        straight_through: gradient of the dense softmax with `temperature` instead of the sparse one.
        gate_dtype, weight_dtype: "float32" (default, equal on trainer and engine) or "model".
    """

    num_experts: int
    top_k: int
    num_groups: int = 1
    norm_topk_prob: bool = True
    straight_through: bool = False
    temperature: float = 1.0
    gate_dtype: GateDtype = "float32"
    weight_dtype: GateDtype = "float32"
    renorm_eps: float = 1e-20

    def __post_init__(self) -> None:
        e, k, g = self.num_experts, self.top_k, self.num_groups
        _require(min(e, k, g) >= 1, f"num_experts, top_k and num_groups must be positive, got {e}, {k}, {g}")
        _require(e % g == 0, f"num_experts={e} is not divisible by router_n_groups={g}")
        _require(k % g == 0, f"num_experts_per_tok={k} is not divisible by router_n_groups={g}")
        _require(k // g <= e // g, f"num_experts_per_tok={k} exceeds num_experts={e}")
        _require(self.temperature > 0, f"router temperature must be positive, got {self.temperature}")
        _require(self.renorm_eps >= 0, f"renorm_eps must not be negative, got {self.renorm_eps}")

    @property
    def experts_per_group(self) -> int:
        return self.num_experts // self.num_groups

    @property
    def top_k_per_group(self) -> int:
        return self.top_k // self.num_groups


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary positions, plain or with Fourier mixing (FoPE).

    FoPE is on when `fope` is true: sines and cosines of the kept frequencies are mixed by coefficient matrices and
    the frequencies that do not complete one period within `max_position_embeddings` are replaced by `pad_value`.

    Attributes:
        theta: base of the frequencies.
        max_position_embeddings: **model identity** (decides how many frequencies are kept), not a serving limit.
        sep_head: one coefficient matrix per KV head, else one for all.
        num_inv_freq: number of kept frequencies; None derives it from theta and max_position_embeddings.
        init_factor: gain of the Xavier noise added to the identity at initialisation.
        pad_value: value of sine *and* cosine in the dropped pairs; released checkpoints depend on 1.
        learnable: coefficients are parameters (trained) instead of buffers (frozen, as released).
    """

    theta: float = 10000.0
    max_position_embeddings: int = 4096
    fope: bool = True
    sep_head: bool = True
    num_inv_freq: int | None = None
    init_factor: float = 0.5
    pad_value: float = 1.0
    learnable: bool = False

    def __post_init__(self) -> None:
        _require(self.theta > 1, f"rope_theta must be greater than 1, got {self.theta}")
        _require(self.max_position_embeddings >= 1, f"max_position_embeddings={self.max_position_embeddings} < 1")
        _require(self.num_inv_freq is None or self.num_inv_freq >= 1, f"num_inv_freq={self.num_inv_freq} < 1")

    def kept_frequencies(self, head_dim: int) -> int:
        """D, the number of frequencies that FoPE keeps of the head_dim / 2 (spec: strictly above 2 pi / max_pos)."""
        half = head_dim // 2
        if not self.fope:
            return half
        if self.num_inv_freq is not None:
            _require(self.num_inv_freq <= half, f"num_inv_freq={self.num_inv_freq} exceeds head_dim / 2 = {half}")
            return self.num_inv_freq
        threshold = 2 * math.pi / self.max_position_embeddings
        kept = sum(self.theta ** (-2 * i / head_dim) > threshold for i in range(half))
        _require(
            kept >= 1, f"no frequency survives: max_position_embeddings={self.max_position_embeddings} is too small"
        )
        return kept


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The decoder. Field names are those of the released `text_config`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    moe_intermediate_size: int
    router: RouterConfig
    rope: RopeConfig = field(default_factory=RopeConfig)
    intermediate_size: int = 0
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim"):
            _require(getattr(self, name) >= 1, f"{name} must be positive, got {getattr(self, name)}")
        heads, kv = self.num_attention_heads, self.num_key_value_heads
        _require(
            kv >= 1 and heads % kv == 0, f"num_attention_heads={heads} is not a multiple of num_key_value_heads={kv}"
        )
        _require(self.head_dim % 2 == 0, f"head_dim must be even, got {self.head_dim}")
        _require(self.decoder_sparse_step >= 1, f"decoder_sparse_step must be positive, got {self.decoder_sparse_step}")
        bad = [layer for layer in self.mlp_only_layers if not 0 <= layer < self.num_hidden_layers]
        _require(not bad, f"mlp_only_layers {bad} do not exist in {self.num_hidden_layers} layers")
        dense = self.num_hidden_layers - len(self.moe_layers)
        _require(not dense or self.intermediate_size >= 1, "dense layers need a positive intermediate_size")

    def is_moe_layer(self, layer: int) -> bool:
        """Whether layer has experts (released rule: not listed, and a multiple of the sparse step counted from 1)."""
        return layer not in self.mlp_only_layers and (layer + 1) % self.decoder_sparse_step == 0

    @property
    def moe_layers(self) -> tuple[int, ...]:
        return tuple(layer for layer in range(self.num_hidden_layers) if self.is_moe_layer(layer))


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The native-resolution vision tower. Field names are those of the released `vision_config`."""

    depth: int = 24
    hidden_size: int = 1024
    num_heads: int = 16
    intermediate_size: int = 4096
    in_channels: int = 3
    patch_size: int = 16
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    num_position_embeddings: int = 2304
    out_hidden_size: int = 4096
    hidden_act: str = "gelu_pytorch_tanh"
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        _require(
            self.hidden_size % self.num_heads == 0,
            f"vision hidden_size={self.hidden_size} / num_heads={self.num_heads}",
        )
        side = math.isqrt(self.num_position_embeddings)
        _require(
            side * side == self.num_position_embeddings,
            f"num_position_embeddings={self.num_position_embeddings} is no square",
        )
        _require(
            self.hidden_act == "gelu_pytorch_tanh",
            f"vision hidden_act={self.hidden_act!r}: only gelu_pytorch_tanh exists",
        )


@dataclass(frozen=True, kw_only=True)
class TimeSeriesConfig:
    """The time-series module. Field names are those of the released `ts_config`; the last four are ours.

    Attributes:
        ts_adapt_in_dim: width of a frame: two neighbouring patches of half this width.
        ts_adapt_out_dim, ts_hidden_dim: width between encoder and projector, under two names.
        max_source_positions: tokens that one pass of the encoder can place; longer signals are read in windows.
        subsampling_attention_heads, subsampling_ffn_dim: of the one layer that reads single patches.
        separate_channels: each channel of a signal is read by itself; false interleaves them, as released.
        initializer_range: of encoder and projector; the layers before them are drawn by their fan-in.
    """

    d_model: int = 768
    encoder_layers: int = 17
    encoder_attention_heads: int = 8
    encoder_ffn_dim: int = 3072
    max_source_positions: int = 1500
    num_mel_bins: int = 80
    ts_adapt_in_dim: int = 256
    ts_adapt_out_dim: int = 1024
    ts_hidden_dim: int = 1024
    out_hidden_size: int = 4096
    activation_function: str = "gelu"
    scale_embedding: bool = False
    subsampling_attention_heads: int = 8
    subsampling_ffn_dim: int = 2048
    separate_channels: bool = False
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        sizes = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "max_source_positions")
        for name in (*sizes, "num_mel_bins", "ts_hidden_dim", "subsampling_attention_heads", "subsampling_ffn_dim"):
            _require(getattr(self, name) >= 1, f"time-series {name} must be positive, got {getattr(self, name)}")
        heads, width = self.subsampling_attention_heads, self.ts_adapt_in_dim
        _require(
            width >= 4 and width % (2 * heads) == 0 and width % 4 == 0,
            f"ts_adapt_in_dim={width} must be a multiple of 4 and of twice subsampling_attention_heads={heads}",
        )
        _require(
            self.d_model % self.encoder_attention_heads == 0,
            f"d_model={self.d_model} is not a multiple of encoder_attention_heads={self.encoder_attention_heads}",
        )
        _require(
            self.ts_hidden_dim == self.ts_adapt_out_dim,
            f"ts_hidden_dim={self.ts_hidden_dim} differs from ts_adapt_out_dim={self.ts_adapt_out_dim}",
        )
        _require(
            self.activation_function == "gelu",
            f"time-series activation_function={self.activation_function!r}: only gelu exists",
        )
        _require(not self.scale_embedding, "time-series scale_embedding must be false; the encoder never scales")

    @property
    def patch_width(self) -> int:
        """Width of one patch, half a frame."""
        return self.ts_adapt_in_dim // 2


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole network: a decoder, optionally towers for other media, and the ids of the placeholder tokens.

    The ids of a medium without a tower mean nothing; those of signals are not even written.
    """

    text: TextConfig
    vision: VisionConfig | None = None
    time_series: TimeSeriesConfig | None = None
    image_token_id: int = 151655
    video_token_id: int = 151656
    vision_start_token_id: int = 151652
    vision_end_token_id: int = 151653
    ts_token_id: int = 151685
    ts_start_token_id: int = 151683
    ts_end_token_id: int = 151684

    def __post_init__(self) -> None:
        for kind, tower in (("vision", self.vision), ("time-series", self.time_series)):
            if tower is not None:
                out, hidden = tower.out_hidden_size, self.text.hidden_size
                _require(out == hidden, f"{kind} out_hidden_size={out} differs from text hidden_size={hidden}")
