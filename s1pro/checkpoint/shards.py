"""Safetensors folders: what is in them, read tensor by tensor, written shard by shard.

    model.safetensors                                            one shard, or
    model-00001-of-00004.safetensors … + model.safetensors.index.json

`StoredTensors` reads the headers of all files first, so that a folder can be checked completely before memory is taken.
Files are untrusted: safetensors holds no code, names in the index must not leave the folder, and every fault
is one `InputError` that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s1pro.base.errors import InputError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_INDEX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies; `dtype` as safetensors spells it (F32, BF16, F8_E4M3 …)."""

    file: str
    dtype: str
    shape: tuple[int, ...]


class StoredTensors:
    """The tensors of a model folder.

    Attributes:
        entries: by name, in the order of files.

    Raises:
        InputError: no weights, a damaged or missing file, an index that disagrees with the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Any] = {}
        expected = _weight_map(folder)
        self.entries: dict[str, Entry] = {}
        for file in _files(folder, expected):
            self._add_header(file)
        if expected is not None:
            self._compare(expected)

    def read(self, name: str) -> Tensor:
        """The tensor, on the CPU, in its stored dtype."""
        entry = self.entries[name]
        try:
            tensor: Tensor = self._handle(entry.file).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{self.folder / entry.file}: cannot read {name} ({error})") from error
        return tensor

    def _add_header(self, file: str) -> None:
        handle = self._handle(file)
        for name in handle.keys():  # noqa: SIM118 (not a mapping)
            if name in self.entries:
                raise InputError(
                    f"{self.folder / file}: tensor {name} is also in {self.entries[name].file}; delete the stale file"
                )
            piece = handle.get_slice(name)
            self.entries[name] = Entry(file, piece.get_dtype(), tuple(piece.get_shape()))

    def _handle(self, file: str) -> Any:
        if file not in self._open:
            path = self.folder / file
            if not path.is_file():
                raise InputError(f"{path}: missing; {INDEX} names it")
            try:
                self._open[file] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise InputError(f"{path}: damaged or truncated ({error}); copy it again") from error
        return self._open[file]

    def _compare(self, expected: Mapping[str, str]) -> None:
        for name, file in expected.items():
            entry = self.entries.get(name)
            if entry is None or entry.file != file:
                raise InputError(f"{self.folder / file}: tensor {name} is missing; {INDEX} says that it is here")
        for name, entry in self.entries.items():
            if name not in expected:
                raise InputError(f"{self.folder / entry.file}: tensor {name} is not in {INDEX}")


def _weight_map(folder: Path) -> dict[str, str] | None:
    path = folder / INDEX
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes is no index")
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        pairs = {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not an index with a weight_map ({error})") from error
    for file in set(pairs.values()):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(f"{path}: weight_map names {file!r}; only .safetensors files of this folder are allowed")
    return pairs


def _files(folder: Path, weight_map: Mapping[str, str] | None) -> list[str]:
    if weight_map is not None:
        return sorted(set(weight_map.values()))
    if (folder / SINGLE).is_file():
        return [SINGLE]
    raise InputError(f"{folder}: no weights; expected {SINGLE} or {INDEX}")


@dataclass(frozen=True)
class Planned:
    """Tensors that are made together and stay in one shard: their names, their bytes, and how to make them."""

    num_bytes: int
    make: Callable[[], Mapping[str, Tensor]]


def write_shards(folder: Path, planned: Iterable[Planned], max_bytes: int) -> int:
    """Writes all tensors in order, at most `max_bytes` per file unless a single entry is larger; returns their bytes.

    Only one shard is in memory at a time. Each is read back and compared before the next is made.
    """
    groups = _grouped(planned, max_bytes)
    weight_map: dict[str, str] = {}
    total = 0
    for number, group in enumerate(groups, start=1):
        file = SINGLE if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        tensors = {name: tensor for entry in group for name, tensor in entry.make().items()}
        (folder / file).touch()
        mode = (folder / file).stat().st_mode
        save_file(tensors, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(mode)  # safetensors writes for the owner only, whatever the umask says
        _verify(folder / file, tensors)
        weight_map.update(dict.fromkeys(tensors, file))
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(groups) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return total


def _grouped(planned: Iterable[Planned], max_bytes: int) -> list[list[Planned]]:
    groups: list[list[Planned]] = [[]]
    size = 0
    for entry in planned:
        if groups[-1] and size + entry.num_bytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += entry.num_bytes
    return groups


def _verify(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with safe_open(path, framework="pt") as file:
        for name, tensor in tensors.items():
            stored = file.get_tensor(name)
            if stored.dtype != tensor.dtype or not torch.equal(_bytes(stored), _bytes(tensor)):
                raise InputError(f"{path}: {name} reads back differently; check the disk")


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)
