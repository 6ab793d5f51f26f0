"""All experts in one call: where rows go, and the result against the loop over experts."""

from __future__ import annotations

import pytest
import torch

from s1pro.kernels import experts_padded
from s1pro.kernels.experts import experts_reference


def draw(counts: list[int], top_k: int, seed: int) -> torch.Tensor:
    """Ids `[T, K]` in which expert e occurs `counts[e]` times."""
    g = torch.Generator().manual_seed(seed)
    ids_R = torch.tensor([expert for expert, count in enumerate(counts) for _ in range(count)])
    return ids_R[torch.randperm(len(ids_R), generator=g)].view(-1, top_k)


COUNTS = {
    "even": [2, 2, 2, 2],
    "one idle": [3, 0, 2, 3],
    "a favourite": [1, 1, 13, 1],
    "two favourites": [9, 1, 1, 9],
}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values(counts: list[int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts_padded, "CALL_COST", 4.0)
    g = torch.Generator().manual_seed(1)
    ids_TK = draw(counts, 2, seed=2)
    x_TD = torch.randn(ids_TK.shape[0], 8, generator=g, dtype=torch.float64)
    weights_TK = torch.rand(ids_TK.shape, generator=g, dtype=torch.float64)
    gate_up, down = torch.randn(4, 12, 8, generator=g).double(), torch.randn(4, 8, 6, generator=g).double()
    plan = experts_padded.plan(ids_TK.flatten().tolist(), 4)
    assert plan is not None
    inputs = [tensor.to(dtype) for tensor in (x_TD, weights_TK, gate_up, down)]
    exact = experts_reference(*(t.double() for t in (inputs[0],)), ids_TK, *(t.double() for t in inputs[1:]))
    ours = experts_padded.forward(*inputs, plan)
    assert ours.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 0.5}[dtype]
    torch.testing.assert_close(ours.double(), exact, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("seed", range(20))
def test_every_row_has_a_place_of_its_expert(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts_padded, "CALL_COST", 4.0)
    g = torch.Generator().manual_seed(seed)
    ids = (torch.rand(48, generator=g) ** (1 + seed % 3) * 8).long().tolist()
    plan = experts_padded.plan(ids, 8)
    assert plan is not None
    assert len(set(plan.place_of_row)) == len(ids)
    extra = {place: expert for expert, start, stop in plan.extra for place in range(start, stop)}
    for expert, place in zip(ids, plan.place_of_row, strict=True):
        assert (place // plan.size if place < 8 * plan.size else extra[place]) == expert
    assert sorted(extra) == list(range(8 * plan.size, 8 * plan.size + len(extra)))


def test_a_few_experts_of_many_are_called_alone() -> None:
    assert experts_padded.plan([0, 1, 2, 3], 64) is None
    assert experts_padded.plan(list(range(60)) * 2, 64) is not None


def test_a_favourite_does_not_give_all_experts_many_places() -> None:
    plan = experts_padded.plan([*range(64), *([5] * 40)], 64)
    assert plan is not None and plan.size == 1
    assert plan.extra == [(5, 64, 104)]
