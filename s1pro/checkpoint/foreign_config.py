"""`config.json` of Qwen3-MoE and Qwen3-VL-MoE, read as our architecture.

Without FoPE and with one router group our decoder *is* a Qwen3 mixture, and the vision towers agree but for two things
that have no counterpart here:

* **deepstack**: features of early vision layers, added to the first decoder layers. Without them images are seen
  through the last layer only; whoever reads such a folder has to say that this is meant.
* **M-RoPE**: time, row and column as three positions. On text the three are equal and it is plain RoPE; tokens of an
  image get one position each, in their order, and the text behind it goes on from there.

Everything else of a file has to be known: a setting without counterpart is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1pro.base.errors import InputError
from s1pro.checkpoint.config_file import parse_config
from s1pro.checkpoint.config_keys import MODEL_TYPE, TEXT_TYPE, TOKENS, VISION_TYPE
from s1pro.model.config import ModelConfig

QWEN_MOE, QWEN_VL_MOE = "qwen3_moe", "qwen3_vl_moe"
_TEXT_TYPES = (QWEN_MOE, "qwen3_vl_moe_text")
_DEEPSTACK = "model.visual.deepstack_merger_list."
_NO_PLACEHOLDERS: dict[str, Any] = dict.fromkeys(TOKENS, -1)


@dataclass(frozen=True, kw_only=True)
class ForeignConfig:
    """A foreign configuration as ours.

    Attributes:
        tied: the head equals the embedding and may be missing.
        dropped: beginnings of the names of tensors without counterpart.
        notes: what is lost or changes its meaning, one sentence each.
    """

    config: ModelConfig
    tied: bool = False
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_any_config(data: Mapping[str, Any], *, where: str, drop_deepstack: bool = False) -> ForeignConfig:
    """Our architecture from a released, own, Qwen3-MoE or Qwen3-VL-MoE configuration.

    Raises:
        InputError: another model type, a setting without counterpart, or deepstack that was not given up explicitly.
    """
    kind = data.get("model_type")
    if kind == MODEL_TYPE:
        if drop_deepstack:
            raise InputError(f"{where}: --drop-deepstack has no effect: the model has none")
        return ForeignConfig(config=parse_config(data, where=where))
    if kind == QWEN_MOE:
        if drop_deepstack:
            raise InputError(f"{where}: --drop-deepstack has no effect: the model has none")
        return _text_only(data, where)
    if kind == QWEN_VL_MOE:
        return _with_vision(data, where, drop_deepstack)
    raise InputError(f"{where}: model_type is {kind!r:.60}; known are {MODEL_TYPE!r}, {QWEN_MOE!r} and {QWEN_VL_MOE!r}")


def _text_only(data: Mapping[str, Any], where: str) -> ForeignConfig:
    data = dict(data)
    tied = bool(data.pop("tie_word_embeddings", False))
    ours = {"model_type": MODEL_TYPE, "text_config": _text(data, where), **_NO_PLACEHOLDERS}
    return ForeignConfig(config=parse_config(ours, where=where), tied=tied)


def _with_vision(data: Mapping[str, Any], where: str, drop_deepstack: bool) -> ForeignConfig:
    parts = {name: data.get(name) for name in ("text_config", "vision_config")}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            raise InputError(f"{where}: {name} is missing")
    text_json, vision = dict(parts["text_config"] or {}), dict(parts["vision_config"] or {})
    text_json.pop("tie_word_embeddings", None)  # the outer one decides
    text = _text(text_json, f"{where}: text_config")
    layers = vision.pop("deepstack_visual_indexes", None) or []
    if layers and not drop_deepstack:
        raise InputError(
            f"{where}: the model adds features of the vision layers {layers} to early decoder layers (deepstack), "
            "which has no counterpart here; give --drop-deepstack to go without"
        )
    if drop_deepstack and not layers:
        raise InputError(f"{where}: --drop-deepstack has no effect: the model has none")
    vision.pop("rope_parameters", None)  # the axial turn of the tower has no settings here
    vision["model_type"] = VISION_TYPE
    tokens = {name: data[name] for name in TOKENS if data.get(name) is not None}
    ours = {"model_type": MODEL_TYPE, "text_config": text, "vision_config": vision, **tokens}
    notes = ["M-RoPE: every token, of images too, has one position, counted from 0; the same on text"]
    if layers:
        notes.append(f"deepstack: features of the vision layers {layers} no longer reach the decoder layers")
    return ForeignConfig(
        config=parse_config(ours, where=where),
        tied=bool(data.get("tie_word_embeddings", False)),
        dropped=(_DEEPSTACK,) if layers else (),
        notes=tuple(notes),
    )


def _text(data: dict[str, Any], where: str) -> dict[str, Any]:
    """A `text_config` in our schema."""
    data = {key: value for key, value in data.items() if key not in ("architectures", "quantization_config")}
    kind = data.pop("model_type", None)
    if kind not in _TEXT_TYPES:
        raise InputError(f"{where}: model_type is {kind!r:.60}, expected one of {', '.join(_TEXT_TYPES)}")
    if data.get("use_sliding_window"):
        raise InputError(f"{where}: use_sliding_window is set; attention with a window has no counterpart here")
    if data.get("num_experts") is None:
        data["num_experts"] = data.pop("num_local_experts", None)
    elif data.pop("num_local_experts", data["num_experts"]) != data["num_experts"]:
        raise InputError(f"{where}: num_experts and num_local_experts differ")
    data.setdefault("norm_topk_prob", False)  # what transformers takes for it
    if data.get("head_dim") is None and data.get("num_attention_heads"):
        data["head_dim"] = data.get("hidden_size", 0) // data["num_attention_heads"]
    for key in ("rope_scaling", "rope_parameters"):
        data[key] = _plain_rope(data.get(key), f"{where}: {key}")
    return {**data, "model_type": TEXT_TYPE}


def _plain_rope(rope: Any, where: str) -> dict[str, Any]:
    """The settings without those of M-RoPE; anything but plain rotary positions is an error."""
    if rope is None:
        return {}
    if not isinstance(rope, Mapping):
        raise InputError(f"{where}: expected an object, got {rope!r:.60}")
    kept = {key: value for key, value in rope.items() if key not in ("mrope_section", "mrope_interleaved")}
    kind = kept.get("rope_type", kept.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise InputError(f"{where}: rope_type is {kind!r}; only 'default' exists here")
    return {**{key: value for key, value in kept.items() if key != "type"}, "rope_type": "default"}
