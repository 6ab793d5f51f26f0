"""Expert expansion: a model folder becomes another one with `factor` times the experts in router groups.

    plan       which original stands where (`expansion_plan`)
    weights    experts and router rows of the originals, with a little noise to tell copies apart; the rest unchanged
    write      streamed, resumable, read back (`rewrite`)

Noise is drawn per tensor from a seed of its own, so that it depends on neither layout nor order nor interruptions, and
a network expanded in memory equals one that went through a folder. On a router row it has `router_noise` times the
length of the row; on a matrix of an expert, `expert_noise` times its root mean square per entry.

`fope` gives a model with plain rotary positions Fourier coefficients that are the identity. This is *not* the same
function: FoPE replaces the frequencies that do not complete a period within the training length by a constant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.calibration import Calibration
from s1pro.checkpoint.expansion_plan import ExpansionConfig, Origins, expanded_router, plan_origins
from s1pro.checkpoint.rewrite import Storage, digest, rewrite
from s1pro.checkpoint.shards import Progress
from s1pro.checkpoint.sources import FolderWeights, Matrix, NetworkWeights, Weights, network_of
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network

_GATE = "mlp.gate.weight"


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """What was done.

    Attributes:
        before, after: the architectures.
        origins: `[L, E]`, the original of every new expert.
        num_bytes: of the tensors that were written.
        notes: what of the source has no counterpart, or changed its meaning.
    """

    config: ExpansionConfig
    before: ModelConfig
    after: ModelConfig
    origins: Origins
    num_bytes: int
    notes: tuple[str, ...] = ()


class ExpandedWeights:
    """`source` with its experts multiplied as `origins` says."""

    def __init__(self, source: Weights, config: ExpansionConfig, origins: Origins, *, fope: bool = False) -> None:
        text = source.config.text
        rope = replace(text.rope, fope=True) if fope else text.rope
        if fope and text.rope.fope:
            raise InputError("--fope has no effect: the model has Fourier positions already")
        text = replace(text, router=expanded_router(text.router, config), rope=rope)
        self.config = replace(source.config, text=text)
        self._source, self._expansion = source, config
        self._origins = {layer: row.tolist() for layer, row in zip(text.moe_layers, origins, strict=True)}

    def whole(self, own: str) -> Matrix:
        text = self.config.text
        if own.endswith(("rotary_emb.sin_coef", "rotary_emb.cos_coef")) and not self._source.config.text.rope.fope:
            identity = torch.eye(text.rope.kept_frequencies(text.head_dim))
            return (identity.repeat(text.num_key_value_heads, 1, 1) if text.rope.sep_head else identity), None
        tensor, scale = self._source.whole(own)
        if not own.endswith(_GATE):
            return tensor, scale
        rows_ED = tensor[self._origins[_layer_of(own)]]
        if self._expansion.noise:
            length_E1 = rows_ED.double().norm(dim=1, keepdim=True)
            per_entry_E1 = self._expansion.noise * length_E1 / rows_ED.shape[1] ** 0.5
            rows_ED = self._noisy(rows_ED, per_entry_E1, own)
        return rows_ED, None

    def expert(self, own: str, expert: int, half: int | None) -> Matrix:
        matrix, scale = self._source.expert(own, self._origins[_layer_of(own)][expert], half)
        if not self._expansion.expert_noise:
            return matrix, scale
        per_entry = self._expansion.expert_noise * matrix.double().square().mean().sqrt()
        return self._noisy(matrix, per_entry, f"{own}.{expert}.{half}"), scale

    def _noisy(self, tensor: Tensor, per_entry: Tensor, name: str) -> Tensor:
        """Noise of its own for every tensor, added in float64 and rounded to at least float32."""
        key = hashlib.sha256(f"{self._expansion.seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "little"))
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        return (tensor.double() + noise * per_entry).to(torch.promote_types(tensor.dtype, torch.float32))


def expand_network(
    network: Network, config: ExpansionConfig, calibration: Calibration | None = None
) -> tuple[Network, Origins]:
    """`network` with its experts multiplied, in memory and float32, and where they come from.

    Raises:
        InputError: as `plan_origins`.
    """
    source = NetworkWeights(network)
    origins = _plan(source.config, config, calibration)
    return network_of(ExpandedWeights(source, config, origins)), origins


def expand_folder(
    source: FolderWeights,
    target: Path,
    config: ExpansionConfig,
    calibration: Calibration | None = None,
    *,
    storage: Storage | None = None,
    fope: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    finish: Callable[[Path, Expansion], None] | None = None,
) -> Expansion:
    """Writes the expanded model of the folder `source` to `target`, which must not exist.

    Args:
        storage: layout and precision; the default keeps the precision that the source names, FP8 dequantised.
        fope: see the module docstring.
        resume: go on with work that was killed; the rest of the call has to be the same.
        finish: called with the complete folder before it gets its name, to add files of its own.

    Raises:
        InputError: sizes that do not divide, missing calibration, damaged sources, or a target that exists.
    """
    origins = _plan(source.config, config, calibration)
    weights = ExpandedWeights(source, config, origins, fope=fope)
    notes = source.notes
    if fope:
        notes = (*notes, _fope_note(weights.config))
    result = Expansion(
        config=config, before=source.config, after=weights.config, origins=origins, num_bytes=0, notes=notes
    )
    settings = {"expansion": asdict(config), "origins": digest(origins), "fope": fope}
    num_bytes = rewrite(
        source,
        weights,
        target,
        storage or Storage(),
        settings=settings,
        resume=resume,
        progress=progress,
        finish=None if finish is None else lambda folder: finish(folder, result),
    )
    return replace(result, num_bytes=num_bytes)


def _plan(model: ModelConfig, config: ExpansionConfig, calibration: Calibration | None) -> Origins:
    if not model.text.moe_layers:
        raise InputError("the model has no layers with experts; there is nothing to expand")
    return plan_origins(model.text.router, len(model.text.moe_layers), config, calibration)


def _layer_of(own: str) -> int:
    return int(own.partition(".layers.")[2].partition(".")[0])


def _fope_note(config: ModelConfig) -> str:
    text = config.text
    kept, pairs = text.rope.kept_frequencies(text.head_dim), text.head_dim // 2
    return (
        f"FoPE: coefficients are the identity, but {pairs - kept} of {pairs} frequencies per head do not complete a "
        f"period within {text.rope.max_position_embeddings} positions and became constant: not the same function"
    )
