"""`config.json`: the released file and our own architectures, there and back; everything else is an error."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.checkpoint.config_file import (
    config_json,
    foreign_keys,
    parse_config,
    read_config,
    read_config_json,
    resolved,
    with_foreign_keys,
)
from s1pro.checkpoint.config_keys import FOREIGN, TS_EXTRAS, TS_FIELDS, TS_FOREIGN, TS_TYPES
from s1pro.checkpoint.names import modules_not_converted
from s1pro.checkpoint.quantization import declared_format, quantization_config
from s1pro.checkpoint.released import load_network, released_pieces
from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, TimeSeriesConfig, VisionConfig
from s1pro.model.presets import PRESETS, intern_s1_pro, small_time_series, tiny, with_media


def written(config: ModelConfig) -> dict[str, Any]:
    """What a file would hold."""
    return json.loads(json.dumps(config_json(config)))


@pytest.fixture
def base() -> dict[str, Any]:
    """A valid file with a vision tower and a time-series module."""
    vision = VisionConfig(depth=1, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=64)
    return written(replace(tiny(), vision=vision, time_series=small_time_series(64)))


def test_the_released_file_is_our_preset(released_dir: Path) -> None:
    assert read_config(released_dir) == resolved(intern_s1_pro())
    assert read_config(released_dir).text.rope.num_inv_freq == 45


def test_the_released_file_comes_back(released_dir: Path) -> None:
    released = read_config_json(released_dir)
    ours = with_foreign_keys(json.loads(json.dumps(config_json(read_config(released_dir)))), foreign_keys(released))
    quantization = released.pop("quantization_config")
    assert declared_format("config.json", {"quantization_config": quantization}) == "ue8m0"
    for part in ("text_config", "vision_config"):
        expected, found = released.pop(part), ours.pop(part)
        if part == "text_config":
            assert expected["rope_scaling"].pop("num_inv_freq") is None
            assert found["rope_scaling"].pop("num_inv_freq") == 45
            assert expected.pop("dtype") == "bfloat16" and found.pop("dtype") == "float32"
        assert found == expected
    assert ours.pop("dtype") == "float32"  # the release says it in text_config only
    assert ours == released


def test_modules_that_the_release_does_not_convert(released_dir: Path) -> None:
    released = read_config_json(released_dir)["quantization_config"]
    found = modules_not_converted(released_pieces(intern_s1_pro()))
    assert len(found) == 623 and found == sorted(released["modules_to_not_convert"])
    assert quantization_config("ue8m0", found) == {**released, "modules_to_not_convert": found}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_comes_back(name: str) -> None:
    config = PRESETS[name]()
    assert parse_config(written(config)) == resolved(config)
    assert parse_config(written(resolved(config))) == resolved(config)


ROUTERS = [
    {"straight_through": True, "temperature": 0.5},
    {"gate_dtype": "model"},
    {"weight_dtype": "model", "renorm_eps": 0.0},
    {"norm_topk_prob": False},
    {"num_groups": 1, "top_k": 3},
]
ROPES = [
    {"pad_value": 0.0},
    {"learnable": True},
    {"sep_head": False, "init_factor": 0.25},
    {"num_inv_freq": 2},
    {"fope": False},
    {"theta": 12345.5, "max_position_embeddings": 77},
]


@pytest.mark.parametrize("extras", ROUTERS, ids=lambda extras: ",".join(extras))
def test_router_settings_come_back(extras: dict[str, Any]) -> None:
    text = tiny().text
    config = replace(tiny(), text=replace(text, router=replace(text.router, **extras)))
    assert parse_config(written(config)) == resolved(config)


@pytest.mark.parametrize("extras", ROPES, ids=lambda extras: ",".join(extras))
def test_rotary_settings_come_back(extras: dict[str, Any]) -> None:
    text = tiny().text
    config = replace(tiny(), text=replace(text, rope=replace(text.rope, **extras)))
    assert parse_config(written(config)) == resolved(config)


def test_the_lists_above_name_every_setting() -> None:
    tested = {name for extras in ROUTERS for name in extras} | {"num_experts"}
    assert {field.name for field in fields(RouterConfig)} == tested
    assert {field.name for field in fields(RopeConfig)} == {name for extras in ROPES for name in extras}


def test_other_text_settings_come_back() -> None:
    changes = {
        "mlp_only_layers": (1,),
        "intermediate_size": 96,
        "decoder_sparse_step": 1,
        "rms_norm_eps": 1e-5,
        "attention_bias": True,
        "initializer_range": 0.1,
        "bos_token_id": 3,
        "eos_token_id": 4,
    }
    config = replace(tiny(), text=replace(tiny().text, **changes), image_token_id=9)
    assert parse_config(written(config)) == resolved(config)


MEDIA_IDS = {
    "image_token_id": 1,
    "video_token_id": 2,
    "vision_start_token_id": 3,
    "vision_end_token_id": 4,
    "ts_token_id": 5,
    "ts_start_token_id": 6,
    "ts_end_token_id": 7,
}


def test_both_towers_and_their_tokens_come_back() -> None:
    config = with_media(tiny(), **MEDIA_IDS)
    data = written(config)
    assert parse_config(data) == resolved(config)
    assert {name: data[name] for name in MEDIA_IDS} == MEDIA_IDS
    assert data["ts_config"]["model_type"] == "interns1_pro_time_series"


def test_a_file_without_the_module_does_not_mention_signals() -> None:
    assert not any(key.startswith("ts_") for key in written(tiny()))


def test_every_time_series_setting_comes_back_and_ours_are_written_where_they_differ() -> None:
    assert {field.name for field in fields(TimeSeriesConfig)} == {*TS_FIELDS, *TS_EXTRAS}
    series = TimeSeriesConfig(out_hidden_size=64)
    assert not written(replace(tiny(), time_series=series))["ts_config"].keys() & TS_EXTRAS.keys()
    changes = {
        "subsampling_attention_heads": 4,
        "subsampling_ffn_dim": 7,
        "separate_channels": True,
        "initializer_range": 0.5,
        "max_source_positions": 9,
    }
    config = replace(tiny(), time_series=replace(series, **changes))
    data = written(config)
    assert {name: data["ts_config"][name] for name in changes} == changes
    assert parse_config(data) == resolved(config)


@pytest.mark.parametrize("name", TS_TYPES)
def test_names_of_the_time_series_module_and_keys_of_its_ancestors(base: dict[str, Any], name: str | None) -> None:
    expected = parse_config(base)
    base["ts_config"].update(dict.fromkeys(TS_FOREIGN, 1), model_type=name)
    if name is None:
        del base["ts_config"]["model_type"], base["ts_config"]["out_hidden_size"]
    assert parse_config(base) == expected
    kept = foreign_keys(base)
    assert kept["ts_config"] == dict.fromkeys(TS_FOREIGN, 1)
    assert parse_config(with_foreign_keys(written(expected), kept)) == expected


def test_the_number_of_kept_frequencies_is_stored() -> None:
    """It must not change when somebody enlarges `max_position_embeddings` of a trained model."""
    data = written(tiny())
    kept = data["text_config"]["rope_scaling"]["num_inv_freq"]
    data["text_config"]["max_position_embeddings"] *= 64
    rope = parse_config(data).text.rope
    assert rope.num_inv_freq == kept == tiny().text.rope.kept_frequencies(16)
    assert replace(rope, num_inv_freq=None).kept_frequencies(16) > kept


def test_rope_parameters_of_transformers_5(base: dict[str, Any]) -> None:
    expected, text = parse_config(base), base["text_config"]
    text["rope_parameters"] = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}
    assert parse_config(base) == expected


def test_without_rope_settings_positions_are_plain(base: dict[str, Any]) -> None:
    del base["text_config"]["rope_scaling"], base["text_config"]["rope_theta"]
    rope = parse_config(base).text.rope
    assert not rope.fope and rope.theta == 10000.0


def test_an_older_spelling_of_the_architecture(base: dict[str, Any]) -> None:
    expected = parse_config(base)
    base["architectures"] = ["InternS1_1_ForConditionalGeneration"]
    assert parse_config(base) == expected
    base["architectures"] = ["LlamaForCausalLM"]
    with pytest.raises(InputError, match=r"config\.json: architectures has 'LlamaForCausalLM'"):
        parse_config(base)


def test_keys_of_other_tools_are_ignored_and_kept(base: dict[str, Any]) -> None:
    expected = parse_config(base)
    data = {**base, **dict.fromkeys(FOREIGN, "x"), "text_config": {**base["text_config"], "router_aux_loss_coef": 0.5}}
    assert parse_config(data) == expected
    kept = foreign_keys(data)
    assert kept["text_config"] == {"router_aux_loss_coef": 0.5} and kept["auto_map"] == "x"
    assert "dtype" not in kept  # ours: it follows the weights that are stored


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("", "tie_word_embeddings", True, "tie_word_embeddings must be False"),
        ("text_config", "tie_word_embeddings", True, "text_config: tie_word_embeddings must be False"),
        ("text_config", "hidden_act", "gelu", "text_config: hidden_act must be 'silu'"),
        ("text_config", "attention_dropout", 0.1, "text_config: attention_dropout must be 0.0"),
        ("", "model_type", "qwen3_moe", "model_type is 'qwen3_moe', expected 'interns1_pro'"),
        ("text_config", "model_type", "llama", "text_config: model_type is 'llama'"),
        ("vision_config", "model_type", "clip", "vision_config: model_type is 'clip'"),
        ("vision_config", "hidden_act", "relu", "vision hidden_act='relu'"),
        ("vision_config", "deepstack_visual_indexes", [1], "vision_config: deepstack_visual_indexes"),
        ("vision_config", "out_hidden_size", 65, "vision out_hidden_size=65 differs from text hidden_size=64"),
        ("", "ts_config", {"depth": 3}, "ts_config: unknown key 'depth'"),
        ("", "ts_config", 7, "ts_config must be an object, got 7"),
        ("", "vision_config", [1], "vision_config must be an object, got [1]"),
        ("ts_config", "model_type", "clip", "ts_config: model_type is 'clip', expected 'interns1_pro_time_series' or"),
        ("ts_config", "activation_function", "relu", "time-series activation_function='relu': only gelu exists"),
        ("ts_config", "scale_embedding", True, "time-series scale_embedding must be false"),
        ("ts_config", "ts_hidden_dim", 65, "ts_hidden_dim=65 differs from ts_adapt_out_dim=64"),
        ("ts_config", "ts_adapt_in_dim", 132, "ts_adapt_in_dim=132 must be a multiple of 4 and of twice"),
        ("ts_config", "d_model", 66, "d_model=66 is not a multiple of encoder_attention_heads=4"),
        ("ts_config", "encoder_layers", 0, "ts_config: encoder_layers must be an integer from 1"),
        ("ts_config", "out_hidden_size", 65, "time-series out_hidden_size=65 differs from text hidden_size=64"),
        ("", "ts_token_id", None, "ts_token_id must be an integer from -1"),
        ("rope_scaling", "rope_type", "yarn", "text_config: rope_type is 'yarn'"),
        ("text_config", "num_experts", 9, "num_experts=9 is not divisible by router_n_groups=2"),
        ("text_config", "router_gate_dtype", "float16", "router_gate_dtype must be 'float32' or 'model'"),
        ("text_config", "num_experts", None, "text_config: num_experts is missing"),
        ("text_config", "max_position_embeddings", None, "text_config: max_position_embeddings is missing"),
        (
            "text_config",
            "hidden_size",
            "64",
            "text_config: hidden_size must be an integer from 1 to 2147483647, got '64'",
        ),
        ("text_config", "hidden_size", None, "hidden_size"),
        ("text_config", "rms_norm_eps", float("nan"), "text_config: rms_norm_eps must be a number from 0"),
        ("text_config", "num_experts_per_tok", 1.5, "text_config: num_experts_per_tok must be an integer"),
        ("text_config", "router_n_groups", 0, "text_config: router_n_groups must be an integer from 1"),
        ("text_config", "norm_topk_prob", 1, "text_config: norm_topk_prob must be true or false, got 1"),
        ("text_config", "mlp_only_layers", [0.5], "text_config: mlp_only_layers must be a list of integers"),
        ("rope_scaling", "fope_sep_head", "yes", "text_config: fope_sep_head must be true or false, got 'yes'"),
        ("vision_config", "patch_size", 1.5, "vision_config: patch_size must be an integer from 1 to 1024"),
        ("vision_config", "hidden_act", 3, "vision_config: hidden_act must be a string"),
        ("", "image_token_id", "<img>", "image_token_id must be an integer from -1"),
        ("", "text_config", None, "text_config is missing"),
    ],
)
def test_settings_that_do_not_exist_here(
    base: dict[str, Any], part: str, key: str, value: object, message: str
) -> None:
    target = base["text_config"]["rope_scaling"] if part == "rope_scaling" else base[part] if part else base
    target[key] = value
    with pytest.raises(InputError) as caught:
        parse_config(base, where="folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ") and message in str(caught.value)


NEVER = ["x", [1], {"a": 1}, float("nan"), float("inf"), 2**31 - 1, 10**30]
SOMETIMES = [None, -1, 0, 1.5, [], {}, True]
LARGE = {2**31 - 1, 10**30}
LARGE_COUNTS = {
    "num_hidden_layers",
    "num_experts",
    "depth",
    "encoder_layers",
}  # a large number here is a large, but possible, network
MEANINGLESS = {"dtype", "use_cache"}  # read by others, or only on request
LARGE_ARE_POSSIBLE = (
    "_size",
    "_dim",
    "d_model",
    "_positions",
    "num_mel_bins",
    "_heads",
    "_token_id",
    "max_position_embeddings",
    "rope_theta",
    "initializer_range",
    "_eps",
    "_factor",
)


def leaves(data: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def changed(base: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    data = copy.deepcopy(base)
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return data


def outcome(folder: Path, data: dict[str, Any]) -> str:
    """Loading a folder without weights: `read` if the configuration was accepted, `refused`, or what went wrong."""
    (folder / "config.json").write_text(json.dumps(data))
    try:
        load_network(folder)
    except InputError as error:
        assert "\n" not in str(error)
        return "read" if "no weights" in str(error) else "refused"
    except Exception as error:  # noqa: BLE001 (the point of the test)
        return repr(error)[:90]
    return "loaded"


def test_any_wrong_value_of_any_key_is_an_input_error(base: dict[str, Any], tmp_path: Path) -> None:
    surprises = []
    for path in leaves(base):
        if path[-1] in MEANINGLESS:
            continue
        for value in (*NEVER, *SOMETIMES):
            if isinstance(value, int) and value in LARGE and path[-1] in LARGE_COUNTS:
                continue
            found = outcome(tmp_path, changed(base, path, value))
            large = isinstance(value, int) and value in LARGE and path[-1].endswith(LARGE_ARE_POSSIBLE)
            several_ends = path[-1] == "eos_token_id" and value == [1]
            fine = {"refused", "read"} if value in SOMETIMES or large or several_ends else {"refused"}
            if found not in fine:
                surprises.append((".".join(path), value, found))
    assert "\n".join(map(str, surprises)) == ""
