"""Hashes against the cosine transform of scipy, and what they must and must not notice."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from s1pro.corpus.phash import hamming, perceptual_hashes, plain_margins, words_of


def drawing(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """Curves and boxes on white with a margin of a tenth."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", size, 255)
    draw = ImageDraw.Draw(image)
    (x0, x1), (y0, y1) = (size[0] // 10, size[0] * 9 // 10), (size[1] // 10, size[1] * 9 // 10)
    draw.rectangle((x0, y0, x1, y1), outline=0, width=2)
    for _ in range(6):
        points = sorted((int(rng.integers(x0, x1)), int(rng.integers(y0, y1))) for _ in range(8))
        draw.line(points, fill=int(rng.integers(0, 120)), width=3)
    return image


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def test_the_bits_are_those_of_scipys_cosine_transform() -> None:
    from scipy.fft import dctn

    image = drawing(1).crop((48, 36, 433, 325))  # to the frame, so that nothing is trimmed
    scaled = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR), dtype=float)
    low = dctn(scaled, norm="ortho")[:16, :16].ravel()
    expected = np.packbits(low > np.median(low[1:])).tobytes().hex()
    assert hamming(perceptual_hashes(grey(image)).raw_phash, expected) <= 2  # rounding at the median


def test_copies_are_near_and_others_are_far() -> None:
    originals = [drawing(seed) for seed in range(8)]
    hashes = [perceptual_hashes(grey(image)) for image in originals]
    for image, original in zip(originals, hashes, strict=True):
        for copy in (image.resize((240, 180)), jpeg(image, 40), image.resize((700, 525))):
            assert hamming(perceptual_hashes(grey(copy)).phash, original.phash) <= 24
            assert hamming(perceptual_hashes(grey(copy)).dhash, original.dhash) <= 40
    others = [hamming(a.phash, b.phash) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(others) > 40


def test_padding_is_trimmed() -> None:
    image = drawing(3)
    padded = Image.new("L", (600, 500), 255)
    padded.paste(image, (60, 90))
    first, second = perceptual_hashes(grey(image)), perceptual_hashes(grey(padded))
    assert first.phash == second.phash and first.dhash == second.dhash
    assert hamming(first.raw_phash, second.raw_phash) > 24
    x0, y0, x1, y1 = second.box
    assert (x0 - 60, y0 - 90, x1 - 60, y1 - 90) == first.box


def test_a_photograph_is_not_trimmed() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (12, 16), dtype=np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    assert plain_margins(grey(noise)) == (0, 0, 320, 240)


def test_ink_and_entropy() -> None:
    blank = perceptual_hashes(np.full((50, 80), 255, dtype=np.uint8))
    assert (blank.ink_ratio, blank.entropy) == (0.0, 0.0)
    half = np.full((40, 40), 255, dtype=np.uint8)
    half[10:30] = 0  # the edges are half black: white is not plain enough to trim
    both = perceptual_hashes(half)
    assert both.ink_ratio == pytest.approx(0.5) and both.entropy == pytest.approx(1.0)
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    assert perceptual_hashes(ramp).entropy == pytest.approx(8.0)


def test_bulk_words_count_like_hamming() -> None:
    hashes = [perceptual_hashes(grey(drawing(seed))).phash for seed in range(3)]
    words = words_of(hashes)
    counted = np.bitwise_count(words[0] ^ words[1]).sum()
    assert words.shape == (3, 4) and counted == hamming(hashes[0], hashes[1])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        perceptual_hashes(np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="bits"):
        hamming("ff", "ffff")
