"""Are the FP8 experts of a folder those that training computed with? Hashes answer it, at every publication.

The trainer quantises stacked weights in every step, the exporter single matrices once; a folder is only as good as the
rollouts made with it if both give the same bytes. Quantising masters here and copies there, or with scales of
two kinds, is invisible in a loss and large in log-probabilities.

    training_digests(network) == stored_digests(folder, names)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.names import DOWN, GATE_UP, pieces
from s1pro.checkpoint.quantization import FP8_DTYPE, SCALE_SUFFIX
from s1pro.checkpoint.shards import StoredTensors
from s1pro.kernels.experts_fp8 import quantize_experts
from s1pro.model.network import Network
from s1pro.model.precision import expert_layers

Digests = dict[str, str]
"""Released name of a weight -> SHA-256 of its values and its scales."""


def training_digests(network: Network) -> Digests:
    """Of the experts that compute in FP8, quantised as they compute."""
    digests: Digests = {}
    for layer, experts in expert_layers(network).items():
        if experts.fp8 is None:
            continue
        weights = (experts.gate_up_proj, experts.down_proj)
        (gate_up, gate_up_scale), (down, down_scale) = quantize_experts(*weights, experts.fp8.scale_format)
        stem = f"model.language_model.layers.{layer}."
        shapes = {stem + GATE_UP: weights[0].shape, stem + DOWN: weights[1].shape}
        for piece in pieces(shapes, "per_expert"):
            index = (piece.expert,) if piece.half is None else (piece.expert, piece.half)
            values, scale = (down, down_scale) if piece.half is None else (gate_up, gate_up_scale)
            digests[piece.released] = _digest(values[index], scale[index])
    return digests


def stored_digests(folder: str | Path, names: Iterable[str]) -> Digests:
    """Of the tensors with these names in a model folder.

    Raises:
        InputError: a tensor is missing or not FP8 with scales.
    """
    stored = StoredTensors(Path(folder))
    digests: Digests = {}
    for name in names:
        entry, scale = stored.entries.get(name), name + SCALE_SUFFIX
        if entry is None or entry.dtype != FP8_DTYPE or scale not in stored.entries:
            raise InputError(f"{folder}: {name} is not stored in FP8 with scales; save the folder with fp8")
        digests[name] = _digest(stored.read(name), stored.read(scale))
    return digests


def _digest(values: Tensor, scale: Tensor) -> str:
    parts = (values, scale.to(torch.float32))
    return hashlib.sha256(b"".join(_bytes(part) for part in parts)).hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
