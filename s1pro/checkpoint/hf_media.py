"""Media arguments of the transformers class: padded tensors in, `Media` records out.

`generate` of transformers calls the model once with all media and then, a token at a time, with the grids and lengths
but without pixels and values: a description without content is no medium.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s1pro.base.media import Media, Patches, Signals
from s1pro.base.signal_tokens import assumed_sampling_rate
from s1pro.model.config import ModelConfig
from s1pro.model.placeholders import check_media, patch_tokens, signal_tokens

MEDIA_ARGUMENTS = (
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "ts_values",
    "ts_lens",
    "ts_sr",
)


def media_of(
    *,
    pixel_values: Tensor | None = None,
    image_grid_thw: Tensor | None = None,
    pixel_values_videos: Tensor | None = None,
    video_grid_thw: Tensor | None = None,
    ts_values: Tensor | Sequence[Tensor] | None = None,
    ts_lens: Tensor | None = None,
    ts_sr: Tensor | None = None,
) -> Media[Tensor] | None:
    """All media of a batch, in the order of their placeholders; None without. Shapes as in `forward`.

    Raises:
        ValueError: content without its description, or two that contradict each other.
    """
    media = Media(
        images=_patches("image", pixel_values, image_grid_thw),
        videos=_patches("video", pixel_values_videos, video_grid_thw),
        signals=_signals(ts_values, ts_lens, ts_sr),
    )
    return None if media.is_empty else media


def as_tensors(arguments: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Arguments with numpy arrays, also those in lists, as tensors on `device`; the rest as it is."""

    def convert(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value).to(device)
        if isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
            return [convert(item) for item in value]
        return value

    return {name: convert(value) for name, value in arguments.items()}


def repeat_media(arguments: Mapping[str, Any], input_ids_BS: Tensor, times: int, config: ModelConfig) -> dict[str, Any]:
    """Media arguments for a batch in which every row stands `times` times in a row.

    Raises:
        ValueError: the media do not fill the placeholders of the rows.
    """
    media = media_of(**arguments)
    if media is None:  # descriptions without content
        return dict(arguments)
    repeated: dict[str, Any] = {}
    for patches, token, pixels, grid in (
        (media.images, config.image_token_id, "pixel_values", "image_grid_thw"),
        (media.videos, config.video_token_id, "pixel_values_videos", "video_grid_thw"),
    ):
        if patches is not None:
            sizes = [t * h * w for t, h, w in patches.grids]
            order = _order(input_ids_BS, token, patch_tokens(patches, config), times)
            parts = patches.pixel_values_PX.split(sizes)
            repeated[pixels] = torch.cat([parts[i] for i in order])
            repeated[grid] = torch.tensor([patches.grids[i] for i in order])
    if media.signals is not None:
        signals = media.signals
        order = _order(input_ids_BS, config.ts_token_id, signal_tokens(signals), times)
        parts = signals.values_X.split([length * channels for length, channels in signals.shapes])
        repeated["ts_values"] = [parts[i].view(signals.shapes[i]) for i in order]
        repeated["ts_lens"] = torch.tensor([signals.shapes[i][0] for i in order])
        repeated["ts_sr"] = torch.tensor([signals.sampling_rates[i] for i in order], dtype=torch.float64)
    return repeated


def check_rows(input_ids_BS: Tensor, valid_BS: Tensor, media: Media[Tensor], config: ModelConfig) -> None:
    """Every row of a batch has the placeholders of whole media, so that no row takes those of another.

    Args:
        valid_BS: where `input_ids_BS` is no padding.

    Raises:
        ValueError: too many or too few placeholders of any kind, or no tower for a kind.
    """
    ids_BS = torch.where(valid_BS, input_ids_BS, -1)
    check_media(ids_BS, media, config)
    for token, sizes in (
        (config.image_token_id, patch_tokens(media.images, config)),
        (config.video_token_id, patch_tokens(media.videos, config)),
        (config.ts_token_id, signal_tokens(media.signals)),
    ):
        if sizes:
            _order(ids_BS, token, sizes, 1)


def _order(input_ids_BS: Tensor, token: int, sizes: Sequence[int], times: int) -> list[int]:
    """Indices of the media of every row, the row's own `times` times before those of the next."""
    order: list[int] = []
    first = 0
    for count in (input_ids_BS == token).sum(dim=1).tolist():
        last = first
        while count > 0 and last < len(sizes):
            count -= sizes[last]
            last += 1
        if count != 0:
            raise ValueError(
                f"the media of sizes {list(sizes)} do not fill the placeholders (token {token}) of each row"
            )
        order += list(range(first, last)) * times
        first = last
    return order


def _patches(kind: str, pixels: Tensor | None, grid: Tensor | None) -> Patches[Tensor] | None:
    if pixels is None:
        return None
    if grid is None:
        raise ValueError(f"{kind}s need {kind}_grid_thw with their pixel values")
    grid = torch.as_tensor(grid)
    if grid.dim() != 2 or grid.shape[1] != 3:
        raise ValueError(f"{kind}_grid_thw must have shape [{kind}s, 3], got {list(grid.shape)}")
    return Patches(pixel_values_PX=torch.as_tensor(pixels), grids=tuple((t, h, w) for t, h, w in grid.tolist()))


def _signals(
    values: Tensor | Sequence[Tensor] | None, lengths: Tensor | None, rates: Tensor | None
) -> Signals[Tensor] | None:
    if values is None:
        return None
    one_by_one = [torch.as_tensor(value) for value in values]
    if any(value.dim() != 2 for value in one_by_one):
        found = [list(value.shape) for value in one_by_one]
        raise ValueError(f"ts_values must hold signals of shape [length, channels], got {found}")
    if lengths is not None:
        one_by_one = [value[:length] for value, length in _paired("ts_lens", one_by_one, lengths)]
        short = [n for value, n in _paired("ts_lens", one_by_one, lengths) if not 0 < n <= value.shape[0]]
        if short:
            found = torch.as_tensor(lengths).tolist()
            raise ValueError(f"ts_lens {found} do not fit ts_values, which have {len(values[0])} points")
    elif isinstance(values, Tensor) and len(values) > 1:
        raise ValueError("ts_values of several signals need ts_lens: how many points of each are no padding")
    shapes = tuple((int(value.shape[0]), int(value.shape[1])) for value in one_by_one)
    hertz = [0.0] * len(shapes) if rates is None else [rate for _, rate in _paired("ts_sr", one_by_one, rates)]
    if any(math.isnan(rate) for rate in hertz):
        raise ValueError(f"ts_sr holds NaN: {hertz}; 0 stands for an unknown rate")
    values_X = torch.cat([value.reshape(-1) for value in one_by_one])
    if not torch.isfinite(values_X).all():
        raise ValueError("ts_values hold NaN or infinite values; prepare signals with the processor")
    return Signals(
        values_X=values_X,
        shapes=shapes,
        sampling_rates=tuple(
            rate if rate > 0 else assumed_sampling_rate(length) for rate, (length, _) in zip(hertz, shapes, strict=True)
        ),
    )


def _paired(name: str, signals: Sequence[Tensor], numbers: Any) -> list[tuple[Tensor, Any]]:
    found = torch.as_tensor(numbers).reshape(-1).tolist()
    if len(found) != len(signals):
        raise ValueError(f"{name} has {len(found)} entries for {len(signals)} signals")
    return list(zip(signals, found, strict=True))
