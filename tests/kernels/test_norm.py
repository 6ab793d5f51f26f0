"""RMSNorm against its definition in float64, its gradients, dtype rules and odd layouts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s1pro.kernels.norm import fused_rms_norm, rms_norm, rms_norm_reference

EPS = 1e-6
SHAPES = [(5, 8), (1, 3), (4, 1), (7,), (2, 3, 13), (2, 1, 3, 6), (33, 129)]


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    weight = 1 + 0.3 * torch.randn(shape[-1:], generator=generator, dtype=torch.float64)
    return x.to(dtype), weight.to(dtype)


def by_hand(x: Tensor, weight: Tensor, eps: float = EPS) -> Tensor:
    """Row by row in float64, without the code under test."""
    x, weight = x.double(), weight.double()
    rows = [row / (row.pow(2).sum() / row.numel() + eps).sqrt() * weight for row in x.reshape(-1, x.shape[-1])]
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_matches_float64(shape):
    x, weight = inputs(shape)
    expected = by_hand(x, weight)
    torch.testing.assert_close(rms_norm(x, weight, EPS).double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(rms_norm_reference(x, weight, EPS).double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_float64_stays_float64(shape):
    x, weight = inputs(shape, torch.float64)
    y = rms_norm(x, weight, EPS)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, by_hand(x, weight), atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("shape", SHAPES[:-1])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_gradients_match_finite_differences(shape, wanted):
    x, weight = inputs(shape, torch.float64)
    x.requires_grad_(wanted[0])
    weight.requires_grad_(wanted[1])
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, EPS), (x, weight))


def gradients(function, x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    return torch.autograd.grad(function(x, weight, EPS), (x, weight), grad)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_gradients_match_autograd_of_the_definition(shape):
    x, weight = inputs(shape)
    grad = inputs(shape, seed=1)[0]
    for ours, exact in zip(
        gradients(rms_norm, x, weight, grad),
        gradients(rms_norm_reference, x.double(), weight.double(), grad.double()),
        strict=True,
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_permuted_layouts(dims):
    x, weight = inputs((3, 4, 6), torch.float64)
    x = x.permute(*dims)
    weight = torch.linspace(0.5, 2, x.shape[-1], dtype=torch.float64)
    grad = rms_norm(x, weight, EPS)  # permuted like x, as the gradient of an elementwise operation is
    assert not grad.is_contiguous()
    got = gradients(rms_norm, x, weight, grad)
    expected = gradients(rms_norm_reference, x.contiguous(), weight, grad.contiguous())
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_an_expanded_gradient():
    x, weight = inputs((3, 5), torch.float64)
    got = gradients(rms_norm, x, weight, torch.ones((), dtype=torch.float64).expand(3, 5))
    expected = gradients(rms_norm_reference, x, weight, torch.ones(3, 5, dtype=torch.float64))
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5)])
def test_no_rows(shape):
    x, weight = torch.randn(shape, requires_grad=True), torch.ones(5, requires_grad=True)
    y = rms_norm(x, weight, EPS)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad.shape == shape
    assert torch.equal(weight.grad, torch.zeros(5))


def test_a_row_of_zeros_has_a_finite_result_and_gradient():
    x, weight = torch.zeros(2, 4, requires_grad=True), torch.ones(4, requires_grad=True)
    y = rms_norm(x, weight, EPS)
    assert torch.equal(y, torch.zeros(2, 4))
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 4), EPS**-0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_without_gradient_the_bits_are_the_same(dtype):
    x, weight = inputs((9, 31), dtype)
    with_grad = rms_norm(x.clone().requires_grad_(), weight.clone().requires_grad_(), EPS)
    assert with_grad.requires_grad
    plain = rms_norm(x, weight, EPS)
    assert not plain.requires_grad
    with torch.no_grad():
        no_grad = rms_norm(x.clone().requires_grad_(), weight, EPS)
    assert not no_grad.requires_grad
    assert torch.equal(with_grad, plain) and torch.equal(no_grad, plain)


def test_inputs_are_left_alone():
    x, weight = inputs((3, 8))
    before = x.clone(), weight.clone()
    rms_norm(x, weight, EPS)
    gradients(rms_norm, x, weight, torch.ones_like(x))
    assert torch.equal(x, before[0]) and torch.equal(weight, before[1])


def test_bfloat16_is_rounded_before_the_weight():
    """The released order: normalise in float32, cast, multiply in bfloat16."""
    x, weight = inputs((16, 64), torch.bfloat16)
    wide = x.float()
    normal = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).bfloat16()
    y = rms_norm(x, weight, EPS)
    assert y.dtype == torch.bfloat16
    # statistics that differ in the last float32 bit may flip a rounding, by one bfloat16 step
    same = y == normal * weight
    assert float(same.float().mean()) > 0.99
    torch.testing.assert_close(y, normal * weight, atol=0, rtol=2**-7)


@pytest.mark.parametrize(
    "x_dtype, weight_dtype, result",
    [
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_dtypes_of_result_and_gradients(x_dtype, weight_dtype, result):
    x = inputs((4, 6))[0].to(x_dtype).requires_grad_()
    weight = inputs((4, 6))[1].to(weight_dtype).requires_grad_()
    y = rms_norm(x, weight, EPS)
    assert y.dtype == rms_norm_reference(x, weight, EPS).dtype == result
    y.sum().backward()
    assert x.grad.dtype == x_dtype and weight.grad.dtype == weight_dtype


def test_bfloat16_gradients_are_within_one_rounding_of_float64():
    x, weight = inputs((32, 64), torch.bfloat16)
    grad = inputs((32, 64), torch.bfloat16, seed=1)[0]
    exact = gradients(rms_norm_reference, x.double(), weight.double(), grad.double())
    for ours, theirs in zip(gradients(rms_norm, x, weight, grad), exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=2**-8)


def test_meta_tensors_give_shapes():
    x = torch.empty(3, 5, device="meta", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.empty(5, device="meta", dtype=torch.bfloat16, requires_grad=True)
    y = rms_norm(x, weight, EPS)
    assert y.is_meta and y.shape == (3, 5) and y.dtype == torch.bfloat16
    y.sum().backward()
    assert x.grad.shape == (3, 5) and weight.grad.shape == (5,)


@pytest.mark.parametrize("shape", [(4,), (1,), (), (5, 1), (3, 5)])
def test_a_weight_of_another_size_is_an_error(shape):
    with pytest.raises(ValueError, match="does not fit the last dim"):
        rms_norm(torch.randn(3, 5), torch.ones(shape), EPS)


def test_second_derivatives_are_refused():
    x, weight = inputs((2, 3), torch.float64)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(rms_norm(x, weight, EPS).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_way_of_a_gpu_rounds_as_the_definition_does(dtype: torch.dtype) -> None:
    """On a CPU torch computes the same function by its parts."""
    g = torch.Generator().manual_seed(0)
    x, weight = (3 * torch.randn(40, 96, generator=g)).to(dtype), torch.randn(96, generator=g).to(dtype)
    mine, expected = fused_rms_norm(x, weight, 1e-6), rms_norm_reference(x, weight, 1e-6)
    assert mine.dtype == dtype
    if dtype == torch.float32:
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-6)
    else:  # a weight of more than 1 before the cast would turn one in three
        assert float((mine == expected).float().mean()) > 0.995
