"""Still images for the network: size, patches, tokens (spec 1.6).

    image_files.load_image --> uint8 [height, width, 3] --image_patches--> float32 [P, X] and the grid (1, h, w)

`smart_resize` keeps the aspect ratio as far as multiples of 32 pixels allow: each side is rounded to the nearest
multiple (Python's `round`: 8.5 becomes 8, 9.5 becomes 10); where the area then leaves its limits, both sides are scaled
by one factor and rounded down (too large) or up (too small). 2 x 2 patches of 16 x 16 pixels are one token.
"""

from __future__ import annotations

import math

import numpy as np

from s1pro.base.errors import InputError
from s1pro.base.media import Grid
from s1pro.inputs.image_files import load_image
from s1pro.inputs.patches import Floats, Pixels, cut_patches, resized_planes
from s1pro.inputs.pixel_settings import ImageSettings, PatchSettings

__all__ = ["ImageSettings", "image_patches", "load_image", "num_image_tokens", "smart_resize"]

MAX_ASPECT_RATIO = 200


def smart_resize(height: int, width: int, settings: PatchSettings) -> tuple[int, int]:
    """The size to which a still image is brought.

    Raises:
        InputError: no pixels, or one side more than 200 times the other.
    """
    check_sides(height, width)
    factor = settings.factor
    new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
    return fit_area(height, width, new_height, new_width, frames=1, rounded_frames=1, settings=settings)


def check_sides(height: float, width: float) -> None:
    if height < 1 or width < 1:
        raise InputError(f"a picture of {height} x {width} pixels is empty")
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise InputError(
            f"a picture of {height} x {width} pixels (height x width): "
            f"one side is more than {MAX_ASPECT_RATIO} times the other"
        )


def fit_area(
    height: int,
    width: int,
    new_height: int,
    new_width: int,
    *,
    frames: int,
    rounded_frames: int,
    settings: PatchSettings,
) -> tuple[int, int]:
    """The rounded size, or the original size scaled into the limits of the area (over all frames)."""
    factor, area = settings.factor, frames * height * width
    rounded_area = rounded_frames * new_height * new_width
    if rounded_area > settings.max_pixels:
        scale = math.sqrt(area / settings.max_pixels)
        return (
            max(factor, math.floor(height / scale / factor) * factor),
            max(factor, math.floor(width / scale / factor) * factor),
        )
    if rounded_area < settings.min_pixels:
        scale = math.sqrt(settings.min_pixels / area)
        return math.ceil(height * scale / factor) * factor, math.ceil(width * scale / factor) * factor
    return new_height, new_width


def image_patches(image_hw3: Pixels, settings: ImageSettings) -> tuple[Floats, Grid]:
    """The patches `[P, X]` of an image, and its grid (1, h, w) in patches.

    Args:
        image_hw3: uint8, as `load_image` gives it.

    Raises:
        InputError: another kind of array, or a shape that `smart_resize` refuses.
    """
    if image_hw3.dtype != np.uint8 or image_hw3.ndim != 3 or image_hw3.shape[2] != 3:
        raise InputError(
            f"expected pixels as uint8 [height, width, 3], got {image_hw3.dtype} {list(image_hw3.shape)}; "
            "load_image converts other forms"
        )
    height, width = smart_resize(image_hw3.shape[0], image_hw3.shape[1], settings)
    return cut_patches(resized_planes(image_hw3, height, width)[None], settings)


def num_image_tokens(grid: Grid, settings: PatchSettings) -> int:
    """Placeholders that a grid needs in the prompt."""
    t, h, w = grid
    return t * (h // settings.merge_size) * (w // settings.merge_size)
