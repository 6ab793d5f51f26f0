"""Resized frames cut into the rows that the vision tower reads (spec 1.6).

    planes [f, 3, h, w] uint8 --> patches [P, X] float32,  row order (t, h / 2, w / 2, 2, 2), in a row (3, 2, 16, 16)

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


def resized_planes(frame_hw3: Pixels, height: int, width: int) -> Pixels:
    """The frame in its new size, as planes `[3, height, width]`: bicubic with antialiasing on uint8.

    The release resizes rows first and columns second, with bytes between. Pillow takes the other order where a picture
    becomes lower and wider; asked for one direction at a time it gives the released pixels there too.
    """
    if frame_hw3.shape[:2] == (height, width):
        return np.ascontiguousarray(frame_hw3.transpose(2, 0, 1))
    image = Image.fromarray(frame_hw3)
    for size in ((width, image.height), (width, height)):
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
    return np.stack([np.asarray(plane) for plane in image.split()])


def cut_patches(planes_f3hw: Pixels, settings: PatchSettings) -> tuple[Floats, Grid]:
    """Patches `[P, X]` and their grid.

    Args:
        planes_f3hw: contiguous, with sides that are multiples of `settings.factor`. A missing end of the last patch is
            filled with copies of the last frame, so one frame is a still image.
    """
    patch, merge, depth = settings.patch_size, settings.merge_size, settings.temporal_patch_size
    count, channels, height, width = planes_f3hw.shape
    assert height % settings.factor == 0 and width % settings.factor == 0, planes_f3hw.shape
    if count == 1:
        depth = 1
    elif count % depth:
        planes_f3hw = np.concatenate((planes_f3hw, np.repeat(planes_f3hw[-1:], -count % depth, axis=0)))
    t, h, w = len(planes_f3hw) // depth, height // patch, width // patch

    rows: npt.NDArray[Any] = planes_f3hw.view(f"V{patch}")  # an item is one row of one patch
    rows = rows.reshape(t, depth, channels, h // merge, merge, patch, w // merge, merge)
    rows = np.ascontiguousarray(rows.transpose(0, 3, 6, 4, 7, 2, 1, 5))
    values = _normalised(rows.view(np.uint8).reshape(t * h * w, channels, depth, patch * patch), settings)
    return values.reshape(t * h * w, -1), (t, h, w)


def _normalised(pixels: Pixels, settings: PatchSettings) -> Floats:
    """uint8 `[P, 3, depth or 1, patch * patch]` as float32 `[P, 3, depth, patch * patch]`."""
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
