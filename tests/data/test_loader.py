"""Packing and loader: nothing lost, nothing twice, exact position under any interruption."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.data.batch import PackedBatch
from s1pro.data.loader import Loader
from s1pro.data.mixture import LengthPolicy, Mixture
from s1pro.data.packing import Packer
from s1pro.data.sequence import TokenSequence


class NumberedSource:
    """Token k of sample i is 10000 i + k, so a batch tells what it holds."""

    def __init__(self, name: str, rows: Sequence[int], fail_at: int = -1) -> None:
        self.name, self._rows, self._fail_at = name, rows, fail_at

    def __len__(self) -> int:
        return len(self._rows)

    def num_rows(self, index: int) -> int:
        return self._rows[index]

    def is_conversation(self, index: int) -> bool:
        return False

    def has_media(self, index: int) -> bool:
        return False

    def sequence(self, index: int) -> TokenSequence:
        if index == self._fail_at:
            raise InputError(f"sample {index} cannot be read")
        n = self._rows[index] + 1
        ids = np.arange(n, dtype=np.int32) + 10000 * index
        return TokenSequence(token_ids=ids, loss_weights=np.ones(n, dtype=np.float32), prompt_group="science")


def loader(lengths: Sequence[Sequence[int]], *, repeat: bool = True, lookahead: int = 8, **options: int) -> Loader:
    sources = [NumberedSource(f"s{i}", rows) for i, rows in enumerate(lengths)]
    policy = LengthPolicy(max_length=16)
    mixture = Mixture(sources, [i + 1.0 for i in range(len(sources))], policy=policy, seed=7, repeat=repeat)
    return Loader(Packer(mixture, num_rows=32, lookahead=lookahead), **options)


def same(a: PackedBatch, b: PackedBatch) -> bool:
    tensors = ("input_ids_T", "targets_T", "loss_weights_T", "position_ids_T")
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in tensors) and a.cu_seqlens == b.cu_seqlens


LENGTHS = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any), min_size=1, max_size=3)


@given(LENGTHS, st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_one_epoch_holds_every_row_exactly_once(lengths: list[list[int]], lookahead: int) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    with loader(lengths, repeat=False, lookahead=lookahead) as batches:
        for batch in batches:
            assert (
                batch.num_rows == 32
                and max(batch.cu_seqlens[i + 1] - c for i, c in enumerate(batch.cu_seqlens[:-1])) <= 16
            )
            real = batch.num_real_rows
            assert torch.equal(batch.targets_T[:real], batch.input_ids_T[:real] + 1)
            assert (batch.targets_T[real:] == -100).all() and not batch.loss_weights_T[real:].any()
            starts = torch.tensor(batch.cu_seqlens[:-1])
            assert not batch.position_ids_T[starts].any()
            seen.update(zip(batch.source_ids_T()[:real].tolist(), batch.input_ids_T[:real].tolist(), strict=True))
    expected = {(s, 10000 * i + k) for s, rows in enumerate(lengths) for i, n in enumerate(rows) for k in range(n)}
    assert set(seen) == expected and set(seen.values()) <= {1}


@given(LENGTHS, st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 3), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_position_is_exact_under_random_interruptions(
    lengths: list[list[int]], cuts: list[int], prefetch: int, lookahead: int
) -> None:
    straight = loader(lengths, lookahead=lookahead)
    state = None
    for cut in cuts:
        resumed = loader(lengths, lookahead=lookahead, prefetch=prefetch)
        if state is not None:
            resumed.load_state_dict(json.loads(json.dumps(state)))
        for _ in range(cut):
            assert same(next(resumed), next(straight))
        state = resumed.state_dict()
        resumed.close()
    assert state == straight.state_dict()


def test_state_round_trips_within_one_loader_and_close_keeps_the_place() -> None:
    batches = loader([[5, 9, 30, 2], [7] * 5], prefetch=2)
    next(batches)
    state = json.loads(json.dumps(batches.state_dict()))
    ahead = [next(batches) for _ in range(3)]
    batches.load_state_dict(state)
    assert all(same(next(batches), batch) for batch in ahead[:2])
    batches.close()
    assert same(next(batches), ahead[2])
    batches.close()


def test_ranks_share_one_stream_and_end_together() -> None:
    lengths = [[5, 9, 30, 2, 16, 11, 13], [7] * 5]
    alone = list(loader(lengths, repeat=False))
    ranks = [list(loader(lengths, repeat=False, rank=rank, num_ranks=2)) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1])
    interleaved = [batch for pair in zip(*ranks, strict=True) for batch in pair]
    assert all(same(a, b) for a, b in zip(alone, interleaved, strict=False))
    assert all(batch.num_real_rows == 0 for batch in interleaved[len(alone) :])


def test_lookahead_fills_batches() -> None:
    rng = np.random.default_rng(0)
    lengths = [rng.integers(1, 17, size=500).tolist()]

    def fill(lookahead: int) -> float:
        batches = loader(lengths, lookahead=lookahead)
        return sum(next(batches).num_real_rows for _ in range(100)) / 3200

    assert fill(64) > 0.985 > 0.9 > fill(1)


def test_errors_of_the_thread_reach_the_consumer_and_stay() -> None:
    source = NumberedSource("bad", [16, 16, 16], fail_at=2)
    mixture = Mixture([source], [1], policy=LengthPolicy(max_length=16), shuffle=False)
    with Loader(Packer(mixture, num_rows=32, lookahead=1), prefetch=1) as batches:
        next(batches)
        with pytest.raises(InputError, match="sample 2"):
            next(batches)


def test_bad_arguments() -> None:
    mixture = Mixture([NumberedSource("a", [3])], [1], policy=LengthPolicy(max_length=16))
    with pytest.raises(InputError, match="cannot hold sequences of max_length=16"):
        Packer(mixture, num_rows=8)
    with pytest.raises(ValueError, match="rank must lie in"):
        Loader(Packer(mixture, num_rows=16), rank=2, num_ranks=2)
