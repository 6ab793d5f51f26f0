"""Released folders from and to a network that is spread over ranks, without the whole of it in any one place.

Loading: every rank reads the headers of the folder, builds the network without memory, spreads it (`parallel.apply`)
and takes memory for its parts only; then it walks the files and copies from each tensor what lies in its boxes. Tensors
of which it holds nothing (the experts of other ranks) are not read.

Saving: rank 0 writes the folder tensor by tensor. The ranks that hold a part of the next tensor send it; in memory are
one shard of the file and one tensor. That is slower than every rank writing for itself, and simple: the folder is
the same, byte for byte, as that of a single process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Size, Tensor

from s1pro.base.errors import InputError
from s1pro.base.region import Region
from s1pro.base.stamp import write_json
from s1pro.checkpoint.names import Piece, pieces
from s1pro.checkpoint.released import open_network, save_network, targets_of_boxes
from s1pro.model.network import Network
from s1pro.parallel.mesh import Ranks, local_device
from s1pro.parallel.regions import local_part, places
from s1pro.train.config import TrainRun
from s1pro.train.setup import build_network, choose_device, prepare_network


def build_on_ranks(run: TrainRun, tokenizer: Any, ranks: Ranks) -> Network:
    """The prepared network of a run. On several ranks a stored one is never whole in memory; a new one is at first."""
    if ranks.is_distributed and run.init_from is not None and run.vision_from is None:
        device = local_device(choose_device(run.device).type)
        return load_spread(run.init_from, ranks, lambda network: prepare_network(network, run, ranks), device)
    return prepare_network(build_network(run, tokenizer), run, ranks)


def export(network: Network, processor: Any, folder: Path, ranks: Ranks) -> Path:
    """Writes the model and its processor, and for transformers where answers end. All ranks call it."""
    if ranks.is_distributed:
        save_spread(network, folder, ranks)
    else:
        save_network(network, folder)
    if processor is not None and ranks.is_first:
        processor.save_pretrained(folder)
        ends = [processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id]
        write_json(folder / "generation_config.json", {"eos_token_id": ends, "pad_token_id": ends[-1]})
    return folder


def load_spread(folder: Path, ranks: Ranks, prepare: Callable[[Network], Network], device: torch.device) -> Network:
    """The network of a released folder, spread by `prepare` while it has no memory.

    Raises:
        InputError: as `checkpoint.released.load_network`.
    """
    network, fill = open_network(folder)
    network = prepare(network)
    network.to_empty(device=device)
    spread = places(network, ranks)
    local = {name: local_part(tensor) for name, tensor in network.state_dict().items()}
    fill(targets_of_boxes(lambda name: (local[name], spread[name].region(ranks, ranks.rank))))
    return network


def save_spread(network: Network, folder: Path, ranks: Ranks) -> None:
    """Writes the released folder of a network whose parts lie on `ranks`. All ranks call it.

    Raises:
        InputError: a weight is NaN or infinite.
    """
    _check_finite(network, ranks)
    gatherer = _Gatherer(network, ranks)
    if ranks.is_first:
        save_network(network, folder, shapes=gatherer.shapes, gather=gatherer)
    else:
        for piece in pieces(gatherer.shapes, "per_expert"):
            gatherer.send(piece)
    ranks.wait()


class _Gatherer:
    """Brings the parts of one released tensor after another to rank 0."""

    def __init__(self, network: Network, ranks: Ranks) -> None:
        self._ranks, self._places = ranks, places(network, ranks)
        self._local = {name: local_part(tensor) for name, tensor in network.state_dict().items()}
        self.shapes = {name: Size(place.shape) for name, place in self._places.items()}

    def __call__(self, piece: Piece) -> Tensor:
        """On rank 0: the whole tensor, on the CPU."""
        box = piece.region(self._places[piece.own].shape)
        local = self._local[piece.own]
        whole = torch.empty(box.size, dtype=local.dtype)
        for rank in range(self._ranks.size):
            common = self._part(piece, rank)
            if common is None:
                continue
            if rank == 0:
                part = local[common.inside(self._held(piece, 0))]
            else:
                part = torch.empty(common.size, dtype=local.dtype, device=local.device)
                dist.recv(part, src=rank)
            whole[common.inside(box)] = part.cpu()
        return piece.unboxed(whole)

    def send(self, piece: Piece) -> None:
        """On the other ranks: what rank 0 expects from here, if anything."""
        common = self._part(piece, self._ranks.rank)
        if common is not None:
            held = self._held(piece, self._ranks.rank)
            dist.send(self._local[piece.own][common.inside(held)].contiguous(), dst=0)

    def _part(self, piece: Piece, rank: int) -> Region | None:
        """The part of a released tensor that a rank answers for."""
        place = self._places[piece.own]
        if not place.is_primary(self._ranks, rank):
            return None
        return piece.region(place.shape).overlap(self._held(piece, rank))

    def _held(self, piece: Piece, rank: int) -> Region:
        return self._places[piece.own].region(self._ranks, rank)


def _check_finite(network: Network, ranks: Ranks) -> None:
    """Before the first message: a rank that stops in the middle would leave the others waiting."""
    names = [name for name, t in network.state_dict().items() if not bool(local_part(t).isfinite().all())]
    if ranks.add([float(len(names))])[0]:
        where = f"first {names[0]}" if names else "on another rank"
        raise InputError(f"not saved: weights are NaN or infinite, {where}")
