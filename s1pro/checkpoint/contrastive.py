"""Contrastive models from and to folders, and vision towers from either kind of folder into a network.

    folder/config.json          {"model_type": "s1pro_contrastive", both towers and how they meet}
    folder/model.safetensors    weights by our names; the vision tower lies under its released ones, model.visual.*

A language model takes over the vision tower only. It may come from such a folder or from one in the released layout.
Towers must agree in every setting, not in shapes alone: the number of heads is in no shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s1pro.base.config import config_from_json, config_to_json
from s1pro.base.errors import InputError
from s1pro.checkpoint.config_file import CONFIG, parse_config, read_config_json
from s1pro.checkpoint.folder import readable_folder, replaced_folder
from s1pro.checkpoint.names import canonical_name
from s1pro.checkpoint.shards import Planned, StoredTensors, write_shards
from s1pro.model.config import VisionConfig
from s1pro.model.contrastive import ContrastiveConfig, ContrastiveModel
from s1pro.model.network import Network
from s1pro.model.vision import VisionTower

MODEL_TYPE = "s1pro_contrastive"
TOWER = "model.visual."
MAX_SHARD_BYTES = 5 * 10**9


def save_contrastive(model: ContrastiveModel, folder: str | Path) -> Path:
    """Writes `folder`; a reader sees the old one or the new one. Other files in it stay."""
    data = {"model_type": MODEL_TYPE, **config_to_json(model.config)}
    with replaced_folder(Path(folder), keep_other_files=True) as new:
        (new / CONFIG).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        write_shards(new, [_planned(name, tensor) for name, tensor in model.state_dict().items()], MAX_SHARD_BYTES)
    return Path(folder)


def load_contrastive(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> ContrastiveModel:
    """The model stored in `folder`.

    Raises:
        InputError: no such folder, another kind of model, or a tensor that is missing, extra or of the wrong shape.
    """
    folder = readable_folder(Path(folder))
    config = _contrastive_config(folder, read_config_json(folder))
    with torch.device("meta"):
        model = ContrastiveModel(config)
    model = model.to(dtype).to_empty(device="cpu")
    _fill(model.state_dict(), StoredTensors(folder), {name: name for name in model.state_dict()}, only=True)
    return model


def load_vision_tower(tower: VisionTower, folder: str | Path) -> None:
    """Copies the vision tower of `folder` into another one.

    Raises:
        InputError: the folder has no tower, settings differ (all differences are listed), or a tensor is missing, of
            the wrong shape or not finite. The tower is unchanged then.
    """
    folder = readable_folder(Path(folder))
    stored_config = vision_config_of(folder)
    if stored_config != tower.config:
        raise InputError(f"{folder}: vision tower differs: {_differences(stored_config, tower.config)}")
    stored = StoredTensors(folder)
    by_name = {canonical_name(name): name for name in stored.entries}
    state = tower.state_dict()
    _fill(state, stored, {name: by_name.get(TOWER + name, TOWER + name) for name in state}, only=False)


def add_tower(network: Network, folder: str | Path, tokens: Mapping[str, int]) -> None:
    """Gives a text network an empty vision tower as `folder` describes it.

    Args:
        tokens: ids of the placeholder tokens by their field of `ModelConfig` (`image_token_id` …).

    Raises:
        InputError: the tower's output does not have the width of the network.
    """
    vision, hidden = vision_config_of(folder), network.config.text.hidden_size
    if vision.out_hidden_size != hidden:
        raise InputError(
            f"{folder}: the tower gives vectors of out_hidden_size={vision.out_hidden_size}, the language model has "
            f"hidden_size={hidden}; train the tower with that width"
        )
    weight = network.lm_head.weight
    network.config = replace(network.config, vision=vision, **tokens)  # type: ignore[arg-type]
    with torch.device("meta"):
        tower = VisionTower(vision)
    network.model.visual = tower.to(weight.dtype).to_empty(device=weight.device)


def vision_config_of(folder: str | Path) -> VisionConfig:
    """The vision tower that a folder describes, contrastive or released.

    Raises:
        InputError: it has none.
    """
    folder = readable_folder(Path(folder))
    data = read_config_json(folder)
    if data.get("model_type") == MODEL_TYPE:
        return _contrastive_config(folder, data).vision
    vision = parse_config(data, where=str(folder / CONFIG)).vision
    if vision is None:
        raise InputError(f"{folder / CONFIG}: the model has no vision tower (no vision_config)")
    return vision


def _contrastive_config(folder: Path, data: dict[str, Any]) -> ContrastiveConfig:
    kind = data.pop("model_type", None)
    if kind != MODEL_TYPE:
        raise InputError(f"{folder / CONFIG}: model_type is {kind!r}, expected {MODEL_TYPE!r}")
    return config_from_json(ContrastiveConfig, data, path=str(folder / CONFIG))


def _differences(stored: VisionConfig, mine: VisionConfig) -> str:
    pairs = ((field.name, getattr(stored, field.name), getattr(mine, field.name)) for field in fields(VisionConfig))
    return "; ".join(f"{name} is {a!r} there, {b!r} here" for name, a, b in pairs if a != b)


@torch.no_grad()
def _fill(state: Mapping[str, Tensor], stored: StoredTensors, names: Mapping[str, str], *, only: bool) -> None:
    """Copies stored tensors into `state`, after all of them have been checked; `only` refuses other tensors."""
    for own, name in names.items():
        entry = stored.entries.get(name)
        if entry is None:
            raise InputError(f"{stored.folder}: tensor {name} is missing")
        if entry.shape != tuple(state[own].shape):
            raise InputError(
                f"{stored.folder / entry.file}: tensor {name} has shape {list(entry.shape)}, "
                f"expected {list(state[own].shape)}"
            )
    extra = sorted(set(stored.entries) - set(names.values())) if only else []
    if extra:
        raise InputError(f"{stored.folder}: tensor {extra[0]} is not part of the model in {CONFIG}")
    tensors = {own: stored.read(name) for own, name in names.items()}
    for own, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise InputError(f"{stored.folder}: tensor {names[own]} ({tensor.dtype}) holds other than finite numbers")
    for own, tensor in tensors.items():
        state[own].copy_(tensor)


def _planned(name: str, tensor: Tensor) -> Planned:
    return Planned(tensor.nbytes, lambda: {name: tensor.detach().to("cpu").contiguous()})
