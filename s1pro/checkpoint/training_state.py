"""Resumable training state: one folder per step, `step-00000100/`.

    state.safetensors    every tensor of the nested state, under its path ("optimizer/state/3/exp_avg")
    counters.json        step, data position, guard history: anything that is plain JSON

The format holds no pickled object. Tensors are read back into existing tensors, bit for bit; numbers of the optimizer
that are not tensors are counters of the caller or constants of its configuration. A folder appears complete or not at
all, and older folders are deleted only after the new one is in place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.folder import replaced_folder

TENSORS, COUNTERS = "state.safetensors", "counters.json"


def save_state(
    root: Path, step: int, tensors: Mapping[str, Any], counters: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Writes `root/step-…` and keeps the newest `keep` steps. A step that is there already is left alone.

    Args:
        tensors: nested mappings and lists of tensors; plain numbers and None inside are stored with the counters.
        counters: JSON values.
    """
    folder = root / f"step-{step:08d}"
    if not _complete(folder):
        flat, plain = _flatten(tensors)
        with replaced_folder(folder) as new:
            save_file(_without_aliases(flat), new / TENSORS)
            (new / COUNTERS).write_text(json.dumps({"counters": dict(counters), "plain": plain}), encoding="utf-8")
    for old in _steps(root)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def latest_state(root: Path) -> Path | None:
    """The complete folder of the highest step, if there is one."""
    steps = _steps(root)
    return steps[-1] if steps else None


def load_state(folder: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Copies the stored tensors into `tensors` (same nesting, shapes and dtypes) and returns the counters.

    Raises:
        InputError: a file is missing or damaged, or the state does not fit.
    """
    expected, plain = _flatten(tensors)
    stored = _read_counters(folder / COUNTERS)
    if stored["plain"] != json.loads(json.dumps(plain)):
        raise InputError(f"{folder / COUNTERS}: belongs to another optimizer or network configuration")
    try:
        with safe_open(folder / TENSORS, framework="pt") as file:
            _check_names(folder, set(file.keys()), set(expected))
            for name, target in expected.items():
                _copy(folder, name, file.get_tensor(name), target)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / TENSORS}: damaged or missing ({error}); delete this step folder") from error
    counters: dict[str, Any] = stored["counters"]
    return counters


def _steps(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("step-*") if _complete(path)) if root.is_dir() else []


def _complete(folder: Path) -> bool:
    return (folder / TENSORS).is_file() and (folder / COUNTERS).is_file()


def _flatten(tensors: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    flat: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for path, leaf in _leaves(tensors, ""):
        if path in flat or path in plain:
            raise InputError(f"training state: two entries have the path {path!r}; rename one")
        if isinstance(leaf, Tensor):
            flat[path] = leaf.detach()
        else:
            plain[path] = leaf
    return flat, plain


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        yield path, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{path}/{key}" if path else key)


def _without_aliases(flat: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors stores plain contiguous tensors that do not share memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in flat.items():
        whole = tensor.contiguous()
        storage = whole.untyped_storage().data_ptr()
        plain[name] = whole.clone() if storage in seen else whole
        seen.add(storage)
    return plain


def _read_counters(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or not {"counters", "plain"} <= set(stored):
            raise InputError(f"{path}: fields counters and plain are missing; delete this step folder")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: damaged or missing ({error}); delete this step folder") from error
    return stored


def _check_names(folder: Path, stored: set[str], expected: set[str]) -> None:
    missing, extra = sorted(expected - stored), sorted(stored - expected)
    if missing or extra:
        raise InputError(f"{folder}: the state does not fit this run (missing {missing[:3]}, unexpected {extra[:3]})")


def _copy(folder: Path, name: str, source: Tensor, target: Tensor) -> None:
    if source.shape != target.shape or source.dtype != target.dtype:
        raise InputError(
            f"{folder}: tensor {name} is {source.dtype} {tuple(source.shape)}, "
            f"this run needs {target.dtype} {tuple(target.shape)}"
        )
    with torch.no_grad():
        target.copy_(source)
