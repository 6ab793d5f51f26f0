"""Sorting (token, expert) pairs: order, runs, batches and offsets against plain Python."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s1pro.kernels.expert_rows import FEW_ROWS, ExpertRows, Run

IDS = {
    "no tokens": (torch.zeros(0, 2, dtype=torch.int64), 4),
    "one row": (torch.tensor([[2]]), 4),
    "all on one": (torch.full((5, 3), 1), 4),
    "all on the last": (torch.full((2, 1), 3), 4),
    "one expert": (torch.zeros(6, 1, dtype=torch.int64), 1),
    "every expert": (torch.tensor([[3, 0], [1, 2], [0, 1]]), 4),
    "idle experts": (torch.tensor([[6, 1], [1, 6], [3, 1]]), 8),
    "many rows": (torch.randint(0, 7, (200, 3), generator=torch.Generator().manual_seed(0)), 9),
}


def expected_order(ids: list[int]) -> list[int]:
    """Indices by expert; sorted() is stable."""
    return sorted(range(len(ids)), key=ids.__getitem__)


def expected_runs(ids: list[int], num_experts: int) -> list[Run]:
    runs, start = [], 0
    for expert in range(num_experts):
        count = ids.count(expert)
        if count:
            runs.append((expert, start, start + count))
        start += count
    return runs


def check(topk_ids_TK: torch.Tensor, num_experts: int) -> None:
    rows = ExpertRows.from_ids(topk_ids_TK, num_experts)
    ids, top_k = topk_ids_TK.flatten().tolist(), topk_ids_TK.shape[1]
    order = expected_order(ids)
    assert rows.num_experts == num_experts and rows.num_rows == len(ids) and rows.top_k == top_k
    assert rows.order_R.tolist() == order
    assert rows.tokens_R.tolist() == [r // top_k for r in order]
    assert rows.runs == expected_runs(ids, num_experts)
    counts = [ids.count(expert) for expert in range(num_experts)]
    assert rows.ends_E.tolist() == [sum(counts[: expert + 1]) for expert in range(num_experts)]
    assert rows.ends_E.dtype == torch.int32
    same = ExpertRows.from_counts(torch.tensor(counts), num_rows=len(ids))
    assert same.runs == rows.runs and torch.equal(same.ends_E, rows.ends_E) and same.ends_E.dtype == torch.int32
    assert same.tokens_R is None and same.order_R is None and same.num_experts == num_experts


@pytest.mark.parametrize("case", IDS)
def test_order_runs_and_offsets(case):
    check(*IDS[case])


@given(st.integers(1, 6), st.integers(1, 4), st.data())
def test_order_runs_and_offsets_of_any_ids(num_experts, top_k, data):
    flat = data.draw(st.lists(st.integers(0, num_experts - 1), max_size=8 * top_k))
    flat = flat[: len(flat) // top_k * top_k]
    check(torch.tensor(flat, dtype=torch.int64).view(-1, top_k), num_experts)


@pytest.mark.parametrize("count", [FEW_ROWS - 1, FEW_ROWS, FEW_ROWS + 1])
def test_both_ways_of_counting_agree(count):
    ids = torch.randint(0, 11, (count, 1), generator=torch.Generator().manual_seed(count))
    check(ids, 12)


def test_tokens_keep_their_order_within_an_expert():
    ids_TK = torch.randint(0, 3, (400, 2), generator=torch.Generator().manual_seed(1))
    rows = ExpertRows.from_ids(ids_TK, 3)
    for _, start, stop in rows.runs:
        order = rows.order_R[start:stop].tolist()
        assert all(a < b for a, b in pairwise(order))


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8, 1000])
@pytest.mark.parametrize("counts", [[0, 0], [3], [2, 0, 5, 1, 0, 1, 4], [1] * 8, [9, 1, 1, 9]])
def test_batches_cover_all_rows_once(limit, counts):
    rows = ExpertRows.from_counts(torch.tensor(counts), num_rows=sum(counts))
    batches = list(rows.batches(limit))
    absolute = [(e, first + a, first + b) for first, _, runs in batches for e, a, b in runs]
    assert absolute == rows.runs
    for first, stop, runs in batches:
        assert runs[0][1] == 0 and runs[-1][2] == stop - first
        assert stop - first <= limit or len(runs) == 1
    for (_, stop, _), (first, _, _) in pairwise(batches):
        assert stop == first
    for (_, _, runs), (_, _, following) in pairwise(batches):  # nothing that would have fitted was left for later
        assert runs[-1][2] + following[0][2] > limit


def test_no_rows_have_no_batches():
    assert list(ExpertRows.from_counts(torch.zeros(3, dtype=torch.int64), num_rows=0).batches(4)) == []


@pytest.mark.parametrize("counts, num_rows", [([1, 2], 4), ([1, 2], 2), ([0], 1), ([3, -1, 1], 3)])
def test_counts_that_do_not_add_up_are_errors(counts, num_rows):
    with pytest.raises(ValueError, match="counts"):
        _ = ExpertRows.from_counts(torch.tensor(counts), num_rows=num_rows).runs


@pytest.mark.parametrize("tokens", [1, 2 * FEW_ROWS])
@pytest.mark.parametrize("wrong", [-1, 4, 100])
def test_ids_outside_the_experts_are_errors(tokens, wrong):
    ids_TK = torch.zeros(tokens, 2, dtype=torch.int64)
    ids_TK[-1, 0] = wrong
    with pytest.raises(ValueError, match=r"expert ids must lie in \[0, 4\)"):
        _ = ExpertRows.from_ids(ids_TK, 4).runs


def test_offsets_of_meta_tensors():
    rows = ExpertRows.from_ids(torch.empty(3, 2, dtype=torch.int64, device="meta"), 5)
    assert rows.num_rows == 6 and rows.ends_E.shape == (5,) and rows.ends_E.is_meta
