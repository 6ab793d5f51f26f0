"""The two towers: every picture and caption by itself, pooling by the formula, unit vectors."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from s1pro.base.media import Patches
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import VisionConfig
from s1pro.model.contrastive import MAX_SCALE, AttentionPool, CaptionConfig, ContrastiveConfig, ContrastiveModel

VISION = VisionConfig(
    depth=1, hidden_size=16, num_heads=2, intermediate_size=32, patch_size=2, num_position_embeddings=16,
    out_hidden_size=24, initializer_range=0.2,
)  # fmt: skip
CONFIG = ContrastiveConfig(
    vision=VISION,
    captions=CaptionConfig(vocab_size=9, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24),
    embedding_size=8,
)
GRIDS = ((1, 2, 4), (1, 4, 4), (1, 2, 2))


def images(*grids: tuple[int, int, int], seed: int = 0) -> list[Patches[torch.Tensor]]:
    torch.manual_seed(seed)
    return [Patches(pixel_values_PX=torch.randn(t * h * w, 24), grids=((t, h, w),)) for t, h, w in grids]


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_a_batch_gives_what_every_pair_gives_alone(pooling: str) -> None:
    model = ContrastiveModel(dataclasses.replace(CONFIG, pooling=pooling), seed=1)  # type: ignore[arg-type]
    alone = images(*GRIDS)
    joined = Patches(pixel_values_PX=torch.cat([image.pixel_values_PX for image in alone]), grids=GRIDS)
    image_BE = model.encode_images(joined)
    torch.testing.assert_close(
        image_BE, torch.cat([model.encode_images(image) for image in alone]), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(image_BE.norm(dim=1), torch.ones(3))
    captions = [torch.tensor(ids) for ids in ([1, 2, 3], [4], [3, 2, 1, 0])]
    lengths = [len(ids) for ids in captions]
    positions = torch.cat([torch.arange(n) for n in lengths])
    text_BE = model.encode_captions(torch.cat(captions), positions, PackedContext.from_lengths(lengths))
    singles = [model.encode_captions(ids, torch.arange(len(ids)), PackedContext((0, len(ids)))) for ids in captions]
    torch.testing.assert_close(text_BE, torch.cat(singles), atol=1e-6, rtol=1e-5)
    assert (text_BE[0] - text_BE[2]).abs().max() > 1e-3


def test_attention_pooling_follows_the_formula() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(6, 2).double()
    for param in pool.parameters():
        torch.nn.init.normal_(param)
    tokens = torch.randn(5, 6, dtype=torch.float64)
    expected = []
    for start, stop in ((0, 2), (2, 5)):
        part = torch.nn.functional.layer_norm(tokens[start:stop], (6,), pool.norm.weight, pool.norm.bias, 1e-6)
        for head in range(2):
            weights = torch.softmax(part @ pool.query.weight[head], dim=0)
            values = part @ pool.value.weight[3 * head : 3 * head + 3].T + pool.value.bias[3 * head : 3 * head + 3]
            expected.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
    torch.testing.assert_close(pool(tokens, (0, 2, 5)), torch.stack(expected).view(2, 6), atol=1e-12, rtol=1e-12)


def test_scale_and_bias_start_as_configured_and_the_scale_is_bounded() -> None:
    model = ContrastiveModel(dataclasses.replace(CONFIG, scale=7.0, bias=-2.5))
    a, b = torch.eye(8)[:2], torch.eye(8)[:3]
    torch.testing.assert_close(model.logits(a, b), torch.tensor([[4.5, -2.5, -2.5], [-2.5, 4.5, -2.5]]))
    with torch.no_grad():
        model.logit_scale.fill_(math.log(1e6))
    assert model.logits(a, b)[0, 0].item() == pytest.approx(MAX_SCALE - 2.5)
    assert ContrastiveModel(dataclasses.replace(CONFIG, form="softmax")).logit_bias is None


def test_weights_depend_on_the_seed_alone_and_meta_draws_nothing() -> None:
    first, same, other = (ContrastiveModel(CONFIG, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["image_projection.weight"], other["image_projection.weight"])
    assert not torch.equal(first["model.visual.patch_embed.proj.weight"], other["model.visual.patch_embed.proj.weight"])
    with torch.device("meta"):
        assert all(param.is_meta for param in ContrastiveModel(CONFIG).parameters())


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="must be even"):
        CaptionConfig(vocab_size=9, hidden_size=18, num_heads=6)
    with pytest.raises(ValueError, match="scale must lie in"):
        dataclasses.replace(CONFIG, scale=0.0)
    with pytest.raises(ValueError, match="no multiple of 2 heads"):
        ContrastiveModel(dataclasses.replace(CONFIG, vision=dataclasses.replace(VISION, out_hidden_size=25)))
