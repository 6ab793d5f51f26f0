"""Sizes and patches of still images, for all shapes: properties, and transformers as the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as their_smart_resize

from s1pro.base.errors import InputError
from s1pro.inputs.images import ImageSettings, image_patches, num_image_tokens, smart_resize
from s1pro.inputs.patches import resized_planes

RELEASED = ImageSettings()
sides = st.integers(1, 20_000)
areas = st.tuples(st.integers(1, 2**22), st.integers(1024, 2**24)).map(lambda pair: (min(pair), max(pair)))


@given(height=sides, width=sides, limits=areas)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_sizes_are_those_of_transformers(height: int, width: int, limits: tuple[int, int]) -> None:
    ours = ImageSettings(min_pixels=limits[0], max_pixels=max(limits[1], 1024))
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(InputError, match="more than 200 times"):
            smart_resize(height, width, ours)
        return
    expected = their_smart_resize(height, width, 32, min_pixels=ours.min_pixels, max_pixels=ours.max_pixels)
    assert smart_resize(height, width, ours) == expected


@given(height=sides, ratio=st.floats(1 / 200, 200))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_sizes_keep_their_promises(height: int, ratio: float) -> None:
    width = min(max(round(height * ratio), math.ceil(height / 200)), 200 * height)
    h, w = smart_resize(height, width, RELEASED)
    assert h % 32 == 0 and w % 32 == 0 and h >= 32 and w >= 32
    if min(h, w) > 32:  # one token's width cannot become smaller
        assert h * w <= RELEASED.max_pixels
    assert h * w >= RELEASED.min_pixels
    area = height * width
    scales = (1.0, math.sqrt(RELEASED.max_pixels / area), math.sqrt(RELEASED.min_pixels / area))
    deviations = [max(abs(h - height * scale), abs(w - width * scale)) for scale in scales]
    assert min(deviations) <= 32  # both sides by one factor, to within one token
    assert smart_resize(width, height, RELEASED) == (w, h)


@pytest.mark.parametrize("merge", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2])
def test_patches_give_the_image_back(merge: int, depth: int) -> None:
    """Undone by a loop over tokens, patches and channels."""
    patch = 4
    own = ImageSettings(
        min_pixels=1, max_pixels=10**6, patch_size=patch, temporal_patch_size=depth, merge_size=merge,
        mean=(0.1, 0.5, 0.7), std=(0.2, 0.5, 1.5),
    )  # fmt: skip
    h, w = 2 * merge, 3 * merge
    image = np.random.default_rng(merge).integers(0, 256, (h * patch, w * patch, 3), dtype=np.uint8)
    patches, grid = image_patches(image, own)
    assert grid == (1, h, w) and patches.shape == (h * w, own.patch_values) and num_image_tokens(grid, own) == 6
    row = 0
    for token_y in range(0, h, merge):
        for token_x in range(0, w, merge):
            for y in range(token_y, token_y + merge):
                for x in range(token_x, token_x + merge):
                    pixels = image[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
                    expected = (pixels.astype(np.float64) / 255 - own.mean) / own.std
                    for frame in patches[row].reshape(3, depth, patch, patch).transpose(1, 2, 3, 0):
                        np.testing.assert_allclose(frame, expected, rtol=0, atol=1e-5)
                    row += 1
    assert row == len(patches)


@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_small_image_becomes_patches(height: int, width: int, seed: int) -> None:
    own = ImageSettings(min_pixels=64, max_pixels=4096, patch_size=4)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    patches, (t, h, w) = image_patches(image, own)
    assert t == 1 and (h * 4, w * 4) == smart_resize(height, width, own) and patches.shape == (h * w, 96)
    assert patches.min() >= -1 and patches.max() <= 1
    levels = patches * 127.5 + 127.5
    assert np.abs(levels - np.rint(levels)).max() < 1e-4  # resizing happens on bytes


@pytest.mark.parametrize("size", [(64, 128), (64, 96), (96, 96), (96, 128), (80, 128), (64, 112)])
def test_resizing_is_that_of_torch(size: tuple[int, int]) -> None:
    """Lower and higher, narrower and wider: the release resizes with torch, which does rows first."""
    image = np.random.default_rng(5).integers(0, 256, (80, 112, 3), dtype=np.uint8)
    planes_13hw = torch.from_numpy(image).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(planes_13hw, size=size, mode="bicubic", antialias=True)[0].numpy()
    difference = np.abs(resized_planes(image, *size).astype(int) - expected)
    assert difference.max() <= 2 and (difference > 0).mean() < 0.01


def test_a_strided_view_is_an_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for view in (image[::-1], image[:, ::-2], image[..., ::-1], np.asfortranarray(image)):
        assert np.array_equal(image_patches(view, RELEASED)[0], image_patches(view.copy(), RELEASED)[0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64), np.uint8), r"uint8 \[height, width, 3\], got uint8 \[64, 64\]"),
        (np.zeros((64, 64, 4), np.uint8), r"got uint8 \[64, 64, 4\]"),
        (np.zeros((64, 64, 3), np.float32), "got float32"),
        (np.zeros((0, 64, 3), np.uint8), "a picture of 0 x 64 pixels is empty"),
        (np.zeros((1, 201, 3), np.uint8), "a picture of 1 x 201 pixels .*: one side is more than 200 times the other"),
    ],
)
def test_what_is_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        image_patches(image, RELEASED)
