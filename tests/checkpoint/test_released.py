"""Networks to and from folders: exact bytes, layouts, shards, and what else a folder holds."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.config_file import resolved
from s1pro.checkpoint.names import pieces
from s1pro.checkpoint.released import load_network, save_network
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.model.presets import small_time_series


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def all_tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_same_weights(a: Network, b: Network) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) and ours[n].dtype == theirs[n].dtype for n in ours)


STORED = {
    "fp32": {},
    "fp32 fused": {"layout": "fused"},
    "fp32 fused_out_in": {"layout": "fused_out_in"},
    "fp32 shards": {"max_shard_bytes": 40_000},
    "fp32 fused shards": {"layout": "fused", "max_shard_bytes": 40_000},
    "bf16": {},
    "bf16 shards": {"max_shard_bytes": 40_000},
    "fp8 fp32": {"fp8": True, "scale_format": "fp32"},
    "fp8 ue8m0": {"fp8": True, "scale_format": "ue8m0"},
    "fp8 fp32 shards": {"fp8": True, "scale_format": "fp32", "max_shard_bytes": 20_000},
    "bf16 fp8 fp32": {"fp8": True, "scale_format": "fp32"},
    "bf16 fp8 ue8m0": {"fp8": True, "scale_format": "ue8m0"},
}


@pytest.mark.parametrize("name", STORED)
def test_save_load_save_gives_the_same_bytes(small_network: Network, tmp_path: Path, name: str) -> None:
    options = STORED[name]
    network = small_network.to(torch.bfloat16) if "bf16" in name else small_network
    first = save_network(network, tmp_path / "first", **options)
    loaded = load_network(first, dtype=None)
    assert loaded.lm_head.weight.dtype == network.lm_head.weight.dtype
    assert loaded.config == resolved(network.config)
    if not options.get("fp8"):
        assert_same_weights(loaded, network)
    again = {**options, "scale_format": None} if options.get("fp8") else options  # the file's own format is remembered
    second = save_network(loaded, tmp_path / "second", **again)
    assert contents(first) == contents(second)
    assert len(list(first.glob("*.safetensors"))) == (1 if "shards" not in name else len(index_files(first)))


def index_files(folder: Path) -> set[str]:
    return set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values())


def test_the_folder_holds_the_released_names_and_values(small_network: Network, tmp_path: Path) -> None:
    stored = load_file(save_network(small_network, tmp_path / "model") / "model.safetensors")
    experts = small_network.model.language_model.layers[1].mlp.experts
    stem = "model.language_model.layers.1.mlp.experts"
    assert len([name for name in stored if name.startswith(stem)]) == 4 * 3
    for e in range(4):
        gate_up = torch.cat((stored[f"{stem}.{e}.gate_proj.weight"], stored[f"{stem}.{e}.up_proj.weight"]))
        assert torch.equal(gate_up, experts.gate_up_proj[e])
        assert torch.equal(stored[f"{stem}.{e}.down_proj.weight"], experts.down_proj[e])
    assert stored["model.language_model.rotary_emb.sin_coef"].dtype == torch.float32
    assert torch.equal(stored["lm_head.weight"], small_network.lm_head.weight)


def test_the_fused_layout_is_in_out(small_network: Network, tmp_path: Path) -> None:
    stored = load_file(save_network(small_network, tmp_path / "model", layout="fused") / "model.safetensors")
    stem, experts = (
        "model.language_model.layers.1.mlp.experts",
        small_network.model.language_model.layers[1].mlp.experts,
    )
    assert torch.equal(stored[f"{stem}.gate_up_proj"], experts.gate_up_proj.mT)
    assert torch.equal(stored[f"{stem}.down_proj"], experts.down_proj.mT)


@pytest.mark.parametrize("width", [24, 68, 136], ids=["plain", "D = 2F", "D = F"])
@pytest.mark.parametrize("transposed", [False, True], ids=["fused_out_in", "fused"])
def test_both_fused_layouts_of_others_load(
    small_config: ModelConfig, tmp_path: Path, width: int, transposed: bool
) -> None:
    """The file is written here, not by us; where one of the two tensors is square the other decides."""
    network = Network(replace(small_config, text=replace(small_config.text, moe_intermediate_size=width)), seed=4)
    folder = save_network(network, tmp_path / "model")
    tensors = {
        name: (tensor.mT if transposed and "mlp.experts" in name else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors")
    assert_same_weights(load_network(folder), network)


def test_shards_are_small_and_listed(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model", max_shard_bytes=40_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(index_files(folder))
    assert len(files) > 4 and all(re.fullmatch(rf"model-\d{{5}}-of-{len(files):05d}\.safetensors", f) for f in files)
    for file in files:
        tensors = load_file(folder / file)
        assert {name for name, at in index["weight_map"].items() if at == file} == tensors.keys()
        assert sum(t.nbytes for t in tensors.values()) <= 40_000 or len(tensors) == 1
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in all_tensors(folder).values())
    assert_same_weights(load_network(folder), small_network)


def test_fp8_values_and_scales_share_a_shard(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model", fp8=True, max_shard_bytes=10_000)
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    scales = [name for name in weight_map if name.endswith("_scale_inv")]
    assert len(scales) == 2 * 4 + 4 * 3
    assert all(weight_map[name] == weight_map[name.removesuffix("_scale_inv")] for name in scales)


def test_other_files_stay_and_stale_shards_go(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model", max_shard_bytes=40_000)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "extra").mkdir()
    (folder / "extra" / "notes.txt").write_text("kept")
    save_network(small_network, folder, max_shard_bytes=80_000)
    assert len(list(folder.glob("*.safetensors"))) == len(index_files(folder))
    save_network(small_network, folder)
    names = set(contents(folder))
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "extra/notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing hidden is left beside it
    assert_same_weights(load_network(folder), small_network)


def test_a_linked_folder_can_be_saved_to_again_and_again(small_network: Network, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    for _ in range(3):
        save_network(small_network, tmp_path / "model")
    assert (tmp_path / "model").is_symlink() and (tmp_path / "disk" / "config.json").is_file()


def test_keys_of_other_tools_survive(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    top = {"auto_map": {"AutoModel": "a.B"}, "transformers_version": "4.57.6", "pad_token_id": 3, "golden": {"seed": 1}}
    text = {"router_aux_loss_coef": 0.001, "sliding_window": None}
    (folder / "config.json").write_text(json.dumps({**config, **top, "text_config": {**config["text_config"], **text}}))
    again = json.loads((save_network(load_network(folder), tmp_path / "again") / "config.json").read_text())
    assert {key: again[key] for key in top} == top
    assert {key: again["text_config"][key] for key in text} == text
    for key in top:
        del again[key]
    for key in text:
        del again["text_config"][key]
    assert again == config


def test_a_text_only_model_loads(small_network: Network, tmp_path: Path) -> None:
    """Names of `AutoModelForCausalLM`: `model.layers…` instead of `model.language_model.layers…`."""
    folder = save_network(small_network, tmp_path / "model", fp8=True)
    expected = load_network(folder)
    stored = load_file(folder / "model.safetensors")
    renamed = {name.replace("model.language_model.", "model."): tensor for name, tensor in stored.items()}
    assert renamed.keys() != stored.keys() and "model.layers.0.self_attn.q_proj.weight_scale_inv" in renamed
    save_file(renamed, folder / "model.safetensors")
    loaded = load_network(folder)
    assert_same_weights(loaded, expected)
    again = save_network(loaded, tmp_path / "again", fp8=True)
    assert load_file(again / "model.safetensors").keys() == stored.keys()


def test_a_scale_may_lie_in_another_shard(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model", fp8=True)
    expected = load_network(folder)
    split_scales(folder)
    assert_same_weights(load_network(folder), expected)


def split_scales(folder: Path) -> None:
    """Weights in one shard, their scales in another."""
    stored = load_file(folder / "model.safetensors")
    parts = {"a.safetensors": {}, "b.safetensors": {}}
    for name, tensor in stored.items():
        parts["b.safetensors" if name.endswith("_scale_inv") else "a.safetensors"][name] = tensor
    for file, tensors in parts.items():
        save_file(tensors, folder / file)
    weight_map = {name: file for file, tensors in parts.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def test_float16_and_float64_files_load(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model")
    stored = load_file(folder / "model.safetensors")
    for dtype in (torch.float16, torch.float64):
        save_file({name: tensor.to(dtype) for name, tensor in stored.items()}, folder / "model.safetensors")
        network = load_network(folder)
        assert torch.equal(network.lm_head.weight, stored["lm_head.weight"].to(dtype).float())


def test_loading_in_another_dtype_keeps_the_coefficients(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model")
    network = load_network(folder, dtype=torch.bfloat16)
    assert network.lm_head.weight.dtype == torch.bfloat16
    ours, theirs = (n.model.language_model.rotary_emb.sin_coef for n in (network, small_network))
    assert torch.equal(ours, theirs) and ours.dtype == torch.float32
    assert load_network(folder, dtype=None).lm_head.weight.dtype == torch.float32


def test_a_network_without_fope_and_with_vision(goldens_dir: Path, tmp_path: Path) -> None:
    """Golden folders of the released code come back with the same tensors."""
    for golden in ("model_tiny", "model_branches/plain_rope", "model_branches/explicit_num_inv_freq_dense_layer"):
        again = save_network(load_network(goldens_dir / golden), tmp_path / golden)
        before, after = load_file(goldens_dir / golden / "model.safetensors"), load_file(again / "model.safetensors")
        assert before.keys() == after.keys()
        assert all(torch.equal(before[n], after[n]) and before[n].dtype == after[n].dtype for n in before)


def test_every_element_of_the_network_is_in_exactly_one_piece(small_network: Network) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in small_network.state_dict().items()}
    for layout in ("per_expert", "fused", "fused_out_in"):
        table = pieces({name: tensor.shape for name, tensor in state.items()}, layout)
        assert len({piece.released for piece in table}) == len(table)
        for piece in table:
            view = piece.view(state[piece.own])
            assert tuple(view.shape) == piece.shape(state[piece.own].shape)
            view += 1
        assert all(bool((tensor == 1).all()) for tensor in state.values())
        for tensor in state.values():
            tensor.zero_()


def test_saving_what_cannot_be_stored_leaves_the_old_folder(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model", max_shard_bytes=40_000)
    (folder / "tokenizer.json").write_text("{}")
    before = contents(tmp_path)
    damaged = Network(small_network.config, seed=9)
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            damaged.lm_head.weight[1, 2] = value  # the last tensor: earlier shards are written by then
        for options in ({}, {"fp8": True}):
            with pytest.raises(ValueError, match=r"lm_head\.weight has 1 of 5440 values that are NaN or infinite"):
                save_network(damaged, folder, max_shard_bytes=40_000, **options)
            assert contents(tmp_path) == before
    assert_same_weights(load_network(folder), small_network)


def test_a_nan_in_a_quantised_weight_is_refused_too(small_network: Network, tmp_path: Path) -> None:
    with torch.no_grad():
        small_network.model.language_model.layers[1].mlp.experts.down_proj[2, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"experts\.2\.down_proj\.weight has 1 of"):
        save_network(small_network, tmp_path / "model", fp8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_copied_folder_does_not_depend_on_the_old_place(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model", max_shard_bytes=40_000)
    shutil.move(folder, tmp_path / "elsewhere")
    assert_same_weights(load_network(str(tmp_path / "elsewhere")), small_network)


@pytest.fixture
def with_signals(small_config: ModelConfig) -> Network:
    return Network(replace(small_config, time_series=small_time_series(136)), seed=5)


ATTENTION = "model.time_series.encoder.layers.{}.self_attn."


@pytest.mark.parametrize("options", [{}, {"fp8": True}, {"max_shard_bytes": 30_000}], ids=str)
def test_the_time_series_module_is_stored_unquantised_under_its_released_names(
    with_signals: Network, tmp_path: Path, options: dict[str, object]
) -> None:
    folder = save_network(with_signals, tmp_path / "model", **options)
    stored = {name: t for name, t in all_tensors(folder).items() if name.startswith("model.time_series.")}
    own = {f"model.time_series.{name}": t for name, t in with_signals.model.time_series.state_dict().items()}
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[name], own[name]) for name in own)
    assert {ATTENTION.format(0) + name for name in ("q_proj.bias", "k_proj.weight", "v_proj.bias")} <= stored.keys()
    again = save_network(load_network(folder, dtype=None), tmp_path / "again", **options)
    assert contents(folder) == contents(again)
    if "fp8" in options:
        left_alone = json.loads((folder / "config.json").read_text())["quantization_config"]["modules_to_not_convert"]
        modules = {name.rsplit(".", 1)[0] for name in own}
        assert modules <= set(left_alone)


def test_packed_queries_keys_and_values_and_tensors_without_effect(with_signals: Network, tmp_path: Path) -> None:
    folder = save_network(with_signals, tmp_path / "model")
    tensors = all_tensors(folder)
    stem = ATTENTION.format(0)  # the first layer packed, the second with a bias of the keys
    weights = [tensors.pop(f"{stem}{part}_proj.weight") for part in "qkv"]
    q_bias, v_bias = (tensors.pop(f"{stem}{part}_proj.bias") for part in "qv")
    tensors[f"{stem}qkv_proj.weight"] = torch.cat(weights)
    tensors[f"{stem}qkv_proj.bias"] = torch.cat((q_bias, torch.ones_like(q_bias), v_bias))
    tensors[ATTENTION.format(1) + "k_proj.bias"] = torch.ones(64)
    tensors["model.time_series.encoder_embed.pos_encoder.pe"] = torch.zeros(20000, 1, 64)
    save_file(tensors, folder / "model.safetensors")
    assert_same_weights(load_network(folder), with_signals)

    tensors[f"{stem}q_proj.weight"] = weights[0]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"qkv_proj\.weight .*same tensor|q_proj\.weight .*same tensor"):
        load_network(folder)
    del tensors[f"{stem}q_proj.weight"]
    tensors[f"{stem}qkv_proj.weight"] = torch.zeros(191, 64)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"qkv_proj\.weight has shape \[191, 64\], config.json asks for \[192, 64\]"):
        load_network(folder)
    tensors[f"{stem}qkv_proj.weight"] = torch.zeros(192, 64).to(torch.float8_e4m3fn)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match="packed queries, keys and values are read unquantised only"):
        load_network(folder)


def test_tensors_of_the_module_are_strangers_to_a_network_without_it(small_network: Network, tmp_path: Path) -> None:
    folder = save_network(small_network, tmp_path / "model")
    tensors = {**all_tensors(folder), ATTENTION.format(0) + "k_proj.bias": torch.zeros(64)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"k_proj\.bias is not part of the architecture"):
        load_network(folder)
