"""Embeddings of media in the place of their placeholder tokens.

Media of one kind stand in the order of their placeholders over the whole packed row; sequences need no borders here,
since every medium of every sequence has exactly as many placeholders as embeddings (`model.placeholders` checks the
sum, whoever packs rows checks each of them).

In exact mode (`model.exact`) every picture, video and signal passes its tower alone, in memory of its own. All products
then have the shapes that this one medium gives them, whatever else is in the batch, so its embeddings have the same
bits in engine and trainer. Gradients take the usual way, all media together, which is computed as well for them: a
trainer whose towers learn pays for two forward passes of its towers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from s1pro.base.media import Media, Patches
from s1pro.kernels.exact import with_gradient_of
from s1pro.model.config import ModelConfig
from s1pro.model.placeholders import check_media

if TYPE_CHECKING:
    from s1pro.model.network import Towers


def scatter_media(
    h_TD: Tensor,
    input_ids_T: Tensor,
    media: Media[Tensor],
    towers: Towers,
    config: ModelConfig,
    *,
    exact: bool = False,
) -> Tensor:
    """Replaces the embeddings of placeholder tokens by those of the media, in order.

    Args:
        exact: the same bits for a medium whatever the others are.

    Raises:
        InputError: media without a tower for them, or another number of placeholders than of media tokens.
    """
    check_media(input_ids_T, media, config)
    if media.images is not None:
        h_TD = _scatter(h_TD, input_ids_T, config.image_token_id, _encode(towers.visual, media.images, exact))
    if media.videos is not None:
        h_TD = _scatter(h_TD, input_ids_T, config.video_token_id, _encode(towers.visual, media.videos, exact))
    if media.signals is not None:
        h_TD = _scatter(h_TD, input_ids_T, config.ts_token_id, _encode(towers.time_series, media.signals, exact))
    return h_TD


def _encode(tower: nn.Module, part: Any, exact: bool) -> Tensor:
    """All tokens of the images, videos or signals in `part`."""
    if not exact:
        return tower(part)  # type: ignore[no-any-return]
    with torch.no_grad():
        tokens_ND = torch.cat([tower(_in_own_memory(medium)) for medium in part.one_by_one()])
    if not torch.is_grad_enabled() or not any(param.requires_grad for param in tower.parameters()):
        return tokens_ND
    return with_gradient_of(tokens_ND, tower(part))


def _in_own_memory(medium: Any) -> Any:
    """Where a tensor begins in memory can decide which way a library takes."""
    if isinstance(medium, Patches):
        return replace(medium, pixel_values_PX=medium.pixel_values_PX.clone())
    return replace(medium, values_X=medium.values_X.clone())


def _scatter(h_TD: Tensor, input_ids_T: Tensor, token_id: int, tokens_ND: Tensor) -> Tensor:
    where = (input_ids_T == token_id).nonzero().squeeze(1)
    return h_TD.index_copy(0, where, tokens_ND.to(h_TD.dtype))
