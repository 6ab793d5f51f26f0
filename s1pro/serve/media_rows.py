"""Embeddings of the media of one request.

The towers run once per request, when the first chunk with a placeholder is computed; their rows are kept until the
request ends. Which chunk a placeholder falls into then does not matter: each is one row among the others (attention of
the decoder is causal over media too), so a chunk may end in the middle of a picture. If the prefix cache holds all
placeholders in question, the towers do not run at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from s1pro.base.media import Media
from s1pro.model.media import scatter_media
from s1pro.model.network import Network
from s1pro.serve.prefix import media_positions
from s1pro.serve.steps import MixedBatch


@dataclass(frozen=True)
class MediaRows:
    """Embedding `[M, D]` of every placeholder, and their positions in the prompt, ascending."""

    positions_M: npt.NDArray[np.int64]
    rows_MD: Tensor

    def between(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], Tensor]:
        """Positions relative to `start`, and rows, of placeholders in a chunk."""
        first, last = np.searchsorted(self.positions_M, (start, stop))
        return self.positions_M[first:last] - start, self.rows_MD[first:last]


def run_towers(prompt_ids: Sequence[int], media: Media[Any], network: Network) -> MediaRows:
    """All media of a prompt through their towers."""
    positions = np.asarray(media_positions(prompt_ids, media, network.config), dtype=np.int64)
    weight = network.model.language_model.embed_tokens.weight
    ids_M = torch.tensor([prompt_ids[i] for i in positions], device=weight.device)
    tensors = media.map(lambda array: torch.as_tensor(array, device=weight.device))
    embedded_MD = network.model.language_model.embed_tokens(ids_M)
    rows_MD = scatter_media(embedded_MD, ids_M, tensors, network.model, network.config, exact=network.exact)
    return MediaRows(positions, rows_MD)


def embed_media(batch: MixedBatch, network: Network) -> Tensor | None:
    """Embeddings of a step in which media occur; None if there are none."""
    h_TD: Tensor | None = None
    for share, first in zip(batch.shares, batch.firsts, strict=True):
        request = share.request
        if request.media is None or share.start >= len(request.prompt_ids):
            continue
        if request.media_rows is None:
            request.media_rows = run_towers(request.prompt_ids, request.media, network)
        places_N, rows_ND = request.media_rows.between(share.start, share.start + share.count)
        if len(places_N):
            if h_TD is None:
                h_TD = network.model.language_model.embed_tokens(batch.ids_T)
            h_TD = h_TD.index_copy(0, torch.from_numpy(places_N + first).to(h_TD.device), rows_ND.to(h_TD.dtype))
    return h_TD
