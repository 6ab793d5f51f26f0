"""A model folder as a stream of weights: any layout, any precision, our names; never more than a tensor in memory.

`Weights` is what a writer (`rewrite`) and a network (`network_of`) ask for: a tensor by our name, or one matrix of one
expert.
`FolderWeights` answers from a folder, `NetworkWeights` from a network in memory, `expansion.ExpandedWeights` from
another `Weights` with more experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Size, Tensor

from s1pro.checkpoint import quantization
from s1pro.checkpoint.config_file import CONFIG, foreign_keys, read_config_json
from s1pro.checkpoint.config_keys import MODEL_TYPE
from s1pro.checkpoint.folder import readable_folder
from s1pro.checkpoint.foreign_config import read_any_config
from s1pro.checkpoint.matching import StoredPiece, check_finite, match, read_piece
from s1pro.checkpoint.names import DOWN, GATE_UP
from s1pro.checkpoint.released import stored_dtype
from s1pro.checkpoint.shards import StoredTensors
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Of plain tensors in files."""

Matrix = tuple[Tensor, Tensor | None]
"""A matrix of an expert `[out, in]`, and the FP8 scales it was stored with."""


class Weights(Protocol):
    """Tensors of a network of architecture `config`, by our names."""

    config: ModelConfig

    def whole(self, own: str) -> Matrix:
        """A tensor that is no stack of experts, and its FP8 scales if it had any."""
        ...

    def expert(self, own: str, expert: int, half: int | None) -> Matrix:
        """One matrix of one expert of the stack `own`: gate (half 0), up (1) or down (None)."""
        ...


class FolderWeights:
    """The weights of a folder: released, own, Qwen3-MoE or Qwen3-VL-MoE.

    Attributes:
        config: as our architecture.
        notes: what of the folder has no counterpart here, one sentence each.
        dtype: that its config.json names.
        scale_format: of its FP8 scales, None without FP8.
        foreign: keys of other tools in its config.json, empty for foreign model types.

    Raises:
        InputError: the folder is missing, damaged, or of another architecture.
    """

    def __init__(self, folder: Path, *, drop_deepstack: bool = False) -> None:
        self.folder = readable_folder(folder)
        data = read_config_json(self.folder)
        where = str(self.folder / CONFIG)
        found = read_any_config(data, where=where, drop_deepstack=drop_deepstack)
        self.config, self.notes = found.config, found.notes
        self.dtype = stored_dtype(data)
        self.scale_format = quantization.declared_format(where, data)
        self.foreign = foreign_keys(data) if data.get("model_type") == MODEL_TYPE else {}
        self.stored = StoredTensors(self.folder)
        tied = {"lm_head.weight": "model.language_model.embed_tokens.weight"} if found.tied else {}
        matched = match(self.stored, shapes_of(self.config), dropped=found.dropped, tied=tied)
        self._pieces = {(p.piece.own, p.piece.expert, p.piece.half): p for p in matched}

    def whole(self, own: str) -> Matrix:
        return read_piece(self.stored, self._pieces[own, None, None])

    def expert(self, own: str, expert: int, half: int | None) -> Matrix:
        single = self._pieces.get((own, expert, half))
        if single is not None:
            return read_piece(self.stored, single)
        return self._from_stack(self._pieces[own, None, None], expert, half)

    def _from_stack(self, stack: StoredPiece, expert: int, half: int | None) -> Matrix:
        """Scales of a stack do not follow its halves when a block lies across the border, so they are not handed on."""
        tensor, _ = read_piece(self.stored, stack, expert)
        if stack.piece.transposed:
            tensor = tensor.transpose(-1, -2)
        return (tensor if half is None else tensor.chunk(2, dim=0)[half]), None

    def dtype_of(self, own: str, wanted: torch.dtype | None) -> torch.dtype:
        """The dtype in which a tensor is written: as wanted, else as stored. Coefficients of FoPE are never rounded."""
        part: tuple[str, int | None, int | None] = (own, None, None)
        if part not in self._pieces:
            part = (own, 0, halves_of(own)[0])
        if "rotary_emb" in own and (wanted is not None or part not in self._pieces):
            return torch.float32
        if wanted is not None:
            return wanted
        return DTYPES.get(self.stored.entries[self._pieces[part].name].dtype, self.dtype)

    def fingerprint(self) -> dict[str, list[int]]:
        """Size and time of change of every file that is read: enough to notice another source."""
        names = sorted({entry.file for entry in self.stored.entries.values()} | {CONFIG})
        stats = {name: (self.folder / name).stat() for name in names}
        return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


class NetworkWeights:
    """The weights of a network in memory."""

    def __init__(self, network: Network) -> None:
        self.config = network.config
        self._state = {name: tensor.detach() for name, tensor in network.state_dict().items()}

    def whole(self, own: str) -> Matrix:
        return self._state[own], None

    def expert(self, own: str, expert: int, half: int | None) -> Matrix:
        matrix = self._state[own][expert]
        return (matrix if half is None else matrix.chunk(2, dim=0)[half]), None


def is_stack(own: str) -> bool:
    """Whether this tensor of ours stacks experts."""
    return own.endswith((GATE_UP, DOWN))


def halves_of(own: str) -> tuple[int | None, ...]:
    """The matrices of each expert in a stack, from top to bottom."""
    return (0, 1) if own.endswith(GATE_UP) else (None,)


def expert_matrix(weights: Weights, own: str, expert: int) -> Tensor:
    """All rows of an expert in the stack `own`."""
    return torch.cat([weights.expert(own, expert, half)[0] for half in halves_of(own)])


def shapes_of(config: ModelConfig) -> dict[str, Size]:
    """Shapes of all tensors of an architecture, built without memory."""
    with torch.device("meta"):
        network = Network(config)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


@torch.no_grad()
def network_of(weights: Weights, *, dtype: torch.dtype = torch.float32) -> Network:
    """A network with these weights, on the CPU. The coefficients of FoPE stay float32."""
    with torch.device("meta"):
        network = Network(weights.config).to(dtype)
    network.to_empty(device="cpu")
    state: Mapping[str, Tensor] = network.state_dict()
    for own, target in state.items():
        if is_stack(own):
            for expert in range(target.shape[0]):
                target[expert].copy_(expert_matrix(weights, own, expert))
        else:
            target.copy_(weights.whole(own)[0])
        check_finite(f"as {target.dtype}", own, target)
    return network
