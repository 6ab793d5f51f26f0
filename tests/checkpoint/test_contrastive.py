"""Two-tower folders: round trip, and vision towers into networks, with errors that name the difference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from s1pro.base.errors import InputError
from s1pro.checkpoint.contrastive import (
    add_tower,
    load_contrastive,
    load_vision_tower,
    save_contrastive,
    vision_config_of,
)
from s1pro.checkpoint.released import load_network, save_network
from s1pro.model.config import VisionConfig
from s1pro.model.contrastive import CaptionConfig, ContrastiveConfig, ContrastiveModel
from s1pro.model.network import Network
from s1pro.model.presets import tiny

VISION = VisionConfig(
    depth=1, hidden_size=16, num_heads=2, intermediate_size=32, patch_size=2, num_position_embeddings=16,
    out_hidden_size=64,
)  # fmt: skip
CONFIG = ContrastiveConfig(
    vision=VISION,
    captions=CaptionConfig(vocab_size=9, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24),
    embedding_size=8,
)
TOKENS = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(x == y and torch.equal(p, q) for (x, p), (y, q) in pairs)


@pytest.mark.parametrize("form", ["sigmoid", "softmax"])
def test_round_trip_keeps_weights_configuration_and_other_files(tmp_path: Path, form: str) -> None:
    model = ContrastiveModel(dataclasses.replace(CONFIG, form=form), seed=4)  # type: ignore[arg-type]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    save_contrastive(model, folder)
    loaded = load_contrastive(folder)
    assert loaded.config == model.config and same(loaded, model)
    assert (folder / "tokenizer.json").exists()
    names = set(load_file(folder / "model.safetensors"))
    assert {n for n in names if n.startswith("model.")} == {
        f"model.visual.{name}"
        for name in Network(dataclasses.replace(tiny(16), vision=VISION)).model.visual.state_dict()
    }


def test_towers_come_from_contrastive_and_from_released_folders(tmp_path: Path) -> None:
    model = ContrastiveModel(CONFIG, seed=4)
    save_contrastive(model, tmp_path / "contrastive")
    network = Network(dataclasses.replace(tiny(16), vision=VISION, **TOKENS), seed=1)
    language = {n: p.clone() for n, p in network.state_dict().items() if "visual" not in n}
    load_vision_tower(network.model.visual, tmp_path / "contrastive")
    assert same(network.model.visual, model.model["visual"])
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in language.items())
    save_network(network, tmp_path / "released")
    other = Network(dataclasses.replace(tiny(16), vision=VISION, **TOKENS), seed=2)
    load_vision_tower(other.model.visual, tmp_path / "released")
    assert same(other.model.visual, model.model["visual"])


def test_a_text_network_gets_a_tower_and_is_stored_with_it(tmp_path: Path) -> None:
    model = ContrastiveModel(CONFIG, seed=4)
    save_contrastive(model, tmp_path / "contrastive")
    network = Network(tiny(16), seed=1)
    add_tower(network, tmp_path / "contrastive", TOKENS)
    load_vision_tower(network.model.visual, tmp_path / "contrastive")
    save_network(network, tmp_path / "joined")
    joined = load_network(tmp_path / "joined")
    assert same(joined, network) and joined.config.image_token_id == 3
    assert same(joined.model.visual, model.model["visual"])
    with pytest.raises(InputError, match=r"out_hidden_size=64, the language model has hidden_size=96"):
        add_tower(Network(dataclasses.replace(tiny(16), text=dataclasses.replace(tiny(16).text, hidden_size=96))),
                  tmp_path / "contrastive", TOKENS)  # fmt: skip


def test_towers_that_differ_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    folder = save_contrastive(ContrastiveModel(CONFIG), tmp_path / "model")
    wider = dataclasses.replace(VISION, num_heads=4, depth=2)
    network = Network(dataclasses.replace(tiny(16), vision=wider), seed=1)
    before = {n: p.clone() for n, p in network.state_dict().items()}
    message = "vision tower differs: depth is 1 there, 2 here; num_heads is 2 there, 4 here"
    with pytest.raises(InputError, match=message):
        load_vision_tower(network.model.visual, folder)
    tensors = load_file(folder / "model.safetensors")
    network = Network(dataclasses.replace(tiny(16), vision=VISION), seed=1)
    before = {n: p.clone() for n, p in network.state_dict().items()}
    broken = {
        "has shape": {**tensors, "model.visual.pos_embed.weight": torch.zeros(4, 16)},
        "is missing": {n: t for n, t in tensors.items() if n != "model.visual.merger.norm.bias"},
        "holds other than finite": {**tensors, "model.visual.merger.norm.bias": torch.full((16,), float("nan"))},
    }
    for message, content in broken.items():
        save_file(content, folder / "model.safetensors")
        with pytest.raises(InputError, match=message):
            load_vision_tower(network.model.visual, folder)
        assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    save_file({**tensors, "extra": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="tensor extra is not part"):
        load_contrastive(folder)


def test_folders_of_another_kind_are_named(tmp_path: Path) -> None:
    save_network(Network(tiny(16)), tmp_path / "text")
    with pytest.raises(InputError, match="the model has no vision tower"):
        vision_config_of(tmp_path / "text")
    with pytest.raises(InputError, match="model_type is 'interns1_pro', expected 's1pro_contrastive'"):
        load_contrastive(tmp_path / "text")
    folder = save_contrastive(ContrastiveModel(CONFIG), tmp_path / "model")
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, "pooling": "max"}))
    with pytest.raises(InputError, match=r"config.json.pooling: 'max' is not one of"):
        load_contrastive(folder)
    with pytest.raises(InputError, match="no such folder"):
        load_contrastive(tmp_path / "nowhere")
