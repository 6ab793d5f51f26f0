"""Networks from and to folders in the released layout.

    folder/config.json                    architecture (`checkpoint.config_file`)
    folder/model*.safetensors [+ index]   weights by released names (`checkpoint.names`, `checkpoint.shards`)

Loading. The network is built without memory; names and shapes are compared with the headers of all shards; only then is
memory taken and filled shard by shard, each tensor copied straight into the view of our parameter that it is. Saving
walks the same table in the other direction, one shard at a time, beside the old folder, which it replaces at the end.

A network that is spread over ranks uses the same table: `open_network` gives the network without memory and fills
whatever parts the caller names, `save_network` takes a `Gather` that brings one released tensor after another together.

What a folder held besides the network (keys of other tools, FP8 scales) is remembered for the network that was loaded
from it, so that saving it again gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Size, Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint import quantization
from s1pro.checkpoint.config_file import (
    CONFIG,
    config_json,
    foreign_keys,
    parse_config,
    read_config_json,
    with_foreign_keys,
)
from s1pro.checkpoint.folder import readable_folder, replaced_folder
from s1pro.checkpoint.names import (
    Layout,
    Piece,
    detect_layout,
    has_effect,
    modules_not_converted,
    pieces,
    stored_parts,
)
from s1pro.checkpoint.quantization import BLOCK, FP8_DTYPE, SCALE_SUFFIX, Fp8Weights
from s1pro.checkpoint.shards import Entry, Planned, StoredTensors, write_shards
from s1pro.kernels.fp8 import ScaleFormat
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network

MAX_SHARD_BYTES = 5 * 10**9
_PLAIN_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})


Targets = Callable[[Piece], "tuple[Tensor, Callable[[Tensor], Tensor]] | None"]
"""Where a released tensor goes: memory, and which part of the tensor that is. None if nothing of it is wanted."""

Fill = Callable[[Targets], None]

Gather = Callable[[Piece], Tensor]
"""A released tensor of a network that is spread over ranks; all ranks call it for the same pieces in the same order."""


@dataclass
class Origin:
    """What the folder of a loaded network held besides the network."""

    foreign: Mapping[str, Any] = field(default_factory=dict)
    fp8: Fp8Weights = field(default_factory=Fp8Weights)


def load_network(
    folder: str | Path, *, dtype: torch.dtype | None = torch.float32, device: str | torch.device = "cpu"
) -> Network:
    """The network stored in `folder`; FP8 weights are dequantised in float32, then cast.

    Args:
        dtype: of all parameters but the coefficients of FoPE, which stay float32. None takes what `config.json` says.

    Raises:
        InputError: names the file and the first tensor or key that is missing, extra, of the wrong shape or not finite.
    """
    network, fill = open_network(folder, dtype=dtype)
    network.to_empty(device=device)
    state = network.state_dict()
    fill(lambda piece: (piece.view(state[piece.own]), lambda whole: whole))
    return network


def open_network(folder: str | Path, *, dtype: torch.dtype | None = torch.float32) -> tuple[Network, Fill]:
    """The network of a folder on the meta device, with names and shapes checked, and the function that fills it.

    Args:
        dtype: as for `load_network`.

    Raises:
        InputError: as for `load_network`; from the function too.
    """
    folder = readable_folder(Path(folder))
    data = read_config_json(folder)
    where = str(folder / CONFIG)
    config = parse_config(data, where=where)
    scale_format = quantization.declared_format(where, data)
    with torch.device("meta"):
        network = Network(config).to(dtype or stored_dtype(data))
    stored = StoredTensors(folder)
    plan = _match(stored, {name: tensor.shape for name, tensor in network.state_dict().items()})
    origin = Origin(foreign_keys(data), Fp8Weights(scale_format or "fp32"))
    network.origin = origin

    def fill(targets: Targets) -> None:
        _fill(targets, stored, plan, origin.fp8)
        quantization.warn_if_not_powers(where, origin.fp8)

    return network, fill


def stored_dtype(data: Mapping[str, Any]) -> torch.dtype:
    """The dtype that a `config.json` names; float32 if it names none."""
    text = data.get("text_config") or {}
    name = next((d[key] for d in (data, text) for key in ("dtype", "torch_dtype") if d.get(key)), "float32")
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"{CONFIG}: dtype is {name!r}, expected float32, bfloat16 or float16")
    return dtype


def save_network(
    network: Network,
    folder: str | Path,
    *,
    fp8: bool = False,
    scale_format: ScaleFormat | None = None,
    layout: Layout = "per_expert",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    shapes: Mapping[str, Size] | None = None,
    gather: Gather | None = None,
) -> Path:
    """Writes `folder` so that a reader sees the old one or the new one, never a part. Other files in it stay.

    Args:
        fp8: quantise attention projections and experts in blocks of 128 x 128; everything else keeps its dtype.
        scale_format: of the FP8 scales. None keeps the scales of unchanged blocks of an FP8 folder, and otherwise
            means fp32.
        layout: of the expert tensors; FP8 exists per expert only.
        shapes, gather: of a network of which this process holds only parts: shapes of the whole tensors of its state
            dict, and how to get one released tensor.

    Raises:
        InputError: a weight is NaN or infinite, or the options contradict each other.
    """
    folder = Path(folder)
    if fp8 and layout != "per_expert":
        raise InputError(f"layout={layout!r} cannot be stored in FP8; use per_expert")
    origin = network.origin if isinstance(network.origin, Origin) else Origin()
    known = origin.fp8.scales if scale_format is None else {}
    scale_format = scale_format or origin.fp8.scale_format
    state = network.state_dict()
    shapes = shapes or {name: tensor.shape for name, tensor in state.items()}
    gather = gather or (lambda piece: piece.view(state[piece.own]))
    table = pieces(shapes, layout)
    data = config_json(network.config, dtype=str(network.lm_head.weight.dtype).removeprefix("torch."))
    data = with_foreign_keys(data, origin.foreign)
    if fp8:
        data["quantization_config"] = quantization.quantization_config(scale_format, modules_not_converted(table))
    with replaced_folder(folder, keep_other_files=True) as new:
        (new / CONFIG).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        planned = (
            _planned_fp8(piece, shapes[piece.own], gather, scale_format, known.get(piece.released))
            if fp8 and piece.quantised
            else _planned_plain(piece, shapes[piece.own], gather, state[piece.own].element_size())
            for piece in table
        )
        write_shards(new, planned, max_shard_bytes)
    return folder


@dataclass(frozen=True)
class _Source:
    """One piece, the names under which file and scale hold it, and which third of the stored rows it is, if not all."""

    piece: Piece
    name: str
    scale: str | None
    third: int | None = None


def _match(stored: StoredTensors, shapes: Mapping[str, Size]) -> list[_Source]:
    """Compares names, shapes and dtypes of a folder with those of a network; sources in the order of the files."""
    by_name = _by_canonical_name(stored)
    layout = detect_layout({name: stored.entries[at].shape for name, (at, _) in by_name.items()}, shapes)
    table = {piece.released: piece for piece in pieces(shapes, layout)}
    sources = []
    for name in by_name:
        if name in table:
            sources.append(_source(stored, by_name, name, table[name], shapes))
    used = {name for source in sources for name in (source.name, source.scale)}
    if any(name.startswith("model.time_series.") for name in table):
        used |= {at for name, (at, _) in by_name.items() if not has_effect(name)}
    _refuse_first("missing; the architecture in config.json needs it", stored, table.keys() - by_name.keys())
    _refuse_first("not part of the architecture in config.json", stored, stored.entries.keys() - used)
    return sources


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


def _source(
    stored: StoredTensors,
    by_name: Mapping[str, tuple[str, int | None]],
    name: str,
    piece: Piece,
    shapes: Mapping[str, Size],
) -> _Source:
    at, third = by_name[name]
    entry = stored.entries[at]
    where = f"{stored.folder / entry.file}: tensor {at}"
    expected = piece.shape(shapes[piece.own])
    if third is not None:
        expected = (3 * expected[0], *expected[1:])
    if entry.shape != expected:
        raise InputError(f"{where} has shape {list(entry.shape)}, config.json asks for {list(expected)}")
    if entry.dtype in _PLAIN_DTYPES:
        return _Source(piece, at, None, third)
    if entry.dtype != FP8_DTYPE:
        raise InputError(f"{where} has dtype {entry.dtype}; supported are {', '.join(sorted(_PLAIN_DTYPES))} and FP8")
    if third is not None:
        raise InputError(f"{where} is FP8; packed queries, keys and values are read unquantised only")
    scale = by_name.get(name + SCALE_SUFFIX)
    if scale is None:
        raise InputError(f"{where} is FP8 without scales; {at}{SCALE_SUFFIX} is missing")
    return _Source(piece, at, scale[0])


def _refuse_first(reason: str, stored: StoredTensors, names: set[str]) -> None:
    if names:
        name = min(names)
        entry: Entry | None = stored.entries.get(name)
        file = stored.folder if entry is None else stored.folder / entry.file
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise InputError(f"{file}: tensor {name} is {reason}{others}")


@torch.no_grad()
def _fill(targets: Targets, stored: StoredTensors, plan: list[_Source], fp8: Fp8Weights) -> None:
    for source in plan:
        wanted = targets(source.piece)
        if wanted is None:
            continue
        target, part = wanted
        where = str(stored.folder / stored.entries[source.name].file)
        tensor = stored.read(source.name)
        if source.scale is not None:
            scale_file = str(stored.folder / stored.entries[source.scale].file)
            scale = quantization.checked_scale(scale_file, source.scale, stored.read(source.scale))
            fp8.scales[source.piece.released] = scale
            tensor = quantization.dequantize(where, source.name, tensor, scale)
        _check_finite(where, source.name, tensor)
        if source.third is not None:
            tensor = tensor.chunk(3)[source.third]
        target.copy_(part(tensor))
        if torch.finfo(tensor.dtype).max > torch.finfo(target.dtype).max:
            _check_finite(f"{where} as {target.dtype}", source.name, target)


def _check_finite(where: str, name: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        bad = int((~tensor.isfinite()).sum())
        raise InputError(f"{where}: tensor {name} has {bad} of {tensor.numel()} values that are NaN or infinite")


def _planned_plain(piece: Piece, own: Size, gather: Gather, item_size: int) -> Planned:
    def make() -> Mapping[str, Tensor]:
        tensor = gather(piece).detach().to("cpu").contiguous()
        _check_finite("not saved", piece.released, tensor)
        return {piece.released: tensor}

    return Planned(_numel(piece, own) * item_size, make)


def _planned_fp8(piece: Piece, own: Size, gather: Gather, scale_format: ScaleFormat, known: Tensor | None) -> Planned:
    def make() -> Mapping[str, Tensor]:
        tensor = gather(piece).detach().to("cpu")
        _check_finite("not saved", piece.released, tensor)
        values, scale = quantization.quantize(tensor, scale_format, known)
        return {piece.released: values, piece.released + SCALE_SUFFIX: scale}

    rows, columns = piece.shape(own)
    num_scales = -(-rows // BLOCK[0]) * -(-columns // BLOCK[1])
    return Planned(rows * columns + 4 * num_scales, make)


def _numel(piece: Piece, own: Size) -> int:
    numel = 1
    for size in piece.shape(own):
        numel *= size
    return numel


def released_pieces(config: ModelConfig, layout: Layout = "per_expert") -> Iterator[Piece]:
    """The table of released tensors of an architecture, built without memory."""
    with torch.device("meta"):
        network = Network(config)
    yield from pieces({name: tensor.shape for name, tensor in network.state_dict().items()}, layout)
