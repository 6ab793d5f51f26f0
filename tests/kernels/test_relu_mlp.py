"""The short way through a feed-forward layer against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, relu

from s1pro.kernels.relu_mlp import prepared, relu_mlp


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5, 8), (1, 8), (0, 4, 8)])
def test_both_ways_are_the_definition(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = (shape, (16, 8), (16,), (8, 16), (8,))
    x, up, up_bias, down, down_bias = (
        torch.randn(size, generator=draw, dtype=torch.float64).to(dtype) for size in sizes
    )
    wide = [t.double() for t in (x, up, up_bias, down, down_bias)]
    expected = linear(relu(linear(*wide[:3])), *wide[3:])
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.3}[dtype]
    for found in (relu_mlp(x, up, up_bias, down, down_bias), prepared(up, up_bias, down, down_bias)(x)):
        assert found.dtype == dtype and found.shape == x.shape
        torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


def test_gradients_of_the_plain_way() -> None:
    draw = torch.Generator().manual_seed(1)
    sizes = ((3, 4), (6, 4), (6,), (4, 6), (4,))
    inputs = tuple(torch.randn(s, generator=draw, dtype=torch.float64).requires_grad_() for s in sizes)
    assert torch.autograd.gradcheck(relu_mlp, inputs)
