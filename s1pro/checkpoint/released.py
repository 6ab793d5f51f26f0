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
from typing import Any, Literal

import torch
from torch import Size, Tensor

from s1pro.base.errors import InputError
from s1pro.base.region import Region
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
from s1pro.checkpoint.matching import StoredPiece, check_finite, match, read_piece
from s1pro.checkpoint.names import Layout, Piece, modules_not_converted, pieces
from s1pro.checkpoint.quantization import BLOCK, SCALE_SUFFIX, Fp8Weights
from s1pro.checkpoint.shards import Planned, StoredTensors, write_shards
from s1pro.kernels.fp8 import ScaleFormat
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network

MAX_SHARD_BYTES = 5 * 10**9


Targets = Callable[[Piece], "tuple[Tensor, Callable[[Tensor], Tensor]] | None"]
"""Where a released tensor goes: memory, and which part of the tensor that is. None if nothing of it is wanted."""

Fill = Callable[[Targets], None]

Held = Callable[[str], tuple[Tensor, Region]]
"""What this process holds of one of our tensors: the memory, and which box of the whole tensor it is."""

Gather = Callable[[Piece], Tensor]
"""A released tensor of a network that is spread over ranks; all ranks call it for the same pieces in the same order."""


@dataclass
class Origin:
    """What the folder of a loaded network held besides the network."""

    foreign: Mapping[str, Any] = field(default_factory=dict)
    fp8: Fp8Weights = field(default_factory=Fp8Weights)


def usable_device(name: str | torch.device) -> torch.device:
    """Raises `InputError`: there is no such device, or not on this machine. Nothing is allocated."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device={name!r} is not a device; use cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={str(name)!r}: torch finds {torch.cuda.device_count()} GPUs here; use cpu")
    return device


def load_network(
    folder: str | Path, *, dtype: torch.dtype | None = torch.float32, device: str | torch.device = "cpu"
) -> Network:
    """The network stored in `folder`; FP8 weights are dequantised in float32, then cast.

    Args:
        dtype: of all parameters but the coefficients of FoPE, which stay float32. None takes what `config.json` says.

    Raises:
        InputError: names the file and the first tensor or key that is missing, extra, of the wrong shape or not finite.
    """
    device = usable_device(device)
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
    plan = match(stored, {name: tensor.shape for name, tensor in network.state_dict().items()})
    origin = Origin(foreign_keys(data), Fp8Weights(scale_format or "fp32"))
    network.origin = origin

    def fill(targets: Targets) -> None:
        _fill(targets, stored, plan, origin.fp8)
        quantization.warn_if_not_powers(where, origin.fp8)

    return network, fill


def targets_of_boxes(held: Held) -> Targets:
    """For a process that holds a box of each tensor. Released tensors that lie outside are not read."""

    def targets(piece: Piece) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        local, mine = held(piece.own)
        box = piece.region(mine.shape)
        common = box.overlap(mine)
        if common is None:
            return None
        return local[common.inside(mine)], lambda whole: piece.boxed(whole)[common.inside(box)]

    return targets


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
    fp8: bool | Literal["experts"] = False,
    scale_format: ScaleFormat | None = None,
    layout: Layout = "per_expert",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    shapes: Mapping[str, Size] | None = None,
    gather: Gather | None = None,
) -> Path:
    """Writes `folder` so that a reader sees the old one or the new one, never a part. Other files in it stay.

    Args:
        fp8: quantise attention projections and experts in blocks of 128 x 128; everything else keeps its dtype.
            "experts": only experts, as reinforcement learning computes with them.
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
        data["quantization_config"] = quantization.quantization_config(
            scale_format, modules_not_converted(table, experts_only=fp8 == "experts")
        )
    with replaced_folder(folder, keep_other_files=True) as new:
        (new / CONFIG).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        planned = (
            _planned_fp8(piece, shapes[piece.own], gather, scale_format, known.get(piece.released))
            if fp8 and piece.stored_in_fp8(experts_only=fp8 == "experts")
            else _planned_plain(piece, shapes[piece.own], gather, state[piece.own].element_size())
            for piece in table
        )
        write_shards(new, planned, max_shard_bytes)
    return folder


@torch.no_grad()
def _fill(targets: Targets, stored: StoredTensors, plan: list[StoredPiece], fp8: Fp8Weights) -> None:
    for source in plan:
        wanted = targets(source.piece)
        if wanted is None:
            continue
        target, part = wanted
        tensor, scale = read_piece(stored, source)
        if scale is not None:
            fp8.scales[source.piece.released] = scale
        target.copy_(part(tensor))
        if torch.finfo(tensor.dtype).max > torch.finfo(target.dtype).max:
            where = f"{stored.folder / stored.entries[source.name].file} as {target.dtype}"
            check_finite(where, source.name, target)


def _planned_plain(piece: Piece, own: Size, gather: Gather, item_size: int) -> Planned:
    def make() -> Mapping[str, Tensor]:
        tensor = gather(piece).detach().to("cpu").contiguous()
        check_finite("not saved", piece.released, tensor)
        return {piece.released: tensor}

    return Planned(_numel(piece, own) * item_size, make)


def _planned_fp8(piece: Piece, own: Size, gather: Gather, scale_format: ScaleFormat, known: Tensor | None) -> Planned:
    def make() -> Mapping[str, Tensor]:
        tensor = gather(piece).detach().to("cpu")
        check_finite("not saved", piece.released, tensor)
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
