"""Micro-batches as text, for the checkpoint of a run that stops between two updates on the same answers.

Tensors as safetensors in base64, the rest as JSON: exact, and free of pickle.
"""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from s1pro.base.media import Media, Patches, Signals
from s1pro.data.batch import PackedBatch


def to_json(batch: PackedBatch) -> dict[str, Any]:
    """The inverse of `from_json`."""
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    media = fields.pop("media")
    tensors = {name: value.contiguous() for name, value in fields.items() if isinstance(value, Tensor)}
    plain: dict[str, Any] = {name: value for name, value in fields.items() if name not in tensors and value is not None}
    if media is not None:
        plain["media"] = _media_to_json(media)
    return {**plain, "tensors": _text(tensors)}


def from_json(data: dict[str, Any]) -> PackedBatch:
    """The inverse of `to_json`."""
    plain: dict[str, Any] = {name: tuple(value) for name, value in data.items() if name not in ("tensors", "media")}
    media = _media_from_json(data["media"]) if "media" in data else None
    return PackedBatch(**plain, media=media, **load(base64.b64decode(data["tensors"])))


def _media_to_json(media: Media[Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, patches in (("images", media.images), ("videos", media.videos)):
        if patches is not None:
            found[kind] = {"grids": patches.grids, "tensors": _text({"values": patches.pixel_values_PX.contiguous()})}
    if media.signals is not None:
        values = _text({"values": media.signals.values_X.contiguous()})
        rates = media.signals.sampling_rates
        found["signals"] = {"shapes": media.signals.shapes, "sampling_rates": rates, "tensors": values}
    return found


def _media_from_json(data: dict[str, Any]) -> Media[Tensor]:
    def rows(value: Any) -> Any:
        return tuple(tuple(row) for row in value)

    read = {kind: load(base64.b64decode(part["tensors"]))["values"] for kind, part in data.items()}
    patches = {
        kind: Patches(pixel_values_PX=read[kind], grids=rows(data[kind]["grids"]))
        for kind in ("images", "videos")
        if kind in data
    }
    signals = None
    if "signals" in data:
        part = data["signals"]
        rates = tuple(part["sampling_rates"])
        signals = Signals(values_X=read["signals"], shapes=rows(part["shapes"]), sampling_rates=rates)
    return Media(**patches, signals=signals)


def _text(tensors: dict[str, Tensor]) -> str:
    return base64.b64encode(save(tensors)).decode("ascii")
