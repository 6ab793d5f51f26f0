"""Contrastive pre-training of the vision tower: the loop of `train.loop` with another model, batch and loss.

The loss is in `train.contrastive_loss`: every picture of a micro-batch is compared with every caption of it. Validation
is retrieval (`train.retrieval`). The exported folder holds both towers; `TrainRun.vision_from` takes the vision tower
out of it.

On several ranks a launcher starts the same command once per rank. Each of them has all weights and a part of the pairs
of *every* micro-batch, so a run computes the same numbers on any number of ranks: `patches_per_batch` and `max_pairs`
count the pairs of all ranks, and so does `accumulation`. Gradients are added over the ranks once per step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from s1pro.base.errors import InputError
from s1pro.data.loader import Loader
from s1pro.data.mixture import LengthPolicy, Mixture
from s1pro.data.pairs import PairBatch, PairPacker, PairSource
from s1pro.model.contrastive import ContrastiveConfig, ContrastiveModel
from s1pro.parallel.config import ParallelConfig
from s1pro.parallel.mesh import Ranks, join, launched_ranks
from s1pro.train.config import RunConfig, SourceConfig
from s1pro.train.contrastive_loss import ContrastiveLoss
from s1pro.train.loop import EvaluationHook, Trainer, TrainResult
from s1pro.train.setup import choose_device, place

STAGE = "vision-contrastive"
FEWEST_PAIRS = 2
"""Of a batch: one pair has nothing to differ from."""


@dataclass(frozen=True, kw_only=True)
class PairDataConfig:
    """What is read and how it is batched.

    Attributes:
        sources, validation: files of samples with one picture in the question and its caption as the answer.
        patches_per_batch: most patches of a micro-batch.
        max_pairs: most pairs of a micro-batch.
        max_caption: most tokens of a caption; longer ones are cut.
        prefetch: batches prepared by a background thread; 0 prepares them in the loop.
        validation_pairs: at most so many held-out pairs, the first ones.
    """

    sources: tuple[SourceConfig, ...] = ()
    validation: tuple[SourceConfig, ...] = ()
    patches_per_batch: int = 16384
    max_pairs: int = 256
    max_caption: int = 77
    prefetch: int = 0
    validation_pairs: int = 1000

    def __post_init__(self) -> None:
        for name in ("patches_per_batch", "max_caption", "validation_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_pairs < 2:
            raise ValueError(f"max_pairs must be at least 2, got {self.max_pairs}: one pair has nothing to differ from")


@dataclass(frozen=True, kw_only=True)
class ContrastiveRun(RunConfig):
    """One contrastive stage.

    Attributes:
        model: both towers.
        vision_from: folder whose vision tower training starts from; None starts from nothing.
        tokenizer: folder of the processor, which prepares captions and pictures; only files need it.
    """

    stage: Literal["vision-contrastive"] = "vision-contrastive"
    model: ContrastiveConfig
    vision_from: Path | None = None
    tokenizer: Path | None = None
    data: PairDataConfig = field(default_factory=PairDataConfig)


def train_contrastive(
    run: ContrastiveRun,
    *,
    model: ContrastiveModel | None = None,
    processor: Any = None,
    sources: Sequence[PairSource] = (),
    weights: Mapping[str, float] | None = None,
    validation: Sequence[PairSource] = (),
    on_evaluate: EvaluationHook | None = None,
) -> TrainResult[ContrastiveModel]:
    """Runs a contrastive stage and exports both towers.

    Args:
        model: train this one instead of a new one.
        processor: its tokenizer is for captions, its image settings for pictures; default read from `run.tokenizer`.
        sources, validation: pairs in memory, added to those of `run.data`.
        weights: shares of `sources` (of their patches), default 1 each.
        on_evaluate: see `EvaluationHook`.

    Raises:
        InputError: a configuration, file or folder is wrong; the message says what to do.
    """
    ranks = join(ParallelConfig(dp_replicate=launched_ranks()), choose_device(run.device).type)
    if processor is None and run.tokenizer is not None:
        from s1pro.inputs.processor import Processor

        processor = Processor.from_pretrained(run.tokenizer)
    if processor is not None:
        run = _with_vocabulary(run, processor.tokenizer.vocab_size)
    files, held_out_files = (_files(configs, run, processor) for configs in (run.data.sources, run.data.validation))
    weights = weights or {}
    unknown = sorted(set(weights) - {source.name for source in sources})
    if unknown:
        raise InputError(f"weights for unknown sources {', '.join(unknown)}")
    shares = [config.weight for config in run.data.sources] + [weights.get(source.name, 1.0) for source in sources]
    trainer: Trainer[ContrastiveModel, PairBatch] = Trainer(
        run,
        place(model if model is not None else build_contrastive(run), run).train(),
        pair_loader([*files, *sources], shares, run.data, seed=run.seed, ranks=ranks),
        loss=ContrastiveLoss(ranks),
        validation=held_out_pairs([*held_out_files, *validation], run.data),
        on_evaluate=on_evaluate,
        ranks=ranks,
    )
    reason = trainer.train()
    folder = run.folder / "model" if run.export else None
    if folder is not None and ranks.is_first:
        _export(trainer.network, processor, folder)
    ranks.wait()
    return trainer.result(reason, folder)


def _with_vocabulary(run: ContrastiveRun, size: int) -> ContrastiveRun:
    """The run with the size of its tokenizer, where it leaves that open."""
    captions = run.model.captions
    if captions.vocab_size >= size:
        return run
    if captions.vocab_size:
        raise InputError(f"model.captions.vocab_size={captions.vocab_size} is too small for a tokenizer of {size} ids")
    return replace(run, model=replace(run.model, captions=replace(captions, vocab_size=size)))


def build_contrastive(run: ContrastiveRun) -> ContrastiveModel:
    """A new model, with the vision tower of `vision_from` if that is given."""
    model = ContrastiveModel(run.model, seed=run.seed)
    if run.vision_from is not None:
        from s1pro.checkpoint.contrastive import load_vision_tower

        load_vision_tower(model.model["visual"], run.vision_from)
    return model


def pair_loader(
    sources: Sequence[PairSource],
    weights: Sequence[float],
    data: PairDataConfig,
    *,
    seed: int,
    ranks: Ranks | None = None,
) -> Loader[PairBatch]:
    """The endless training loader. All ranks walk the same batches, and each prepares its part of the pairs.

    Raises:
        InputError: there is nothing to train on, or a batch has too few pairs for the ranks.
    """
    if not sources:
        raise InputError("data.sources is empty: name at least one file, or hand in pairs")
    mixture = Mixture(sources, weights, policy=_policy(data), seed=seed)
    ranks = ranks or Ranks()
    packer = PairPacker(
        mixture,
        patches=data.patches_per_batch,
        max_pairs=data.max_pairs,
        min_pairs=max(FEWEST_PAIRS, ranks.size),
        part=(ranks.rank, ranks.size),
    )
    return Loader(packer, prefetch=data.prefetch)


def held_out_pairs(sources: Sequence[PairSource], data: PairDataConfig) -> list[PairBatch]:
    """The first `validation_pairs` pairs of an unshuffled pass, in batches."""
    if not sources:
        return []
    mixture = Mixture(sources, [float(len(s)) for s in sources], policy=_policy(data), shuffle=False, repeat=False)
    packer = PairPacker(mixture, patches=data.patches_per_batch, max_pairs=data.max_pairs, min_pairs=1)
    batches, left = [], data.validation_pairs
    while left and (plan := packer.plan()) is not None:
        batches.append(packer.materialise(plan[:left]))
        left -= batches[-1].num_pairs
    return batches


def _policy(data: PairDataConfig) -> LengthPolicy:
    """Nothing is cut: the packer refuses a picture that is larger than a batch, and says why."""
    return LengthPolicy(max_length=data.patches_per_batch, long_documents="split")


def _files(configs: Sequence[SourceConfig], run: ContrastiveRun, processor: Any) -> list[PairSource]:
    if not configs:
        return []
    if processor is None:
        raise InputError("data has files but there is no tokenizer: set tokenizer to the folder of a processor")
    from s1pro.data.pair_files import read_pairs

    vision, settings = run.model.vision, processor.preparation.images
    here = (settings.patch_size, settings.temporal_patch_size, settings.merge_size)
    wanted = (vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size)
    if here != wanted:
        raise InputError(
            f"the processor cuts pictures into patches of (side, frames, merge) {here}, the vision tower reads "
            f"{wanted}: change preprocessor_config.json in the folder of the tokenizer"
        )
    return [
        read_pairs(c.name, c.path, processor.tokenizer, settings, max_caption=run.data.max_caption) for c in configs
    ]


def _export(model: ContrastiveModel, processor: Any, folder: Path) -> None:
    from s1pro.checkpoint.contrastive import save_contrastive

    save_contrastive(model, folder)
    if processor is not None:
        processor.save_pretrained(folder)
