"""Encoded conversations as the padded arrays of transformers.

| key | shape |
|---|---|
| `input_ids`, `attention_mask` | int64 `[B, S]`, mask 0 at padding |
| `pixel_values`, `image_grid_thw` | float32 `[P, X]`, int64 `[images, 3]` |
| `pixel_values_videos`, `video_grid_thw` | the same for videos |
| `ts_values`, `ts_lens`, `ts_sr` | float32 `[signals, longest, channels]`, int64 `[signals]`, float64 Hz `[signals]` |

Signals with different numbers of channels are a list of arrays `[length, channels]` instead. Numpy throughout: the
model class takes arrays as well as tensors, so preparation needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.base.media import Media, Patches, Signals, join_media


class ModelInputs(dict[str, Any]):
    """A dictionary whose entries are attributes too, as in transformers."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def pad_batch(
    rows: Sequence[Sequence[int]], media: Sequence[Media[npt.NDArray[np.float32]]], *, pad_id: int, side: str
) -> ModelInputs:
    """Pads token ids and joins media, which stand in the order of the rows.

    Raises:
        InputError: no rows, an empty row, or an unknown side.
    """
    if side not in ("left", "right"):
        raise InputError(f"padding_side must be 'left' or 'right', got {side!r}")
    if not rows or not all(rows):
        raise InputError("there is nothing to encode: every row needs at least one token")
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        ids[number, place], mask[number, place] = row, 1
    joined = join_media(media, np.concatenate) or Media()
    return ModelInputs(
        input_ids=ids,
        attention_mask=mask,
        **_patches(joined.images, "pixel_values", "image_grid_thw"),
        **_patches(joined.videos, "pixel_values_videos", "video_grid_thw"),
        **_signals(joined.signals),
    )


def _patches(patches: Patches[Any] | None, pixels: str, grid: str) -> dict[str, Any]:
    if patches is None:
        return {}
    return {pixels: patches.pixel_values_PX, grid: np.asarray(patches.grids, dtype=np.int64)}


def _signals(signals: Signals[Any] | None) -> dict[str, Any]:
    if signals is None:
        return {}
    lengths = np.asarray([length for length, _ in signals.shapes], dtype=np.int64)
    ends = np.cumsum([length * channels for length, channels in signals.shapes])
    parts = np.split(signals.values_X, ends[:-1])
    arrays = [part.reshape(shape) for part, shape in zip(parts, signals.shapes, strict=True)]
    values: Any = arrays
    if len({channels for _, channels in signals.shapes}) == 1:
        values = np.zeros((len(arrays), lengths.max(), arrays[0].shape[1]), dtype=np.float32)
        for number, array in enumerate(arrays):
            values[number, : len(array)] = array
    return {"ts_values": values, "ts_lens": lengths, "ts_sr": np.asarray(signals.sampling_rates, dtype=np.float64)}
