"""`config.json` in the released schema, read into `ModelConfig` and written back.

* Every key is known, or belongs to a foreign tool and is listed in `FOREIGN`, or is an error that names file, key and
  value: a setting that has no effect would otherwise pass in silence.
* Settings that the released schema does not have (router numerics, FoPE pad value …) are written only where they differ
  from the released behaviour, so a released configuration comes back in the released schema.
* `num_inv_freq` is stored resolved: how many frequencies FoPE keeps is part of a trained model and must not follow a
  later change of `max_position_embeddings`.

Source: released `config.json` (February 2026), spec 1.1; readers also accept `rope_parameters` of transformers 5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError, no_folder
from s1pro.checkpoint.config_keys import (
    ARCHITECTURE,
    ARCHITECTURES,
    FIXED,
    FOREIGN,
    MODEL_TYPE,
    PARTS,
    ROPE_EXTRAS,
    ROUTER_EXTRAS,
    TEXT_FIELDS,
    TEXT_TYPE,
    TOKENS,
    TS_EXTRAS,
    TS_FIELDS,
    TS_FOREIGN,
    TS_TOKENS,
    TS_TYPE,
    TS_TYPES,
    VISION_FIELDS,
    VISION_TYPE,
)
from s1pro.checkpoint.config_values import check_values
from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, TextConfig, TimeSeriesConfig, VisionConfig

CONFIG = "config.json"
MAX_CONFIG_BYTES = 16 * 1024 * 1024


def read_config(folder: Path) -> ModelConfig:
    """The architecture in `folder/config.json`.

    Raises:
        InputError: the file is missing or no JSON, a key is unknown, or a value is impossible.
    """
    return parse_config(read_config_json(folder), where=str(folder / CONFIG))


def read_config_json(folder: Path) -> dict[str, Any]:
    """The file as it is, checked to be a JSON object of sane size."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise InputError(f"{folder}: {no_folder(folder)}; expected a model folder with {CONFIG}")
    if not path.is_file():
        raise InputError(f"{path}: missing; a model folder needs it")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes is no configuration file")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def foreign_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of other tools, also inside the parts, to be kept when the folder is rewritten."""
    ours = {"dtype", "torch_dtype", "use_cache"}
    kept = {key: value for key, value in data.items() if key in FOREIGN - ours}
    parts = {part: foreign_keys(data[part]) for part in PARTS if isinstance(data.get(part), Mapping)}
    if "ts_config" in parts:
        parts["ts_config"] |= {key: value for key, value in data["ts_config"].items() if key in TS_FOREIGN}
    return {**kept, **{part: keys for part, keys in parts.items() if keys}}


def with_foreign_keys(data: Mapping[str, Any], foreign: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with what `foreign_keys` found in the file it came from."""
    merged = dict(data)
    for key, value in foreign.items():
        merged[key] = {**merged.get(key, {}), **value} if key in PARTS else value
    return {key: dict(sorted(v.items())) if key in PARTS else v for key, v in sorted(merged.items())}


def parse_config(data: Mapping[str, Any], *, where: str = CONFIG) -> ModelConfig:
    """The architecture in a decoded `config.json`; `where` begins every error message."""
    data = dict(data)
    _expect(where, data, "model_type", (MODEL_TYPE,))
    architectures = data.pop("architectures", None) or []
    for name in architectures if isinstance(architectures, list | tuple) else [architectures]:
        if name not in ARCHITECTURES:
            raise InputError(f"{where}: architectures has {name!r:.60}, expected one of {', '.join(ARCHITECTURES)}")
    text_json, vision_json, ts_json = (data.pop(part, None) for part in PARTS)
    if not isinstance(text_json, Mapping):
        raise InputError(f"{where}: text_config is missing")
    for part, value in (("vision_config", vision_json), ("ts_config", ts_json)):
        if value is not None and not isinstance(value, Mapping):
            raise InputError(f"{where}: {part} must be an object, got {value!r:.60}")
    data.pop("quantization_config", None)  # describes the tensors, not the network: `checkpoint.released` reads it
    _check_fixed(where, data)
    tokens = {name: data.pop(name) for name in (*TOKENS, *TS_TOKENS) if name in data}
    _refuse_unknown(where, data)
    check_values(where, ModelConfig, tokens)
    try:
        text = _parse_text(dict(text_json), f"{where}: text_config")
        vision = None if vision_json is None else _parse_vision(dict(vision_json), f"{where}: vision_config")
        series = None if ts_json is None else _parse_time_series(dict(ts_json), f"{where}: ts_config", text.hidden_size)
        return ModelConfig(text=text, vision=vision, time_series=series, **tokens)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {error}") from error


def config_json(config: ModelConfig, *, dtype: str = "float32") -> dict[str, Any]:
    """The released schema; `parse_config` of it gives `config` back (with `num_inv_freq` resolved)."""
    text = config.text
    text_json: dict[str, Any] = {
        "model_type": TEXT_TYPE,
        **{name: getattr(text, name) for name in TEXT_FIELDS},
        "mlp_only_layers": list(text.mlp_only_layers),
        "num_experts": text.router.num_experts,
        "num_experts_per_tok": text.router.top_k,
        "router_n_groups": text.router.num_groups,
        "norm_topk_prob": text.router.norm_topk_prob,
        "max_position_embeddings": text.rope.max_position_embeddings,
        "rope_theta": text.rope.theta,
        "rope_scaling": _rope_json(text),
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "dtype": dtype,
        "use_cache": True,
        **_differing(text.router, ROUTER_EXTRAS, RouterConfig(num_experts=1, top_k=1)),
    }
    data: dict[str, Any] = {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "tie_word_embeddings": False,
        "text_config": dict(sorted(text_json.items())),
        **{name: getattr(config, name) for name in TOKENS},
    }
    if config.vision is not None:
        fields = {name: getattr(config.vision, name) for name in VISION_FIELDS}
        data["vision_config"] = dict(sorted({"model_type": VISION_TYPE, **fields}.items()))
    if config.time_series is not None:
        fields = {name: getattr(config.time_series, name) for name in TS_FIELDS}
        extras = _differing(config.time_series, TS_EXTRAS, TimeSeriesConfig())
        data["ts_config"] = dict(sorted({"model_type": TS_TYPE, **fields, **extras}.items()))
        data.update({name: getattr(config, name) for name in TS_TOKENS})
    return dict(sorted(data.items()))


def resolved(config: ModelConfig) -> ModelConfig:
    """`config` with the number of kept frequencies written out."""
    text = config.text
    if not text.rope.fope:
        return config
    kept = text.rope.kept_frequencies(text.head_dim)
    return replace(config, text=replace(text, rope=replace(text.rope, num_inv_freq=kept)))


def _parse_text(data: dict[str, Any], where: str) -> TextConfig:
    _expect(where, data, "model_type", (TEXT_TYPE, MODEL_TYPE))
    _check_fixed(where, data)
    rope = _parse_rope(data, where)
    router = {
        "num_experts": _take(where, data, "num_experts"),
        "top_k": _take(where, data, "num_experts_per_tok"),
        "num_groups": _first_given(1, data.pop("router_n_groups", None)),
        "norm_topk_prob": data.pop("norm_topk_prob", True),
        **{field: data.pop(key) for key, field in ROUTER_EXTRAS.items() if key in data},
    }
    fields = {name: data.pop(name) for name in TEXT_FIELDS if data.get(name) is not None}
    layers = tuple(data.pop("mlp_only_layers", None) or ())
    for name in TEXT_FIELDS:
        data.pop(name, None)
    _refuse_unknown(where, data)
    check_values(where, TextConfig, {**fields, "mlp_only_layers": layers})
    check_values(where, RouterConfig, router)
    text = TextConfig(router=RouterConfig(**router), rope=rope, mlp_only_layers=layers, **fields)
    if not rope.fope:
        return text
    return replace(text, rope=replace(rope, num_inv_freq=rope.kept_frequencies(text.head_dim)))


def _parse_rope(data: dict[str, Any], where: str) -> RopeConfig:
    """`rope_scaling` (released), or `rope_parameters` (transformers 5), or neither: plain rotary positions."""
    scaling = dict(data.pop("rope_scaling", None) or {})
    parameters = dict(data.pop("rope_parameters", None) or {})
    theta = _first_given(10000.0, data.pop("rope_theta", None), parameters.pop("rope_theta", None))
    scaling = {**parameters, **scaling}
    kind = scaling.pop("rope_type", scaling.pop("type", "default"))
    scaling.pop("type", None)
    if kind != "default":
        raise InputError(f"{where}: rope_type is {kind!r}; only 'default' exists here")
    fope = any(scaling.get(key) is not None for key in ("fope_init_factor", "fope_sep_head", "num_inv_freq"))
    fields = {
        "sep_head": scaling.pop("fope_sep_head", None),
        "init_factor": scaling.pop("fope_init_factor", None),
        "num_inv_freq": scaling.pop("num_inv_freq", None),
        **{field: scaling.pop(key, None) for key, field in ROPE_EXTRAS.items()},
    }
    _refuse_unknown(f"{where}: rope_scaling", scaling)
    given = {name: value for name, value in fields.items() if value is not None}
    maximum = _take(where, data, "max_position_embeddings")
    given = {"theta": theta, "max_position_embeddings": maximum, **given}
    check_values(where, RopeConfig, given)
    return RopeConfig(fope=fope, **given)


def _rope_json(text: TextConfig) -> dict[str, Any]:
    rope = text.rope
    if not rope.fope:
        return {"rope_type": "default"}
    return {
        "rope_type": "default",
        "fope_init_factor": rope.init_factor,
        "fope_sep_head": rope.sep_head,
        "num_inv_freq": rope.kept_frequencies(text.head_dim),
        **_differing(rope, ROPE_EXTRAS, RopeConfig()),
    }


def _parse_vision(data: dict[str, Any], where: str) -> VisionConfig:
    _expect(where, data, "model_type", (VISION_TYPE,))
    if data.pop("deepstack_visual_indexes", None):
        raise InputError(f"{where}: deepstack_visual_indexes is set; this architecture has no deepstack")
    fields = {name: data.pop(name) for name in VISION_FIELDS if name in data}
    _refuse_unknown(where, data)
    check_values(where, VisionConfig, fields)
    return VisionConfig(**fields)


def _parse_time_series(data: dict[str, Any], where: str, text_hidden_size: int) -> TimeSeriesConfig:
    """Without `out_hidden_size` the module gives embeddings of the decoder's width."""
    if "model_type" in data:
        _expect(where, data, "model_type", TS_TYPES)
    fields = {name: data.pop(name) for name in (*TS_FIELDS, *TS_EXTRAS) if name in data}
    fields.setdefault("out_hidden_size", text_hidden_size)
    _refuse_unknown(where, {key: value for key, value in data.items() if key not in TS_FOREIGN})
    check_values(where, TimeSeriesConfig, fields)
    return TimeSeriesConfig(**fields)


def _differing(config: object, keys: Mapping[str, str], default: object) -> dict[str, Any]:
    values = {key: getattr(config, field) for key, field in keys.items()}
    return {key: value for key, value in values.items() if value != getattr(default, keys[key])}


def _take(where: str, data: dict[str, Any], key: str) -> Any:
    if data.get(key) is None:
        raise InputError(f"{where}: {key} is missing")
    return data.pop(key)


def _first_given(default: Any, *values: Any) -> Any:
    return next((value for value in values if value is not None), default)


def _expect(where: str, data: dict[str, Any], key: str, allowed: tuple[str | None, ...]) -> None:
    value = data.pop(key, None)
    if value not in allowed:
        raise InputError(f"{where}: {key} is {value!r}, expected {' or '.join(repr(name) for name in allowed if name)}")


def _check_fixed(where: str, data: dict[str, Any]) -> None:
    for key, value in FIXED.items():
        if data.pop(key, value) != value:
            raise InputError(f"{where}: {key} must be {value!r}; other values are not supported")


def _refuse_unknown(where: str, data: Mapping[str, Any]) -> None:
    unknown = {key: value for key, value in data.items() if key not in FOREIGN}
    if unknown:
        key, value = next(iter(unknown.items()))
        raise InputError(f"{where}: unknown key {key!r} (value {value!r:.60}); remove it or correct its name")
