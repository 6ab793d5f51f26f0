"""`PackedBatch`: what training, evaluation and reinforcement learning feed to the network.

Sequences lie one after another in T rows; attention sees the segment bounds, so samples never see each other.

    rows          a0 a1 a2 | b0 b1 | c0 c1 c2 c3 | tail
    targets       a1 a2 a3 | b1 b2 | c1 c2 c3 c4 | -100      explicit: nothing downstream shifts anything
    positions      0  1  2 |  0  1 |  0  1  2  3 | 0 1 2     restart in every sequence

Positions restart because FoPE is not translation invariant. T is fixed; what the sequences do not fill is a masked tail
of segments of its own, with weight 0, so that every rank has the same number of rows. Tail rows pass through the
network but count nowhere: not in the loss, not in the balancing loss, not in router statistics (`valid_T`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s1pro.base.media import Media, join_media
from s1pro.data.sequence import TokenSequence

IGNORED = -100
"""Target of rows without loss."""

TAIL = -1
"""Source of tail segments."""

_PER_ROW = (
    "targets_T", "loss_weights_T", "position_ids_T", "advantages_T", "rollout_logprobs_T", "old_logprobs_T",
    "reference_logprobs_T",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """See the module docstring. Tensors have T rows; the others one entry per segment.

    Attributes:
        input_ids_T, targets_T, position_ids_T: int64.
        loss_weights_T: float32, 0 exactly where the target is -100.
        cu_seqlens: segment bounds, length B + 1, from 0 to T.
        segment_sources: index into `source_names`, -1 for tail segments, which come last.
        segment_groups: prompt group of each segment, "" for the tail.
        media: images, videos and signals whose placeholders are in `input_ids_T`, in their order; None without.
        advantages_T, rollout_logprobs_T: float32, aligned with `targets_T`.
        old_logprobs_T, reference_logprobs_T: the same, of the weights that a step began with and of a reference; the
            trainer adds them to a batch (`dataclasses.replace`).
        routed_experts_LTK: int64, the routing to replay; tail rows hold a group-valid choice.
    """

    input_ids_T: Tensor
    targets_T: Tensor
    loss_weights_T: Tensor
    position_ids_T: Tensor
    cu_seqlens: tuple[int, ...]
    source_names: tuple[str, ...]
    segment_sources: tuple[int, ...]
    segment_groups: tuple[str, ...]
    media: Media[Tensor] | None = None
    advantages_T: Tensor | None = None
    rollout_logprobs_T: Tensor | None = None
    old_logprobs_T: Tensor | None = None
    reference_logprobs_T: Tensor | None = None
    routed_experts_LTK: Tensor | None = None

    def __post_init__(self) -> None:
        rows = self.num_rows
        for name in _PER_ROW:
            value = getattr(self, name)
            if value is not None and value.shape != (rows,):
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected ({rows},)")
        if self.routed_experts_LTK is not None and self.routed_experts_LTK.shape[1] != rows:
            raise ValueError(f"routed_experts_LTK has {self.routed_experts_LTK.shape[1]} rows, expected {rows}")
        bounds = self.cu_seqlens
        if (
            len(bounds) < 2
            or bounds[0] != 0
            or bounds[-1] != rows
            or any(a >= b for a, b in itertools.pairwise(bounds))
        ):
            raise ValueError(f"cu_seqlens must rise from 0 to {rows}, got {bounds}")
        segments = len(bounds) - 1
        if not len(self.segment_sources) == len(self.segment_groups) == segments:
            raise ValueError(f"{segments} segments need as many sources and prompt groups")
        if not all(TAIL <= source < len(self.source_names) for source in self.segment_sources):
            raise ValueError(f"segment_sources {self.segment_sources} do not fit {len(self.source_names)} source names")
        if TAIL in self.segment_sources[: self.num_real_segments]:
            raise ValueError("tail segments must come last")

    @property
    def num_rows(self) -> int:
        """T, tail included."""
        return self.input_ids_T.shape[0]

    @property
    def num_real_segments(self) -> int:
        return sum(source != TAIL for source in self.segment_sources)

    @property
    def num_real_rows(self) -> int:
        """Rows that belong to samples. They come first."""
        return self.cu_seqlens[self.num_real_segments]

    def valid_T(self) -> Tensor:
        """Bool: rows that belong to samples."""
        return torch.arange(self.num_rows, device=self.input_ids_T.device) < self.num_real_rows

    def source_ids_T(self) -> Tensor:
        """int64: source of every row, -1 in the tail."""
        lengths = torch.tensor(self.cu_seqlens).diff()
        sources_T = torch.repeat_interleave(torch.tensor(self.segment_sources), lengths, output_size=self.num_rows)
        return sources_T.to(self.input_ids_T.device, non_blocking=True)

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch with all tensors on `device`."""
        moved = {f.name: _move(getattr(self, f.name), device) for f in dataclasses.fields(self)}
        return PackedBatch(**moved)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows [start, stop) of a token sequence, and the source they count for."""

    sequence: TokenSequence
    source: int
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.sequence.media is not None and self.num_rows != self.sequence.num_rows:
            raise ValueError("a sequence with media is never cut: its placeholders and its media belong together")

    @property
    def num_rows(self) -> int:
        return (self.sequence.num_rows if self.stop is None else self.stop) - self.start


def collate(
    segments: Sequence[Segment],
    *,
    num_rows: int,
    source_names: Sequence[str],
    pad_id: int = 0,
    max_tail_segment: int | None = None,
) -> PackedBatch:
    """Packs segments, in order, into `num_rows` rows.

    The tail holds `pad_id`; `max_tail_segment` bounds the length of its segments (long ones would cost attention).

    Raises:
        ValueError: the segments do not fit, are empty, or only some of them carry an optional field.
    """
    lengths = [segment.num_rows for segment in segments]
    used = sum(lengths)
    if used > num_rows:
        raise ValueError(f"{used} rows do not fit into a batch of {num_rows}")
    tail = _tail_lengths(num_rows - used, max_tail_segment or num_rows)
    all_lengths = [*lengths, *tail]
    weights = _gather(segments, "loss_weights", num_rows, np.float32, shift=1)
    assert weights is not None or not segments
    weights_T = torch.zeros(num_rows) if weights is None else weights
    targets_T = torch.full((num_rows,), IGNORED, dtype=torch.int64)
    input_ids_T = torch.full((num_rows,), pad_id, dtype=torch.int64)
    if segments:
        input_ids_T[:used] = _joined(segments, "token_ids", shift=0)
        targets_T[:used] = _joined(segments, "token_ids", shift=1)
        targets_T[weights_T == 0] = IGNORED
    return PackedBatch(
        input_ids_T=input_ids_T,
        targets_T=targets_T,
        loss_weights_T=weights_T,
        position_ids_T=torch.cat([torch.arange(length) for length in all_lengths]),
        cu_seqlens=(0, *np.cumsum(all_lengths).tolist()),
        source_names=tuple(source_names),
        segment_sources=(*(segment.source for segment in segments), *([TAIL] * len(tail))),
        segment_groups=(*(segment.sequence.prompt_group for segment in segments), *([""] * len(tail))),
        advantages_T=_gather(segments, "advantages", num_rows, np.float32, shift=1),
        rollout_logprobs_T=_gather(segments, "rollout_logprobs", num_rows, np.float32, shift=1),
        routed_experts_LTK=_routing(segments, num_rows),
        media=_media(segments),
    )


def _tail_lengths(rows: int, longest: int) -> list[int]:
    full, rest = divmod(rows, longest)
    return [longest] * full + ([rest] if rest else [])


def _joined(segments: Sequence[Segment], name: str, *, shift: int) -> Tensor:
    """Field `name` of all segments, one after another; `shift=1` reads what the row predicts."""
    parts = [getattr(s.sequence, name)[s.start + shift : s.start + shift + s.num_rows] for s in segments]
    return torch.from_numpy(np.concatenate(parts))


def _gather(segments: Sequence[Segment], name: str, num_rows: int, dtype: Any, *, shift: int) -> Tensor | None:
    """An optional field over T rows, 0 in the tail; None if no segment has it."""
    present = [getattr(segment.sequence, name) is not None for segment in segments]
    if not any(present):
        return None
    if not all(present):
        raise ValueError(f"{name}: {present.count(False)} of {len(present)} sequences lack it; give all or none")
    out = np.zeros(num_rows, dtype=dtype)
    joined = _joined(segments, name, shift=shift).numpy()
    out[: len(joined)] = joined
    return torch.from_numpy(out)


def _media(segments: Sequence[Segment]) -> Media[Tensor] | None:
    parts = [segment.sequence.media for segment in segments if segment.sequence.media is not None]
    joined = join_media(parts, np.concatenate)
    return None if joined is None else joined.map(torch.from_numpy)


def _routing(segments: Sequence[Segment], num_rows: int) -> Tensor | None:
    """`[L, T, K]`. Tail rows repeat the first real row: a choice that is valid for this router."""
    present = [segment.sequence.routed_experts is not None for segment in segments]
    if not any(present):
        return None
    if not all(present):
        raise ValueError(
            f"routed_experts: {present.count(False)} of {len(present)} sequences lack it; give all or none"
        )
    traces = [
        s.sequence.routed_experts[s.start : s.start + s.num_rows]
        for s in segments
        if s.sequence.routed_experts is not None
    ]
    joined_TLK = torch.from_numpy(np.concatenate(traces).astype(np.int64))
    tail_TLK = joined_TLK[:1].expand(num_rows - len(joined_TLK), -1, -1)
    return torch.cat([joined_TLK, tail_TLK]).transpose(0, 1).contiguous()


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Media):
        return value.map(lambda tensor: tensor.to(device, non_blocking=True))
    return value
