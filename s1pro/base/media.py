"""Media beside a conversation, as they travel from preparation to the network: patches of pictures, points of signals.

    inputs/ --Media[numpy]--> data/ --Media[torch]--> model/

The records are generic in the kind of array they hold, so that one definition serves the rooms without torch and those
with it. Media stand in the order in which their placeholders occur in the token ids. Nothing is padded: patches of all
pictures lie one after another, and so do the values of all signals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Generic, TypeVar

Array = TypeVar("Array")
"""numpy.ndarray or torch.Tensor."""

Other = TypeVar("Other")

Grid = tuple[int, int, int]
"""(t, h, w) in patches; h and w are multiples of the merge size."""


@dataclass(frozen=True, kw_only=True)
class Patches(Generic[Array]):
    """Pre-processed pixels of several images, or of several videos.

    Attributes:
        pixel_values_PX: float `[P, channels * t_patch * patch * patch]`, in merge order (spec 1.6).
        grids: of each image or video; together they describe P patches.
    """

    pixel_values_PX: Array
    grids: tuple[Grid, ...]

    def __post_init__(self) -> None:
        expected, got = sum(t * h * w for t, h, w in self.grids), _length(self.pixel_values_PX)
        if expected != got:
            raise ValueError(f"grids {self.grids} describe {expected} patches, pixel_values has {got} rows")

    def one_by_one(self) -> list[Patches[Array]]:
        """Every image or video as a record of its own; the arrays share memory."""
        rows = _parts(self.pixel_values_PX, [t * h * w for t, h, w in self.grids])
        return [Patches(pixel_values_PX=row, grids=(grid,)) for row, grid in zip(rows, self.grids, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Signals(Generic[Array]):
    """Several signals, standardised per channel.

    Attributes:
        values_X: float `[sum of length * channels]`, signal after signal, each one `[length, channels]` row by row.
        shapes: (length, channels) of each signal.
        sampling_rates: in Hz.
    """

    values_X: Array
    shapes: tuple[tuple[int, int], ...]
    sampling_rates: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.shapes) != len(self.sampling_rates):
            raise ValueError(f"{len(self.shapes)} signals, but {len(self.sampling_rates)} sampling rates")
        if any(length < 1 or channels < 1 for length, channels in self.shapes):
            raise ValueError(f"every signal needs at least one point and one channel, got shapes {self.shapes}")
        if any(not 0 < rate < float("inf") for rate in self.sampling_rates):
            raise ValueError(f"sampling rates must be positive and finite (Hz), got {self.sampling_rates}")
        expected, got = sum(length * channels for length, channels in self.shapes), _length(self.values_X)
        if expected != got:
            raise ValueError(f"signals of shapes {self.shapes} have {expected} values, got {got}")

    def one_by_one(self) -> list[Signals[Array]]:
        """Every signal as a record of its own; the arrays share memory."""
        values = _parts(self.values_X, [length * channels for length, channels in self.shapes])
        triples = zip(values, self.shapes, self.sampling_rates, strict=True)
        return [Signals(values_X=x, shapes=(shape,), sampling_rates=(rate,)) for x, shape, rate in triples]


@dataclass(frozen=True, kw_only=True)
class Media(Generic[Array]):
    """All media of one sequence or one forward pass; None where there are none of a kind."""

    images: Patches[Array] | None = None
    videos: Patches[Array] | None = None
    signals: Signals[Array] | None = None

    @property
    def is_empty(self) -> bool:
        return self.images is None and self.videos is None and self.signals is None

    def map(self, function: Callable[[Array], Other]) -> Media[Other]:
        """The same media with every array replaced by `function` of it."""
        return Media(
            images=_map_patches(self.images, function),
            videos=_map_patches(self.videos, function),
            signals=None if self.signals is None else replace(self.signals, values_X=function(self.signals.values_X)),  # type: ignore[arg-type]
        )


def join_media(parts: Sequence[Media[Array]], concatenate: Callable[[list[Array]], Array]) -> Media[Array] | None:
    """The media of several sequences, in order, as one record; None if there are none.

    Args:
        concatenate: joins arrays along their first axis (`numpy.concatenate`, `torch.cat`).
    """
    joined = Media(
        images=_join_patches([part.images for part in parts if part.images is not None], concatenate),
        videos=_join_patches([part.videos for part in parts if part.videos is not None], concatenate),
        signals=_join_signals([part.signals for part in parts if part.signals is not None], concatenate),
    )
    return None if joined.is_empty else joined


def _map_patches(patches: Patches[Array] | None, function: Callable[[Array], Other]) -> Patches[Other] | None:
    if patches is None:
        return None
    return Patches(pixel_values_PX=function(patches.pixel_values_PX), grids=patches.grids)


def _join_patches(parts: list[Patches[Array]], concatenate: Callable[[list[Array]], Array]) -> Patches[Array] | None:
    if not parts:
        return None
    return Patches(
        pixel_values_PX=concatenate([part.pixel_values_PX for part in parts]),
        grids=tuple(grid for part in parts for grid in part.grids),
    )


def _join_signals(parts: list[Signals[Array]], concatenate: Callable[[list[Array]], Array]) -> Signals[Array] | None:
    if not parts:
        return None
    return Signals(
        values_X=concatenate([part.values_X for part in parts]),
        shapes=tuple(shape for part in parts for shape in part.shapes),
        sampling_rates=tuple(rate for part in parts for rate in part.sampling_rates),
    )


def _parts(array: Any, sizes: Sequence[int]) -> list[Any]:
    """The array cut along its first axis."""
    return [array[stop - size : stop] for stop, size in zip(accumulate(sizes), sizes, strict=True)]


def _length(array: Any) -> int:
    return int(array.shape[0])
