"""Embeddings of media in the place of their placeholder tokens.

Media of one kind stand in the order of their placeholders over the whole packed row; sequences need no borders here,
since every medium of every sequence has exactly as many placeholders as embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from s1pro.base.media import Media, Patches, Signals
from s1pro.model.config import ModelConfig

if TYPE_CHECKING:
    from s1pro.model.network import Towers


def scatter_media(
    h_TD: Tensor, input_ids_T: Tensor, media: Media[Tensor], towers: Towers, config: ModelConfig
) -> Tensor:
    """Replaces the embeddings of placeholder tokens by those of the media, in order.

    Raises:
        ValueError: media without a tower for them, or another number of placeholders than of media tokens.
    """
    if config.vision is None and not (media.images is None and media.videos is None):
        raise ValueError("images or videos were given, but this model has no vision tower (no vision_config)")
    if config.time_series is None and media.signals is not None:
        raise ValueError("signals were given, but this model has no time-series module (no ts_config)")
    if media.images is not None:
        h_TD = _scatter(h_TD, input_ids_T, "image", config.image_token_id, media.images, towers.visual)
    if media.videos is not None:
        h_TD = _scatter(h_TD, input_ids_T, "video", config.video_token_id, media.videos, towers.visual)
    if media.signals is not None:
        h_TD = _scatter(h_TD, input_ids_T, "signal", config.ts_token_id, media.signals, towers.time_series)
    return h_TD


def _scatter(
    h_TD: Tensor,
    input_ids_T: Tensor,
    kind: str,
    token_id: int,
    items: Patches[Tensor] | Signals[Tensor],
    tower: Callable[..., Tensor],
) -> Tensor:
    tokens_ND = tower(items)
    where = (input_ids_T == token_id).nonzero().squeeze(1)
    if where.numel() != tokens_ND.shape[0]:
        raise ValueError(
            f"{where.numel()} {kind} placeholders (token {token_id}) for {tokens_ND.shape[0]} {kind} tokens "
            f"of {_described(items)}: run the processor on the whole conversation"
        )
    return h_TD.index_copy(0, where, tokens_ND.to(h_TD.dtype))


def _described(items: Patches[Tensor] | Signals[Tensor]) -> str:
    if isinstance(items, Patches):
        return f"grids {items.grids}"
    return f"signals of shapes {items.shapes} at {items.sampling_rates} Hz"
