"""How many placeholder tokens media need, and whether a prompt has them: arithmetic only, before any tower runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.media import Media, Patches, Signals
from s1pro.base.signal_tokens import signal_layout
from s1pro.model.config import ModelConfig


def check_media(input_ids_T: Tensor, media: Media[Any], config: ModelConfig) -> None:
    """Compares placeholders with media.

    Raises:
        InputError: the model has no tower for a kind, or the numbers differ.
    """
    for kind, token, part, tower in (
        ("image", config.image_token_id, media.images, config.vision),
        ("video", config.video_token_id, media.videos, config.vision),
        ("signal", config.ts_token_id, media.signals, config.time_series),
    ):
        if part is None:
            continue
        if tower is None:
            missing = "time-series module (no ts_config)" if kind == "signal" else "vision tower (no vision_config)"
            raise InputError(f"{kind}s were given, but this model has no {missing}")
        wanted = sum(signal_tokens(part) if isinstance(part, Signals) else patch_tokens(part, config))
        found = int((input_ids_T == token).sum())
        if found != wanted:
            raise InputError(
                f"{found} {kind} placeholders (token {token}) for {wanted} {kind} tokens of {_described(part)}: "
                "run the processor on the whole conversation"
            )


def patch_tokens(patches: Patches[Any] | None, config: ModelConfig) -> list[int]:
    """Merged tokens of every image or video."""
    if patches is None or config.vision is None:
        return []
    merged = config.vision.spatial_merge_size**2
    return [t * h * w // merged for t, h, w in patches.grids]


def signal_tokens(signals: Signals[Any] | None) -> list[int]:
    """Tokens of every signal, by the one count function."""
    if signals is None:
        return []
    pairs = zip(signals.shapes, signals.sampling_rates, strict=True)
    return [signal_layout(length, rate).tokens for (length, _), rate in pairs]


def _described(part: Patches[Any] | Signals[Any]) -> str:
    if isinstance(part, Patches):
        return f"grids {part.grids}"
    return f"signals of shapes {part.shapes} at {part.sampling_rates} Hz"
