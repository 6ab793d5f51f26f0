"""Perceptual hashes of a figure: 256 bits that change little when it is scaled, compressed or padded.

1. **Trim.** The background is the most frequent grey on the four edges. Where at least `PLAIN_EDGE` of the edge pixels
   have it (within `TOLERANCE`), the rows and columns outside of everything else are cut off: a padded copy hashes like
   its original. Photographs have no plain edge and stay whole.
2. **pHash.** The picture is scaled to 64 × 64 (antialiased) and goes through the two-dimensional cosine transform. Each
   of the 16 × 16 lowest frequencies gives one bit: is it above their median (without the constant one)? The cosine
   matrix is a constant, so nothing but numpy is needed.
3. **dHash.** Scaled to 17 × 16: is a pixel brighter than its right neighbour?
4. **Ink** is the share of pixels that differ from the background, **entropy** the bits of the grey histogram. Pictures
   with hardly any of either (blank, one rule) hash to noise, and de-duplication leaves them alone.

A hash is a string of 64 hexadecimal digits; `hamming` counts different bits. A hash alone decides nothing: among many
figures, different ones come close by chance, and plots of one template by habit (`corpus.dedup` verifies on pixels).
A crop of 0.7 million pixels takes about 2 ms, one of 0.1 million 0.8 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

BITS = 256
TOLERANCE = 40
PLAIN_EDGE = 0.7
_SIDE = 16
_SCALED = 64
_FULL_BOX_SHARE = 0.02  # what is left after trimming has at least this share of each side


@dataclass(frozen=True, kw_only=True)
class Hashes:
    """Of one picture.

    Attributes:
        phash, dhash: of the picture with its plain margins cut off; 64 hexadecimal digits.
        raw_phash: of the whole picture.
        ink_ratio: share of pixels, of the whole picture, that are not background.
        entropy: bits of the histogram of greys of the whole picture, 0 to 8.
        box: `(x0, y0, x1, y1)` in pixels of what is left after trimming.
    """

    phash: str
    dhash: str
    raw_phash: str
    ink_ratio: float
    entropy: float
    box: tuple[int, int, int, int]


def perceptual_hashes(grey: np.ndarray) -> Hashes:
    """Hashes of a grey picture of shape `(height, width)` and type uint8.

    Raises:
        ValueError: another shape or type, or no pixels.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8 or grey.size == 0:
        raise ValueError(f"a grey picture has shape (height, width) and type uint8, not {grey.shape} and {grey.dtype}")
    picture = Image.fromarray(np.ascontiguousarray(grey))
    background, plain = _background(grey)
    histogram = np.array(picture.histogram(), dtype=np.float64)
    box = trim_box(picture, background) if plain else (0, 0, picture.width, picture.height)
    return Hashes(
        phash=_phash(picture, box),
        dhash=_dhash(picture, box),
        raw_phash=_phash(picture, (0, 0, picture.width, picture.height)),
        ink_ratio=_ink_ratio(histogram, background),
        entropy=_entropy(histogram),
        box=box,
    )


def box_phash(picture: Image.Image, view: tuple[float, float, float, float]) -> str:
    """pHash of a part of a grey picture; the box in shares of its width and height."""
    x0, y0, x1, y1 = view
    return _phash(picture, (x0 * picture.width, y0 * picture.height, x1 * picture.width, y1 * picture.height))


def plain_margins(grey: np.ndarray) -> tuple[int, int, int, int]:
    """The box `(x0, y0, x1, y1)` inside the plain margins; the whole picture if it has none."""
    background, plain = _background(grey)
    if not plain:
        return 0, 0, grey.shape[1], grey.shape[0]
    return trim_box(Image.fromarray(np.ascontiguousarray(grey)), background)


def trim_box(picture: Image.Image, background: int) -> tuple[int, int, int, int]:
    """The smallest box around all pixels that differ from the background; the whole picture if next to nothing does."""
    box = picture.point([255 if abs(value - background) > TOLERANCE else 0 for value in range(256)]).getbbox()
    whole = (0, 0, picture.width, picture.height)
    if box is None:
        return whole
    x0, y0, x1, y1 = box
    if x1 - x0 < _FULL_BOX_SHARE * picture.width or y1 - y0 < _FULL_BOX_SHARE * picture.height:
        return whole
    return x0, y0, x1, y1


def hamming(first: str, second: str) -> int:
    """How many bits differ between two hashes of equal length."""
    if len(first) != len(second):
        raise ValueError(f"hashes of {4 * len(first)} and {4 * len(second)} bits cannot be compared")
    return (int(first, 16) ^ int(second, 16)).bit_count()


def words_of(hashes: list[str]) -> np.ndarray:
    """Hashes as an array `(number, 4)` of uint64, for counting bits in bulk."""
    raw = b"".join(bytes.fromhex(each) for each in hashes)
    return np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(len(hashes), BITS // 64)


def _background(grey: np.ndarray) -> tuple[int, bool]:
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    counts = np.bincount(edge, minlength=256)
    background = int(np.argmax(counts))
    near = counts[max(0, background - TOLERANCE) : background + TOLERANCE + 1].sum()
    return background, bool(near >= PLAIN_EDGE * edge.size)


def _phash(picture: Image.Image, box: tuple[float, float, float, float]) -> str:
    scaled = np.asarray(
        picture.resize((_SCALED, _SCALED), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0), dtype=np.float64
    )
    cosines = _cosines()
    frequencies = (cosines @ scaled @ cosines.T).ravel()
    return _hexadecimal(frequencies > np.median(frequencies[1:]))


def _dhash(picture: Image.Image, box: tuple[int, int, int, int]) -> str:
    scaled = np.asarray(
        picture.resize((_SIDE + 1, _SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0), dtype=np.int16
    )
    return _hexadecimal((scaled[:, :-1] > scaled[:, 1:]).ravel())


def _hexadecimal(bits: np.ndarray) -> str:
    return np.packbits(bits).tobytes().hex()


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The 16 lowest rows of the orthonormal type-II cosine transform of 64 values."""
    rows, columns = np.arange(_SIDE)[:, None], np.arange(_SCALED)[None, :]
    matrix = np.cos(math.pi * (2 * columns + 1) * rows / (2 * _SCALED)) * math.sqrt(2 / _SCALED)
    matrix[0] /= math.sqrt(2)
    return matrix


def _ink_ratio(histogram: np.ndarray, background: int) -> float:
    near = histogram[max(0, background - TOLERANCE) : background + TOLERANCE + 1].sum()
    return float(1.0 - near / histogram.sum())


def _entropy(histogram: np.ndarray) -> float:
    share = histogram[histogram > 0] / histogram.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0
