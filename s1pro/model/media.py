"""Embeddings of media in the place of their placeholder tokens.

Media of one kind stand in the order of their placeholders over the whole packed row; sequences need no borders here,
since every medium of every sequence has exactly as many placeholders as embeddings (`model.placeholders` checks the
sum, whoever packs rows checks each of them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from s1pro.base.media import Media
from s1pro.model.config import ModelConfig
from s1pro.model.placeholders import check_media

if TYPE_CHECKING:
    from s1pro.model.network import Towers


def scatter_media(
    h_TD: Tensor, input_ids_T: Tensor, media: Media[Tensor], towers: Towers, config: ModelConfig
) -> Tensor:
    """Replaces the embeddings of placeholder tokens by those of the media, in order.

    Raises:
        InputError: media without a tower for them, or another number of placeholders than of media tokens.
    """
    check_media(input_ids_T, media, config)
    if media.images is not None:
        h_TD = _scatter(h_TD, input_ids_T, config.image_token_id, towers.visual(media.images))
    if media.videos is not None:
        h_TD = _scatter(h_TD, input_ids_T, config.video_token_id, towers.visual(media.videos))
    if media.signals is not None:
        h_TD = _scatter(h_TD, input_ids_T, config.ts_token_id, towers.time_series(media.signals))
    return h_TD


def _scatter(h_TD: Tensor, input_ids_T: Tensor, token_id: int, tokens_ND: Tensor) -> Tensor:
    where = (input_ids_T == token_id).nonzero().squeeze(1)
    return h_TD.index_copy(0, where, tokens_ND.to(h_TD.dtype))
