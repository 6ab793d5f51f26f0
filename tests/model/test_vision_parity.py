"""The vision tower against `Qwen3VLVisionModel` of transformers, and its order of slices against one call per slice."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from s1pro.base.media import Grid, Patches
from s1pro.model.config import VisionConfig
from s1pro.model.vision import SliceOrder, VisionTower

SIZES = {
    "depth": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "patch_size": 4,
    "num_position_embeddings": 49,
    "out_hidden_size": 24,
}
# equal and unequal images, interleaved, with a video in between
PACKED: tuple[Grid, ...] = ((1, 4, 6), (1, 2, 2), (3, 4, 4), (1, 4, 6), (1, 10, 8), (1, 2, 2), (1, 6, 4), (2, 2, 8))


def pixels(grids: tuple[Grid, ...], seed: int = 3) -> Tensor:
    count = sum(math.prod(grid) for grid in grids)
    return torch.randn(count, 3 * 2 * 4 * 4, generator=torch.Generator().manual_seed(seed))


def fill(module: torch.nn.Module) -> None:
    """Weights of a size at which every part matters."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif "norm" in name:
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(noise * (0.5 if "pos_embed" in name else parameter[0].numel() ** -0.5))


@pytest.fixture
def towers() -> tuple[Qwen3VLVisionModel, VisionTower]:
    theirs = Qwen3VLVisionModel(Qwen3VLVisionConfig(**SIZES, deepstack_visual_indexes=[], attn_implementation="eager"))
    fill(theirs)
    ours = VisionTower(VisionConfig(**SIZES))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def test_packed_images_and_video_and_gradients(towers: tuple[Qwen3VLVisionModel, VisionTower]) -> None:
    theirs, ours = towers
    x_PX = pixels(PACKED)
    expected = theirs(x_PX, grid_thw=torch.tensor(PACKED)).pooler_output
    found = ours(Patches(pixel_values_PX=x_PX, grids=PACKED))
    assert 0.3 < float(expected.detach().std()) < 3.0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(5))
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.norm()) > 0, name
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-4 * scale, rtol=1e-4, msg=name)


@pytest.mark.parametrize("grids", [PACKED, ((1, 4, 4),) * 9, ((1, 8, 8), (1, 2, 2)), ((1, 4, 2), (1, 2, 4), (1, 6, 6))])
def test_a_batch_equals_its_images_one_by_one(
    towers: tuple[Qwen3VLVisionModel, VisionTower], grids: tuple[Grid, ...]
) -> None:
    tower, x_PX = towers[1], pixels(grids)
    with torch.no_grad():
        together = tower(Patches(pixel_values_PX=x_PX, grids=grids))
        alone = []
        for rows, (t, h, w) in zip(x_PX.split([math.prod(grid) for grid in grids]), grids, strict=True):
            for frame in rows.chunk(t):  # slices of a video do not see each other either
                alone.append(tower(Patches(pixel_values_PX=frame, grids=((1, h, w),))))
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=1e-6)


def test_slices_are_grouped_by_length_and_brought_back() -> None:
    slices = SliceOrder.of(PACKED)
    assert slices.groups == ((2, 4), (5, 16), (3, 24), (1, 80))
    marks = torch.arange(sum(slices.lengths))[:, None]
    torch.testing.assert_close(slices.unsort(slices.sort(marks), 1), marks)
    assert slices.sort(marks)[:8, 0].tolist() == [*range(24, 28), *range(180, 184)]


def test_positions_of_a_grid_do_not_depend_on_its_neighbours(towers: tuple[Qwen3VLVisionModel, VisionTower]) -> None:
    tower = towers[1]
    for table in (tower.position_embeddings, tower.rotary_angles):
        alone = [table((grid,)) for grid in PACKED]
        assert torch.equal(table(PACKED), torch.cat(alone))


def test_gradients_reach_the_position_table_of_a_frozen_tower(
    towers: tuple[Qwen3VLVisionModel, VisionTower],
) -> None:
    tower = towers[1].requires_grad_(False)
    tower.pos_embed.weight.requires_grad_(True)
    tower(Patches(pixel_values_PX=pixels(PACKED), grids=PACKED)).sum().backward()
    assert tower.pos_embed.weight.grad is not None and float(tower.pos_embed.weight.grad.abs().max()) > 0
    assert all(parameter.grad is None for name, parameter in tower.named_parameters() if name != "pos_embed.weight")
