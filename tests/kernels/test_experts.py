"""The experts against a token by token reference in float64: all engines, gradients, dtype rules, error cases.

The engine for GPUs is built on `grouped_mm`, which also runs on a CPU, so its steps are tested here as well.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from s1pro.kernels import experts_few, experts_grouped, experts_loop
from s1pro.kernels.experts import experts_forward, experts_reference, grouped_mlp

Case = tuple[list[list[int]], int, int, int]
"""Expert ids per token, number of experts, D, F."""

CASES: dict[str, Case] = {
    "usual": ([[0, 2], [3, 1], [2, 3], [1, 0], [2, 1]], 4, 6, 5),
    "idle experts": ([[6, 1], [1, 6], [3, 1]], 8, 4, 4),
    "all on one": ([[1, 1], [1, 1], [1, 1]], 3, 4, 2),
    "all on the last": ([[2], [2], [2], [2]], 3, 4, 3),
    "one row each": ([[0], [1], [2], [3]], 4, 5, 3),
    "one token": ([[4, 0, 2]], 6, 7, 3),
    "one row": ([[1]], 3, 4, 3),
    "one expert": ([[0], [0]], 1, 3, 1),
    "twice the same expert": ([[2, 2], [0, 2]], 3, 4, 3),
    "odd widths": ([[0, 2], [1, 0], [2, 1]], 3, 13, 11),
    "narrow": ([[0, 1], [1, 0]], 2, 1, 1),
    "no tokens": ([], 3, 4, 2),
    "more rows than few": ([[t % 5, (t * t + 1) % 7] for t in range(150)], 7, 3, 2),
}
SMALL = [name for name in CASES if name != "more rows than few"]
ALIGNED: dict[str, Case] = {name: (ids, experts, 8, 16) for name, (ids, experts, _, _) in CASES.items()}


def inputs(case: Case, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
    """x, ids, weights, gate_up, down. Weights are at least float32."""
    ids, num_experts, hidden, width = case
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    ids_TK = torch.tensor(ids, dtype=torch.int64) if ids else torch.zeros(0, 2, dtype=torch.int64)
    weights_TK = draw(*ids_TK.shape).to(torch.promote_types(dtype, torch.float32))  # negative weights occur too
    x_TD = draw(len(ids), hidden).to(dtype)
    gate_up_EFD = (draw(num_experts, 2 * width, hidden) * hidden**-0.5).to(dtype)
    return x_TD, ids_TK, weights_TK, gate_up_EFD, (draw(num_experts, hidden, width) * width**-0.5).to(dtype)


def by_hand(x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """Token by token and expert by expert in float64, without sorting."""
    x_TD, weights_TK, gate_up_EFD, down_EDF = (t.double() for t in (x_TD, weights_TK, gate_up_EFD, down_EDF))
    width = down_EDF.shape[2]
    y_TD = []
    for x, ids, weights in zip(x_TD, ids_TK.tolist(), weights_TK, strict=True):
        y = torch.zeros_like(x)
        for expert, weight in zip(ids, weights, strict=True):
            gate, up = gate_up_EFD[expert, :width] @ x, gate_up_EFD[expert, width:] @ x
            y = y + weight * (down_EDF[expert] @ (gate / (1 + torch.exp(-gate)) * up))
        y_TD.append(y)
    return torch.stack(y_TD) if y_TD else x_TD.clone()


def gradients(function, tensors: tuple[Tensor, ...], grad_TD: Tensor) -> tuple[Tensor, ...]:
    """Of x, weights, gate_up and down."""
    x_TD, ids_TK, *rest = tensors
    leaves = [t.detach().clone().requires_grad_() for t in (x_TD, *rest)]
    out = function(leaves[0], ids_TK, *leaves[1:])
    return torch.autograd.grad(out, leaves, grad_TD, allow_unused=True, materialize_grads=True)


@pytest.fixture(params=["grouped", "rows first", "weight first", "loop", "loop in small batches"])
def cpu_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "grouped":
        monkeypatch.setattr(experts_few, "_is_grouped", lambda *_: False)
    monkeypatch.setattr(experts_few, "prefers_weight_first", lambda: request.param == "weight first")
    if request.param.startswith("loop"):
        monkeypatch.setattr(experts_few, "is_supported", lambda *_: False)
    if request.param == "loop in small batches":
        monkeypatch.setattr(experts_loop, "BATCH_ROWS", 3)
    return request.param


@pytest.fixture
def grouped_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts_few, "is_supported", lambda *_: False)
    monkeypatch.setattr(experts_grouped, "is_supported", lambda *_: True)


@pytest.mark.parametrize("case", CASES)
def test_values(case, cpu_engine):
    tensors = inputs(CASES[case])
    expected_TD = by_hand(*tensors)
    torch.testing.assert_close(experts_forward(*tensors), expected_TD, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(experts_reference(*tensors), expected_TD, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_values_in_float32(case, cpu_engine):
    tensors = inputs(CASES[case], torch.float32)
    y_TD = experts_forward(*tensors)
    assert y_TD.dtype == torch.float32
    torch.testing.assert_close(y_TD.double(), by_hand(*tensors), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("inner_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["usual", "idle experts", "all on the last", "one token", "twice the same expert"])
def test_few_rows_in_one_grouped_product(case, dtype, inner_first, monkeypatch):
    """Both orders of the weights in memory; and it is this way that is taken with one thread."""
    x_TD, ids_TK, weights_TK, *stacked = inputs(ALIGNED[case], dtype)
    if inner_first:
        stacked = [weight.mT.contiguous().mT for weight in stacked]
    calls = []
    grouped = experts_few._grouped
    monkeypatch.setattr(experts_few, "prefers_weight_first", lambda: False)
    monkeypatch.setattr(experts_few, "_grouped", lambda *args: calls.append(1) or grouped(*args))
    y_TD = experts_forward(x_TD, ids_TK, weights_TK, *stacked)
    assert len(calls) == (len(x_TD) > 1 or dtype is torch.bfloat16) and y_TD.dtype is dtype
    tolerance = 1e-5 if dtype is torch.float32 else 3e-2
    expected_TD = by_hand(x_TD, ids_TK, weights_TK, *stacked)
    torch.testing.assert_close(y_TD.double(), expected_TD, atol=tolerance, rtol=tolerance)
    for wrong in (-1, stacked[0].shape[0]):
        with pytest.raises(ValueError, match="expert ids must lie in"):
            experts_forward(x_TD, ids_TK.clone().fill_(wrong), weights_TK, *stacked)


def test_small_steps_take_the_short_way_and_gradients_do_not(monkeypatch):
    calls = []
    forward = experts_few.forward
    monkeypatch.setattr(experts_few, "forward", lambda *args: calls.append(1) or forward(*args))
    x_TD, *rest = inputs(CASES["usual"])
    experts_forward(x_TD, *rest)
    assert len(calls) == 1
    experts_forward(x_TD.requires_grad_(), *rest)
    assert len(calls) == 1
    with torch.no_grad():
        experts_forward(x_TD, *rest)
    assert len(calls) == 2
    monkeypatch.setattr(experts_few, "FEW_ROWS", x_TD.shape[0])
    experts_forward(x_TD.detach(), *rest)
    assert len(calls) == 2


@pytest.mark.parametrize("case", SMALL)
def test_gradients_match_finite_differences(case, cpu_engine):
    x_TD, ids_TK, *rest = inputs(CASES[case])
    leaves = [t.requires_grad_() for t in (x_TD, *rest)]
    assert torch.autograd.gradcheck(lambda x, w, gu, down: experts_forward(x, ids_TK, w, gu, down), leaves)


@pytest.mark.parametrize("case", CASES)
def test_gradients_match_autograd_of_the_token_loop(case, cpu_engine):
    tensors = inputs(CASES[case])
    grad_TD = inputs(CASES[case], seed=1)[0]
    for ours, exact in zip(
        gradients(experts_forward, tensors, grad_TD), gradients(by_hand, tensors, grad_TD), strict=True
    ):
        torch.testing.assert_close(ours, exact, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("wanted", range(4))
def test_each_gradient_alone(wanted, cpu_engine):
    """Frozen experts, a frozen router, or an input without history."""
    tensors = inputs(CASES["idle experts"])
    grad_TD = inputs(CASES["idle experts"], seed=1)[0]
    everything = gradients(experts_forward, tensors, grad_TD)
    x_TD, ids_TK, *rest = tensors
    leaves = [x_TD, *rest]
    leaves[wanted].requires_grad_()
    experts_forward(leaves[0], ids_TK, *leaves[1:]).backward(grad_TD)
    assert torch.equal(leaves[wanted].grad, everything[wanted])
    assert all(leaf.grad is None for index, leaf in enumerate(leaves) if index != wanted)


def test_idle_experts_have_zero_gradients(cpu_engine):
    tensors = inputs(CASES["idle experts"])
    _, _, gate_up, down = gradients(experts_forward, tensors, torch.ones_like(tensors[0]))
    for expert in range(8):
        used = expert in (1, 3, 6)
        assert bool(gate_up[expert].any()) == used and bool(down[expert].any()) == used


def test_no_tokens_give_zero_gradients(cpu_engine):
    tensors = inputs(CASES["no tokens"])
    grads = gradients(experts_forward, tensors, tensors[0])
    assert [grad.shape for grad in grads] == [tensors[i].shape for i in (0, 2, 3, 4)]
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_loop_gives_the_same_bits_without_gradient(case, dtype, monkeypatch):
    monkeypatch.setattr(experts_few, "is_supported", lambda *_: False)
    x_TD, ids_TK, *rest = inputs(CASES[case], dtype)
    with_grad = experts_forward(x_TD.clone().requires_grad_(), ids_TK, *rest)
    assert with_grad.requires_grad
    plain = experts_forward(x_TD, ids_TK, *rest)
    with torch.no_grad():
        no_grad = experts_forward(x_TD.clone().requires_grad_(), ids_TK, *rest)
    assert not plain.requires_grad and not no_grad.requires_grad
    assert torch.equal(with_grad, plain) and torch.equal(no_grad, plain)


@pytest.mark.parametrize("case", SMALL)
def test_the_short_way_is_the_loop_up_to_rounding(case, monkeypatch):
    tensors = inputs(CASES[case], torch.float32)
    short = experts_forward(*tensors)
    monkeypatch.setattr(experts_few, "is_supported", lambda *_: False)
    torch.testing.assert_close(short, experts_forward(*tensors), atol=2e-6, rtol=2e-6)


def test_results_do_not_depend_on_other_tokens(cpu_engine):
    """A token gets the same output next to different neighbours, up to rounding."""
    x_TD, ids_TK, weights_TK, *experts = inputs(CASES["usual"])
    together = experts_forward(x_TD, ids_TK, weights_TK, *experts)
    for t in range(x_TD.shape[0]):
        alone = experts_forward(x_TD[t : t + 1], ids_TK[t : t + 1], weights_TK[t : t + 1], *experts)
        torch.testing.assert_close(alone[0], together[t], atol=1e-12, rtol=1e-12)


def test_inputs_are_left_alone(cpu_engine):
    tensors = inputs(CASES["usual"])
    before = [t.clone() for t in tensors]
    experts_forward(*tensors)
    x_TD, ids_TK, *rest = tensors
    leaves = [t.requires_grad_() for t in (x_TD, *rest)]
    grad_TD = torch.ones_like(x_TD)
    experts_forward(leaves[0], ids_TK, *leaves[1:]).backward(grad_TD)
    assert all(torch.equal(a.detach(), b) for a, b in zip(tensors, before, strict=True))
    assert bool((grad_TD == 1).all())


def test_layouts_that_are_not_contiguous(cpu_engine):
    x_TD, ids_TK, weights_TK, gate_up_EFD, down_EDF = inputs(CASES["usual"])
    strided = (
        x_TD.t().contiguous().t(),
        ids_TK.t().contiguous().t(),
        weights_TK.t().contiguous().t(),
        gate_up_EFD.mT.contiguous().mT,
        down_EDF.mT.contiguous().mT,
    )
    tensors = (x_TD, ids_TK, weights_TK, gate_up_EFD, down_EDF)
    torch.testing.assert_close(experts_forward(*strided), by_hand(*tensors), atol=1e-12, rtol=1e-12)
    for ours, exact in zip(
        gradients(experts_forward, strided, torch.ones(()).double().expand(x_TD.shape)),
        gradients(by_hand, tensors, torch.ones_like(x_TD)),
        strict=True,
    ):
        torch.testing.assert_close(ours, exact, atol=1e-12, rtol=1e-12)


def test_int32_ids(cpu_engine):
    x_TD, ids_TK, *rest = inputs(CASES["usual"])
    assert torch.equal(experts_forward(x_TD, ids_TK.int(), *rest), experts_forward(x_TD, ids_TK, *rest))


# bfloat16


@pytest.mark.parametrize("case", ["usual", "idle experts", "one token", "more rows than few", "no tokens"])
def test_bfloat16_values_and_gradients(case, cpu_engine):
    """Results have the dtype of their tensor and lie within a few roundings of float64."""
    tensors = inputs(CASES[case], torch.bfloat16)
    assert tensors[2].dtype == torch.float32
    y_TD = experts_forward(*tensors)
    assert y_TD.dtype == torch.bfloat16
    torch.testing.assert_close(y_TD.double(), by_hand(*tensors), atol=0.05, rtol=0.02)
    grad_TD = inputs(CASES[case], torch.bfloat16, seed=1)[0]
    ours = gradients(experts_forward, tensors, grad_TD)
    assert [g.dtype for g in ours] == [torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16]
    doubles = tuple(t.double() if t.is_floating_point() else t for t in tensors)
    for grad, exact in zip(ours, gradients(by_hand, doubles, grad_TD.double()), strict=True):
        error, size = (grad.double() - exact).norm(), exact.norm()
        assert float(error) <= 0.02 * float(size)


@pytest.mark.parametrize("tokens", [1, 2])
def test_bfloat16_rows_are_summed_in_float32(tokens, cpu_engine):
    """One row of 256 and many of 0.1: the step of bfloat16 at 256 is 2, so a sum in bfloat16 would stay there."""
    top_k = 256 // tokens
    x_TD = torch.ones(tokens, 1, dtype=torch.bfloat16)
    gate_up_EFD = torch.tensor([32.0, 1 / 32]).bfloat16().expand(32, 2)[..., None].contiguous()  # silu(32) / 32 = 1
    down_EDF = torch.ones(32, 1, 1, dtype=torch.bfloat16)
    weights_TK = torch.full((tokens, top_k), 0.1)
    weights_TK[:, 0] = 256
    ids_TK = torch.arange(top_k).remainder(32).expand(tokens, -1)
    y_TD = experts_forward(x_TD, ids_TK, weights_TK, gate_up_EFD, down_EDF)
    torch.testing.assert_close(y_TD.float(), weights_TK.sum(dim=1, keepdim=True), atol=2, rtol=0)


# the grouped engine


@pytest.mark.parametrize("case", ALIGNED)
def test_grouped_products_give_the_same_values_and_gradients(case, grouped_engine):
    tensors = inputs(ALIGNED[case], torch.float32)
    grad_TD = inputs(ALIGNED[case], torch.float32, seed=1)[0]
    doubles = tuple(t.double() if t.is_floating_point() else t for t in tensors)
    torch.testing.assert_close(experts_forward(*tensors).double(), by_hand(*doubles), atol=1e-5, rtol=1e-5)
    for ours, exact in zip(
        gradients(experts_forward, tensors, grad_TD), gradients(by_hand, doubles, grad_TD.double()), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), exact, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("case", ["usual", "idle experts", "more rows than few"])
def test_grouped_products_in_bfloat16(case, grouped_engine):
    tensors = inputs(ALIGNED[case], torch.bfloat16)
    grad_TD = inputs(ALIGNED[case], torch.bfloat16, seed=1)[0]
    doubles = tuple(t.double() if t.is_floating_point() else t for t in tensors)
    y_TD = experts_forward(*tensors)
    assert y_TD.dtype == torch.bfloat16
    torch.testing.assert_close(y_TD.double(), by_hand(*doubles), atol=0.05, rtol=0.02)
    ours = gradients(experts_forward, tensors, grad_TD)
    assert [g.dtype for g in ours] == [torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16]
    for grad, exact in zip(ours, gradients(by_hand, doubles, grad_TD.double()), strict=True):
        assert float((grad.double() - exact).norm()) <= 0.02 * float(exact.norm())


def test_grouped_products_of_sorted_rows(grouped_engine):
    x_RD, _, _, gate_up_EFD, down_EDF = inputs(ALIGNED["usual"], torch.float32)
    counts_E = torch.tensor([2, 0, 3, 0])
    expected_RD = by_hand(x_RD, torch.tensor([[0], [0], [2], [2], [2]]), torch.ones(5, 1), gate_up_EFD, down_EDF)
    y_RD = grouped_mlp(x_RD.requires_grad_(), counts_E, gate_up_EFD.requires_grad_(), down_EDF)
    torch.testing.assert_close(y_RD.double(), expected_RD.detach(), atol=1e-5, rtol=1e-5)
    y_RD.sum().backward()
    assert bool(x_RD.grad.any()) and not gate_up_EFD.grad[[1, 3]].any()


def test_which_tensors_the_grouped_engine_takes():
    down_EDF = torch.empty(2, 8, 8, device="meta")
    assert not experts_grouped.is_supported(torch.empty(3, 8), torch.empty(2, 8, 8))  # no GPU, no grouped products
    assert not experts_grouped.is_supported(torch.empty(3, 8, device="meta"), down_EDF)


# rows that are sorted already


@pytest.mark.parametrize("counts", [[2, 0, 3, 1], [0, 0, 0, 4], [6, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_sorted_rows(counts, cpu_engine):
    rows = sum(counts)
    _, _, _, gate_up_EFD, down_EDF = inputs(CASES["usual"])
    x_RD = torch.randn(rows, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ids_R1 = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))[:, None]
    ones_R1 = torch.ones(rows, 1, dtype=torch.float64)
    expected_RD = by_hand(x_RD, ids_R1, ones_R1, gate_up_EFD, down_EDF)
    y_RD = grouped_mlp(x_RD, torch.tensor(counts), gate_up_EFD, down_EDF)
    torch.testing.assert_close(y_RD, expected_RD, atol=1e-12, rtol=1e-12)
    leaves = [t.requires_grad_() for t in (x_RD, gate_up_EFD, down_EDF)]
    assert torch.equal(grouped_mlp(leaves[0], torch.tensor(counts), *leaves[1:]), y_RD)
    assert torch.autograd.gradcheck(lambda x, gu, down: grouped_mlp(x, torch.tensor(counts), gu, down), leaves)


# shapes without values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_meta_tensors_give_shapes(dtype):
    x_TD, ids_TK, weights_TK, gate_up_EFD, down_EDF = (t.to("meta") for t in inputs(CASES["usual"], dtype))
    leaves = [t.requires_grad_() for t in (x_TD, weights_TK, gate_up_EFD, down_EDF)]
    y_TD = experts_forward(x_TD, ids_TK, *leaves[1:])
    assert y_TD.is_meta and y_TD.shape == x_TD.shape and y_TD.dtype == dtype
    y_TD.sum().backward()
    assert all(leaf.grad.shape == leaf.shape and leaf.grad.dtype == leaf.dtype for leaf in leaves)
    y_RD = grouped_mlp(x_TD, torch.empty(4, dtype=torch.int64, device="meta"), gate_up_EFD, down_EDF)
    assert y_RD.shape == x_TD.shape and y_RD.requires_grad


def test_fake_tensors_give_shapes():
    tensors = inputs(CASES["usual"])
    with FakeTensorMode() as mode:
        x_TD, ids_TK, *rest = (mode.from_tensor(t) for t in tensors)
        y_TD = experts_forward(x_TD.requires_grad_(), ids_TK, *rest)
        y_TD.sum().backward()
    assert y_TD.shape == tensors[0].shape and x_TD.grad.shape == tensors[0].shape


# errors


@pytest.mark.parametrize(
    "x, gate_up, down",
    [
        ((3, 5), (2, 6, 4), (2, 4, 3)),  # D of x
        ((3, 4), (2, 6, 4), (2, 5, 3)),  # D of down
        ((3, 4), (2, 6, 4), (2, 4, 2)),  # F
        ((3, 4), (2, 7, 4), (2, 4, 3)),  # odd 2F
        ((3, 4), (2, 6, 4), (3, 4, 3)),  # E
        ((3, 4), (6, 4), (2, 4, 3)),
        ((3, 4), (2, 6, 4), (4, 3)),
        ((3, 1, 4), (2, 6, 4), (2, 4, 3)),
        ((4,), (2, 6, 4), (2, 4, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_errors(x, gate_up, down):
    experts = torch.zeros(gate_up), torch.zeros(down)
    with pytest.raises(ValueError, match="do not fit"):
        experts_forward(torch.zeros(x), torch.zeros(3, 2, dtype=torch.int64), torch.ones(3, 2), *experts)
    with pytest.raises(ValueError, match="do not fit"):
        grouped_mlp(torch.zeros(x), torch.tensor([1, 2]), *experts)


@pytest.mark.parametrize("ids, weights", [((2, 2), (2, 2)), ((3, 2), (3, 1)), ((3,), (3,)), ((3, 1, 1), (3, 1, 1))])
def test_ids_and_weights_that_do_not_fit_are_errors(ids, weights):
    x_TD, _, _, gate_up_EFD, down_EDF = inputs(CASES["idle experts"])
    with pytest.raises(ValueError, match=r"must both be \[T, K\]"):
        experts_forward(x_TD, torch.zeros(ids, dtype=torch.int64), torch.ones(weights), gate_up_EFD, down_EDF)


@pytest.mark.parametrize("position", [0, 3, 4])
def test_different_dtypes_are_errors(position):
    tensors = list(inputs(CASES["usual"], torch.float32))
    tensors[position] = tensors[position].bfloat16()
    with pytest.raises(ValueError, match="cast them to one dtype"):
        experts_forward(*tensors)


@pytest.mark.parametrize("wrong", [-1, 4])
@pytest.mark.parametrize("tokens", [1, 5])
def test_ids_of_experts_that_do_not_exist_are_errors(tokens, wrong, cpu_engine):
    ids, *sizes = CASES["usual"]
    x_TD, ids_TK, *rest = inputs((ids[:tokens], *sizes))
    ids_TK[-1, 0] = wrong
    with pytest.raises(ValueError, match=r"expert ids must lie in \[0, 4\)"):
        experts_forward(x_TD, ids_TK, *rest)


def test_counts_that_do_not_fit_are_errors():
    x_RD, _, _, gate_up_EFD, down_EDF = inputs(CASES["usual"])
    with pytest.raises(ValueError, match="counts have shape"):
        grouped_mlp(x_RD, torch.tensor([5]), gate_up_EFD, down_EDF)
    with pytest.raises(ValueError, match="add up to 4"):
        grouped_mlp(x_RD, torch.tensor([1, 1, 1, 1]), gate_up_EFD, down_EDF)
