"""What a block of the cache contains, as a digest: the key of the prefix cache.

    digest_i = H(digest_{i-1}, token ids of block i, digests of the media that begin in block i)

A digest names everything up to the end of its block, so equal digests mean equal keys and values. A placeholder id says
nothing about its picture: the content of an image, video or signal enters where its first placeholder stands, and
through the chain all blocks behind it. Only full blocks have digests.

128 bits of BLAKE2b: two different prefixes never meet by accident, nor on purpose without great effort.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from s1pro.base.media import Media, Patches
from s1pro.model.config import ModelConfig
from s1pro.model.placeholders import patch_tokens, signal_tokens


def extend_digests(
    digests: list[bytes], token_ids: Sequence[int], block_size: int, media: Mapping[int, bytes]
) -> list[bytes]:
    """Adds the digests of all blocks that `token_ids` fill to those of the first blocks; returns the list.

    Args:
        token_ids: of the whole sequence.
        media: digest of each medium by the position of its first placeholder.
    """
    starts = sorted(media)
    for start in range(len(digests) * block_size, len(token_ids) - block_size + 1, block_size):
        stop = start + block_size
        state = blake2b(digests[-1] if digests else b"", digest_size=16)
        state.update(array("q", token_ids[start:stop]).tobytes())
        for position in starts:
            if start <= position < stop:
                state.update(b"m" + media[position])
        digests.append(state.digest())
    return digests


def media_positions(token_ids: Sequence[int], media: Media[Any], config: ModelConfig) -> list[int]:
    """Where the placeholders of the given kinds stand."""
    wanted = [token for token, part, _ in _kinds(media, config) if part is not None]
    return np.flatnonzero(np.isin(np.asarray(token_ids), wanted)).tolist()


def media_digests(token_ids: Sequence[int], media: Media[Any], config: ModelConfig) -> dict[int, bytes]:
    """Digest of every image, video and signal, by the position of its first placeholder."""
    ids = np.asarray(token_ids)
    digests: dict[int, bytes] = {}
    for token, part, counts in _kinds(media, config):
        if part is None:
            continue
        firsts = np.flatnonzero(ids == token)[np.cumsum([0, *counts[:-1]])].tolist()
        digests |= dict(zip(firsts, _contents(part), strict=True))
    return digests


def _kinds(media: Media[Any], config: ModelConfig) -> list[tuple[int, Any, list[int]]]:
    return [
        (config.image_token_id, media.images, patch_tokens(media.images, config)),
        (config.video_token_id, media.videos, patch_tokens(media.videos, config)),
        (config.ts_token_id, media.signals, signal_tokens(media.signals)),
    ]


def _contents(part: Any) -> list[bytes]:
    if isinstance(part, Patches):
        values, labels = part.pixel_values_PX, [("patches", grid) for grid in part.grids]
        sizes = [t * h * w for t, h, w in part.grids]
    else:
        values = part.values_X
        labels = [("signal", (*shape, rate)) for shape, rate in zip(part.shapes, part.sampling_rates, strict=True)]
        sizes = [length * channels for length, channels in part.shapes]
    array_, digests, start = np.ascontiguousarray(np.asarray(values)), [], 0
    for label, size in zip(labels, sizes, strict=True):
        state = blake2b(repr((label, array_.dtype.str)).encode(), digest_size=16)
        state.update(array_[start : start + size].tobytes())
        digests.append(state.digest())
        start += size
    return digests
