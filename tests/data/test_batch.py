"""PackedBatch and collate: explicit shift, positions, masked tail, validation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from s1pro.data.batch import Segment, collate
from s1pro.data.sequence import TokenSequence


def tokens(*ids: int, weights: list[float] | None = None, **extra: object) -> TokenSequence:
    return TokenSequence(
        token_ids=np.asarray(ids, dtype=np.int32),
        loss_weights=np.asarray(weights or [1.0] * len(ids), dtype=np.float32),
        prompt_group="science",
        **extra,  # type: ignore[arg-type]
    )


def test_collate_shifts_inside_each_sequence_and_masks_the_tail() -> None:
    a = Segment(sequence=tokens(5, 6, 7, 8), source=0)
    b = Segment(sequence=tokens(1, 2, 3, weights=[0, 0, 0.5]), source=1)
    batch = collate([a, b], num_rows=8, source_names=["x", "y"], pad_id=9, max_tail_segment=2)
    assert batch.input_ids_T.tolist() == [5, 6, 7, 1, 2, 9, 9, 9]
    assert batch.targets_T.tolist() == [6, 7, 8, -100, 3, -100, -100, -100]
    assert batch.loss_weights_T.tolist() == [1, 1, 1, 0, 0.5, 0, 0, 0]
    assert batch.position_ids_T.tolist() == [0, 1, 2, 0, 1, 0, 1, 0]
    assert batch.cu_seqlens == (0, 3, 5, 7, 8)
    assert batch.segment_sources == (0, 1, -1, -1)
    assert batch.segment_groups == ("science", "science", "", "")
    assert batch.source_ids_T().tolist() == [0, 0, 0, 1, 1, -1, -1, -1]
    assert batch.valid_T().tolist() == [True] * 5 + [False] * 3
    assert (batch.num_rows, batch.num_real_rows, batch.num_real_segments) == (8, 5, 2)


def test_chunks_of_one_sequence_lose_no_prediction() -> None:
    whole = tokens(*range(10, 18))
    parts = [Segment(sequence=whole, source=0, start=0, stop=3), Segment(sequence=whole, source=0, start=3, stop=7)]
    batch = collate(parts, num_rows=7, source_names=["x"])
    assert batch.input_ids_T.tolist() == list(range(10, 17))
    assert batch.targets_T.tolist() == list(range(11, 18))
    assert batch.position_ids_T.tolist() == [0, 1, 2, 0, 1, 2, 3]


def test_optional_fields_are_aligned_with_targets_and_rows() -> None:
    routing = np.arange(2 * 2 * 1).reshape(2, 2, 1)
    rollout = tokens(
        4, 5, 6, advantages=np.float32([0, 2, 3]), rollout_logprobs=np.float32([0, -1, -2]), routed_experts=routing
    )
    batch = collate([Segment(sequence=rollout, source=0)], num_rows=3, source_names=["rl"])
    assert batch.advantages_T is not None and batch.advantages_T.tolist() == [2, 3, 0]
    assert batch.rollout_logprobs_T is not None and batch.rollout_logprobs_T.tolist() == [-1, -2, 0]
    assert batch.routed_experts_LTK is not None
    assert batch.routed_experts_LTK[:, :, 0].tolist() == [[0, 2, 0], [1, 3, 1]]
    with pytest.raises(ValueError, match="advantages: 1 of 2 sequences lack it"):
        collate(
            [Segment(sequence=rollout, source=0), Segment(sequence=tokens(1, 2), source=0)],
            num_rows=9,
            source_names=["rl"],
        )


def test_empty_batch_is_all_tail() -> None:
    batch = collate([], num_rows=4, source_names=["x"])
    assert batch.num_real_rows == 0 and batch.loss_weights_T.sum() == 0 and batch.segment_sources == (-1,)


def test_validation_names_the_offender() -> None:
    batch = collate([Segment(sequence=tokens(5, 6, 7), source=0)], num_rows=4, source_names=["x"])
    with pytest.raises(ValueError, match="cu_seqlens must rise from 0 to 4"):
        dataclasses.replace(batch, cu_seqlens=(0, 4, 4))
    with pytest.raises(ValueError, match="targets_T has shape"):
        dataclasses.replace(batch, targets_T=batch.targets_T[:2])
    with pytest.raises(ValueError, match="tail segments must come last"):
        dataclasses.replace(batch, segment_sources=(-1, 0))
    with pytest.raises(ValueError, match="5 rows do not fit"):
        collate([Segment(sequence=tokens(*range(6)), source=0)], num_rows=4, source_names=["x"])
    with pytest.raises(ValueError, match="loss_weights has 1 entries for 2 tokens"):
        tokens(1, 2, weights=[1.0])


def test_to_moves_every_tensor() -> None:
    batch = collate([Segment(sequence=tokens(5, 6, 7), source=0)], num_rows=4, source_names=["x"])
    moved = batch.to("meta")
    assert moved.input_ids_T.is_meta and moved.loss_weights_T.is_meta and moved.cu_seqlens == batch.cu_seqlens
    assert torch.equal(batch.to("cpu").targets_T, batch.targets_T)
