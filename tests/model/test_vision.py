"""The vision tower against the goldens of the released code (positions, rotary angles, merged tokens)."""

import json

import pytest
import torch
from safetensors.torch import load_file

from s1pro.base.media import Patches
from s1pro.model.config import VisionConfig
from s1pro.model.vision import VisionTower


@pytest.fixture(scope="module")
def tower(goldens_dir):
    settings = json.loads((goldens_dir / "model_tiny" / "config.json").read_text())["vision_config"]
    settings.pop("model_type")
    tower = VisionTower(VisionConfig(**settings))
    weights = load_file(goldens_dir / "model_tiny" / "model.safetensors")
    prefix = "model.visual."
    tower.load_state_dict({key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)})
    return tower


@pytest.fixture(scope="module")
def goldens(goldens_dir):
    return load_file(goldens_dir / "model_tiny" / "goldens.safetensors")


def patches(goldens: dict, case: str, kind: str = "image") -> Patches:
    pixels = goldens[f"{case}.pixel_values" + ("_videos" if kind == "video" else "")].float()
    grids = tuple(tuple(int(n) for n in row) for row in goldens[f"{case}.{kind}_grid_thw"])
    return Patches(pixel_values_PX=pixels, grids=grids)


@pytest.mark.parametrize("case", ["b_image", "c_images"])
def test_images(tower, goldens, case):
    media = patches(goldens, case)
    torch.testing.assert_close(
        tower.position_embeddings(media.grids), goldens[f"{case}.vision_pos_embeds"], atol=2e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        tower.rotary_angles(media.grids), goldens[f"{case}.vision_rotary_angles"], atol=2e-5, rtol=1e-5
    )
    torch.testing.assert_close(tower(media), goldens[f"{case}.image_embeds"], atol=2e-5, rtol=1e-5)


def test_video_attends_inside_each_temporal_slice(tower, goldens):
    media = patches(goldens, "d_video", "video")
    torch.testing.assert_close(tower(media), goldens["d_video.video_embeds"], atol=2e-5, rtol=1e-5)


def test_images_do_not_see_each_other(tower, goldens):
    media = patches(goldens, "c_images")
    first = media.grids[0]
    count = first[0] * first[1] * first[2]
    alone = tower(Patches(pixel_values_PX=media.pixel_values_PX[:count], grids=(first,)))
    torch.testing.assert_close(tower(media)[: count // 4], alone, atol=1e-6, rtol=1e-6)


def test_grids_that_cannot_be_merged_are_refused(tower):
    with pytest.raises(ValueError, match=r"grid \(1, 3, 4\)"):
        tower(Patches(pixel_values_PX=torch.zeros(12, 1536), grids=((1, 3, 4),)))
