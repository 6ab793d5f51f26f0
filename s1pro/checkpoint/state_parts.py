"""Training state that lies on several ranks: each writes the boxes it holds, any number of ranks reads them back.

    step-00000100/
        part-00000-of-00004.safetensors     boxes of rank 0; the header says which box of which tensor each one is
        part-00001-of-00004.safetensors     …
        counters.json                       counters, and name and size of every part

    step-00000100/
        state.safetensors                   a single process: whole tensors
        counters.json

Both forms are read the same way, so a run may go from one rank to many and back. Reading asks for the overlap of boxes
(`base.region`) and fetches these bytes only; what is asked for must be covered exactly once.

Parts are written into a hidden folder. `publish` is called when all of them are on disk: it writes `counters.json` and
renames the folder. So a folder with its proper name is complete, whenever anybody was killed; that its parts have the
sizes that `counters.json` names is checked again before it is used.

torch's distributed checkpoints are not used because their index is a pickle, which runs code when it is read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.region import Region

TENSORS, COUNTERS = "state.safetensors", "counters.json"
REGIONS = "regions"
"""Key in the header of a part: name -> [shape, start] of the box stored under this name."""

_PART = re.compile(r"part-\d{5}-of-\d{5}\.safetensors")
MAX_COUNTERS_BYTES = 256 * 1024 * 1024

Box = tuple[Tensor, Region]
"""What is held of a tensor, and where in it that lies."""


def step_folder(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def staging_folder(root: Path, step: int) -> Path:
    """Where the parts of a step are written; emptied and created by whoever coordinates the ranks."""
    return root / f".step-{step:08d}.new"


def start_staging(root: Path, step: int) -> None:
    """An empty folder for the parts, without leftovers of saves that were killed."""
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".step-*.new"):
        shutil.rmtree(leftover, ignore_errors=True)
    staging_folder(root, step).mkdir()


def write_part(root: Path, step: int, number: int, parts: int, boxes: Mapping[str, Box]) -> None:
    """Writes the boxes of one rank and waits until they are on disk."""
    regions = {name: [region.shape, region.start] for name, (_, region) in boxes.items()}
    path = staging_folder(root, step) / part_name(number, parts)
    save_file(plain_tensors({n: t for n, (t, _) in boxes.items()}), path, metadata={REGIONS: json.dumps(regions)})
    with path.open("rb") as file:
        os.fsync(file.fileno())


def publish(root: Path, step: int, parts: int, counters: Mapping[str, Any], plain: Mapping[str, Any]) -> Path:
    """Makes a step whose parts are all written visible."""
    staging, folder = staging_folder(root, step), step_folder(root, step)
    sizes = {name: (staging / name).stat().st_size for name in (part_name(i, parts) for i in range(parts))}
    path = staging / COUNTERS
    path.write_text(json.dumps({"counters": dict(counters), "plain": dict(plain), "parts": sizes}), encoding="utf-8")
    for target in (path, staging):
        _sync(target)
    if folder.exists():  # incomplete, or it would not be written again
        shutil.rmtree(folder)
    staging.rename(folder)
    _sync(root)
    return folder


def part_name(number: int, parts: int) -> str:
    return f"part-{number:05d}-of-{parts:05d}.safetensors"


def is_complete(folder: Path) -> bool:
    """Whether a step folder holds everything that its counters name."""
    if (folder / TENSORS).is_file() and (folder / COUNTERS).is_file():
        return True
    try:
        parts = read_counters(folder / COUNTERS).get("parts")
        return isinstance(parts, dict) and all((folder / n).stat().st_size == size for n, size in parts.items())
    except (InputError, OSError):
        return False


def read_counters(path: Path) -> dict[str, Any]:
    """The content of `counters.json`, with names of parts that cannot leave the folder."""
    try:
        if path.stat().st_size > MAX_COUNTERS_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes are no counters; delete this step folder")
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: damaged or missing ({error}); delete this step folder") from error
    if not isinstance(stored, dict) or not {"counters", "plain"} <= set(stored):
        raise InputError(f"{path}: fields counters and plain are missing; delete this step folder")
    parts = stored.get("parts", {})
    if not isinstance(parts, dict) or not all(_PART.fullmatch(name) for name in parts):
        raise InputError(f"{path}: the field parts does not name parts of a step; delete this step folder")
    return stored


class StoredState:
    """The tensors of a step folder, in whichever of the two forms.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, files: Iterable[str]) -> None:
        self.folder = folder
        self._handles: dict[str, Any] = {}
        self._boxes: dict[str, list[tuple[str, Region]]] = {}
        for file in files:
            with self._readable(file):
                handle = safe_open(folder / file, framework="pt")
                self._handles[file] = handle
                for name, region in _regions_of(handle).items():
                    self._boxes.setdefault(name, []).append((file, region))

    @property
    def names(self) -> set[str]:
        return set(self._boxes)

    def read_into(self, name: str, target: Tensor, region: Region) -> None:
        """Copies the box `region` of a tensor into `target`, bit for bit.

        Raises:
            InputError: shape or dtype differ, or the files do not cover the box.
        """
        found = 0
        for file, stored in self._boxes[name]:
            if stored.shape != region.shape:
                with self._readable(file):
                    raise self._misfit(file, name, self._handles[file].get_tensor(name), stored, target, region)
            common = stored if stored == region else stored.overlap(region)
            if common is not None:
                source = self._read(file, name, stored, common)
                if source.dtype != target.dtype:
                    raise self._misfit(file, name, source, stored, target, region)
                with torch.no_grad():
                    target[common.inside(region)].copy_(source)
                found += common.numel
        if found != region.numel:
            raise InputError(
                f"{self.folder}: {found} of {region.numel} numbers of {name} are stored; delete this step folder"
            )

    def _read(self, file: str, name: str, stored: Region, box: Region) -> Tensor:
        handle = self._handles[file]
        with self._readable(file):
            tensor: Tensor = handle.get_tensor(name) if box == stored else handle.get_slice(name)[box.inside(stored)]
        return tensor

    def _misfit(
        self, file: str, name: str, source: Tensor, stored: Region, target: Tensor, wanted: Region
    ) -> InputError:
        return InputError(
            f"{self.folder / file}: tensor {name} is {source.dtype} {stored.shape}, "
            f"this run needs {target.dtype} {wanted.shape}"
        )

    @contextmanager
    def _readable(self, file: str) -> Any:
        try:
            yield
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.folder / file}: damaged or missing ({error}); delete this step folder") from error


def plain_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors stores plain contiguous tensors that do not share memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.detach().contiguous()
        storage = whole.untyped_storage()
        is_part = storage.nbytes() != whole.numel() * whole.element_size()
        plain[name] = whole.clone() if is_part or storage.data_ptr() in seen else whole
        seen.add(storage.data_ptr())
    return plain


def _regions_of(handle: Any) -> dict[str, Region]:
    """Box of every tensor in a file; without a note in the header they are whole."""
    noted = json.loads((handle.metadata() or {}).get(REGIONS, "{}"))
    regions = {}
    for name in handle.keys():  # noqa: SIM118 (not a mapping)
        size = tuple(handle.get_slice(name).get_shape())
        shape, start = noted.get(name, (size, (0,) * len(size)))
        regions[name] = Region(tuple(int(n) for n in shape), tuple(int(n) for n in start), size)
    return regions


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
