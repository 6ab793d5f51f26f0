"""Writing `Weights` as a folder in the released layout, tensor by tensor: what `convert` and `expand` have in common.

    for every tensor of the target, in order: read its parts, cast or quantise, collect up to a shard, write, read back

Memory holds one shard and, where experts are stored as a stack, one stack. Work that was killed goes on at the first
shard that is missing (`folder.resumed_folder`), and gives the bytes of an uninterrupted run.

Files of the source that hold no weights (tokenizer, chat template, generation settings) are copied.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Size, Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint import quantization
from s1pro.checkpoint.config_file import CONFIG, config_json, with_foreign_keys
from s1pro.checkpoint.folder import resumed_folder
from s1pro.checkpoint.matching import check_finite
from s1pro.checkpoint.names import Layout, Piece, modules_not_converted, pieces
from s1pro.checkpoint.quantization import BLOCK, SCALE_SUFFIX
from s1pro.checkpoint.released import MAX_SHARD_BYTES
from s1pro.checkpoint.shards import INDEX, Planned, Progress, write_shards
from s1pro.checkpoint.sources import FolderWeights, Weights, expert_matrix, is_stack, shapes_of
from s1pro.kernels.fp8 import ScaleFormat

MAX_COPIED_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How a folder stores its tensors.

    Attributes:
        layout: of the expert tensors; FP8 exists per expert only.
        dtype: of everything that is not FP8; None keeps that of every tensor, and gives FP8 tensors of the source the
            one that its config.json names. FoPE coefficients stay float32.
        fp8: attention projections and experts in blocks of 128 x 128.
        scale_format: of the FP8 scales; None keeps those of unchanged blocks, else fp32.
    """

    layout: Layout = "per_expert"
    dtype: Literal["float32", "bfloat16"] | None = None
    fp8: bool = False
    scale_format: ScaleFormat | None = None
    max_shard_bytes: int = MAX_SHARD_BYTES

    def __post_init__(self) -> None:
        if self.fp8 and self.layout != "per_expert":
            raise InputError(f"layout={self.layout!r} cannot be stored in FP8; use per_expert")
        if self.scale_format is not None and not self.fp8:
            raise InputError("--scale-format has no effect without --fp8")
        if self.max_shard_bytes < 1:
            raise InputError(f"max_shard_bytes={self.max_shard_bytes} must be positive")


def rewrite(
    source: FolderWeights,
    weights: Weights,
    target: Path,
    storage: Storage,
    *,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    finish: Callable[[Path], None] | None = None,
) -> int:
    """Writes `weights`, which come from `source`, to the folder `target`; returns the bytes of its tensors.

    Args:
        settings: JSON values that decide what is written, besides source and storage; resumed work must have the same.
        finish: called with the complete folder before it gets its name.

    Raises:
        InputError: the target exists, a weight is not finite, or unfinished work does not fit.
    """
    if target.resolve() == source.folder.resolve():
        raise InputError(f"{target} is the source itself; choose another folder")
    dtype = getattr(torch, storage.dtype) if storage.dtype else None
    work = {
        "source": {"folder": str(source.folder.resolve()), "files": source.fingerprint()},
        "storage": asdict(storage),
        **(settings or {}),
    }
    shapes = shapes_of(weights.config)
    table = pieces(shapes, storage.layout)
    with resumed_folder(target, work, resume=resume) as folder:
        scale_format = storage.scale_format or source.scale_format or "fp32"
        config = config_json(weights.config, dtype=str(dtype or source.dtype).removeprefix("torch."))
        config = with_foreign_keys(config, source.foreign)
        if storage.fp8:
            config["quantization_config"] = quantization.quantization_config(scale_format, modules_not_converted(table))
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        keep_scales = storage.scale_format is None
        planned = [
            _planned_fp8(weights, piece, shapes[piece.own], scale_format, keep_scales)
            if storage.fp8 and piece.quantised
            else _planned_plain(weights, piece, shapes[piece.own], source.dtype_of(piece.own, dtype))
            for piece in table
        ]
        total = write_shards(folder, planned, storage.max_shard_bytes, progress)
        _copy_other_files(source.folder, folder)
        if finish is not None:
            finish(folder)
    return total


def digest(values: Any) -> str:
    """A short name of an array or JSON value, to notice that resumed work has other settings."""
    data = values.tobytes() if hasattr(values, "tobytes") else json.dumps(values, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _planned_plain(weights: Weights, piece: Piece, own: Size, dtype: torch.dtype) -> Planned:
    def make() -> Mapping[str, Tensor]:
        if piece.expert is None and is_stack(piece.own):
            tensor = _stack(weights, piece, own, dtype)
        elif piece.expert is None:
            tensor = _copied(weights.whole(piece.own)[0], dtype)
        else:
            tensor = _copied(weights.expert(piece.own, piece.expert, piece.half)[0], dtype)
        check_finite(f"not written as {dtype}", piece.released, tensor)
        return {piece.released: tensor}

    return Planned(Size(piece.shape(own)).numel() * dtype.itemsize, make)


def _stack(weights: Weights, piece: Piece, own: Size, dtype: torch.dtype) -> Tensor:
    stack = torch.empty(piece.shape(own), dtype=dtype)
    for expert in range(own[0]):
        matrix = expert_matrix(weights, piece.own, expert)
        stack[expert].copy_(matrix.transpose(-1, -2) if piece.transposed else matrix)
    return stack


def _copied(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In memory of its own: what was read may be a mapped file, or shared between copies."""
    return torch.empty(tensor.shape, dtype=dtype).copy_(tensor)


def _planned_fp8(weights: Weights, piece: Piece, own: Size, scale_format: ScaleFormat, keep_scales: bool) -> Planned:
    def make() -> Mapping[str, Tensor]:
        if piece.expert is None:
            tensor, known = weights.whole(piece.own)
        else:
            tensor, known = weights.expert(piece.own, piece.expert, piece.half)
        check_finite("not written", piece.released, tensor)
        values, scale = quantization.quantize(tensor, scale_format, known if keep_scales else None)
        return {piece.released: values, piece.released + SCALE_SUFFIX: scale}

    rows, columns = piece.shape(own)
    num_scales = -(-rows // BLOCK[0]) * -(-columns // BLOCK[1])
    return Planned(rows * columns + 4 * num_scales, make)


def _copy_other_files(source: Path, target: Path) -> None:
    """Tokenizer, chat template and settings; not weights, hidden files, or files too large to be any of these."""
    for path in sorted(source.iterdir()):
        weights = path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".gguf") or path.name.endswith(INDEX)
        known = weights or path.name == CONFIG or path.name.startswith(".")
        if path.is_file() and not known and path.stat().st_size <= MAX_COPIED_BYTES:
            shutil.copyfile(path, target / path.name)
