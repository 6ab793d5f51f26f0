"""Settings of de-duplication, with the thresholds that `bench/dedup.py fit` found on pictures of its own making."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PictureClass = Literal["plot", "table", "photo"]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From which score of `verify.similarity` on two registered pictures are copies."""

    plot: float = 0.77
    table: float = 0.92
    photo: float = 0.78

    def of(self, kind: PictureClass) -> float:
        return {"plot": self.plot, "table": self.table, "photo": self.photo}[kind]


@dataclass(frozen=True, kw_only=True)
class DedupSettings:
    """What makes two figures candidates, and what makes them copies.

    Attributes:
        radius: most different bits, of 256, between two hashes of a candidate pair.
        bands: into how many parts of equal length a hash is cut; candidates agree in one part up to one bit. Pairs of
            up to `2 * bands - 1` different bits are found for certain, more distant ones nearly always. Fewer bands
            are longer, so there are fewer false neighbours to check: 16 is for thousands to a million figures, 11 for
            many millions.
        aspect_tolerance: by how much the ratios of width to height may differ.
        min_ink, min_entropy: pictures below either (blank, one rule) hash to noise and are not compared.
        thresholds: of the similarity of registered pixels, for each class of pictures.
        min_overlap: which share of each picture's content the other one must show.
        compared_side: registered pictures are compared at this many pixels on the long side.
    """

    radius: int = 40
    bands: int = 16
    aspect_tolerance: float = 0.12
    min_ink: float = 0.002
    min_entropy: float = 0.08
    thresholds: Thresholds = field(default_factory=Thresholds)
    min_overlap: float = 0.8
    compared_side: int = 320

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= 128:
            raise ValueError(f"radius must be between 0 and 128 bits, got {self.radius}")
        if not 4 <= self.bands <= 32:
            raise ValueError(f"bands must be between 4 and 32, got {self.bands}")
        if self.compared_side < 64:
            raise ValueError(f"compared_side must be at least 64 pixels, got {self.compared_side}")
