"""FP8 experts against a loop over experts whose products round their operands block by block, with plain autograd.

The oracle shares no code with the engine: it rounds single slices of 128 numbers through torch's own cast.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from s1pro.kernels.experts import experts_forward, experts_reference, grouped_mlp
from s1pro.kernels.experts_fp8 import Fp8Experts, quantize_experts
from s1pro.kernels.fp8 import quantize_blocks
from s1pro.kernels.fp8_statistics import RoundingStatistics

SIZES = {
    "odd": (7, 3, 200, 136),
    "whole blocks": (40, 2, 256, 128),
    "small": (5, 4, 12, 6),
    "long runs": (300, 2, 20, 8),
}
"""T, E, D, F."""


def rounded(matrix: Tensor, block: tuple[int, int], scale_format: str) -> Tensor:
    """Block by block: scale, cast, multiply."""
    out = torch.empty_like(matrix)
    for top in range(0, matrix.shape[0], block[0]):
        for left in range(0, matrix.shape[1], block[1]):
            piece = matrix[top : top + block[0], left : left + block[1]]
            scale = float(piece.abs().max()) / 448 or 1.0
            if scale_format == "ue8m0":
                power = torch.tensor(scale, dtype=torch.float64).log2().ceil()
                scale = float(2.0**power)
            scale = float(torch.tensor(scale, dtype=torch.float32))
            cast = (piece / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
            out[top : top + block[0], left : left + block[1]] = cast.float() * scale
    return out


class Product(torch.autograd.Function):
    """x @ w^T with every operand of the three products rounded along the summed dim."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, scale_format: str) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.scale_format = scale_format
        return rounded(x, (1, 128), scale_format) @ rounded(w, (128, 128), scale_format).T

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, w = ctx.saved_tensors
        kind = ctx.scale_format
        dx = rounded(dy, (1, 128), kind) @ rounded(w, (128, 128), kind)
        return dx, rounded(dy, (128, 1), kind).T @ rounded(x, (128, 1), kind), None


def by_hand(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor, kind: str) -> Tensor:
    y = torch.zeros_like(x)
    for e in range(len(gate_up)):
        tokens, slots = (ids == e).nonzero(as_tuple=True)
        if len(tokens):
            gate, up = (Product.apply(x[tokens], half, kind) for half in gate_up[e].chunk(2))
            h = silu(gate) * up * weights[tokens, slots, None]
            y = y.index_add(0, tokens, Product.apply(h, down[e], kind))
    return y


def inputs(size: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """x, ids, weights, gate_up, down, dy. The second expert of "small" has no rows."""
    tokens, experts, hidden, width = SIZES[size]
    draw = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randperm(experts, generator=draw)[:2] for _ in range(tokens)])
    if size == "small":
        ids = torch.where(ids == 1, 3, ids)
    x = torch.randn(tokens, hidden, generator=draw) * torch.logspace(-3, 1, hidden)
    weights = torch.rand(tokens, 2, generator=draw)
    gate_up = torch.randn(experts, 2 * width, hidden, generator=draw) / hidden**0.5
    down = torch.randn(experts, hidden, width, generator=draw) / width**0.5
    dy = torch.randn(tokens, hidden, generator=draw)
    return x.to(dtype), ids, weights, gate_up.to(dtype), down.to(dtype), dy.to(dtype)


@pytest.mark.parametrize("scale_format", ["fp32", "ue8m0"])
@pytest.mark.parametrize("size", SIZES)
def test_result_and_gradients_by_hand(size: str, scale_format: Any) -> None:
    x, ids, weights, gate_up, down, dy = inputs(size)
    found, expected = [], []
    for results, fp8 in ((found, True), (expected, False)):
        leaves = [t.clone().requires_grad_() for t in (x, weights, gate_up, down)]
        args = (leaves[0], ids, *leaves[1:])
        y = experts_forward(*args, fp8=Fp8Experts(scale_format)) if fp8 else by_hand(*args, scale_format)
        y.backward(dy)
        results += [y.detach(), *(leaf.grad for leaf in leaves)]
    for name, ours, theirs in zip(("y", "x", "weights", "gate_up", "down"), found, expected, strict=True):
        # A sum that differs in its last bit may round to the neighbour in FP8, so single numbers may be a step apart.
        scale = theirs.abs().max()
        assert (ours - theirs).abs().max() < 0.02 * scale, name
        assert ((ours - theirs).abs() > 1e-5 * scale).float().mean() < 0.02, name


def test_rows_that_somebody_else_sorted() -> None:
    x, ids, _, gate_up, down, _ = inputs("odd")
    chosen = ids[:, :1].sort(dim=0).values
    counts = torch.bincount(chosen[:, 0], minlength=len(gate_up))
    sorted_rows = grouped_mlp(x, counts, gate_up, down, fp8=Fp8Experts())
    whole = experts_forward(x, chosen, torch.ones(len(x), 1), gate_up, down, fp8=Fp8Experts())
    assert torch.equal(sorted_rows, whole)


def test_with_and_without_gradient_are_the_same_bits() -> None:
    x, ids, weights, gate_up, down, _ = inputs("odd")
    quiet = experts_forward(x, ids, weights, gate_up, down, fp8=Fp8Experts())
    assert torch.equal(quiet, experts_forward(x, ids, weights, gate_up.requires_grad_(), down, fp8=Fp8Experts()))


def test_it_is_near_the_unrounded_result_but_not_equal() -> None:
    x, ids, weights, gate_up, down, _ = inputs("whole blocks")
    exact = experts_reference(x, ids, weights, gate_up, down)
    error = (experts_forward(x, ids, weights, gate_up, down, fp8=Fp8Experts()) - exact).norm() / exact.norm()
    assert 0.005 < error < 0.08  # e4m3 has 3 bits of mantissa: each factor is off by up to 6 %, 2 to 3 % on average


def test_bfloat16_networks_keep_their_dtype() -> None:
    x, ids, weights, gate_up, down, dy = inputs("odd", torch.bfloat16)
    leaves = [t.clone().requires_grad_() for t in (x, weights, gate_up, down)]
    y = experts_forward(leaves[0], ids, *leaves[1:], fp8=Fp8Experts())
    y.backward(dy)
    assert y.dtype == torch.bfloat16
    assert [leaf.grad.dtype for leaf in leaves] == [torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16]
    wide = experts_forward(x.float(), ids, weights, gate_up.float(), down.float(), fp8=Fp8Experts())
    assert (y.float() - wide).norm() < 0.02 * wide.norm()


def test_no_block_reaches_from_gate_into_up() -> None:
    """The up rows of a gate_up with F = 136 are huge; the gate rows must not be rounded by their scale."""
    _, _, _, gate_up, down, _ = inputs("odd")
    gate_up[:, 136:] *= 1e6
    (values, scales), _ = quantize_experts(gate_up, down)
    assert values.shape == (3, 2, 136, 200)
    assert scales.shape == (3, 2, 2, 2)
    for half in (0, 1):
        alone = quantize_blocks(gate_up[:, 136 * half : 136 * (half + 1)])
        assert torch.equal(values[:, half].view(torch.uint8), alone[0].view(torch.uint8))
        assert torch.equal(scales[:, half], alone[1])


@pytest.mark.parametrize("scale_format", ["fp32", "ue8m0"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_numbers_come_through_instead_of_raising(bad: float, scale_format: Any) -> None:
    """So that the guard of the loop sees a loss that is not finite, and skips the step."""
    x, ids, weights, gate_up, down, _ = inputs("small")
    x[0, 0] = bad
    y = experts_forward(x, ids, weights, gate_up, down, fp8=Fp8Experts(scale_format))
    assert not y[0].isfinite().any()
    assert y[1:].isfinite().all()
    with pytest.raises(ValueError, match="NaN or infinite"):
        quantize_blocks(x, scale_format=scale_format)


def test_statistics_count_what_rounding_loses() -> None:
    values = torch.tensor([[448.0, 2.0**-11, 2.0**-8, 0.0], [900.0, 464.0, -470.0, 1.0]])
    scale = torch.ones(2, 1)
    quantized = values.clamp(-448, 448).to(torch.float8_e4m3fn)
    statistics = RoundingStatistics()
    statistics.add("x", values, quantized, scale, (1, 128))
    found = statistics.report()["x"]
    assert found["clipped"] == 2 / 8  # 900 and -470; 464 rounds to 448
    assert found["underflow"] == 1 / 7  # 2^-11; 0 was 0 before
    error = (2.0**-22 + 452.0**2 + 16.0**2 + 22.0**2) / float(values.double().square().sum())
    assert found["error"] == pytest.approx(error**0.5, rel=1e-6)


def test_statistics_of_a_step_name_every_operand() -> None:
    x, ids, weights, gate_up, down, dy = inputs("odd")
    engine = Fp8Experts()
    engine.statistics = RoundingStatistics()
    x[:, :64] *= 1e-7
    experts_forward(x, ids, weights, gate_up.requires_grad_(), down.requires_grad_(), fp8=engine).backward(dy)
    report = engine.statistics.report()
    assert set(report) == {"gate_up", "down", "x", "h", "dy", "rows"}  # nobody asked for the gradient of x
    assert all(numbers["clipped"] == 0 and 0.01 < numbers["error"] < 0.05 for numbers in report.values())
    assert report["x"]["underflow"] > 0.01 > report["down"]["underflow"]  # channels of x differ by 10^9
