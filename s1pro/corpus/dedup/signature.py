"""What de-duplication keeps of a figure: a few hundred bytes, so that millions fit into memory.

A copy may have lost its edges. Therefore a figure is hashed in several **views**: without its plain margins
(`trimmed`), whole (`raw`), and with a strip of 2.5 % or 5 % cut off all around. The last two are compared only with
whole or trimmed views of other figures: the original, cut a little, looks like the cropped copy. The box of a view is
kept, because the boxes of two similar views say where one picture lies in the other, which is where `verify` starts.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.corpus.dedup.labels import tokens_of
from s1pro.corpus.dedup.settings import PictureClass
from s1pro.corpus.phash import box_phash, perceptual_hashes
from s1pro.corpus.records import ElementRow

CUTS = (0.025, 0.05)
NUM_BASE_VIEWS = 2
MAX_SIDE = 640
_PHOTO_ENTROPY = 5.0
_PHOTO_INK = 0.55

View = tuple[float, float, float, float]
"""Box in shares of width and height."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Of one element.

    Attributes:
        exact: digest of picture and text; equal means the same figure without looking any further.
        hashes: one of each view, 64 hexadecimal digits: trimmed, raw, then the cuts.
        views: their boxes.
        tokens: the words and numbers inside the crop, sorted.
        kind: which threshold holds.
        rank: smaller is a better representative: more pixels, then a longer caption, then the id.
    """

    element_id: str
    exact: str
    hashes: tuple[str, ...]
    views: tuple[View, ...]
    width: int
    height: int
    ink_ratio: float
    entropy: float
    tokens: tuple[str, ...]
    kind: PictureClass
    rank: tuple[int, int, str]

    def aspect(self, view: int) -> float:
        """Width by height of a view, in pixels."""
        x0, y0, x1, y1 = self.views[view]
        return (x1 - x0) * self.width / ((y1 - y0) * self.height)


def signature(element: ElementRow) -> Signature:
    """Signature of an element with its picture.

    Raises:
        InputError: the element has no picture, or one that cannot be read.
    """
    picture, full_size = read_grey(element.image, element.element_id)
    grey = np.asarray(picture)
    hashes = perceptual_hashes(grey)
    x0, y0, x1, y1 = hashes.box
    trimmed = (x0 / picture.width, y0 / picture.height, x1 / picture.width, y1 / picture.height)
    whole: View = (0.0, 0.0, 1.0, 1.0)
    cuts = tuple(_cut(trimmed, share) for share in CUTS)
    tokens = tokens_of(element.text_layer)
    digest = hashlib.blake2b(element.image, digest_size=16)
    digest.update("\n".join(tokens).encode())
    return Signature(
        element_id=element.element_id,
        exact=digest.hexdigest(),
        hashes=(hashes.phash, hashes.raw_phash, *(box_phash(picture, view) for view in cuts)),
        views=(trimmed, whole, *cuts),
        width=full_size[0],
        height=full_size[1],
        ink_ratio=hashes.ink_ratio,
        entropy=hashes.entropy,
        tokens=tokens,
        kind=_kind(element.type, hashes.entropy, hashes.ink_ratio),
        rank=(-full_size[0] * full_size[1], -len(element.caption), element.element_id),
    )


def read_grey(image: bytes, name: str) -> tuple[Image.Image, tuple[int, int]]:
    """A picture in grey, at most `MAX_SIDE` pixels long, and the size that it had.

    Raises:
        InputError: there is no picture, or it cannot be read.
    """
    if not image:
        raise InputError(f"element {name}: de-duplication needs the picture, and this row carries none")
    try:
        with Image.open(io.BytesIO(image)) as opened:
            size = opened.size
            opened.draft("L", (MAX_SIDE, MAX_SIDE))  # JPEG only: decodes at a half or a quarter
            picture = _on_white(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"element {name}: the picture cannot be read ({error})") from error
    factor = MAX_SIDE / max(picture.size)
    if factor < 1:
        picture = picture.resize(
            (max(1, round(picture.width * factor)), max(1, round(picture.height * factor))),
            Image.Resampling.BILINEAR,
            reducing_gap=3.0,
        )
    return picture, size


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("L")
    return picture.convert("L")


def _cut(view: View, share: float) -> View:
    x0, y0, x1, y1 = view
    dx, dy = share * (x1 - x0), share * (y1 - y0)
    return x0 + dx, y0 + dy, x1 - dx, y1 - dy


def _kind(type: str, entropy: float, ink_ratio: float) -> PictureClass:
    if type in ("table", "formula", "algorithm"):
        return "table"
    return "photo" if entropy > _PHOTO_ENTROPY or ink_ratio > _PHOTO_INK else "plot"
