"""Crops that another program has written: read only from inside its own folder, within limits, and hashed like ours.

A path in a layout file is other people's text. It must be relative and must stay inside the folder of the layout file
after all links are followed; the file must be small enough and a PNG, JPEG or WebP that decodes. Pictures inside the
JSON (`data:` addresses of Docling) pass the same limits; other addresses are refused, nothing is fetched.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.corpus.importers.json_file import Field
from s1pro.corpus.phash import perceptual_hashes

_MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_DATA = re.compile(r"data:image/[a-z.+-]+;base64,", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class PictureLimits:
    """Sizes above which a picture is refused."""

    max_image_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000


def read_picture(folder: Path, field: Field, limits: PictureLimits) -> dict[str, Any]:
    """The picture that a field names, as keyword arguments of an `ElementRow`.

    Raises:
        InputError: the path leaves `folder`, or the file is missing, too large, or no picture.
    """
    address = field.text()
    if _DATA.match(address):
        data = _decoded(address, field, limits)
    elif re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", address):
        raise field.wrong("pictures are read from the folder only, not from an address")
    else:
        data = _from_folder(folder, address, field, limits)
    return _described(data, field, limits)


def _from_folder(folder: Path, address: str, field: Field, limits: PictureLimits) -> bytes:
    root = folder.resolve()
    if "\0" in address or Path(address).is_absolute() or "\\" in address:
        raise field.wrong("expected a relative path")
    path = (root / address).resolve()
    if not path.is_relative_to(root):
        raise field.wrong(f"the path leaves the folder {root}")
    if not path.is_file():
        raise field.wrong("there is no such file")
    size = path.stat().st_size
    if size > limits.max_image_bytes:
        raise field.wrong(f"the picture has {size} bytes, more than {limits.max_image_bytes} (max_image_bytes)")
    return path.read_bytes()


def _decoded(address: str, field: Field, limits: PictureLimits) -> bytes:
    text = address.partition(",")[2]
    if len(text) > limits.max_image_bytes * 4 // 3 + 4:
        raise field.wrong(f"the picture has more than {limits.max_image_bytes} bytes (max_image_bytes)")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise field.wrong(f"no base64 ({error})") from error


def _described(data: bytes, field: Field, limits: PictureLimits) -> dict[str, Any]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=tuple(_MIMES)) as picture:
            width, height = picture.size
            if width * height > limits.max_pixels:
                raise field.wrong(f"{width} x {height} pixels, more than {limits.max_pixels} (max_pixels)")
            mime = _MIMES[str(picture.format)]
            grey = np.asarray(picture.convert("L"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise field.wrong(f"no PNG, JPEG or WebP that can be read ({type(error).__name__})") from error
    hashes = perceptual_hashes(grey)
    return {
        "image": data,
        "mime": mime,
        "width": width,
        "height": height,
        "image_id": hashlib.sha256(data).hexdigest(),
        "phash": hashes.phash,
        "dhash": hashes.dhash,
        "ink_ratio": hashes.ink_ratio,
        "entropy": hashes.entropy,
    }
