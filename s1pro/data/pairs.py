"""Pictures with captions, for contrastive training: batches of whole pairs within a budget of patches.

    pictures   p0 p0 p0 p0 | p1 p1 | p2 p2 p2         patches of all pictures, each in its own resolution
    captions   a0 a1 | b0 b1 b2 b3 | c0                token ids of all captions

Nothing is resized to a common size and nothing is padded. A batch takes pairs in the order of the mixture until the
next picture exceeds `patches` or there are `max_pairs`; that pair opens the next batch. So the number of patches is
bounded (memory), and the number of pairs (how many captions a picture is compared with) varies: small pictures come
many at once. The position of the reader is that of the mixture and the one pair that waits.

Two pairs with the same caption are no negatives of each other: their `caption_keys_B` are equal, and the loss leaves
them out. This also covers a small data set whose next epoch begins inside a batch.

On several ranks all of them plan the same batches, and each prepares its part of the pairs of every batch (`part`).

How a picture becomes patches is not decided here: a `PairSource` is given a function.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
        caption_keys_B: int64, a digest of every caption: equal for equal captions, on any rank.
        source_names, pair_sources: names, and the index of each pair's source.
        num_whole: pairs of the batch over all ranks.
    """

    images: Patches[Tensor]
    caption_ids_T: Tensor
    position_ids_T: Tensor
    cu_seqlens: tuple[int, ...]
    caption_keys_B: Tensor
    source_names: tuple[str, ...]
    pair_sources: tuple[int, ...]
    num_whole: int

    @property
    def same_caption_BB(self) -> Tensor:
        """Bool, true off the diagonal where two captions are equal."""
        return (self.caption_keys_B[:, None] == self.caption_keys_B).fill_diagonal_(False)

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
            caption_keys_B=move(self.caption_keys_B),
        )


def part_bounds(count: int, parts: int) -> list[int]:
    """Where the parts of `count` things begin and end: sizes differ by one at most."""
    return [part * count // parts for part in range(parts + 1)]


def collate_pairs(
    pairs: Sequence[Pair],
    *,
    sources: Sequence[int] | None = None,
    source_names: Sequence[str] = ("",),
    num_whole: int | None = None,
) -> PairBatch:
    """One batch of at least one pair, in order; `sources` are indices into `source_names`, default all 0.

    Args:
        num_whole: pairs over all ranks, where these are a part; None: these are all.
    """
    if not pairs:
        raise ValueError("a batch needs at least one pair")
    lengths = [len(pair.caption_ids) for pair in pairs]
    return PairBatch(
        images=Patches(
            pixel_values_PX=torch.from_numpy(np.concatenate([pair.patches_PX for pair in pairs])),
            grids=tuple(pair.grid for pair in pairs),
        ),
        caption_ids_T=torch.from_numpy(np.concatenate([pair.caption_ids for pair in pairs]).astype(np.int64)),
        position_ids_T=torch.cat([torch.arange(length) for length in lengths]),
        cu_seqlens=(0, *accumulate(lengths)),
        caption_keys_B=torch.tensor([_key(pair.caption_ids) for pair in pairs]),
        source_names=tuple(source_names),
        pair_sources=tuple(sources) if sources is not None else (0,) * len(pairs),
        num_whole=len(pairs) if num_whole is None else num_whole,
    )


def _key(caption_ids: npt.NDArray[np.int32]) -> int:
    """64 bits: of a billion pairs of captions in one batch two different ones agree with a chance of 5e-11."""
    digest = hashlib.blake2b(caption_ids.astype("<i4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class PairPacker:
    """Plans and makes batches; see the module docstring. Goes into a `Loader`.

    Args:
        patches: most patches of a batch.
        max_pairs: most pairs of a batch.
        min_pairs: fewer are never in a batch: with one pair there is nothing to contrast, and every part needs one.
        part: (which, of how many) is prepared of every batch.
    """

    def __init__(
        self,
        mixture: Mixture[PairSource],
        *,
        patches: int,
        max_pairs: int,
        min_pairs: int = 2,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if not 1 <= min_pairs <= max_pairs:
            raise InputError(f"max_pairs must be at least {max(min_pairs, 1)}, got {max_pairs}")
        self.mixture, self.patches, self.max_pairs, self.min_pairs = mixture, patches, max_pairs, min_pairs
        self._part, self._parts = part
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
        """Prepares the pairs of a plan, or the part of them that is to be prepared here."""
        sources = self.mixture.sources
        start, stop = part_bounds(len(chunks), self._parts)[self._part : self._part + 2]
        return collate_pairs(
            [sources[draw.source].pair(draw.index) for draw in chunks[start:stop]],
            sources=[draw.source for draw in chunks[start:stop]],
            source_names=[source.name for source in sources],
            num_whole=len(chunks),
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
