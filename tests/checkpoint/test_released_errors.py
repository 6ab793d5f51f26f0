"""Damaged and foreign folders: one `InputError` that names the file and the tensor or key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.released import load_network, save_network
from s1pro.model.config import VisionConfig
from s1pro.model.network import Network

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
Q = "model.language_model.layers.0.self_attn.q_proj.weight"
EXPERT = "model.language_model.layers.1.mlp.experts.2.up_proj.weight"


@pytest.fixture
def plain(small_network: Network, tmp_path: Path) -> Path:
    return save_network(small_network, tmp_path / "plain")


@pytest.fixture
def sharded(small_network: Network, tmp_path: Path) -> Path:
    return save_network(small_network, tmp_path / "sharded", max_shard_bytes=40_000)


@pytest.fixture
def fp8(small_network: Network, tmp_path: Path) -> Path:
    return save_network(small_network, tmp_path / "fp8", fp8=True)


def edit_tensors(folder: Path, edit: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / SINGLE)
    edit(tensors)
    save_file(tensors, folder / SINGLE)


def edit_json(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def refused(folder: Path, *parts: str) -> str:
    """Loading raises one line that holds all `parts`."""
    with pytest.raises(InputError) as caught:
        load_network(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    for part in parts:
        assert part in message, message
    return message


def put(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    def edit(tensors: dict[str, Tensor]) -> None:
        tensors[name] = make(tensors[name])

    return edit


def with_value(value: float, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    def make(tensor: Tensor) -> Tensor:
        wide = tensor.float()
        wide[0, 0] = value
        return wide.to(dtype)

    return make


def test_missing_tensor(plain: Path) -> None:
    edit_tensors(plain, lambda tensors: tensors.pop(EXPERT))
    refused(plain, str(plain), f"tensor {EXPERT} is missing; the architecture in config.json needs it")


def test_several_missing_tensors_are_counted(plain: Path) -> None:
    edit_tensors(plain, lambda tensors: [tensors.pop(name) for name in (EXPERT, Q, "lm_head.weight")])
    refused(plain, "tensor lm_head.weight is missing", "(and 2 more)")


def test_extra_tensor(plain: Path) -> None:
    edit_tensors(plain, lambda tensors: tensors.update(surplus=torch.zeros(2)))
    refused(plain, str(plain / SINGLE), "tensor surplus is not part of the architecture in config.json")


def test_a_scale_beside_a_plain_weight_is_extra(plain: Path) -> None:
    edit_tensors(plain, lambda tensors: tensors.update({Q + "_scale_inv": torch.ones(2, 2)}))
    refused(plain, str(plain / SINGLE), f"tensor {Q}_scale_inv is not part of the architecture")


@pytest.mark.parametrize("name", [Q, EXPERT, "lm_head.weight", "model.language_model.norm.weight"])
def test_wrong_shape(plain: Path, name: str) -> None:
    expected = list(load_file(plain / SINGLE)[name].shape)
    edit_tensors(plain, put(name, lambda tensor: tensor[:-1].contiguous()))
    found = [expected[0] - 1, *expected[1:]]
    refused(plain, str(plain / SINGLE), f"tensor {name} has shape {found}, config.json asks for {expected}")


def test_a_transposed_weight_is_a_wrong_shape(plain: Path) -> None:
    edit_tensors(plain, put("model.language_model.layers.0.self_attn.k_proj.weight", lambda t: t.T.contiguous()))
    refused(plain, "k_proj.weight has shape [136, 72], config.json asks for [72, 136]")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [Q, EXPERT, "lm_head.weight"])
def test_numbers_that_are_not_finite(plain: Path, name: str, value: float) -> None:
    edit_tensors(plain, put(name, with_value(value)))
    refused(plain, str(plain / SINGLE), f"tensor {name} has 1 of ", "NaN or infinite")


def test_numbers_too_large_for_float32(plain: Path) -> None:
    """Finite in the float64 file, infinite in the network."""
    edit_tensors(plain, put(Q, lambda tensor: tensor.double().mul(1e300)))
    refused(plain, str(plain / SINGLE), f"tensor {Q} has ", "float32")


def test_nan_in_fp8(fp8: Path) -> None:
    edit_tensors(fp8, put(EXPERT, with_value(float("nan"), torch.float8_e4m3fn)))
    refused(fp8, str(fp8 / SINGLE), f"tensor {EXPERT} has 1 of ")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0.0, -1.0])
def test_impossible_scale(fp8: Path, value: float) -> None:
    edit_tensors(fp8, put(Q + "_scale_inv", with_value(value)))
    refused(fp8, str(fp8 / SINGLE), f"{Q}_scale_inv has scales that are not finite and positive")


def test_an_impossible_scale_in_another_shard_names_that_shard(fp8: Path) -> None:
    stored = load_file(fp8 / SINGLE)
    (fp8 / SINGLE).unlink()
    scale = {Q + "_scale_inv": torch.full_like(stored.pop(Q + "_scale_inv"), float("inf"))}
    save_file(stored, fp8 / "weights.safetensors")
    save_file(scale, fp8 / "scales.safetensors")
    weight_map = {**dict.fromkeys(stored, "weights.safetensors"), **dict.fromkeys(scale, "scales.safetensors")}
    (fp8 / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    refused(fp8, str(fp8 / "scales.safetensors"), f"{Q}_scale_inv")


def test_scales_of_the_wrong_shape(fp8: Path) -> None:
    edit_tensors(fp8, put(Q + "_scale_inv", lambda scale: scale[:1].contiguous()))
    refused(fp8, str(fp8 / SINGLE), Q, "scales of shape (1, 2) do not fit")


def test_fp8_without_scales(fp8: Path) -> None:
    edit_tensors(fp8, lambda tensors: tensors.pop(EXPERT + "_scale_inv"))
    refused(fp8, str(fp8 / SINGLE), f"tensor {EXPERT} is FP8 without scales", f"{EXPERT}_scale_inv is missing")


@pytest.mark.parametrize(("dtype", "spelt"), [(torch.int8, "I8"), (torch.int64, "I64"), (torch.float8_e5m2, "F8_E5M2")])
def test_unsupported_dtype(plain: Path, dtype: torch.dtype, spelt: str) -> None:
    edit_tensors(plain, put(Q, lambda tensor: tensor.to(dtype)))
    refused(plain, str(plain / SINGLE), f"tensor {Q} has dtype {spelt}")


def test_a_norm_in_fp8_has_no_scales(plain: Path) -> None:
    name = "model.language_model.norm.weight"
    edit_tensors(plain, put(name, lambda tensor: tensor.to(torch.float8_e4m3fn)))
    refused(plain, str(plain / SINGLE), f"tensor {name} is FP8 without scales")


def test_one_tensor_under_two_names(plain: Path) -> None:
    short = Q.replace("model.language_model.", "model.")
    edit_tensors(plain, lambda tensors: tensors.update({short: tensors[Q].clone()}))
    refused(plain, str(plain / SINGLE), Q, short, "the same tensor")


def test_one_tensor_in_two_shards(sharded: Path) -> None:
    first, second = sorted(sharded.glob("*.safetensors"))[:2]
    name = next(iter(load_file(first)))
    save_file({**load_file(second), name: load_file(first)[name]}, second)
    refused(sharded, str(second), f"tensor {name} is also in {first.name}")


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_truncated_file(plain: Path, keep: float) -> None:
    data = (plain / SINGLE).read_bytes()
    (plain / SINGLE).write_bytes(data[: int(keep * len(data)) if keep == 0.5 else int(keep)])
    refused(plain, str(plain / SINGLE), "damaged or truncated")


def test_a_truncated_shard_names_that_shard(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[3]
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(sharded, str(shard), "damaged or truncated")


def test_bytes_that_are_no_safetensors(plain: Path) -> None:
    (plain / SINGLE).write_bytes(b"\xff" * 4096)
    refused(plain, str(plain / SINGLE), "damaged or truncated")


def test_index_names_a_missing_file(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[2]
    shard.unlink()
    refused(sharded, str(shard), "missing", INDEX)


def test_index_and_shards_disagree(sharded: Path) -> None:
    edit_json(sharded / INDEX, lambda index: index["weight_map"].pop("lm_head.weight"))
    refused(sharded, "tensor lm_head.weight is not in", INDEX)


def test_index_sends_a_tensor_to_another_shard(sharded: Path) -> None:
    other = min(path.name for path in sharded.glob("*.safetensors"))
    edit_json(sharded / INDEX, lambda index: index["weight_map"].update({"lm_head.weight": other}))
    refused(sharded, str(sharded / other), "tensor lm_head.weight is missing", INDEX)


@pytest.mark.parametrize("target", ["../x.safetensors", "/x.safetensors", "sub/x.safetensors", "..", "", "x.bin", None])
def test_index_must_not_leave_the_folder(sharded: Path, target: str | None) -> None:
    save_file({"lm_head.weight": torch.zeros(40, 136)}, sharded.parent / "x.safetensors")
    edit_json(sharded / INDEX, lambda index: index["weight_map"].update({"lm_head.weight": target}))
    refused(sharded, str(sharded / INDEX), repr(str(target)), "only .safetensors files of this folder")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": ["a"]}', "\xff", "[" * 10**5]
)
def test_an_index_that_is_none(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_text(text, encoding="latin-1")
    refused(sharded, str(sharded / INDEX), "not an index with a weight_map")


@pytest.mark.parametrize("text", ["", "{", "not json", "\xff", "[" * 10**5])
def test_a_config_that_is_not_json(plain: Path, text: str) -> None:
    (plain / "config.json").write_text(text, encoding="latin-1")
    refused(plain, str(plain / "config.json"), "not JSON")


def test_a_config_that_is_no_object(plain: Path) -> None:
    (plain / "config.json").write_text("[1]")
    refused(plain, str(plain / "config.json"), "expected a JSON object, got list")


def test_missing_folder_config_or_weights(plain: Path) -> None:
    refused(plain.parent / "nowhere", str(plain.parent / "nowhere"), "no such folder")
    (plain / SINGLE).unlink()
    refused(plain, str(plain), "no weights", SINGLE, INDEX)
    (plain / "config.json").unlink()
    refused(plain, str(plain / "config.json"), "missing")


@pytest.mark.parametrize("part", ["", "text_config", "rope_scaling", "vision_config"])
def test_an_unknown_key(small_network: Network, tmp_path: Path, part: str) -> None:
    folder = save_network(small_network, tmp_path / "model")
    vision = {"model_type": "interns1_pro_vision", **vars(VisionConfig(out_hidden_size=136))}

    def edit(config: dict[str, Any]) -> None:
        config["vision_config"] = vision
        text = config["text_config"]
        {"": config, "text_config": text, "rope_scaling": text["rope_scaling"], "vision_config": vision}[part].update(
            num_exprts=7
        )

    edit_json(folder / "config.json", edit)
    refused(folder, str(folder / "config.json"), part, "unknown key 'num_exprts' (value 7)")


@pytest.mark.parametrize(
    ("key", "value"),
    [("quant_method", "awq"), ("fmt", "e5m2"), ("weight_block_size", [64, 64]), ("scale_fmt", "e8m0")],
)
def test_another_quantisation(fp8: Path, key: str, value: object) -> None:
    edit_json(fp8 / "config.json", lambda config: config["quantization_config"].update({key: value}))
    refused(fp8, str(fp8 / "config.json"), f"quantization_config.{key} is {value!r}")


def test_fp8_exists_per_expert_only(small_network: Network, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"layout='fused' cannot be stored in FP8; use per_expert"):
        save_network(small_network, tmp_path / "model", fp8=True, layout="fused")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["int8", "float33", 7, ["float32"]])
def test_a_dtype_that_is_none(plain: Path, name: object) -> None:
    edit_json(plain / "config.json", lambda config: config.update(dtype=name))
    with pytest.raises(InputError, match="dtype is "):
        load_network(plain, dtype=None)
