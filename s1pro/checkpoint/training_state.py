"""Resumable training state: one folder per step, `step-00000100/`.

    state.safetensors    every tensor of the nested state, under its path ("optimizer/state/3/exp_avg")
    counters.json        step, data position, guard history: anything that is plain JSON

That is the form of a single process; several ranks write parts instead (`checkpoint.state_parts`). Both are read here.

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

from safetensors.torch import save_file
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.region import Region
from s1pro.checkpoint.folder import replaced_folder
from s1pro.checkpoint.state_parts import (
    COUNTERS,
    TENSORS,
    StoredState,
    is_complete,
    plain_tensors,
    read_counters,
    step_folder,
)


def save_state(
    root: Path, step: int, tensors: Mapping[str, Any], counters: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Writes `root/step-…` and keeps the newest `keep` steps. A step that is there already is left alone.

    Args:
        tensors: nested mappings and lists of tensors; plain numbers and None inside are stored with the counters.
        counters: JSON values.
    """
    folder = step_folder(root, step)
    if not is_complete(folder):
        flat, plain = flatten(tensors)
        with replaced_folder(folder) as new:
            save_file(plain_tensors(flat), new / TENSORS)
            (new / COUNTERS).write_text(json.dumps({"counters": dict(counters), "plain": plain}), encoding="utf-8")
    keep_newest(root, keep)
    return folder


def keep_newest(root: Path, keep: int) -> None:
    """Deletes all but the newest complete steps."""
    for old in _steps(root)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def latest_state(root: Path) -> Path | None:
    """The complete folder of the highest step, if there is one."""
    steps = _steps(root)
    return steps[-1] if steps else None


def load_state(folder: Path, tensors: Mapping[str, Any], regions: Mapping[str, Region] | None = None) -> dict[str, Any]:
    """Copies the stored tensors into `tensors` (same nesting, shapes and dtypes) and returns the counters.

    Args:
        regions: for every path of a tensor that is a box of a larger one, which; the others are whole.

    Raises:
        InputError: a file is missing or damaged, or the state does not fit.
    """
    expected, plain = flatten(tensors)
    stored = read_counters(folder / COUNTERS)
    if stored["plain"] != json.loads(json.dumps(plain)):
        raise InputError(f"{folder / COUNTERS}: belongs to another optimizer or network configuration")
    state = StoredState(folder, stored.get("parts", (TENSORS,)))
    _check_names(folder, state.names, set(expected))
    for name, target in expected.items():
        state.read_into(name, target, (regions or {}).get(name) or Region.whole(tuple(target.shape)))
    counters: dict[str, Any] = stored["counters"]
    return counters


def _steps(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("step-*") if is_complete(path)) if root.is_dir() else []


def flatten(tensors: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by path, and everything else by path.

    Raises:
        InputError: two entries have the same path.
    """
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


def _check_names(folder: Path, stored: set[str], expected: set[str]) -> None:
    missing, extra = sorted(expected - stored), sorted(stored - expected)
    if missing or extra:
        raise InputError(f"{folder}: the state does not fit this run (missing {missing[:3]}, unexpected {extra[:3]})")
