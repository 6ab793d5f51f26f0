"""Frames, times and sizes of videos: loops and transformers as the oracle."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as their_smart_resize

from s1pro.base.errors import InputError
from s1pro.inputs.images import ImageSettings, image_patches, num_image_tokens
from s1pro.inputs.videos import (
    VideoLimits,
    VideoSettings,
    frame_timestamps,
    prepare_video,
    sample_frames,
    timestamp_text,
    video_patches,
    video_size,
)

RELEASED = VideoSettings()


@given(total=st.integers(2, 20_000), fps=st.floats(0.01, 1000), wanted=st.floats(0.1, 60), most=st.integers(4, 900))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_frames_are_spread_over_the_whole_video(total: int, fps: float, wanted: float, most: int) -> None:
    own = VideoSettings(fps=wanted, max_frames=most)
    indices = sample_frames(total, fps, own).tolist()
    assert indices[0] == 0 and indices[-1] == total - 1 and all(a < b for a, b in pairwise(indices))
    by_rate = math.floor(total / fps * wanted)
    assert len(indices) == min(max(min(by_rate, most), 4), total)
    assert all(abs(index - i * (total - 1) / (len(indices) - 1)) <= 0.5 for i, index in enumerate(indices))


def test_times_are_the_mean_of_each_pair() -> None:
    assert frame_timestamps([0, 2, 5, 7], 4.0, RELEASED) == (0.25, 1.5)
    assert frame_timestamps([0, 1, 2], 2.0, RELEASED) == (0.25, 1.0)
    assert frame_timestamps(np.array([0, 1, 2]), 2.0, VideoSettings(temporal_patch_size=1)) == (0.0, 0.5, 1.0)
    assert [timestamp_text(seconds) for seconds in (0.25, 1.25, 3661.04)] == [
        "<0.2 seconds>",
        "<1.2 seconds>",
        "<3661.0 seconds>",
    ]


@given(
    frames=st.integers(2, 768), height=st.integers(1, 4000), width=st.integers(1, 4000),
    least=st.integers(1, 2**20), most=st.integers(2**20, 2**26),
)  # fmt: skip
@settings(max_examples=300, deadline=None, derandomize=True)
def test_sizes_are_those_of_transformers(frames: int, height: int, width: int, least: int, most: int) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    limits = {"min_pixels": least, "max_pixels": most}
    expected = their_smart_resize(frames, height, width, temporal_factor=2, factor=32, **limits)
    assert video_size(frames, height, width, VideoSettings(**limits)) == expected


def test_small_frames_are_enlarged_where_the_release_fails() -> None:
    assert video_size(4, 20, 40, RELEASED) == (32, 64)
    patches, grid, _ = video_patches(np.full((4, 10, 10, 3), 255, np.uint8), 2.0, RELEASED)
    assert grid == (2, 2, 2) and np.array_equal(patches, np.ones((8, 1536), np.float32))


@pytest.mark.parametrize("count", [2, 4, 5])
def test_patches_hold_pairs_of_frames(count: int) -> None:
    """Each frame alone, as a still image of one frame per patch, is a half of the video's rows."""
    own = VideoSettings(min_pixels=1, fps=100, patch_size=4)
    frames = np.random.default_rng(count).integers(0, 256, (count, 16, 24, 3), dtype=np.uint8)
    patches, grid, seconds = video_patches(frames, 10.0, own)
    assert grid == ((count + 1) // 2, 4, 6) and len(seconds) == grid[0]
    assert num_image_tokens(grid, own) == grid[0] * 6
    still = ImageSettings(min_pixels=1, max_pixels=16 * 24, patch_size=4, temporal_patch_size=1)
    halves = patches.reshape(grid[0], 24, 3, 2, 16)
    for t in range(grid[0]):
        for half in range(2):
            expected, _ = image_patches(frames[min(2 * t + half, count - 1)], still)
            assert np.array_equal(halves[t, :, :, half].reshape(24, 48), expected)


def test_preparing_a_source_equals_its_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (30, 33, 65, 3), dtype=np.uint8)
    np.save(tmp_path / "v.npy", frames)
    expected = video_patches(frames, 10.0, RELEASED)
    for source in (frames, list(frames), str(tmp_path / "v.npy")):
        patches, grid, seconds = prepare_video(source, RELEASED, fps=10.0)
        assert np.array_equal(patches, expected[0]) and (grid, seconds) == expected[1:]


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (np.zeros((1, 64, 64, 3), np.uint8), 2.0, "video array: a video needs at least 2 frames, got 1; pass a still"),
        (np.zeros((0, 64, 64, 3), np.uint8), 2.0, r"got uint8 \[0, 64, 64, 3\]"),
        (np.zeros((4, 64, 64), np.uint8), 2.0, r"expected uint8 \[frames, height, width, 3\], got uint8 \[4, 64, 64\]"),
        (np.zeros((4, 64, 64, 4), np.uint8), 2.0, r"got uint8 \[4, 64, 64, 4\]"),
        (np.zeros((4, 64, 64, 3), np.float64), 2.0, "got float64"),
        (np.zeros((4, 1, 201, 3), np.uint8), 2.0, "video array: a picture of 1 x 201 pixels .* more than 200 times"),
        (np.zeros((4, 64, 64, 3), np.uint8), 0.0, "frames per second must be a positive number, got 0.0"),
        (np.zeros((4, 64, 64, 3), np.uint8), float("nan"), "must be a positive number, got nan"),
        (np.zeros((4, 64, 64, 3), np.uint8), float("inf"), "must be a positive number, got inf"),
    ],
)
def test_what_is_refused(frames: np.ndarray, fps: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        video_patches(frames, fps, RELEASED)


def test_decoding_work_is_limited() -> None:
    frames = [np.zeros((40, 40, 3), np.uint8)] * 6
    for limits, message in (
        (VideoLimits(max_frames=5), "list of pictures: 6 frames are more than the limit of 5"),
        (VideoLimits(max_frame_pixels=1599), "40 x 40 pixels are more than the limit of 1599"),
        (VideoLimits(max_decoded_pixels=9599), "6 or more frames of 40 x 40 pixels exceed the limit of 9599"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_video(frames, RELEASED, limits=limits)
    assert prepare_video(frames, RELEASED, limits=VideoLimits(max_loaded_pixels=1))[1] == (2, 2, 2)
