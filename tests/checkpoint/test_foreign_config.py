"""Configurations as Qwen3 models are published with (transformers 4 schema), without weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.checkpoint.config_file import config_json, parse_config
from s1pro.checkpoint.foreign_config import read_any_config
from s1pro.model.config import VisionConfig
from s1pro.model.presets import qwen3_moe_30b_a3b, qwen3_moe_235b_a22b

TEXT: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN = {
    **TEXT,
    "architectures": ["Qwen3MoeForCausalLM"],
    "tie_word_embeddings": False,
    "transformers_version": "4.51.0",
}
VISION = {
    "deepstack_visual_indexes": [8, 16, 24],
    "depth": 27,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "in_channels": 3,
    "initializer_range": 0.02,
    "intermediate_size": 4304,
    "model_type": "qwen3_vl_moe",
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "out_hidden_size": 2048,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
MROPE = {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}
QWEN_VL = {
    "architectures": ["Qwen3VLMoeForConditionalGeneration"],
    "image_token_id": 151655,
    "model_type": "qwen3_vl_moe",
    "text_config": {**TEXT, "model_type": "qwen3_vl_moe_text", "rope_scaling": MROPE, "rope_theta": 5000000},
    "tie_word_embeddings": False,
    "video_token_id": 151656,
    "vision_config": VISION,
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
}


def read(data: dict[str, Any], **options: bool) -> Any:
    return read_any_config(data, where="config.json", **options)


@pytest.mark.parametrize(
    ("changes", "preset"),
    [
        ({}, qwen3_moe_30b_a3b()),
        (
            {"hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64, "moe_intermediate_size": 1536},
            qwen3_moe_235b_a22b(),
        ),
    ],
    ids=["30b-a3b", "235b-a22b"],
)
def test_published_mixtures_are_the_presets(changes: dict[str, Any], preset: Any) -> None:
    found = read({**QWEN, **changes})
    text = replace(preset.text, bos_token_id=151643, eos_token_id=151645, intermediate_size=6144)
    assert found.config.text == text
    assert (found.notes, found.dropped, found.tied) == ((), (), False)


def test_a_published_vision_language_model() -> None:
    found = read(QWEN_VL, drop_deepstack=True)
    fields = {key: value for key, value in VISION.items() if key not in ("deepstack_visual_indexes", "model_type")}
    assert found.config.vision == VisionConfig(**fields)
    assert found.config.text.rope.theta == 5000000
    assert not found.config.text.rope.fope
    assert found.dropped == ("model.visual.deepstack_merger_list.",)
    assert [note.partition(":")[0] for note in found.notes] == ["M-RoPE", "deepstack"]
    assert parse_config(config_json(found.config)) == found.config  # it can be written in the released schema


@pytest.mark.parametrize("key", ["text_config", "vision_config"])
def test_missing_parts(key: str) -> None:
    with pytest.raises(InputError, match=f"{key} is missing"):
        read({**QWEN_VL, key: None})


@pytest.mark.parametrize("data", [QWEN, {**QWEN_VL, "vision_config": {**VISION, "deepstack_visual_indexes": []}}])
def test_giving_up_deepstack_that_is_not_there(data: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no effect"):
        read(data, drop_deepstack=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": [1]}, r"rope_scaling: expected an object"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
        ({"rope_scaling": {"rope_type": "default", "beta_fast": 1}}, "unknown key 'beta_fast'"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'"),
        ({"num_experts": None}, "num_experts is missing"),
    ],
)
def test_unknown_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read({**QWEN, **changes})
