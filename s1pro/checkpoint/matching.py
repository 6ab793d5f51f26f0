"""Which tensor of a folder is which part of a network, and reading it.

A folder is compared with an architecture before any memory is taken: the first tensor that is missing, left over, or of
another shape or type is an error that names the file. Tensors are then read one at a time (of stacked experts, one
expert at a time), FP8 blocks times their scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Size, Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint import quantization
from s1pro.checkpoint.names import Piece, detect_layout, has_effect, pieces, stored_parts
from s1pro.checkpoint.quantization import FP8_DTYPE, SCALE_SUFFIX
from s1pro.checkpoint.shards import Entry, StoredTensors

_PLAIN_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True)
class StoredPiece:
    """One piece, the names under which file and scale hold it, and which third of the stored rows it is, if not all."""

    piece: Piece
    name: str
    scale: str | None
    third: int | None = None


def match(
    stored: StoredTensors,
    shapes: Mapping[str, Size],
    *,
    dropped: tuple[str, ...] = (),
    tied: Mapping[str, str] | None = None,
) -> list[StoredPiece]:
    """Compares names, shapes and dtypes of a folder with those of a network; pieces in the order of the files.

    Args:
        shapes: of the network's tensors.
        dropped: beginnings of names that are left out on purpose.
        tied: tensors that may be missing, and which other one they equal.

    Raises:
        InputError: names the first tensor that does not fit.
    """
    by_name = _by_canonical_name(stored)
    for name, other in (tied or {}).items():
        if name not in by_name and other in by_name:
            by_name[name] = by_name[other]
    layout = detect_layout({name: stored.entries[at].shape for name, (at, _) in by_name.items()}, shapes)
    table = {piece.released: piece for piece in pieces(shapes, layout)}
    found = [_found(stored, by_name, name, table[name], shapes) for name in by_name if name in table]
    used = {name for source in found for name in (source.name, source.scale)}
    used |= {at for name, (at, _) in by_name.items() if name.startswith(dropped)}
    if any(name.startswith("model.time_series.") for name in table):
        used |= {at for name, (at, _) in by_name.items() if not has_effect(name)}
    _refuse_first("missing; the architecture in config.json needs it", stored, table.keys() - by_name.keys())
    _refuse_first("not part of the architecture in config.json", stored, stored.entries.keys() - used)
    return found


def read_piece(stored: StoredTensors, found: StoredPiece, expert: int | None = None) -> tuple[Tensor, Tensor | None]:
    """The tensor as it is stored, FP8 dequantised to float32, and the scales it had; checked to be finite.

    Args:
        expert: of a stack, only this one.
    """
    where = str(stored.folder / stored.entries[found.name].file)
    tensor, scale = stored.read(found.name, expert), None
    if found.scale is not None:
        scale_file = str(stored.folder / stored.entries[found.scale].file)
        scale = quantization.checked_scale(scale_file, found.scale, stored.read(found.scale, expert))
        tensor = quantization.dequantize(where, found.name, tensor, scale)
    check_finite(where, found.name, tensor)
    return (tensor if found.third is None else tensor.chunk(3)[found.third]), scale


def check_finite(where: str, name: str, tensor: Tensor) -> None:
    """Raises `InputError` if a value is NaN or infinite."""
    if not bool(tensor.isfinite().all()):
        bad = int((~tensor.isfinite()).sum())
        raise InputError(f"{where}: tensor {name} has {bad} of {tensor.numel()} values that are NaN or infinite")


def _by_canonical_name(stored: StoredTensors) -> dict[str, tuple[str, int | None]]:
    """Where each tensor is: its name in the file, and which third of the rows there, if not all."""
    by_name: dict[str, tuple[str, int | None]] = {}
    for at in stored.entries:
        for name, third in stored_parts(at):
            if name in by_name:
                file = stored.folder / stored.entries[at].file
                raise InputError(f"{file}: {by_name[name][0]} and {at} are the same tensor; remove one")
            by_name[name] = at, third
    return by_name


def _found(
    stored: StoredTensors,
    by_name: Mapping[str, tuple[str, int | None]],
    name: str,
    piece: Piece,
    shapes: Mapping[str, Size],
) -> StoredPiece:
    at, third = by_name[name]
    entry = stored.entries[at]
    where = f"{stored.folder / entry.file}: tensor {at}"
    expected = piece.shape(shapes[piece.own])
    if third is not None:
        expected = (3 * expected[0], *expected[1:])
    if entry.shape != expected:
        raise InputError(f"{where} has shape {list(entry.shape)}, config.json asks for {list(expected)}")
    if entry.dtype in _PLAIN_DTYPES:
        return StoredPiece(piece, at, None, third)
    if entry.dtype != FP8_DTYPE:
        raise InputError(f"{where} has dtype {entry.dtype}; supported are {', '.join(sorted(_PLAIN_DTYPES))} and FP8")
    if third is not None:
        raise InputError(f"{where} is FP8; packed queries, keys and values are read unquantised only")
    scale = by_name.get(name + SCALE_SUFFIX)
    if scale is None:
        raise InputError(f"{where} is FP8 without scales; {at}{SCALE_SUFFIX} is missing")
    return StoredPiece(piece, at, scale[0])


def _refuse_first(reason: str, stored: StoredTensors, names: set[str]) -> None:
    if names:
        name = min(names)
        entry: Entry | None = stored.entries.get(name)
        file = stored.folder if entry is None else stored.folder / entry.file
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise InputError(f"{file}: tensor {name} is {reason}{others}")
