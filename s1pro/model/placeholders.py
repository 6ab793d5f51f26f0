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
            missing = "time_series module (ts_config)" if kind == "signal" else "vision tower (vision_config)"
            raise InputError(f"{kind}s were given, but this model has no {missing}")
        wanted = num_signal_tokens(part) if isinstance(part, Signals) else num_patch_tokens(part, config)
        found = int((input_ids_T == token).sum())
        if found != wanted:
            raise InputError(
                f"{found} {kind} placeholders (token {token}) for {wanted} {kind} tokens; "
                "run the processor on the whole conversation"
            )


def num_patch_tokens(patches: Patches[Any], config: ModelConfig) -> int:
    """Merged tokens of all images or videos."""
    assert config.vision is not None
    return sum(t * h * w for t, h, w in patches.grids) // config.vision.spatial_merge_size**2


def num_signal_tokens(signals: Signals[Any]) -> int:
    """Tokens of all signals, by the one count function."""
    pairs = zip(signals.shapes, signals.sampling_rates, strict=True)
    return sum(signal_layout(length, rate).tokens for (length, _), rate in pairs)
