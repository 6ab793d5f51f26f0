"""Resized frames cut into the rows that the vision tower reads (spec 1.6).

    frames [f, h, w, 3] uint8 --> patches [P, X] float32,  row order (t, h / 2, w / 2, 2, 2), in a row (C, 2, 16, 16)

with the sizes of the release: patches of 16 x 16 pixels and two frames, 2 x 2 patches per token. The four patches of a
token are neighbours, so the tower merges them by a reshape.

Bytes are moved before they become numbers: sixteen pixels of one patch row are one 16-byte item, so that the
transposition runs over items instead of pixels and over a quarter of the memory. Numbers are
(x - 255 mean) / (255 std) in float32, the released arithmetic, computed for some patches at a time while they are in
the cache; both halves of a still image's patch are written from one computation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from s1pro.base.media import Grid
from s1pro.inputs.pixel_settings import PatchSettings

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_PATCHES_AT_ONCE = 128


def resize_frame(frame_hw3: Pixels, height: int, width: int) -> Pixels:
    """Bicubic with antialiasing on uint8, as released; the same array if it has that size already."""
    if frame_hw3.shape[:2] == (height, width):
        return frame_hw3
    return np.asarray(Image.fromarray(frame_hw3).resize((width, height), Image.Resampling.BICUBIC))


def cut_patches(frames_fhw3: Pixels, settings: PatchSettings) -> tuple[Floats, Grid]:
    """Patches `[P, X]` and their grid.

    Args:
        frames_fhw3: with sides that are multiples of `settings.factor`. A missing end of the last patch is filled with
            copies of the last frame, so one frame is a still image.
    """
    patch, merge, depth = settings.patch_size, settings.merge_size, settings.temporal_patch_size
    count, height, width, channels = frames_fhw3.shape
    assert height % settings.factor == 0 and width % settings.factor == 0, frames_fhw3.shape
    if count == 1:
        depth = 1
    elif count % depth:
        frames_fhw3 = np.concatenate((frames_fhw3, np.repeat(frames_fhw3[-1:], -count % depth, axis=0)))
    t, h, w = len(frames_fhw3) // depth, height // patch, width // patch

    planes = np.ascontiguousarray(frames_fhw3.transpose(0, 3, 1, 2))
    rows: npt.NDArray[Any] = planes.view(f"V{patch}")  # an item is one row of one patch
    rows = rows.reshape(t, depth, channels, h // merge, merge, patch, w // merge, merge)
    rows = np.ascontiguousarray(rows.transpose(0, 3, 6, 4, 7, 2, 1, 5))
    values = _normalised(rows.view(np.uint8).reshape(t * h * w, channels, depth, patch * patch), settings)
    return values.reshape(t * h * w, -1), (t, h, w)


def _normalised(pixels: Pixels, settings: PatchSettings) -> Floats:
    """uint8 `[P, C, depth or 1, patch * patch]` as float32 `[P, C, depth, patch * patch]`."""
    count, channels, _, area = pixels.shape
    mean, std = _per_channel(settings.mean), _per_channel(settings.std)
    values = np.empty((count, channels, settings.temporal_patch_size, area), np.float32)
    for start in range(0, count, _PATCHES_AT_ONCE):
        some = pixels[start : start + _PATCHES_AT_ONCE].astype(np.float32)
        some -= mean
        some /= std
        values[start : start + _PATCHES_AT_ONCE] = some
    return values


def _per_channel(values: tuple[float, ...]) -> Floats:
    """On the scale of bytes; one number if all channels agree, which is faster."""
    scaled = np.array(values, np.float32) * np.float32(255)
    return scaled[:1].reshape(()) if len(set(values)) == 1 else scaled.reshape(-1, 1, 1)
