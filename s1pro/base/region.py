"""Boxes inside larger tensors: which part of a logical tensor something holds. Numbers only.

Training on several ranks cuts tensors into boxes, a checkpoint stores boxes, another number of ranks cuts differently,
and a released file wants one expert: all of it is one question, *where do two boxes overlap?*
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """The box from `start`, of `size`, in a tensor of `shape`; all have one number per dim."""

    shape: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.shape) == len(self.start) == len(self.size):
            raise ValueError(f"shape {self.shape}, start {self.start} and size {self.size} differ in length")
        for whole, start, size in zip(self.shape, self.start, self.size, strict=True):
            if not (start >= 0 and size >= 0 and start + size <= whole):
                raise ValueError(f"the box {self.start} + {self.size} does not lie in {self.shape}")

    @staticmethod
    def whole(shape: tuple[int, ...]) -> Region:
        return Region(tuple(shape), (0,) * len(shape), tuple(shape))

    @property
    def numel(self) -> int:
        numel = 1
        for size in self.size:
            numel *= size
        return numel

    def overlap(self, other: Region) -> Region | None:
        """What both hold, None if nothing.

        Raises:
            ValueError: the boxes belong to tensors of different shapes.
        """
        if self.shape != other.shape:
            raise ValueError(f"boxes in tensors of shapes {self.shape} and {other.shape} cannot be compared")
        pairs = list(zip(self.start, self.size, other.start, other.size, strict=True))
        start = tuple(max(a, c) for a, _, c, _ in pairs)
        size = tuple(min(a + b, c + d) - s for (a, b, c, d), s in zip(pairs, start, strict=True))
        return Region(self.shape, start, size) if all(n > 0 for n in size) else None

    def inside(self, outer: Region) -> tuple[slice, ...]:
        """Indices of this box in a tensor that holds `outer`."""
        return tuple(
            slice(a - b, a - b + n) for a, b, n in zip(self.start, outer.start, self.size, strict=True)
        )  # fmt: skip


def chunk_bounds(size: int, parts: int, index: int) -> tuple[int, int]:
    """Start and length of part `index` when `size` is cut as `torch.chunk` does: the last may be short or empty."""
    step = -(-size // parts)
    start = min(index * step, size)
    return start, min(step, size - start)
