"""Whether the folder of a run may be continued.

A folder is continued only with the configuration it was started with, apart from settings that cannot change the
numbers (`FREE_TO_CHANGE`). How a run is spread over ranks is one of these: a step is the same micro-batches on any
number of ranks, and its numbers differ by round-off only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.train.config import RunConfig

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
    "parallel",
    "data.prefetch",
    "data.cache",
    "data.validation",
    "data.validation_batches",
    "judges",
    "system.mode",
    "system.workers",
    "system.judges",
    "system.colocated",
    "system.worker_cpus",
    "system.worker_gpus",
    "system.trainer_cpus",
    "system.trainer_gpus",
    "system.address",
    "system.restarts",
)


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
