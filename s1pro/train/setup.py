"""From a `TrainRun` to the objects that training needs: network, sources, loader, validation batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.checkpoint.released import usable_device
from s1pro.data.batch import PackedBatch
from s1pro.data.loader import Loader
from s1pro.data.mixture import Mixture
from s1pro.data.packing import Packer
from s1pro.data.samples import read_samples
from s1pro.data.sequence import Encoder
from s1pro.data.sources import Source, TokenStore, fingerprint_of
from s1pro.model.config import ModelConfig
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.precision import use_fp8_experts
from s1pro.model.router import Router
from s1pro.parallel.apply import parallelize
from s1pro.parallel.mesh import Ranks
from s1pro.train.config import DataConfig, RunConfig, SourceConfig, TrainRun
from s1pro.train.guarded import Guarded
from s1pro.train.losses import Model
from s1pro.train.parts import freeze_all_but

VISION_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
SIGNAL_TOKENS = {"ts_token_id": "<TS_CONTEXT>", "ts_start_token_id": "<|ts|>", "ts_end_token_id": "<|/ts|>"}
"""Fields of `ModelConfig` and the tokens that they are the ids of."""

Data = Mapping[str, "Iterable[Sample] | Source"]
"""Sources by name: samples in memory, or already tokenised."""


def build_network(run: TrainRun, tokenizer: Any = None) -> Network:
    """A new network, or the one stored in `init_from`, with the vision tower of `vision_from` if that is given.

    Args:
        tokenizer: knows the placeholders of media; read from the folder of the run by default.
    """
    if run.init_from is not None:
        from s1pro.checkpoint.released import load_network

        network = load_network(run.init_from, dtype=torch.float32)
    elif run.model is not None:
        network = Network(_with_placeholders(run.model, run, tokenizer), seed=run.seed)
    else:
        raise InputError("give model (a new network) or init_from (a folder to start from)")
    if run.vision_from is not None:
        _join_vision(network, run, tokenizer)
    return network


def _join_vision(network: Network, run: TrainRun, tokenizer: Any) -> None:
    """Puts a trained tower into the network. A network without one gets it, and the placeholders of its tokenizer."""
    from s1pro.checkpoint.contrastive import add_tower, load_vision_tower

    assert run.vision_from is not None
    if network.config.vision is None:
        add_tower(network, run.vision_from, _token_ids(VISION_TOKENS, run, tokenizer))
    load_vision_tower(network.model.visual, run.vision_from)


def _with_placeholders(config: ModelConfig, run: TrainRun, tokenizer: Any) -> ModelConfig:
    """The architecture with the placeholder ids of its tokenizer, where it has towers but leaves the ids open."""
    tokens: dict[str, str] = {}
    if config.vision is not None and config.image_token_id < 0:
        tokens |= VISION_TOKENS
    if config.time_series is not None and config.ts_token_id < 0:
        tokens |= SIGNAL_TOKENS
    return replace(config, **_token_ids(tokens, run, tokenizer)) if tokens else config  # type: ignore[arg-type]


def _token_ids(tokens: Mapping[str, str], run: TrainRun, tokenizer: Any) -> dict[str, int]:
    folder = run.tokenizer or run.init_from
    if tokenizer is None and folder is not None:
        from s1pro.inputs.tokenizer import Tokenizer

        tokenizer = Tokenizer.from_pretrained(folder)
    if tokenizer is None:
        raise InputError("the network takes media: set tokenizer, which knows the placeholders")
    ids = {field: tokenizer.token_to_id(token) for field, token in tokens.items()}
    missing = [tokens[field] for field, index in ids.items() if index is None]
    if missing:
        raise InputError(
            f"{folder or 'this tokenizer'}: there is no {', '.join(missing)}, so nothing says where media stand"
        )
    return ids


def prepare_network(network: Network, run: TrainRun, ranks: Ranks | None = None) -> Network:
    """Device, dtype, frozen parts, FP8, exact mode, routers; then experts, recomputation, compilation, shards."""
    ranks = ranks or Ranks()
    network = place(network, run, ranks)
    if run.expert_precision == "fp8":
        try:
            use_fp8_experts(network, scale_format=run.fp8.scale_format, keep_layers=run.fp8.keep_layers)
        except ValueError as error:
            raise InputError(f"fp8.keep_layers: {error}") from error
        if run.fp8.gather == "fp8" and not ranks.is_distributed:
            raise InputError(
                "fp8.gather=fp8 has no effect in one process; start the run with torchrun, or leave it out"
            )
    if run.exact:
        try:
            use_exact_operators(network)
        except ValueError as error:
            raise InputError(f"exact: {error}") from error
    for module in network.modules():
        if isinstance(module, Router):
            if run.freeze_router or run.trainable is None:
                module.weight.requires_grad_(not run.freeze_router)
            if run.straight_through is not None:
                module.config = replace(module.config, straight_through=run.straight_through)
    network = parallelize(
        network,
        ranks,
        run.parallel,
        activation_checkpointing=run.activation_checkpointing,
        compile_blocks=run.compile,
        gather_fp8=run.fp8.gather == "fp8",
    )
    return network.train()


def place(network: Model, run: RunConfig, ranks: Ranks | None = None) -> Model:
    """Device, dtype and frozen parts: what every kind of model needs. Sharding moves a network unit by unit itself."""
    if ranks is None or not ranks.is_distributed:
        network = network.to(device=choose_device(run.device))
    if run.dtype == "bfloat16":
        to_bfloat16(network)
    if run.trainable is not None:
        freeze_all_but(network, run.trainable)
    return network


def to_bfloat16(network: nn.Module) -> None:
    """Casts the parameters. Gates, head, rotary coefficients and scalars stay float32 (precision policy)."""
    for name, param in network.named_parameters():
        keeps = (
            name.startswith("lm_head") or name.endswith("mlp.gate.weight") or "rotary_emb" in name or param.ndim == 0
        )
        if not keeps:
            param.data = param.data.bfloat16()


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return usable_device(name)


def local_accumulation(run: RunConfig, ranks: Ranks) -> int:
    """Micro-batches per step of one rank. Those of a contrastive run are cut: every rank has a part of each.

    Raises:
        InputError: the micro-batches of a step cannot be divided among the ranks.
    """
    if not isinstance(run, TrainRun):
        return run.accumulation
    if run.accumulation % ranks.size:
        raise InputError(
            f"accumulation={run.accumulation} micro-batches per step cannot be divided among {ranks.size} ranks; "
            f"set accumulation to a multiple of {ranks.size} (it counts the micro-batches of all ranks)"
        )
    return run.accumulation // ranks.size


def sources_of_files(
    configs: Iterable[SourceConfig], encoder: Encoder, cache: Path | None, guard: Guarded | None = None
) -> list[Source]:
    """Tokenises the files of a `DataConfig`, through the cache if there is one.

    Args:
        guard: keeps questions of evaluations out.

    Raises:
        InputError: a cache is wanted, but nothing tells when the tokenizer changes.
    """
    guard = guard or Guarded(None)
    if cache is not None and not encoder.fingerprint:
        raise InputError("data.cache needs the folder of the tokenizer: set tokenizer instead of passing a processor")
    return [
        TokenStore.build(
            config.name,
            guard.samples(config.name, read_samples(config.path), cache),
            encoder,
            folder=None if cache is None else cache / config.name,
            fingerprint="" if cache is None else fingerprint_of(config.path) + guard.fingerprint,
        )
        for config in configs
    ]


def sources_of_data(data: Data, encoder: Encoder | None, guard: Guarded | None = None) -> list[Source]:
    """Tokenises samples in memory; what is tokenised already is taken as it is."""
    return [_source(name, value, encoder, guard or Guarded(None)) for name, value in data.items()]


def build_loader(
    sources: list[Source], weights: list[float], data: DataConfig, *, seed: int, ranks: Ranks | None = None
) -> Loader[PackedBatch]:
    """The endless training loader, of one rank.

    Raises:
        InputError: there is nothing to train on.
    """
    if not sources:
        raise InputError("data.sources is empty: name at least one file, or hand in samples")
    mixture = Mixture(sources, weights, policy=data.policy(), seed=seed)
    packer = Packer(mixture, num_rows=data.tokens_per_batch, lookahead=data.lookahead)
    ranks = ranks or Ranks()
    return Loader(packer, rank=ranks.rank, num_ranks=ranks.size, prefetch=data.prefetch)


def validation_batches(sources: list[Source], data: DataConfig) -> list[PackedBatch]:
    """The first batches of an unshuffled pass, each source in proportion to its size, kept for all evaluations."""
    if not sources:
        return []
    sizes = [float(max(sum(source.num_rows(i) for i in range(len(source))), 1)) for source in sources]
    mixture = Mixture(sources, sizes, policy=data.policy(), shuffle=False, repeat=False)
    loader = Loader(Packer(mixture, num_rows=data.tokens_per_batch, lookahead=data.lookahead))
    return [batch for batch, _ in zip(loader, range(data.validation_batches), strict=False)]


def _source(name: str, value: Any, encoder: Encoder | None, guard: Guarded) -> Source:
    if hasattr(value, "sequence") and hasattr(value, "num_rows"):
        if guard.fingerprint:
            raise InputError(f"data.contamination cannot be applied to source {name!r}, which is tokenised already")
        if value.name != name:
            raise InputError(f"source {name!r} is called {value.name!r} itself; use one name")
        return value  # type: ignore[no-any-return]
    if encoder is None:
        raise InputError(f"source {name!r} holds samples that are not tokenised: give a processor")
    return TokenStore.build(name, guard.samples(name, value, None), encoder)
