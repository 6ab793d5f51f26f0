"""Weights on their way from the trainer to rollout workers.

A publication is every tensor of the network as the rollout side computes with it: experts in FP8 as the bytes and
scales of the one quantiser (a quarter of their float32 size, and no second quantiser that could differ), the rest in
its own dtype. It travels as safetensors, nothing is unpickled, in pieces that fit into shared memory.

The trainer says which SHA-256 its tensors have: names, dtypes, shapes and bytes. A worker computes it again over what
lies in its network *after* loading, and refuses to answer with anything else.

    trainer   published = publish(network, version)          worker   receive(network, published)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load, save
from torch import Tensor

from s1pro.kernels.experts_fp8 import quantize_experts
from s1pro.model.moe import Experts
from s1pro.model.network import Network

PIECE_BYTES = 256 << 20
FP8, SCALE = ".fp8", ".scale"
_PARTS = ("gate_up", "down")


class PublicationError(RuntimeError):
    """A worker does not have the weights that the trainer published."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The weights of one version.

    Attributes:
        digest: SHA-256 of all tensors, as `digest_of` computes it.
        pieces: safetensors files.
    """

    version: int
    digest: str
    pieces: tuple[npt.NDArray[np.uint8], ...]

    @property
    def num_bytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)


@torch.no_grad()
def publish(network: Network, version: int) -> Publication:
    """The present weights, on the CPU."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in published_tensors(network)}
    return Publication(version=version, digest=_digest(tensors), pieces=tuple(_pieces(tensors)))


@torch.no_grad()
def receive(network: Network, publication: Publication) -> dict[str, Tensor]:
    """Puts quantised experts into `network`; gives the other tensors, for `Engine.update_weights`, and leaves the check
    to `check_received`.

    Raises:
        PublicationError: other names than this network has.
    """
    tensors: dict[str, Tensor] = {}
    for piece in publication.pieces:
        tensors |= load(piece.tobytes())
    expected = set(_published_names(network))
    if tensors.keys() != expected:
        odd = sorted(tensors.keys() ^ expected)[0]
        raise PublicationError(f"weights {publication.version}: {odd!r} is in the publication or the network, not both")
    for prefix, experts in _fp8_experts(network).items():
        assert experts.fp8 is not None
        device = network.lm_head.weight.device
        experts.fp8.gathered = {
            part: (tensors.pop(f"{prefix}.{part}{FP8}").to(device), tensors.pop(f"{prefix}.{part}{SCALE}").to(device))
            for part in _PARTS
        }
    return tensors


@torch.no_grad()
def check_received(network: Network, publication: Publication) -> None:
    """Raises `PublicationError` if the tensors in `network` are not those that were published."""
    found = _digest({name: tensor.contiguous().cpu() for name, tensor in published_tensors(network)})
    if found != publication.digest:
        raise PublicationError(
            f"weights {publication.version}: what arrived has SHA-256 {found[:16]}, published was "
            f"{publication.digest[:16]}: trainer and worker do not compute with the same numbers"
        )


def published_tensors(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as they travel; of experts in FP8 the bytes that they have, or that the quantiser makes."""
    quantised = _fp8_experts(network)
    masters = {f"{prefix}.{part}_proj" for prefix in quantised for part in _PARTS}
    for name, tensor in network.state_dict().items():
        if name not in masters:
            yield name, tensor
    for prefix, experts in quantised.items():
        assert experts.fp8 is not None
        pairs = experts.fp8.gathered
        if pairs is None:
            found = quantize_experts(experts.gate_up_proj, experts.down_proj, experts.fp8.scale_format)
            pairs = dict(zip(_PARTS, found, strict=True))
        for part, (values, scale) in pairs.items():
            yield f"{prefix}.{part}{FP8}", values
            yield f"{prefix}.{part}{SCALE}", scale


def _published_names(network: Network) -> Iterator[str]:
    quantised = _fp8_experts(network)
    masters = {f"{prefix}.{part}_proj" for prefix in quantised for part in _PARTS}
    yield from (name for name in network.state_dict() if name not in masters)
    yield from (f"{prefix}.{part}{end}" for prefix in quantised for part in _PARTS for end in (FP8, SCALE))


def drop_masters(network: Network) -> None:
    """On the rollout side: experts in FP8 need no weights beside the bytes that will come; their memory is freed."""
    for experts in _fp8_experts(network).values():
        for weight in (experts.gate_up_proj, experts.down_proj):
            weight.data = torch.zeros((), dtype=weight.dtype, device=weight.device).expand(weight.shape)


def _fp8_experts(network: Network) -> dict[str, Experts]:
    found = {name: module for name, module in network.named_modules() if isinstance(module, Experts)}
    return {name: experts for name, experts in found.items() if experts.fp8 is not None}


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[npt.NDArray[np.uint8]]:
    piece: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if piece and size + tensor.nbytes > PIECE_BYTES:
            yield np.frombuffer(save(piece), dtype=np.uint8)
            piece, size = {}, 0
        piece[name] = tensor
        size += tensor.nbytes
    if piece:
        yield np.frombuffer(save(piece), dtype=np.uint8)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
