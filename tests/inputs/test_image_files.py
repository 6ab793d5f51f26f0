"""Pictures of every kind as RGB bytes, and everything that is refused."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from s1pro.base.errors import InputError
from s1pro.inputs.image_files import load_image

RNG = np.random.default_rng(4)
RGBA = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
RGB, GREY = RGBA[..., :3].copy(), RGBA[..., 0].copy()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_one_picture_by_every_way(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RGB))
    (tmp_path / "a.png").write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (RGB, Image.fromarray(RGB), data, url, tmp_path / "a.png", str(tmp_path / "a.png")):
        found = load_image(source)
        assert found.dtype == np.uint8 and found.flags.c_contiguous and np.array_equal(found, RGB)
    assert np.array_equal(load_image("a.png", base=tmp_path), RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(load_image(encoded(Image.fromarray(RGB), kind, **options)), RGB)


def test_alpha_is_dropped_and_grey_replicated() -> None:
    grey = np.repeat(GREY[..., None], 3, axis=2)
    grey_alpha = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(RGBA[..., 3])))
    assert np.array_equal(load_image(RGBA), RGB)
    assert np.array_equal(load_image(encoded(Image.fromarray(RGBA))), RGB)
    assert np.array_equal(load_image(encoded(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True)), RGB)
    for source in (GREY, GREY[..., None], encoded(Image.fromarray(GREY)), encoded(grey_alpha)):
        assert np.array_equal(load_image(source), grey)


def test_bits_palettes_and_inks() -> None:
    bits = GREY > 127
    expected = np.repeat(np.where(bits, 255, 0)[..., None], 3, axis=2)
    assert np.array_equal(load_image(encoded(Image.fromarray(bits))), expected)

    palette = Image.fromarray((GREY % 4).astype(np.uint8), "P")
    colours = [[200, 10, 3], [0, 0, 0], [7, 250, 9], [255, 255, 254]]
    palette.putpalette(np.array(colours).ravel().tolist())
    for options in ({}, {"transparency": 2}, {"transparency": b"\0\x40\xff\x10"}):
        assert np.array_equal(load_image(encoded(palette, **options)), np.array(colours)[GREY % 4])

    inks = RGBA.astype(int)  # black takes away from what each colour leaves
    found = load_image(encoded(Image.fromarray(RGBA, "CMYK"), "TIFF"))
    ideal = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    assert np.abs(found - ideal).max() <= 1


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = RNG.integers(0, 65_536, (5, 7), dtype=np.uint16)
    deep[0, :6] = (0, 128, 129, 65_535, 65_406, 65_407)
    expected = np.repeat(np.rint(deep / 257.0)[..., None], 3, axis=2)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(load_image(encoded(Image.fromarray(deep), kind)), expected)
    assert expected[0, :6, 0].tolist() == [0, 0, 1, 255, 254, 255]
    assert np.array_equal(load_image(Image.fromarray(deep.astype(np.int32))), expected)
    assert np.array_equal(load_image(encoded(Image.fromarray(deep.astype(np.int32)), "TIFF")), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_stand_upright(kind: str, orientation: int) -> None:
    """Pillow's own function is the oracle; 0 and 9 mean nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    image = Image.open(io.BytesIO(data))
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(load_image(data), expected) and np.array_equal(load_image(image), expected)
    assert (expected.shape == (7, 5, 3)) == (5 <= orientation <= 8)


def test_unreadable_orientation_counts_as_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(RGB), exif=exif).replace(b"MM\0*", b"XX\0*")
    at = data.index(b"eXIf")
    length = struct.unpack(">I", data[at - 4 : at])[0]
    crc = struct.pack(">I", zlib.crc32(data[at : at + 4 + length]))
    data = data[: at + 4 + length] + crc + data[at + 8 + length :]
    assert np.array_equal(load_image(data), RGB)


def test_first_picture_of_a_camera_file() -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=100, subsampling=0)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    found = load_image(data).astype(int)
    assert np.abs(found - RGB).max() < np.abs(found - (255 - RGB)).max() and np.abs(found - RGB).mean() < 3


def many(kind: str) -> bytes:
    frames = [Image.fromarray(np.roll(RGB, i, axis=0)) for i in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is large; there is nothing behind its header."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"no picture at all", "media of 17 bytes: not a picture in a known format"),
        (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in a known format"),
        (lambda: encoded(Image.fromarray(RGB))[:80], "damaged or not readable"),
        (lambda: encoded(Image.fromarray(RGB), "JPEG")[:-30], "damaged or not readable"),
        (lambda: encoded(Image.fromarray(RGB)).replace(b"IDAT", b"IDAX"), "not a picture in a known format"),
        (lambda: png_header(20_000, 20_000), "damaged or not readable: Image size"),
        (lambda: png_header(13_000, 13_000), "13000 x 13000 pixels are more than the limit of 100000000"),
        (lambda: png_header(0, 5), "not a picture in a known format"),
        (lambda: many("GIF"), "has several frames or pages; pass it as a video"),
        (lambda: many("PNG"), "has several frames or pages"),
        (lambda: many("WEBP"), "has several frames or pages"),
        (lambda: many("TIFF"), "has several frames or pages"),
        (lambda: Image.open(io.BytesIO(many("GIF"))), "image: has several frames or pages"),
        (lambda: Image.fromarray(GREY.astype(np.float32)), "image: pixels of the kind 'F' are not supported"),
        (lambda: encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "pixels of the kind 'F' are not supported"),
        (lambda: Image.new("LAB", (3, 3)), "pixels of the kind 'LAB' are not supported"),
        (lambda: Image.fromarray(np.array([[-1, 5]], np.int32)), "integers from -1 to 5 have no known range"),
        (lambda: Image.new("RGB", (0, 4)), "a picture of 4 x 0 pixels is empty"),
        (lambda: RGB / 255.0, "an array of float64 is no picture"),
        (lambda: RGB.astype(np.uint16), "an array of uint16 is no picture"),
        (lambda: GREY > 3, "an array of bool is no picture"),
        (lambda: RGB[..., :2], r"an array of shape \[5, 7, 2\] is no picture"),
        (lambda: RGB[None], r"an array of shape \[1, 5, 7, 3\] is no picture"),
        (lambda: RGB[:0], "a picture of 0 x 7 pixels is empty"),
        (lambda: np.broadcast_to(np.uint8(0), (10_001, 10_000)), "array: 10001 x 10000 pixels are more than the limit"),
        (lambda: [[1, 2], [3, 4]], "a picture is a path, a data: URL, bytes, a Pillow image or an array, got list"),
        (lambda: "https://example.org/a.png", "https URLs are not read here"),
        (lambda: "nowhere/a.png", "nowhere/a.png: there is no such file"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_image(make(), max_pixels=10**8)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on damaged metadata
def test_damaged_files_never_raise_anything_else() -> None:
    """Bytes changed and cut at random places, in files of all formats."""
    random = np.random.default_rng(0)
    image, seen = Image.fromarray(RGB), 0
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"):
        whole = np.frombuffer(encoded(image, kind), np.uint8)
        for _ in range(40):
            data = whole.copy()
            data[random.integers(0, len(data), 4)] = random.integers(0, 256, 4)
            cut = data[: random.integers(1, len(data) + 1)] if random.random() < 0.5 else data
            try:
                assert load_image(cut.tobytes()).dtype == np.uint8
            except InputError as error:
                assert str(error).startswith(f"media of {len(cut)} bytes: ")
                seen += 1
    assert seen > 100
