"""Layouts and precisions into each other, streamed: against the goldens, the writer of networks, and transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from s1pro.checkpoint.names import Layout
from s1pro.checkpoint.released import load_network, save_network
from s1pro.checkpoint.rewrite import Storage, rewrite
from s1pro.checkpoint.shards import StoredTensors
from s1pro.checkpoint.sources import FolderWeights
from s1pro.kernels.fp8 import is_power_of_two
from s1pro.model.network import Network

LAYOUTS: tuple[Layout, ...] = ("per_expert", "fused", "fused_out_in")


def converted(source: Path, target: Path, **storage: Any) -> Path:
    weights = FolderWeights(source)
    rewrite(weights, weights, target, Storage(**storage))
    return target


def same_bytes(first: Path, second: Path) -> None:
    one, two = StoredTensors(first), StoredTensors(second)
    assert one.entries.keys() == two.entries.keys()
    for name in one.entries:
        a, b = one.read(name), two.read(name)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert torch.equal(a.view(torch.uint8), b.view(torch.uint8)), name


def same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("golden", ["model_tiny", "model_branches/explicit_num_inv_freq_dense_layer"])
@pytest.mark.parametrize("through", LAYOUTS)
def test_every_layout_becomes_every_other(goldens_dir: Path, tmp_path: Path, golden: str, through: Layout) -> None:
    source = goldens_dir / golden
    state = load_network(source).state_dict()
    middle = converted(source, tmp_path / "middle", layout=through, max_shard_bytes=300_000)
    same_state(load_network(middle).state_dict(), state)
    for layout in LAYOUTS:
        target = converted(middle, tmp_path / layout, layout=layout)
        same_state(load_network(target).state_dict(), state)
        experts = [name for name in StoredTensors(target).entries if name.endswith("mlp.experts.gate_up_proj")]
        assert bool(experts) == (layout != "per_expert")
    same_bytes(tmp_path / "per_expert", source)


def test_the_streamed_writer_equals_the_writer_of_networks(small_network: Network, tmp_path: Path) -> None:
    """Byte for byte, for every layout and precision that both know."""
    save_network(small_network, tmp_path / "source")
    for index, (dtype, layout) in enumerate((d, n) for d in ("float32", "bfloat16") for n in LAYOUTS):
        expected = load_network(tmp_path / "source", dtype=getattr(torch, dtype))
        save_network(expected, tmp_path / f"expected{index}", layout=layout)
        converted(tmp_path / "source", tmp_path / f"found{index}", dtype=dtype, layout=layout)
        same_bytes(tmp_path / f"found{index}", tmp_path / f"expected{index}")
        found, wanted = ((tmp_path / f"{name}{index}" / "config.json").read_text() for name in ("found", "expected"))
        assert found == wanted
    for scale_format in ("fp32", "ue8m0"):
        save_network(small_network, tmp_path / f"expected-{scale_format}", fp8=True, scale_format=scale_format)
        converted(tmp_path / "source", tmp_path / f"found-{scale_format}", fp8=True, scale_format=scale_format)
        same_bytes(tmp_path / f"found-{scale_format}", tmp_path / f"expected-{scale_format}")
        found, wanted = (tmp_path / f"{name}-{scale_format}" / "config.json" for name in ("found", "expected"))
        assert found.read_text() == wanted.read_text()


def test_fp8_goldens_between_their_scale_formats(made_fp8: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """What the golden's own converter made of the unquantised weights, and what ours makes of its folders."""
    source = made_fp8["model_fp8_small", "fp32"]
    kept = converted(source, tmp_path / "kept", fp8=True)
    same_bytes(kept, source)
    powers = converted(source, tmp_path / "powers", fp8=True, scale_format="ue8m0")
    stored = StoredTensors(powers)
    scales = [name for name in stored.entries if name.endswith("_scale_inv")]
    assert scales and all(bool(is_power_of_two(stored.read(name)).all()) for name in scales)
    assert json.loads((powers / "config.json").read_text())["quantization_config"]["scale_fmt"] == "ue8m0"
    again = converted(powers, tmp_path / "again", fp8=True)
    same_bytes(again, powers)


def test_fp8_goldens_dequantised(made_fp8: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    source = made_fp8["model_fp8_small", "fp32"]
    state = load_network(source).state_dict()
    wide = converted(source, tmp_path / "wide", dtype="float32", layout="fused")
    same_state(load_network(wide).state_dict(), state)
    assert "quantization_config" not in json.loads((wide / "config.json").read_text())
    narrow = converted(source, tmp_path / "narrow", dtype="bfloat16")
    dtypes = {name: entry.dtype for name, entry in StoredTensors(narrow).entries.items()}
    assert set(dtypes.values()) == {"BF16", "F32"}
    assert all("rotary_emb" in name for name, dtype in dtypes.items() if dtype == "F32")
    rounded = {name: t if "rotary_emb" in name else t.bfloat16().float() for name, t in state.items()}
    same_state(load_network(narrow).state_dict(), rounded)


def test_folders_that_call_their_scales_fp32_are_read(made_fp8: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """As this project did once; transformers refuses the word, so it is not written any more."""
    source = tmp_path / "source"
    shutil.copytree(made_fp8["model_fp8_small", "fp32"], source)
    text = (source / "config.json").read_text()
    assert '"scale_fmt": "float"' in text
    (source / "config.json").write_text(text.replace('"scale_fmt": "float"', '"scale_fmt": "fp32"'))
    target = converted(source, tmp_path / "target", fp8=True)
    same_bytes(target, source)
    assert '"scale_fmt": "float"' in (target / "config.json").read_text()


def test_other_files_come_along_and_stale_weights_do_not(small_network: Network, tmp_path: Path) -> None:
    source = save_network(small_network, tmp_path / "source")
    for name in ("tokenizer.json", "chat_template.jinja", "pytorch_model.bin", ".hidden"):
        (source / name).write_text(name)
    converted(source, tmp_path / "target", max_shard_bytes=100_000)
    files = {path.name for path in (tmp_path / "target").iterdir() if path.suffix != ".safetensors"}
    assert files == {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"}
    index = json.loads((tmp_path / "target" / "model.safetensors.index.json").read_text())
    stored = StoredTensors(tmp_path / "target")
    assert {name: entry.file for name, entry in stored.entries.items()} == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(stored.read(name).nbytes for name in stored.entries)


@pytest.mark.parametrize("scale_format", ["fp32", "ue8m0"])
def test_transformers_reads_the_same_fp8_values(tmp_path: Path, scale_format: str) -> None:
    """transformers 5 dequantises FP8 folders on a CPU, to bfloat16, where sizes are multiples of 128."""
    settings = {
        "vocab_size": 64,
        "hidden_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "moe_intermediate_size": 128,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
    }
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**settings, tie_word_embeddings=False)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "qwen")
    ours = converted(tmp_path / "qwen", tmp_path / "fp8", fp8=True, scale_format=scale_format)

    def theirs(name: str) -> str:
        return name.replace("model.language_model.", "model.")

    folder = tmp_path / "theirs"
    folder.mkdir()
    tensors = {theirs(name): tensor for name, tensor in load_file(ours / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    quantization = json.loads((ours / "config.json").read_text())["quantization_config"]
    assert quantization["scale_fmt"] == {"fp32": "float", "ue8m0": "ue8m0"}[scale_format]
    quantization["modules_to_not_convert"] = [theirs(name) for name in quantization["modules_to_not_convert"]]
    config = json.loads((tmp_path / "qwen" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    read = Qwen3MoeForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).state_dict()
    state = {theirs(name): tensor for name, tensor in load_network(ours).state_dict().items()}
    assert read.keys() == state.keys()
    for name, tensor in read.items():
        assert torch.equal(tensor, state[name].to(torch.bfloat16)), name


def test_memory_of_mapped_files_is_given_back(
    small_network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are closed and opened again while they are read; nothing of it shows in the result."""
    source = save_network(small_network, tmp_path / "source")
    converted(source, tmp_path / "once")
    monkeypatch.setattr("s1pro.checkpoint.shards.MAX_MAPPED_BYTES", 10_000)
    converted(source, tmp_path / "often")
    same_bytes(tmp_path / "often", tmp_path / "once")


def test_a_tensor_that_overflows_the_new_precision_is_an_error(small_network: Network, tmp_path: Path) -> None:
    source = save_network(small_network, tmp_path / "source")
    state = {name: tensor.clone() for name, tensor in load_file(source / "model.safetensors").items()}
    state["model.language_model.norm.weight"] = state["model.language_model.norm.weight"].double() * 1e300
    save_file(state, source / "model.safetensors")
    with pytest.raises(ValueError, match=r"float32: tensor model\.language_model\.norm\.weight has 136 of 136"):
        converted(source, tmp_path / "target", dtype="float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
