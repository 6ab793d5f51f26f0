"""Micro-batches as text, for the checkpoint of a run that stops between two updates on the same answers.

Tensors as safetensors in base64, the rest as JSON: exact, and free of pickle.
"""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from s1pro.data.batch import PackedBatch


def to_json(batch: PackedBatch) -> dict[str, Any]:
    """Raises `ValueError` for a batch with media."""
    if batch.media is not None:
        raise ValueError("a batch with media cannot be kept in a checkpoint")
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    tensors = {name: value.contiguous() for name, value in fields.items() if isinstance(value, Tensor)}
    plain: dict[str, Any] = {name: value for name, value in fields.items() if name not in tensors and value is not None}
    return {**plain, "tensors": base64.b64encode(save(tensors)).decode("ascii")}


def from_json(data: dict[str, Any]) -> PackedBatch:
    """The inverse of `to_json`."""
    plain: dict[str, Any] = {name: tuple(value) for name, value in data.items() if name != "tensors"}
    return PackedBatch(**plain, **load(base64.b64decode(data["tensors"])))
