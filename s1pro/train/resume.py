"""Checkpoints of a run: what is in them, and whether a folder may be continued.

Tensors (weights, optimizer, random state) go through `checkpoint.training_state`; counters, data position and guard
history are JSON beside them. A folder is continued only with the configuration it was started with, apart from
settings that cannot change the numbers (`FREE_TO_CHANGE`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.checkpoint.training_state import latest_state, load_state, save_state
from s1pro.train.config import RunConfig
from s1pro.train.optim import Optimizer

FREE_TO_CHANGE = (
    "folder",
    "max_seconds",
    "checkpoint_every",
    "keep_checkpoints",
    "eval_every",
    "router_every",
    "peak_tflops",
    "tensorboard",
    "progress",
    "export",
    "data.prefetch",
    "data.cache",
    "data.validation",
    "data.validation_batches",
)


def saved_state(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run folder."""
    return latest_state(folder / "checkpoints")


def store(run: RunConfig, network: nn.Module, optimizer: Optimizer, counters: Mapping[str, Any], step: int) -> Path:
    """Saves a checkpoint for `step` and removes old ones."""
    return save_state(
        run.folder / "checkpoints", step, _tensors(network, optimizer), counters, keep=run.keep_checkpoints
    )


def restore(checkpoint: Path, network: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Reads tensors in place and returns the counters."""
    tensors = _tensors(network, optimizer)
    counters = load_state(checkpoint, tensors)
    torch.set_rng_state(tensors["random_state"])
    return counters


def check_same_run(run: RunConfig) -> None:
    """Compares `run` with the configuration in its folder.

    Raises:
        InputError: a setting that changes the numbers is different; all differences are listed.
    """
    file = run.folder / "config.json"
    if not file.exists():
        raise InputError(f"{run.folder} has checkpoints but no config.json; choose another folder")
    saved, mine = _flat(json.loads(file.read_text(encoding="utf-8"))), _flat(config_to_json(run))
    different = [
        key for key in sorted(saved.keys() | mine.keys()) if saved.get(key) != mine.get(key) and not _is_free(key)
    ]
    if different:
        listed = "; ".join(f"{key} was {saved.get(key)!r}, now {mine.get(key)!r}" for key in different)
        raise InputError(
            f"{run.folder} holds a run with other settings: {listed}. Choose another folder, or delete this one"
        )


def _tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random_state": torch.get_rng_state(),
    }


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_TO_CHANGE)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path."""
    if isinstance(value, list):
        value = {str(i): item for i, item in enumerate(value)}
    if not isinstance(value, Mapping):
        return {prefix: value}
    inner = [_flat(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()]
    return {path: leaf for part in inner for path, leaf in part.items()}
