"""One stage of a language model, from its configuration to the exported folder.

    run ──> processor, sources, network ──> `Trainer` (`train.loop`) ──> run.folder/model

1. Tokenizer and chat template come from `run.tokenizer`, else from the model that the stage starts from.
2. Sources are files of the configuration and data in memory; training leaves out what the contamination index holds.
3. The network is given, read, or made, and spread over the ranks before its first weight takes memory.
4. The trainer runs, and its network is written in the released layout with the processor.

What is slow comes after what can be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from s1pro.base.errors import InputError
from s1pro.data.batch import PackedBatch
from s1pro.data.sequence import Encoder, ProcessorEncoder, fingerprint_of_processor
from s1pro.model.network import Network
from s1pro.parallel.mesh import join
from s1pro.train.config import TrainRun
from s1pro.train.copies import with_copies
from s1pro.train.guarded import Guarded
from s1pro.train.loop import EvaluationHook, Trainer, TrainResult
from s1pro.train.losses import LanguageModelLoss
from s1pro.train.setup import (
    Data,
    build_loader,
    choose_device,
    local_accumulation,
    prepare_network,
    sources_of_data,
    sources_of_files,
    validation_batches,
)
from s1pro.train.spread import build_on_ranks, export


def train(
    run: TrainRun,
    *,
    network: Network | None = None,
    processor: Any = None,
    encoder: Encoder | None = None,
    sources: Data | None = None,
    weights: Mapping[str, float] | None = None,
    validation: Data | None = None,
    on_evaluate: EvaluationHook | None = None,
) -> TrainResult[Network]:
    """Runs one stage and exports its model.

    Args:
        network: train this one instead of `run.model` or `run.init_from`; on several ranks the same on all of them.
        processor: tokenizer and chat template; default read from `run.tokenizer` or `run.init_from`.
        encoder: how samples become tokens, default through the processor.
        sources: training data in memory, added to `run.data.sources`.
        weights: token shares of `sources`, default 1 each.
        validation: validation data in memory, added to `run.data.validation`.
        on_evaluate: see `EvaluationHook`.

    Raises:
        InputError: a configuration, file or folder is wrong; the message says what to do.
    """
    fingerprint = ""
    if processor is None and (folder := run.tokenizer or run.init_from) is not None:
        processor, fingerprint = _read_processor(folder), fingerprint_of_processor(folder)
    if encoder is None and processor is not None:
        encoder = ProcessorEncoder(processor, fingerprint=fingerprint)
    ranks = join(run.parallel, choose_device(run.device).type)
    local_accumulation(run, ranks)  # before anything slow
    with ranks.first_alone() if run.data.cache is not None else nullcontext():
        train_sources, shares = _training_sources(run, encoder, sources or {}, weights or {}, is_first=not ranks.rank)
        held_out = _files(run, "validation", encoder) + sources_of_data(validation or {}, encoder)
    if network is not None:
        network = prepare_network(network, run, ranks)
    else:
        network = build_on_ranks(run, _tokenizer_of(processor), ranks)
    trainer: Trainer[Network, PackedBatch] = Trainer(
        run,
        network,
        build_loader(train_sources, shares, run.data, seed=run.seed, ranks=ranks),
        loss=LanguageModelLoss(run.loss, ranks),
        validation=validation_batches(held_out, run.data),
        on_evaluate=with_copies(on_evaluate, run.init_from, ranks),
        ranks=ranks,
    )
    reason = trainer.train()
    model_folder = export(trainer.network, processor, run.folder / "model", ranks) if run.export else None
    return trainer.result(reason, model_folder)


def _training_sources(
    run: TrainRun, encoder: Encoder | None, sources: Data, weights: Mapping[str, float], *, is_first: bool
) -> tuple[list[Any], list[float]]:
    guard = Guarded(run.data.contamination)
    unknown = sorted(set(weights) - set(sources))
    if unknown:
        raise InputError(f"weights for unknown sources {', '.join(unknown)}; there are {', '.join(sources)}")
    found = _files(run, "sources", encoder, guard) + sources_of_data(sources, encoder, guard)
    if is_first:
        guard.write(run.folder)
    shares = [config.weight for config in run.data.sources] + [weights.get(name, 1.0) for name in sources]
    return found, shares


def _files(
    run: TrainRun, kind: Literal["sources", "validation"], encoder: Encoder | None, guard: Guarded | None = None
) -> list[Any]:
    configs = run.data.sources if kind == "sources" else run.data.validation
    if configs and encoder is None:
        raise InputError(f"data.{kind} has files but there is no tokenizer: set tokenizer to the folder of a processor")
    return sources_of_files(configs, encoder, run.data.cache, guard) if encoder is not None else []


def _read_processor(folder: Path) -> Any:
    from s1pro.inputs.processor import Processor

    return Processor.from_pretrained(folder)


def _tokenizer_of(processor: Any) -> Any:
    return None if processor is None else processor.tokenizer
