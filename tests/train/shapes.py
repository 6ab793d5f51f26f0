"""Pictures to tell apart: one coloured shape in one corner, with a caption of three words and an end.

Captions name colour, shape and corner. Held-out combinations never occur in training; their words do.
"""

from __future__ import annotations

import itertools

import numpy as np

from s1pro.data.pairs import Pair, PairSource
from s1pro.model.config import VisionConfig
from s1pro.model.contrastive import CaptionConfig, ContrastiveConfig, Form

COLOURS = ((230, 40, 40), (40, 200, 60), (50, 80, 240), (240, 220, 40), (200, 60, 220), (40, 220, 220))
SHAPES, CORNERS = 4, 4
VOCABULARY = 1 + len(COLOURS) + SHAPES + CORNERS
PATCH = 8


def model_config(*, form: Form = "sigmoid", width: int = 32, out: int = 64, **changes: object) -> ContrastiveConfig:
    vision = VisionConfig(
        depth=2,
        hidden_size=width,
        num_heads=2,
        intermediate_size=2 * width,
        patch_size=PATCH,
        num_position_embeddings=36,
        out_hidden_size=out,
    )
    captions = CaptionConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_layers=2, num_heads=2, intermediate_size=2 * width
    )
    bias = {"sigmoid": -3.0, "softmax": 0.0}[form]
    return ContrastiveConfig(
        vision=vision,
        captions=captions,
        embedding_size=32,
        form=form,
        bias=bias,
        **changes,  # type: ignore[arg-type]
    )


def combinations(*, held_out: bool) -> list[tuple[int, int, int]]:
    """96 in all, 32 of them held out."""
    every = list(itertools.product(range(len(COLOURS)), range(SHAPES), range(CORNERS)))
    order = np.random.default_rng(5).permutation(len(every))
    return [every[i] for i in (order[:32] if held_out else order[32:])]


def pairs(*, held_out: bool = False, copies: int = 1, seed: int = 0) -> PairSource:
    rng = np.random.default_rng(seed)
    made = [pair(*kind, rng) for _ in range(copies) for kind in combinations(held_out=held_out)]
    return PairSource.of("held_out" if held_out else "shapes", made)


def pair(colour: int, shape: int, corner: int, rng: np.random.Generator) -> Pair:
    caption = [1 + colour, 1 + len(COLOURS) + shape, 1 + len(COLOURS) + SHAPES + corner, 0]
    patches_PX, grid = to_patches(drawing(colour, shape, corner, rng))
    return Pair(patches_PX=patches_PX, grid=grid, caption_ids=np.asarray(caption, dtype=np.int32))


def drawing(colour: int, shape: int, corner: int, rng: np.random.Generator) -> np.ndarray:
    """uint8, 32 or 48 pixels on each side."""
    height, width = rng.choice([32, 48], size=2)
    picture = rng.integers(0, 40, (height, width, 3)).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    cy, cx = height * (0.3 if corner < 2 else 0.7), width * (0.3 if corner % 2 == 0 else 0.7)
    dy, dx, r = y - cy - rng.uniform(-1, 1), x - cx - rng.uniform(-1, 1), rng.uniform(6, 8)
    inside = (
        (
            (abs(dy) < r) & (abs(dx) < r),
            dy**2 + dx**2 < r**2,
            (abs(dy) < r / 3) | (abs(dx) < r / 3),
            abs(abs(dy) + abs(dx) - r) < 2,
        )[shape]
        & (abs(dy) < r)
        & (abs(dx) < r)
    )
    picture[inside] = COLOURS[colour]
    return picture


def to_patches(picture: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Patches in merge order (h / 2, w / 2, 2, 2) of (channel, two equal frames, row, column), scaled to [-1, 1]."""
    height, width = (side // PATCH for side in picture.shape[:2])
    x = picture.astype(np.float32) / 127.5 - 1
    x = x.reshape(height // 2, 2, PATCH, width // 2, 2, PATCH, 3).transpose(0, 3, 1, 4, 6, 2, 5)
    x = np.repeat(x[:, :, :, :, :, None], 2, axis=5)
    return np.ascontiguousarray(x.reshape(height * width, -1)), (1, height, width)
