"""Pictures in any usual form as pixels `[height, width, 3]` of uint8.

| what comes | what becomes of it |
|---|---|
| RGB | itself |
| RGBA, LA, palette with transparency | alpha is dropped, as the release does; nothing is blended |
| grey, 1 bit | replicated to three channels; a bit is 0 or 255 |
| palette, CMYK, YCbCr, HSV | Pillow's conversion; colour profiles are not applied, as in the release |
| 16-bit grey | x / 257, rounded (Pillow's own conversion would clip at 255) |
| 16-bit colour PNG | Pillow keeps the high byte |
| 32-bit integers | as 16-bit grey, if all values lie in 0 … 65535 |
| rotated by EXIF | turned upright. The release receives decoded pictures and leaves this to whoever loads them |
| several frames, several pages | an error: pass it as a video. MPO files of cameras count as their first picture |
| floating point | an error: only its author knows the range |

The header is read first: a picture with too many pixels is refused before its pixels are decoded. Only the formats of
`FORMATS` are opened; others in Pillow start programs or are rarely looked at by anybody.
"""

from __future__ import annotations

import io
import os
import struct
import tokenize
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.inputs.media_source import MAX_MEDIA_BYTES, MediaSource, media_name, read_media
from s1pro.inputs.patches import Pixels

MAX_IMAGE_PIXELS = 178_956_970
"""Largest picture that is decoded: what Pillow itself accepts before it suspects an attack."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

ImageSource = MediaSource | Image.Image | np.ndarray

_UPRIGHT = {  # value of the EXIF field -> how to turn
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = frozenset({5, 6, 7, 8})  # turned by 90 degrees: height and width change places
_ORIENTATION = 0x0112
_CONVERTED = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"})
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_DEEP = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
# What the decoders of Pillow and numpy raise on damaged files, found by feeding them such files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    RuntimeError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    Image.DecompressionBombError,
)


def load_image(
    source: ImageSource,
    *,
    base: Path | None = None,
    max_bytes: int = MAX_MEDIA_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
    allow_paths: bool = True,
) -> Pixels:
    """The pixels of a picture, uint8 `[height, width, 3]`; the rules are in the table above.

    Args:
        source: a path, a `data:` URL, the bytes of a file, a Pillow image, or an array uint8 `[h, w]`, `[h, w, 1]`,
            `[h, w, 3]` or `[h, w, 4]`.
        base, max_bytes, allow_paths: see `media_source.read_media`.
        max_pixels: larger pictures are refused before they are decoded (files that Pillow refuses stay refused).

    Raises:
        InputError: anything else, damaged files included; the message names the reference.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        with decoding("image"):
            return _from_pillow(source, "image", max_pixels)
    if not isinstance(source, (str, bytes, os.PathLike)):
        raise InputError(
            f"a picture is a path, a data: URL, bytes, a Pillow image or an array, got {type(source).__name__}"
        )
    name = media_name(source)
    data = read_media(source, base=base, max_bytes=max_bytes, allow_paths=allow_paths)
    with decoding(name), open_picture(data) as image:
        return _from_pillow(image, name, max_pixels)


def image_size(source: MediaSource) -> tuple[int, int]:
    """Height and width of what `load_image` would give for a reference, from the header alone.

    Raises:
        InputError: no such file, or no picture.
    """
    name = media_name(source)
    data = read_media(source)
    with decoding(name), open_picture(data) as image:
        turned = _orientation(image) in _LYING
        return (image.width, image.height) if turned else (image.height, image.width)


def open_picture(data: bytes) -> Image.Image:
    """Reads the header of a picture of the known formats. To be called inside `decoding`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours, and an error
        return Image.open(io.BytesIO(data), formats=FORMATS)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns whatever decoders raise on foreign data into an `InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{name}: not a picture in a known format ({', '.join(FORMATS)})") from error
    except _DECODER_ERRORS as error:
        raise InputError(f"{name}: damaged or not readable: {error or type(error).__name__}") from error


def check_area(name: str, height: int, width: int, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise InputError(f"{name}: a picture of {height} x {width} pixels is empty")
    if height * width > max_pixels:
        raise InputError(f"{name}: {height} x {width} pixels are more than the limit of {max_pixels}")


def as_rgb(image: Image.Image, name: str) -> Pixels:
    """Decoded pixels of the current frame by the rules above, without turning."""
    if image.mode in _DEEP:
        return _from_deep(np.asarray(image), name)
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, and Pillow does not warn
    if image.mode not in _CONVERTED:
        raise InputError(f"{name}: pixels of the kind {image.mode!r} are not supported; convert them to 8-bit RGB")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_pillow(image: Image.Image, name: str, max_pixels: int) -> Pixels:
    check_area(name, image.height, image.width, max_pixels)
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError(f"{name}: has several frames or pages; pass it as a video, or one frame as an array")
    pixels = as_rgb(image, name)
    # Only now: decoded TIFF pictures have turned themselves already, and PNGs may say it at their end.
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]))
    return pixels


def _orientation(image: Image.Image) -> object:
    """The EXIF field, or None: a picture whose EXIF data cannot be read counts as upright."""
    try:
        return image.getexif().get(_ORIENTATION)
    except _DECODER_ERRORS:
        return None


def _from_deep(values: np.ndarray, name: str) -> Pixels:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise InputError(f"{name}: integers from {low} to {high} have no known range; convert them to 8-bit pixels")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 257 is odd: there are no ties
    return np.repeat(grey[..., None], 3, axis=-1)


def _from_array(array: np.ndarray, max_pixels: int) -> Pixels:
    if array.dtype != np.uint8:
        raise InputError(
            f"an array of {array.dtype} is no picture: convert it to uint8 from 0 to 255 (its range is not known)"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"an array of shape {list(array.shape)} is no picture: [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]"
        )
    check_area("array", array.shape[0], array.shape[1], max_pixels)
    if array.ndim == 2:
        array = array[..., None]
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array[..., :3])
