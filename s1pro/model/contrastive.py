"""Two towers that put a picture and its caption at the same place (paper: vision tower pre-training).

    patches_PX --VisionTower--> tokens_ND --pool per picture--> norm --projection--> unit vector, [B, embedding]
    ids_T --------Decoder-----> hidden_TD --last token---------> norm --projection--> unit vector, [B, embedding]

    logits_BB = exp(logit_scale) * image_BE @ text_BE^T + logit_bias

The vision tower is the one of the network, merger included, under the same parameter names (`model.visual.*`), so what
is learned here is what the language model is joined to. The caption tower is a small dense `Decoder`: packed, causal,
pre-norm; the last token has seen the whole caption. It, the pooling and the projections are thrown away afterwards.

Pooling is attention with one learned query per head (default) or the mean over the merged tokens of a picture. The bias
exists in the sigmoid form only: the softmax does not feel it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from s1pro.base.media import Patches
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import RopeConfig, RouterConfig, TextConfig, VisionConfig
from s1pro.model.decoder import Decoder
from s1pro.model.layers import Linear
from s1pro.model.network import draw_weights
from s1pro.model.vision import VisionTower

MAX_SCALE = 100.0
"""The largest factor on a cosine (CLIP): beyond it a single hard pair dominates the gradient."""

Form = Literal["sigmoid", "softmax"]


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """The caption tower. `vocab_size` 0 leaves the size of the vocabulary to whoever knows the tokenizer."""

    vocab_size: int = 0
    hidden_size: int = 512
    num_layers: int = 6
    num_heads: int = 8
    intermediate_size: int = 1536

    def __post_init__(self) -> None:
        if self.vocab_size < 0:
            raise ValueError(f"captions.vocab_size must not be negative, got {self.vocab_size}")
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"captions.{name} must be positive, got {getattr(self, name)}")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"captions.hidden_size={self.hidden_size} / num_heads={self.num_heads} must be even")

    def decoder(self) -> TextConfig:
        """The same as the decoder's own configuration: all layers dense, ordinary rotary positions."""
        return TextConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_heads,
            head_dim=self.hidden_size // self.num_heads,
            intermediate_size=self.intermediate_size,
            mlp_only_layers=tuple(range(self.num_layers)),
            moe_intermediate_size=0,
            router=RouterConfig(num_experts=1, top_k=1),
            rope=RopeConfig(fope=False),
        )


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Both towers and how they meet.

    Attributes:
        embedding_size: of the common space.
        form: "sigmoid": every pair of a batch is a yes-no question (SigLIP); "softmax": every picture chooses its
            caption and the other way round (CLIP).
        scale, bias: initial values. The bias should be about `-log(pairs per batch)`, so that the sigmoid form
            begins with the right share of yes.
    """

    vision: VisionConfig
    captions: CaptionConfig
    embedding_size: int = 512
    pooling: Literal["attention", "mean"] = "attention"
    form: Form = "sigmoid"
    scale: float = 10.0
    bias: float = -10.0

    def __post_init__(self) -> None:
        if self.embedding_size < 1:
            raise ValueError(f"embedding_size must be positive, got {self.embedding_size}")
        if not 0 < self.scale <= MAX_SCALE:
            raise ValueError(f"scale must lie in (0, {MAX_SCALE:g}], got {self.scale}")


class AttentionPool(nn.Module):
    """One vector per picture: `sum_n softmax_n(score_n) value_n` over its tokens, head by head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention pooling: width {width} is no multiple of {heads} heads")
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.query = Linear(width, heads, bias=False)
        self.value = Linear(width, width)

    def forward(self, tokens_ND: Tensor, bounds: tuple[int, ...]) -> Tensor:
        tokens_ND = self.norm(tokens_ND)
        scores_NH = _wide(self.query(tokens_ND))
        values_NHC = self.value(tokens_ND).view(len(tokens_ND), scores_NH.shape[1], -1)
        pooled = []
        for start, stop in pairwise(bounds):
            weights_NH1 = scores_NH[start:stop].softmax(dim=0).to(values_NHC.dtype)[:, :, None]
            pooled.append((weights_NH1 * values_NHC[start:stop]).sum(dim=0).flatten())
        return torch.stack(pooled)


class MeanPool(nn.Module):
    """The mean of the tokens of each picture."""

    def forward(self, tokens_ND: Tensor, bounds: tuple[int, ...]) -> Tensor:
        return torch.stack([tokens_ND[start:stop].mean(dim=0) for start, stop in pairwise(bounds)])


class ContrastiveModel(nn.Module):
    """See the module docstring. `seed` draws the initial weights; nothing is drawn under `torch.device("meta")`."""

    def __init__(self, config: ContrastiveConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        vision, text = config.vision, config.captions.decoder()
        self.model = nn.ModuleDict({"visual": VisionTower(vision)})
        self.captions = Decoder(text)
        attention = config.pooling == "attention"
        self.pool = AttentionPool(vision.out_hidden_size, vision.num_heads) if attention else MeanPool()
        self.image_norm = nn.LayerNorm(vision.out_hidden_size, eps=1e-6)
        self.image_projection = Linear(vision.out_hidden_size, config.embedding_size, bias=False)
        self.text_projection = Linear(text.hidden_size, config.embedding_size, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.logit_bias = nn.Parameter(torch.tensor(config.bias)) if config.form == "sigmoid" else None
        if not self.logit_scale.is_meta:
            generator = torch.Generator().manual_seed(seed)
            draw_weights(self, generator, lambda name: _standard_deviation(self, name))

    def encode_images(self, images: Patches[Tensor]) -> Tensor:
        """Unit vectors, float32 `[B, embedding]`."""
        merge = self.config.vision.spatial_merge_size**2
        bounds = PackedContext.from_lengths([t * h * w // merge for t, h, w in images.grids]).cu_seqlens
        pooled_BD = self.pool(self.model["visual"](images), bounds)
        return _unit(self.image_projection(self.image_norm(pooled_BD)))

    def encode_captions(self, ids_T: Tensor, position_ids_T: Tensor, context: PackedContext) -> Tensor:
        """Unit vectors, float32 `[B, embedding]`, one per sequence of `context`."""
        hidden_TD, _ = self.captions(self.captions.embed_tokens(ids_T), position_ids_T, context)
        last_B = torch.tensor(context.cu_seqlens[1:], device=ids_T.device) - 1
        return _unit(self.text_projection(hidden_TD[last_B]))

    def scale(self) -> Tensor:
        """The factor on cosines, bounded."""
        return _wide(self.logit_scale).exp().clamp(max=MAX_SCALE)

    def logits(self, image_BE: Tensor, text_BE: Tensor) -> Tensor:
        """Agreement of every picture (row) with every caption (column), float32."""
        logits_BB = self.scale() * (image_BE @ text_BE.T)
        return logits_BB if self.logit_bias is None else logits_BB + _wide(self.logit_bias)


def _unit(x_BE: Tensor) -> Tensor:
    return nn.functional.normalize(_wide(x_BE), dim=-1)


def _wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _standard_deviation(model: ContrastiveModel, name: str) -> float:
    """The towers as in the network; pooling and projections keep the size of what they read."""
    if name.startswith("model.visual"):
        return model.config.vision.initializer_range
    if name.startswith("captions"):
        return model.captions.config.initializer_range
    width = model.config.captions.hidden_size if name.startswith("text") else model.config.vision.out_hidden_size
    return float(width**-0.5)
