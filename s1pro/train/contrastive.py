"""Contrastive pre-training of the vision tower: the loop of `train.loop` with another model, batch and loss.

Of the B pairs of a micro-batch, with logits z_ij between picture i and caption j:

    sigmoid    L_i = sum_j softplus(-y_ij z_ij),   y_ii = 1, y_ij = -1 otherwise             (SigLIP)
    softmax    L_i = (logsumexp_j z_ij + logsumexp_j z_ji) / 2 - z_ii                        (CLIP)

Pairs whose captions are equal are no negatives: their terms are left out. The loss of a step is the mean of L_i over
all its pairs. Pairs are contrasted *inside their micro-batch*: unlike a language model, whose loss does not depend on
how a step is cut, `accumulation` gives more pairs per step but no more negatives per pair. For more negatives, raise
`patches_per_batch` and `max_pairs`.

Validation is retrieval (`train.retrieval`). The exported folder holds both towers; `TrainRun.vision_from` takes the
vision tower out of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from s1pro.base.errors import InputError
from s1pro.data.loader import Loader
from s1pro.data.mixture import LengthPolicy, Mixture
from s1pro.data.pairs import PairBatch, PairPacker, PairSource
from s1pro.kernels.attention import PackedContext
from s1pro.model.contrastive import ContrastiveConfig, ContrastiveModel, Form
from s1pro.parallel.mesh import launched_ranks
from s1pro.train.config import RunConfig, SourceConfig
from s1pro.train.loop import EvaluationHook, Trainer, TrainResult
from s1pro.train.losses import LossOutput, StepTotals
from s1pro.train.retrieval import distinct, retrieval_record
from s1pro.train.router_statistics import RouterStatistics
from s1pro.train.setup import place
from s1pro.train.throughput import TRAINING_PASSES

STAGE = "vision-contrastive"


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


def pair_losses(logits_BB: Tensor, same_caption_BB: Tensor, form: Form) -> Tensor:
    """L_i of the module docstring, `[B]`."""
    if form == "softmax":
        logits_BB = logits_BB.masked_fill(same_caption_BB, -torch.inf)
        both_BB = logits_BB.logsumexp(dim=1) + logits_BB.logsumexp(dim=0)
        return both_BB / 2 - logits_BB.diagonal()
    signs_BB = 2 * torch.eye(len(logits_BB), device=logits_BB.device) - 1
    return softplus(-signs_BB * logits_BB).masked_fill(same_caption_BB, 0.0).sum(dim=1)


class ContrastiveLoss:
    """See the module docstring. A `train.losses.LossFunction`."""

    def totals(self, batches: Sequence[PairBatch]) -> StepTotals:
        """A pair weighs 1."""
        sources = Counter(batch.source_names[source] for batch in batches for source in batch.pair_sources)
        return StepTotals(
            weight=float(sum(batch.num_pairs for batch in batches)),
            rows=sum(batch.num_real_rows for batch in batches),
            sources={name: float(sources[name]) for name in (batches[0].source_names if batches else ())},
        )

    def __call__(self, model: ContrastiveModel, batch: PairBatch, totals: StepTotals) -> LossOutput:
        logits_BB = model.logits(*_embed(model, batch))
        losses_B = pair_losses(logits_BB, batch.same_caption_BB, model.config.form)
        loss = losses_B.sum() / totals.weight
        share = batch.num_pairs / totals.weight
        right = logits_BB.detach().argmax(dim=1) == torch.arange(batch.num_pairs, device=logits_BB.device)
        values = {
            "loss": loss.detach(),
            "batch_recall": right.float().mean() * share,
            "scale": model.scale().detach() * share,
        }
        by_source = torch.zeros(len(batch.source_names), dtype=torch.float64, device=losses_B.device)
        sources_B = torch.tensor(batch.pair_sources, device=losses_B.device)
        by_source.index_add_(0, sources_B, losses_B.detach().double())
        return LossOutput(loss=loss, values=values, source_nll=by_source)

    def validate(self, model: ContrastiveModel, batches: Sequence[PairBatch]) -> dict[str, Any]:
        """Retrieval among all pairs of the batches."""
        device = next(model.parameters()).device
        embedded = [_embed(model, batch.to(device)) for batch in batches]
        keep = distinct([caption for batch in batches for caption in _captions(batch)])
        image_BE, text_BE = (torch.cat(parts)[keep].cpu() for parts in zip(*embedded, strict=True))
        return retrieval_record(image_BE, text_BE)

    def flops(self, model: ContrastiveModel, batch: PairBatch) -> float:
        """Products with weights and attention of both towers."""
        vision, text = model.config.vision, model.config.captions
        visual = model.model["visual"]
        patches, tokens = batch.images.pixel_values_PX.shape[0], batch.caption_ids_T.shape[0]
        merged = patches // vision.spatial_merge_size**2
        products: float = patches * (_numel(visual.patch_embed) + _numel(visual.blocks))
        products += merged * _numel(visual.merger) + tokens * _numel(model.captions.layers)
        seen_by_patches = sum(t * (h * w) ** 2 for t, h, w in batch.images.grids)
        seen_by_tokens = sum((b - a) * (b - a + 1) / 2 for a, b in pairwise(batch.cu_seqlens))
        attention: float = vision.depth * vision.hidden_size * seen_by_patches
        attention += text.num_layers * text.hidden_size * seen_by_tokens
        return TRAINING_PASSES * (2.0 * products + 4.0 * attention)

    def router_statistics(self, model: ContrastiveModel) -> RouterStatistics | None:
        return None


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
    if launched_ranks() > 1:
        raise InputError(f"contrastive training runs in one process, but a launcher started {launched_ranks()}")
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
        pair_loader([*files, *sources], shares, run.data, seed=run.seed),
        loss=ContrastiveLoss(),
        validation=held_out_pairs([*held_out_files, *validation], run.data),
        on_evaluate=on_evaluate,
    )
    reason = trainer.train()
    folder = _export(trainer.network, processor, run.folder / "model") if run.export else None
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
    sources: Sequence[PairSource], weights: Sequence[float], data: PairDataConfig, *, seed: int
) -> Loader[PairBatch]:
    """The endless training loader.

    Raises:
        InputError: there is nothing to train on.
    """
    if not sources:
        raise InputError("data.sources is empty: name at least one file, or hand in pairs")
    mixture = Mixture(sources, weights, policy=_policy(data), seed=seed)
    return Loader(PairPacker(mixture, patches=data.patches_per_batch, max_pairs=data.max_pairs), prefetch=data.prefetch)


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


def _embed(model: ContrastiveModel, batch: PairBatch) -> tuple[Tensor, Tensor]:
    context = PackedContext(batch.cu_seqlens)
    text_BE = model.encode_captions(batch.caption_ids_T, batch.position_ids_T, context)
    return model.encode_images(batch.images), text_BE


def _captions(batch: PairBatch) -> list[tuple[int, ...]]:
    ids = batch.caption_ids_T.tolist()
    return [tuple(ids[start:stop]) for start, stop in pairwise(batch.cu_seqlens)]


def _numel(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


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


def _export(model: ContrastiveModel, processor: Any, folder: Path) -> Path:
    from s1pro.checkpoint.contrastive import save_contrastive

    save_contrastive(model, folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder
