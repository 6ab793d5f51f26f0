"""The contrastive loss of pictures and captions, in one process or over ranks.

Of the B pairs of a micro-batch, with logits z_ij between picture i and caption j:

    sigmoid    L_i = sum_j softplus(-y_ij z_ij),   y_ii = 1, y_ij = -1 otherwise             (SigLIP)
    softmax    L_i = (logsumexp_j z_ij + logsumexp_j z_ji) / 2 - z_ii                        (CLIP)

Pairs whose captions are equal are no negatives: their terms are left out. The loss of a step is the mean of L_i over
all its pairs. Pairs are contrasted *inside their micro-batch*: unlike a language model, whose loss does not depend on
how a step is cut, `accumulation` gives more pairs per step but no more negatives per pair. For more negatives, raise
`patches_per_batch` and `max_pairs`.

On P ranks each has the pairs from r B / P to (r + 1) B / P. Embeddings are gathered, with gradient, and every rank
computes L_i of its own pairs against the captions and pictures of all:

    own pictures b_r --tower--> e --all-gather--> [B, E]        forward
    own pictures     <--tower-- sum over ranks of dL/de         backward: what others lose by my pictures comes home

The sum of the losses of all ranks, and of their gradients, is that of one process with all pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from s1pro.data.pairs import PairBatch, part_bounds
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.collectives import all_gather
from s1pro.model.contrastive import ContrastiveModel, Form
from s1pro.parallel.mesh import Ranks
from s1pro.train.losses import LossOutput, StepTotals
from s1pro.train.retrieval import distinct, retrieval_record
from s1pro.train.router_statistics import RouterStatistics
from s1pro.train.throughput import TRAINING_PASSES


def pair_losses(rows_bB: Tensor, columns_bB: Tensor, same_caption_bB: Tensor, form: Form, *, first: int = 0) -> Tensor:
    """L_i of the module docstring for b of the B pairs, `[b]`.

    Args:
        rows_bB: z_ij, own pictures with all captions; columns_bB: z_ji, own captions with all pictures (read in the
            softmax form only).
        same_caption_bB: pairs that are no negatives.
        first: place of the first own pair among all.
    """
    own_b1 = torch.arange(first, first + len(rows_bB), device=rows_bB.device)[:, None]
    if form == "softmax":
        by_picture_b, by_caption_b = (
            z_bB.masked_fill(same_caption_bB, -torch.inf).logsumexp(dim=1) for z_bB in (rows_bB, columns_bB)
        )
        return (by_picture_b + by_caption_b) / 2 - rows_bB.gather(1, own_b1).squeeze(1)
    signs_bB = torch.full_like(rows_bB, -1.0).scatter_(1, own_b1, 1.0)
    return softplus(-signs_bB * rows_bB).masked_fill(same_caption_bB, 0.0).sum(dim=1)


class ContrastiveLoss:
    """See the module docstring. A `train.losses.LossFunction`."""

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()

    def totals(self, batches: Sequence[PairBatch]) -> StepTotals:
        """A pair weighs 1."""
        sources = Counter(batch.source_names[source] for batch in batches for source in batch.pair_sources)
        return StepTotals(
            weight=float(sum(batch.num_pairs for batch in batches)),
            rows=sum(batch.num_real_rows for batch in batches),
            sources={name: float(sources[name]) for name in (batches[0].source_names if batches else ())},
        )

    def __call__(self, model: ContrastiveModel, batch: PairBatch, totals: StepTotals) -> LossOutput:
        image_bE, text_bE = _embed(model, batch)
        first = part_bounds(batch.num_whole, self.ranks.size)[self.ranks.rank]
        own_b = torch.arange(first, first + batch.num_pairs, device=text_bE.device)
        same_bB = batch.caption_keys_B[:, None] == self._of_all(batch.caption_keys_B, batch)
        same_bB[own_b - first, own_b] = False
        rows_bB = columns_bB = model.logits(image_bE, self._of_all(text_bE, batch))
        if model.config.form == "softmax":
            columns_bB = model.logits(self._of_all(image_bE, batch), text_bE).T
        losses_b = pair_losses(rows_bB, columns_bB, same_bB, model.config.form, first=first)
        loss = losses_b.sum() / totals.weight
        share = batch.num_pairs / totals.weight
        values = {
            "loss": loss.detach(),
            "batch_recall": (rows_bB.detach().argmax(dim=1) == own_b).float().mean() * share,
            "scale": model.scale().detach() * share,
        }
        by_source = torch.zeros(len(batch.source_names), dtype=torch.float64, device=losses_b.device)
        sources_b = torch.tensor(batch.pair_sources, device=losses_b.device)
        by_source.index_add_(0, sources_b, losses_b.detach().double())
        return LossOutput(loss=loss, values=values, source_nll=by_source)

    def _of_all(self, own_bX: Tensor, batch: PairBatch) -> Tensor:
        """The rows of all ranks, in the order of the pairs. Parts differ by one pair at most, which is padded."""
        if not self.ranks.is_distributed:
            return own_bX
        bounds = part_bounds(batch.num_whole, self.ranks.size)
        widest = max(stop - start for start, stop in pairwise(bounds))
        missing = widest - len(own_bX)
        padded = pad(own_bX, (0, 0) * (own_bX.ndim - 1) + (0, missing)) if missing else own_bX
        gathered = all_gather(padded, self.ranks.everyone)
        kept = [rank * widest + i for rank, (a, b) in enumerate(pairwise(bounds)) for i in range(b - a)]
        return gathered[torch.tensor(kept, device=gathered.device)]

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


def _embed(model: ContrastiveModel, batch: PairBatch) -> tuple[Tensor, Tensor]:
    context = PackedContext(batch.cu_seqlens)
    text_BE = model.encode_captions(batch.caption_ids_T, batch.position_ids_T, context)
    return model.encode_images(batch.images), text_BE


def _captions(batch: PairBatch) -> list[tuple[int, ...]]:
    ids = batch.caption_ids_T.tolist()
    return [tuple(ids[start:stop]) for start, stop in pairwise(batch.cu_seqlens)]


def _numel(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())
