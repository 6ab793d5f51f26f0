"""Pictures with captions, for contrastive training: batches of whole pairs within a budget of patches.

    pictures   p0 p0 p0 p0 | p1 p1 | p2 p2 p2         patches of all pictures, each in its own resolution
    captions   a0 a1 | b0 b1 b2 b3 | c0                token ids of all captions

Nothing is resized to a common size and nothing is padded. A batch takes pairs in the order of the mixture until the
next picture exceeds `patches` or there are `max_pairs`; that pair opens the next batch. So the number of patches is
bounded (memory), and the number of pairs (how many captions a picture is compared with) varies: small pictures come
many at once. The position of the reader is that of the mixture and the one pair that waits.

Two pairs with the same caption are no negatives of each other: `same_caption_BB` marks them and the loss leaves them
out. This also covers a small data set whose next epoch begins inside a batch.

How a picture becomes patches is not decided here: a `PairSource` is given a function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.media import Grid, Patches
from s1pro.data.mixture import Draw, Mixture


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prepared picture and its caption.

    Attributes:
        patches_PX: float32, in merge order.
        grid: (t, h, w) in patches.
        caption_ids: int32, at least one token.
    """

    patches_PX: npt.NDArray[np.float32]
    grid: Grid
    caption_ids: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        t, h, w = self.grid
        if len(self.patches_PX) != t * h * w:
            raise ValueError(f"grid {self.grid} describes {t * h * w} patches, got {len(self.patches_PX)}")
        if len(self.caption_ids) == 0:
            raise ValueError("a caption needs at least one token")


class PairSource:
    """Pairs with random access.

    Args:
        size: how many.
        num_patches: of picture i, needed for planning, before (and more often than) its pixels.
        prepare: makes pair i.
    """

    def __init__(
        self, name: str, size: int, *, num_patches: Callable[[int], int], prepare: Callable[[int], Pair]
    ) -> None:
        if size < 1:
            raise InputError(f"source {name!r} has no pairs")
        self.name, self._size, self._num_patches, self._prepare = name, size, num_patches, prepare

    @staticmethod
    def of(name: str, pairs: Sequence[Pair]) -> PairSource:
        """Pairs in memory."""
        return PairSource(name, len(pairs), num_patches=lambda i: len(pairs[i].patches_PX), prepare=lambda i: pairs[i])

    def __len__(self) -> int:
        return self._size

    def num_rows(self, index: int) -> int:
        """Patches of picture `index`."""
        return self._num_patches(index)

    def is_conversation(self, index: int) -> bool:
        return False

    def has_media(self, index: int) -> bool:
        """False: what a mixture wants to know is whether a sample must not be split, and pairs are never too long."""
        return False

    def pair(self, index: int) -> Pair:
        """Prepares a pair.

        Raises:
            InputError: its picture has another size than it was planned with.
        """
        pair = self._prepare(index)
        if len(pair.patches_PX) != self.num_rows(index):
            raise InputError(
                f"source {self.name!r}: picture {index} has {len(pair.patches_PX)} patches, expected "
                f"{self.num_rows(index)}; was the file replaced?"
            )
        return pair


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """B pairs. Caption b is rows `cu_seqlens[b]` to `cu_seqlens[b + 1]` of the token tensors.

    Attributes:
        images: of all pairs, in order.
        caption_ids_T, position_ids_T: int64; positions restart in every caption.
        same_caption_BB: bool, true off the diagonal where two captions are equal.
        source_names, pair_sources: names, and the index of each pair's source.
    """

    images: Patches[Tensor]
    caption_ids_T: Tensor
    position_ids_T: Tensor
    cu_seqlens: tuple[int, ...]
    same_caption_BB: Tensor
    source_names: tuple[str, ...]
    pair_sources: tuple[int, ...]

    @property
    def num_pairs(self) -> int:
        return len(self.pair_sources)

    @property
    def num_real_rows(self) -> int:
        """Rows that go through the two towers: patches and tokens."""
        return self.images.pixel_values_PX.shape[0] + self.caption_ids_T.shape[0]

    def to(self, device: torch.device | str) -> PairBatch:
        """The same batch with all tensors on `device`."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return dataclasses.replace(
            self,
            images=Patches(pixel_values_PX=move(self.images.pixel_values_PX), grids=self.images.grids),
            caption_ids_T=move(self.caption_ids_T),
            position_ids_T=move(self.position_ids_T),
            same_caption_BB=move(self.same_caption_BB),
        )


def collate_pairs(
    pairs: Sequence[Pair], *, sources: Sequence[int] | None = None, source_names: Sequence[str] = ("",)
) -> PairBatch:
    """One batch of at least one pair, in order; `sources` are indices into `source_names`, default all 0."""
    if not pairs:
        raise ValueError("a batch needs at least one pair")
    lengths = [len(pair.caption_ids) for pair in pairs]
    captions = [pair.caption_ids.tobytes() for pair in pairs]
    number = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    numbers_B = torch.tensor([number[caption] for caption in captions])
    same_BB = (numbers_B[:, None] == numbers_B).fill_diagonal_(False)
    return PairBatch(
        images=Patches(
            pixel_values_PX=torch.from_numpy(np.concatenate([pair.patches_PX for pair in pairs])),
            grids=tuple(pair.grid for pair in pairs),
        ),
        caption_ids_T=torch.from_numpy(np.concatenate([pair.caption_ids for pair in pairs]).astype(np.int64)),
        position_ids_T=torch.cat([torch.arange(length) for length in lengths]),
        cu_seqlens=(0, *accumulate(lengths)),
        same_caption_BB=same_BB,
        source_names=tuple(source_names),
        pair_sources=tuple(sources) if sources is not None else (0,) * len(pairs),
    )


class PairPacker:
    """Plans and makes batches; see the module docstring. Goes into a `Loader`.

    Args:
        patches: most patches of a batch.
        max_pairs: most pairs of a batch.
        min_pairs: fewer are never in a batch: with one pair there is nothing to contrast.
    """

    def __init__(self, mixture: Mixture[PairSource], *, patches: int, max_pairs: int, min_pairs: int = 2) -> None:
        if not 1 <= min_pairs <= max_pairs:
            raise InputError(f"max_pairs must be at least {max(min_pairs, 1)}, got {max_pairs}")
        self.mixture, self.patches, self.max_pairs, self.min_pairs = mixture, patches, max_pairs, min_pairs
        self._waiting: Draw | None = None

    def plan(self) -> list[Draw] | None:
        """The pairs of the next batch; None when the mixture is through.

        Raises:
            InputError: a picture is so large that `min_pairs` of its size exceed the budget.
        """
        chosen: list[Draw] = []
        room = self.patches
        while len(chosen) < self.max_pairs:
            draw = self._waiting or self.mixture.next()
            self._waiting = None
            if draw is None:
                break
            self._check(draw)
            if draw.num_rows > room:
                self._waiting = draw
                break
            chosen.append(draw)
            room -= draw.num_rows
        return chosen or None

    def materialise(self, chunks: Sequence[Draw]) -> PairBatch:
        """Prepares the pairs of a plan."""
        sources = self.mixture.sources
        return collate_pairs(
            [sources[draw.source].pair(draw.index) for draw in chunks],
            sources=[draw.source for draw in chunks],
            source_names=[source.name for source in sources],
        )

    def state_dict(self) -> dict[str, Any]:
        waiting = self._waiting
        state = None if waiting is None else [waiting.source, waiting.index, waiting.num_rows]
        return {"mixture": self.mixture.state_dict(), "waiting": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mixture.load_state_dict(state["mixture"])
        self._waiting = None if state["waiting"] is None else Draw(*state["waiting"])

    def _check(self, draw: Draw) -> None:
        """Any `min_pairs` pictures must fit together, so that a run does not end at two large ones in a row."""
        if draw.num_rows * self.min_pairs > self.patches:
            raise InputError(
                f"source {self.mixture.sources[draw.source].name!r}: picture {draw.index} has {draw.num_rows} patches; "
                f"a batch of {self.patches} must have room for {self.min_pairs} such pictures: raise patches_per_batch "
                "or lower the largest picture size of the processor"
            )
