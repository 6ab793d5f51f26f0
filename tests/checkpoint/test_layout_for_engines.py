"""The folders that we write have what the loaders of vLLM, LMDeploy and SGLang ask for.

None of the three runs here. What they ask for was read in their sources (vLLM `model_executor/models/interns1_pro.py`,
LMDeploy `pytorch/models/interns1_pro.py` and `interns1_pro_ts.py`, SGLang `srt/models/interns1pro.py`, all of 2026) and
stands below as tables: names of tensors with their shapes in terms of `config.json`, and the fields of `config.json`
that their constructors read. All three rename `model.language_model.*` and `model.visual.*` and join q, k, v and
gate, up by themselves; experts are taken one by one, or fused as [E, D, 2F] and [E, F, D].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from s1pro.checkpoint.released import save_network
from s1pro.model.network import Network
from s1pro.model.presets import tiny, with_media

TEXT_LAYER = {
    "input_layernorm.weight": ("hidden_size",),
    "post_attention_layernorm.weight": ("hidden_size",),
    "self_attn.q_norm.weight": ("head_dim",),
    "self_attn.k_norm.weight": ("head_dim",),
    "self_attn.q_proj.weight": ("num_attention_heads * head_dim", "hidden_size"),
    "self_attn.k_proj.weight": ("num_key_value_heads * head_dim", "hidden_size"),
    "self_attn.v_proj.weight": ("num_key_value_heads * head_dim", "hidden_size"),
    "self_attn.o_proj.weight": ("hidden_size", "num_attention_heads * head_dim"),
    "mlp.gate.weight": ("num_experts", "hidden_size"),
}
EXPERT = {
    "gate_proj.weight": ("moe_intermediate_size", "hidden_size"),
    "up_proj.weight": ("moe_intermediate_size", "hidden_size"),
    "down_proj.weight": ("hidden_size", "moe_intermediate_size"),
}
FUSED_EXPERTS = {
    "mlp.experts.gate_up_proj": ("num_experts", "hidden_size", "2 * moe_intermediate_size"),
    "mlp.experts.down_proj": ("num_experts", "moe_intermediate_size", "hidden_size"),
}
TEXT = {
    "lm_head.weight": ("vocab_size", "hidden_size"),
    "model.language_model.embed_tokens.weight": ("vocab_size", "hidden_size"),
    "model.language_model.norm.weight": ("hidden_size",),
    # FoPE: one matrix per key/value head, split over tensor-parallel ranks on the first dim
    "model.language_model.rotary_emb.cos_coef": ("num_key_value_heads", "num_inv_freq", "num_inv_freq"),
    "model.language_model.rotary_emb.sin_coef": ("num_key_value_heads", "num_inv_freq", "num_inv_freq"),
}
VISION_BLOCK = {
    "norm1.weight": ("hidden_size",),
    "norm1.bias": ("hidden_size",),
    "norm2.weight": ("hidden_size",),
    "norm2.bias": ("hidden_size",),
    "attn.qkv.weight": ("3 * hidden_size", "hidden_size"),
    "attn.qkv.bias": ("3 * hidden_size",),
    "attn.proj.weight": ("hidden_size", "hidden_size"),
    "attn.proj.bias": ("hidden_size",),
    "mlp.linear_fc1.weight": ("intermediate_size", "hidden_size"),
    "mlp.linear_fc1.bias": ("intermediate_size",),
    "mlp.linear_fc2.weight": ("hidden_size", "intermediate_size"),
    "mlp.linear_fc2.bias": ("hidden_size",),
}
MERGED = "spatial_merge_size * spatial_merge_size * hidden_size"
VISION = {
    "patch_embed.proj.weight": ("hidden_size", "in_channels", "temporal_patch_size", "patch_size", "patch_size"),
    "patch_embed.proj.bias": ("hidden_size",),
    "pos_embed.weight": ("num_position_embeddings", "hidden_size"),
    "merger.norm.weight": ("hidden_size",),
    "merger.norm.bias": ("hidden_size",),
    "merger.linear_fc1.weight": (MERGED, MERGED),
    "merger.linear_fc1.bias": (MERGED,),
    "merger.linear_fc2.weight": ("out_hidden_size", MERGED),
    "merger.linear_fc2.bias": ("out_hidden_size",),
}
# Read by LMDeploy alone; vLLM and SGLang know no such module (docs/serving.md).
TIME_SERIES_ATTENTION = (
    "q_proj.weight",
    "q_proj.bias",
    "k_proj.weight",
    "v_proj.weight",
    "v_proj.bias",
    "out_proj.weight",
    "out_proj.bias",
)
TIME_SERIES = {
    "encoder_embed.conv.weight": ("ts_hidden", "1", "5"),
    "encoder.conv1.weight": ("d_model", "num_mel_bins", "3"),
    "encoder.conv2.weight": ("d_model", "d_model", "3"),
    "encoder.embed_positions.weight": ("max_source_positions", "d_model"),
    "encoder.adapt_in.weight": ("num_mel_bins", "ts_adapt_in_dim"),
    "encoder.adapt_out.weight": ("ts_adapt_out_dim", "d_model"),
    "encoder.layer_norm.weight": ("d_model",),
    "projector.layer_norm.weight": ("ts_hidden_dim",),
    "projector.linear_1.weight": ("out_hidden_size", "ts_hidden_dim"),
    "projector.linear_2.weight": ("out_hidden_size", "out_hidden_size"),
    **{f"encoder.layers.{{i}}.self_attn.{name}": None for name in TIME_SERIES_ATTENTION},
    **{
        f"encoder.layers.{{i}}.{name}.{kind}": None
        for name in ("fc1", "fc2", "self_attn_layer_norm", "final_layer_norm")
        for kind in ("weight", "bias")
    },
}

FIELDS = {
    "vllm": {
        "": (
            "architectures",
            "model_type",
            "text_config",
            "vision_config",
            "image_token_id",
            "video_token_id",
            "vision_start_token_id",
            "vision_end_token_id",
            "tie_word_embeddings",
        ),
        "text_config": (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "rms_norm_eps",
            "attention_bias",
            "hidden_act",
            "intermediate_size",
            "moe_intermediate_size",
            "num_experts",
            "num_experts_per_tok",
            "norm_topk_prob",
            "decoder_sparse_step",
            "mlp_only_layers",
            "router_n_groups",
            "max_position_embeddings",
            "rope_theta",
            "rope_scaling",
        ),
        "vision_config": (
            "depth",
            "hidden_size",
            "num_heads",
            "intermediate_size",
            "in_channels",
            "patch_size",
            "temporal_patch_size",
            "spatial_merge_size",
            "num_position_embeddings",
            "out_hidden_size",
            "hidden_act",
        ),
    },
    "sglang": {
        "": ("architectures", "model_type", "text_config", "vision_config"),
        "text_config": (
            "rope_theta",
            "rope_scaling",
            "max_position_embeddings",
            "head_dim",
            "rms_norm_eps",
            "attention_bias",
            "router_n_groups",
            "num_experts_per_tok",
            "norm_topk_prob",
            "num_hidden_layers",
        ),
    },
    "lmdeploy": {
        "": (
            "architectures",
            "model_type",
            "text_config",
            "vision_config",
            "tie_word_embeddings",
            "ts_config",
            "ts_token_id",
        ),
        "text_config": (
            "num_experts",
            "num_experts_per_tok",
            "num_hidden_layers",
            "hidden_size",
            "vocab_size",
            "router_n_groups",
        ),
        "ts_config": (
            "d_model",
            "num_mel_bins",
            "max_source_positions",
            "scale_embedding",
            "encoder_layers",
            "ts_adapt_in_dim",
            "ts_adapt_out_dim",
            "ts_hidden_dim",
            "out_hidden_size",
            "activation_function",
            "encoder_attention_heads",
            "encoder_ffn_dim",
        ),
    },
}


def size(formula: str, config: dict[str, Any]) -> int:
    """A product of numbers and fields."""
    product = 1
    for factor in formula.split(" * "):
        product *= int(factor) if factor.isdigit() else int(config[factor])
    return product


def text_tensors(config: dict[str, Any], *, fused: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from TEXT.items()
    for layer in range(config["num_hidden_layers"]):
        stem = f"model.language_model.layers.{layer}."
        for name, shape in {**TEXT_LAYER, **(FUSED_EXPERTS if fused else {})}.items():
            yield stem + name, shape
        for expert in range(0 if fused else config["num_experts"]):
            for name, shape in EXPERT.items():
                yield f"{stem}mlp.experts.{expert}.{name}", shape


def vision_tensors(config: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, shape in VISION.items():
        yield f"model.visual.{name}", shape
    for block in range(config["depth"]):
        for name, shape in VISION_BLOCK.items():
            yield f"model.visual.blocks.{block}.{name}", shape


def stored(folder: Path) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return shapes


@pytest.fixture(scope="module", params=["per_expert", "fused"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / request.param
    network = Network(with_media(tiny(160), image_token_id=150, video_token_id=151, ts_token_id=152))
    return save_network(network, path, layout=request.param)


def test_every_tensor_that_the_loaders_ask_for_is_there_and_none_that_they_do_not_know(folder: Path) -> None:
    config, shapes = json.loads((folder / "config.json").read_text()), stored(folder)
    text = {**config["text_config"], **config["text_config"]["rope_scaling"]}
    asked = {
        **{name: [size(f, text) for f in shape] for name, shape in text_tensors(text, fused=folder.name == "fused")},
        **{
            name: [size(f, config["vision_config"]) for f in shape]
            for name, shape in vision_tensors(config["vision_config"])
        },
    }
    known = {name: shape for name, shape in shapes.items() if not name.startswith("model.time_series.")}
    assert known == asked


def test_the_time_series_module_has_the_names_of_lmdeploy(folder: Path) -> None:
    config, shapes = json.loads((folder / "config.json").read_text()), stored(folder)
    own = {
        name.removeprefix("model.time_series."): s
        for name, s in shapes.items()
        if name.startswith("model.time_series.")
    }
    series = {**config["ts_config"], "ts_hidden": own["encoder_embed.conv.bias"][0]}
    for name, formulas in TIME_SERIES.items():
        for layer in range(series["encoder_layers"] if "{i}" in name else 1):
            shape = own.pop(name.format(i=layer))
            assert formulas is None or shape == [size(formula, series) for formula in formulas], name
    rest = re.compile(
        r"(?:encoder_embed\.conv|encoder\.conv[12]|encoder\.adapt_(?:in|out)|encoder\.layer_norm|projector\.\w+)\.bias"
        r"|encoder_embed\.transformer_encoder\.layers\.\d+\.(?:self_attn\.(?:in_proj_(?:weight|bias)|out_proj\.(?:weight|bias))"
        r"|linear[12]\.(?:weight|bias)|norm[12]\.(?:weight|bias))"
    )  # torch's own TransformerEncoderLayer, and the biases of the table
    assert [name for name in own if rest.fullmatch(name) is None] == []


@pytest.mark.parametrize("engine", FIELDS)
def test_every_field_that_the_constructors_read_is_there(folder: Path, engine: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    for section, names in FIELDS[engine].items():
        present = config[section] if section else config
        assert [name for name in names if name not in present] == [], (engine, section)
    assert config["architectures"] == ["InternS1ProForConditionalGeneration"]
    assert config["model_type"] == "interns1_pro"
    rope = config["text_config"]["rope_scaling"]
    assert {"fope_init_factor", "fope_sep_head", "num_inv_freq"} <= rope.keys()  # any of them set switches FoPE on
    assert any(rope[key] is not None for key in ("fope_init_factor", "fope_sep_head", "num_inv_freq"))
    groups, chosen = config["text_config"]["router_n_groups"], config["text_config"]["num_experts_per_tok"]
    assert chosen % groups == 0 and config["text_config"]["num_experts"] % groups == 0
    assert "deepstack_visual_indexes" not in config["vision_config"]  # all three: no deepstack
