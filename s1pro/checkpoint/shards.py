"""Safetensors folders: what is in them, read tensor by tensor, written shard by shard.

    model.safetensors                                            one shard, or
    model-00001-of-00004.safetensors … + model.safetensors.index.json

`StoredTensors` reads the headers of all files first, so that a folder can be checked completely before memory is taken.
Files are untrusted: safetensors holds no code, names in the index must not leave the folder, and every fault
is one `InputError` that names the file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s1pro.base.errors import InputError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_INDEX_BYTES = 256 * 1024 * 1024
MAX_MAPPED_BYTES = 64 * 1024 * 1024
"""Files are mapped, and what was read stays in memory as long as they are open: after so many bytes they are closed."""


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
        self._read_bytes = 0
        expected = _weight_map(folder)
        self.entries: dict[str, Entry] = {}
        for file in _files(folder, expected):
            self._add_header(file)
        if expected is not None:
            self._compare(expected)

    def read(self, name: str, index: int | None = None) -> Tensor:
        """The tensor, on the CPU, in its stored dtype; with `index`, only that entry of its first dim."""
        entry = self.entries[name]
        self._read_bytes += _num_bytes(entry.dtype, entry.shape if index is None else entry.shape[1:])
        if self._read_bytes > MAX_MAPPED_BYTES:
            self._open.clear()
            self._read_bytes = 0
        try:
            handle = self._handle(entry.file)
            tensor: Tensor = handle.get_tensor(name) if index is None else handle.get_slice(name)[index]
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


Progress = Callable[[int, int], None]
"""Told the bytes that are done, and all of them."""


def write_shards(folder: Path, planned: Iterable[Planned], max_bytes: int, progress: Progress | None = None) -> int:
    """Writes all tensors in order, at most `max_bytes` per file unless a single entry is larger; returns their bytes.

    Only one shard is in memory at a time. Each is read back and compared before the next is made. A shard has its name
    only when it is complete, and one that is there already is kept: the same plan given again after a kill goes on.
    """
    groups = _grouped(planned, max_bytes)
    expected = sum(entry.num_bytes for group in groups for entry in group)
    weight_map: dict[str, str] = {}
    total = done = 0
    for number, group in enumerate(groups, start=1):
        file = SINGLE if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        if not (folder / file).exists():
            _write_shard(folder / file, group, partial(_tell, progress, expected, done))
        sizes = _stored_sizes(folder / file)
        weight_map.update(dict.fromkeys(sizes, file))
        total += sum(sizes.values())
        done += sum(entry.num_bytes for entry in group)
        _tell(progress, expected, done, 0)
    if len(groups) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return total


def _write_shard(path: Path, group: list[Planned], tell: Callable[[int], None]) -> None:
    tensors: dict[str, Tensor] = {}
    made = 0
    for entry in group:
        tensors.update(entry.make())
        made += entry.num_bytes
        tell(made)
    part = path.with_name(f".{path.name}.part")
    part.touch()
    mode = part.stat().st_mode
    save_file(tensors, part, metadata={"format": "pt"})
    part.chmod(mode)  # safetensors writes for the owner only, whatever the umask says
    _verify(part, tensors)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def _tell(progress: Progress | None, total: int, before: int, more: int) -> None:
    if progress is not None:
        progress(before + more, total)


def _stored_sizes(path: Path) -> dict[str, int]:
    """Bytes of every tensor of a shard, from its header."""
    with safe_open(path, framework="pt") as file:
        pieces = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return {name: _num_bytes(piece.get_dtype(), piece.get_shape()) for name, piece in pieces.items()}


def _num_bytes(dtype: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * int(dtype.split("_")[0].lstrip("FBIU")) // 8


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
