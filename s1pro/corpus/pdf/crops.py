"""Pictures of elements: rendered from the page, never taken apart.

The crop is the box plus at least 3 points on every side (boxes of characters are tight), rendered at `dpi`, less if
the long side or the area would exceed the caps. Pictures in shades of grey become PNG, in colour JPEG: tables and line
drawings stay exact, and photographs small. The same page gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from s1pro.corpus.phash import Hashes, perceptual_hashes
from s1pro.corpus.records import Box, ElementRow

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

COLOUR = 12


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How elements are rendered: resolution, padding in points, caps in pixels, quality of JPEG."""

    dpi: int = 150
    pad: float = 4.0
    max_side: int = 1800
    max_area: int = 2_400_000
    jpeg_quality: int = 88


@dataclass(frozen=True)
class Crop:
    """Encoded picture with its size, hashes and the resolution that it got."""

    image: bytes
    mime: str
    width: int
    height: int
    dpi: int
    hashes: Hashes


@dataclass(frozen=True)
class Bitmap:
    """Pixels (height, width, 3) of a part of a page; `scale` pixels per point from the corner `(left, top)`."""

    pixels: NDArray[np.uint8]
    left: float
    top: float
    scale: float


def render(page: PdfPage, box: Box, settings: CropSettings) -> Bitmap:
    """Pixels of a box with its padding, within the caps."""
    width, height = page.get_size()
    x0, y0 = max(0.0, box[0] - settings.pad), max(0.0, box[1] - settings.pad)
    x1, y1 = min(width, box[2] + settings.pad), min(height, box[3] + settings.pad)
    across, along = max(1.0, x1 - x0), max(1.0, y1 - y0)
    scale = min(
        settings.dpi / 72.0, settings.max_side / max(across, along), math.sqrt(settings.max_area / (across * along))
    )  # fmt: skip
    cut = (x0, max(0.0, height - y1), max(0.0, width - x1), y0)
    bitmap = page.render(scale=scale, crop=cut, draw_annots=False, may_draw_forms=False, rev_byteorder=True)
    pixels = np.array(bitmap.to_numpy()[:, :, :3])
    bitmap.close()
    return Bitmap(pixels, x0, y0, scale)


def part(whole: Bitmap, box: Box, pad: float) -> Bitmap:
    """A part of a bitmap, for panels."""
    height, width = whole.pixels.shape[:2]
    x0, y0 = (max(0, int((v - o - pad) * whole.scale)) for v, o in zip(box[:2], (whole.left, whole.top), strict=True))
    x1, y1 = (math.ceil((v - o + pad) * whole.scale) for v, o in zip(box[2:], (whole.left, whole.top), strict=True))
    pixels = whole.pixels[y0 : max(y0 + 1, min(y1, height)), x0 : max(x0 + 1, min(x1, width))]
    return Bitmap(pixels, whole.left + x0 / whole.scale, whole.top + y0 / whole.scale, whole.scale)


def encode(bitmap: Bitmap, settings: CropSettings) -> Crop:
    """Hashes and encodes pixels."""
    from PIL import Image

    pixels = np.ascontiguousarray(bitmap.pixels)
    picture = Image.fromarray(pixels)
    grey = picture.convert("L")
    hashes = perceptual_hashes(np.asarray(grey))
    out = io.BytesIO()
    if _is_grey(pixels):
        mime = "image/png"
        grey.save(out, "PNG", compress_level=3)
    else:
        mime = "image/jpeg"
        picture.save(out, "JPEG", quality=settings.jpeg_quality, subsampling=0)
    return Crop(out.getvalue(), mime, picture.width, picture.height, round(bitmap.scale * 72), hashes)


def with_crop(row: ElementRow, crop: Crop) -> ElementRow:
    """The element with its picture."""
    return replace(
        row, crop_dpi=crop.dpi, width=crop.width, height=crop.height, mime=crop.mime, image=crop.image,
        image_id=hashlib.sha256(crop.image).hexdigest(), phash=crop.hashes.phash, dhash=crop.hashes.dhash,
        ink_ratio=crop.hashes.ink_ratio, entropy=crop.hashes.entropy,
    )  # fmt: skip


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """No colour anywhere but in a few pixels (every third pixel is looked at)."""
    sample = pixels[::3, ::3].astype(np.int16)
    spread = np.abs(sample[:, :, 0] - sample[:, :, 1]) + np.abs(sample[:, :, 1] - sample[:, :, 2])
    return bool((spread > COLOUR).mean() < 0.0002)
