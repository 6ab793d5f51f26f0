"""Architectures by name.

| name | what it is for |
|---|---|
| `tiny` | unit tests: at most 0.3 M parameters, 8 experts, top-2, seconds |
| `demo` | the demo: at most 3.5 M parameters, 8 experts, top-2; later expanded to 32 experts in 8 groups |
| `demo-media` | the same with small towers for pictures, videos and signals |
| `bench` | measurements against transformers: hidden 256, 6 layers, 64 experts in 8 groups, top-8 |
| `30b-a3b`, `235b-a22b` | geometry of the public Qwen3-MoE models |
| `intern-s1-pro` | the released trillion-parameter model: 916.6 B text parameters, 21.7 B active |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, TextConfig, TimeSeriesConfig, VisionConfig


def tiny(vocab_size: int = 512) -> ModelConfig:
    """Two layers of width 64."""
    text = TextConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        moe_intermediate_size=64,
        router=RouterConfig(num_experts=8, top_k=2, num_groups=2),
        rope=RopeConfig(theta=10000.0, max_position_embeddings=1024),
    )
    return _own(text)


def demo(vocab_size: int = 2048) -> ModelConfig:
    """Three layers of width 96 for the demo: E = 8, K = 2 in one group, as the model before expansion.

    0.8 M parameters with the demo's vocabulary, 2.1 M after expansion to 32 experts. In the same minute a model of
    twice the size sees half the tokens and answers less.
    """
    text = TextConfig(
        vocab_size=vocab_size,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        moe_intermediate_size=64,
        router=RouterConfig(num_experts=8, top_k=2, num_groups=1),
        rope=RopeConfig(theta=10000.0, max_position_embeddings=2048),
    )
    return _own(text)


def bench(vocab_size: int = 4096) -> ModelConfig:
    """The configuration of the published comparisons (`bench/`)."""
    text = TextConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        moe_intermediate_size=128,
        router=RouterConfig(num_experts=64, top_k=8, num_groups=8),
        rope=RopeConfig(theta=10000.0, max_position_embeddings=4096),
    )
    return _own(text)


def qwen3_moe_30b_a3b() -> ModelConfig:
    """Qwen3-30B-A3B: plain rotary positions, ordinary top-k."""
    return ModelConfig(text=_qwen3_moe(hidden=2048, layers=48, heads=32, width=768))


def qwen3_moe_235b_a22b() -> ModelConfig:
    """Qwen3-235B-A22B, the geometry from which the trillion-parameter model grew (paper: expert expansion)."""
    return ModelConfig(text=_qwen3_moe(hidden=4096, layers=94, heads=64, width=1536))


def intern_s1_pro() -> ModelConfig:
    """The released Intern-S1-Pro (`config.json`, February 2026)."""
    text = TextConfig(
        vocab_size=155008,
        hidden_size=4096,
        num_hidden_layers=94,
        num_attention_heads=64,
        num_key_value_heads=4,
        head_dim=128,
        moe_intermediate_size=1536,
        intermediate_size=12288,
        router=RouterConfig(num_experts=512, top_k=8, num_groups=8),
        rope=RopeConfig(theta=5_000_000.0, max_position_embeddings=262144),
        bos_token_id=151643,
        eos_token_id=151645,
    )
    return ModelConfig(text=text, vision=VisionConfig())


def small_vision(hidden_size: int) -> VisionConfig:
    """A vision tower for small models: two layers of width 64; patches, merging and positions as released."""
    return VisionConfig(depth=2, hidden_size=64, num_heads=4, intermediate_size=128, out_hidden_size=hidden_size)


def small_time_series(hidden_size: int) -> TimeSeriesConfig:
    """A time-series module for small models: patches of width 64, two layers of width 64; strides as released.

    Unlike the release it keeps channels apart: it is trained here.
    """
    return TimeSeriesConfig(
        d_model=64,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=128,
        max_source_positions=1500,
        num_mel_bins=32,
        ts_adapt_in_dim=128,
        ts_adapt_out_dim=64,
        ts_hidden_dim=64,
        out_hidden_size=hidden_size,
        subsampling_attention_heads=4,
        subsampling_ffn_dim=128,
        separate_channels=True,
    )


def with_media(config: ModelConfig, **token_ids: int) -> ModelConfig:
    """`config` with both small towers.

    Args:
        token_ids: placeholders by their field (`image_token_id` …). Without them training takes those of its tokenizer.
    """
    hidden = config.text.hidden_size
    ids = dict.fromkeys(("ts_token_id", "ts_start_token_id", "ts_end_token_id"), -1) | token_ids
    towers = {"vision": small_vision(hidden), "time_series": small_time_series(hidden)}
    return replace(config, **towers, **ids)  # type: ignore[arg-type]


def demo_media(vocab_size: int = 2048) -> ModelConfig:
    """`demo` with both towers. Patches are 8 pixels wide, so that a picture of 64 x 64 pixels is 16 tokens."""
    config = with_media(demo(vocab_size))
    assert config.vision is not None
    return replace(config, vision=replace(config.vision, patch_size=8, num_position_embeddings=256))


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "tiny": tiny,
    "demo": demo,
    "demo-media": demo_media,
    "bench": bench,
    "30b-a3b": qwen3_moe_30b_a3b,
    "235b-a22b": qwen3_moe_235b_a22b,
    "intern-s1-pro": intern_s1_pro,
}


def _own(text: TextConfig) -> ModelConfig:
    """Own small models have small vocabularies: their placeholder ids come from their tokenizer, none by default."""
    return ModelConfig(
        text=text, image_token_id=-1, video_token_id=-1, vision_start_token_id=-1, vision_end_token_id=-1
    )


def _qwen3_moe(*, hidden: int, layers: int, heads: int, width: int) -> TextConfig:
    return TextConfig(
        vocab_size=151936,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=4,
        head_dim=128,
        moe_intermediate_size=width,
        router=RouterConfig(num_experts=128, top_k=8),
        rope=RopeConfig(theta=1_000_000.0, max_position_embeddings=40960, fope=False),
    )
