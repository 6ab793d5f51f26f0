"""The FP8 quantiser: representable numbers survive, errors stay within half a step of e4m3; borders, zeros, scales.

The expected scales are computed block by block in float64, without the code under test; the bytes of whole checkpoints
are compared elsewhere, with goldens.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from s1pro.kernels.fp8 import (
    FP8_MAX,
    SMALLEST_SCALE,
    dequantize_blocks,
    expand_scale,
    is_power_of_two,
    quantize_blocks,
    quantize_rows,
    scaled_linear,
)

FORMATS = ["fp32", "ue8m0"]
SHAPES = [(1, 1), (128, 128), (256, 384), (129, 127), (130, 300), (5, 257), (127, 1)]
SMALL_BLOCK = (3, 4)


def e4m3_numbers() -> Tensor:
    """Every finite number of the format, from its definition: 4 exponent bits with bias 7, 3 mantissa bits."""
    numbers = {0.0}
    for exponent in range(16):
        for mantissa in range(8):
            if exponent == 15 and mantissa == 7:
                continue  # NaN
            power = 2.0 ** (max(exponent, 1) - 7)
            numbers.add(power * ((exponent > 0) + mantissa / 8))
    return torch.tensor(sorted({-n for n in numbers} | numbers))


def weight(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Normal numbers times powers of two that differ from row to row and from column to column."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-3, 4, (*shape[:-1], 1), generator=generator)
    return torch.randn(shape, generator=generator) * 2.0**rows


def pieces(shape: tuple[int, int], block: tuple[int, int]) -> list[tuple[int, int, slice, slice]]:
    """Block row, block column and the two slices of every block."""
    return [
        (i, j, slice(i * block[0], (i + 1) * block[0]), slice(j * block[1], (j + 1) * block[1]))
        for i in range(math.ceil(shape[0] / block[0]))
        for j in range(math.ceil(shape[1] / block[1]))
    ]


def expected_scale(amax: float, scale_format: str) -> float:
    if amax == 0:
        return 1.0
    scale = max(amax / 448, SMALLEST_SCALE)
    if scale_format == "ue8m0":
        power = -130
        while 2.0**power < scale:
            power += 1
        return 2.0**power
    return float(torch.tensor(scale, dtype=torch.float64).float())


def by_hand(w: Tensor, scale_format: str, block: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Nearest representable number of every quotient, ties to the even mantissa, and the scales."""
    table = e4m3_numbers()
    scale = torch.zeros(math.ceil(w.shape[0] / block[0]), math.ceil(w.shape[1] / block[1]))
    values = torch.zeros_like(w)
    for i, j, rows, columns in pieces(w.shape, block):
        scale[i, j] = expected_scale(float(w[rows, columns].abs().max()), scale_format)
        quotient = w[rows, columns] / scale[i, j]
        distance = (quotient[..., None].double() - table.double()).abs()
        nearest = distance.min(dim=-1, keepdim=True).values
        tied = distance == nearest
        even = (table / _step(table)).remainder(2) == 0
        choice = (tied * (1 + even.int())).argmax(dim=-1)
        values[rows, columns] = table[choice]
    return values, scale


def _step(numbers: Tensor) -> Tensor:
    """Distance of neighbouring e4m3 numbers at each number."""
    _, exponent = torch.frexp(numbers.abs().clamp(min=2.0**-6))
    return torch.ldexp(torch.ones_like(numbers), exponent - 4)


@pytest.mark.parametrize("scale_format", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (7, 9), (6, 8), (1, 13)])
def test_bytes_and_scales_by_hand(shape, scale_format):
    w = weight(shape)
    quantized, scale = quantize_blocks(w, scale_format=scale_format, block=SMALL_BLOCK)
    expected, expected_scales = by_hand(w, scale_format, SMALL_BLOCK)
    assert torch.equal(scale, expected_scales)
    assert torch.equal(quantized.float(), expected)


@pytest.mark.parametrize("scale_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_dtypes_and_scales_of_full_blocks(shape, scale_format):
    w = weight(shape)
    quantized, scale = quantize_blocks(w, scale_format=scale_format)
    assert quantized.dtype == torch.float8_e4m3fn and quantized.shape == shape
    assert scale.dtype == torch.float32 and scale.shape == (-(-shape[0] // 128), -(-shape[1] // 128))
    for i, j, rows, columns in pieces(shape, (128, 128)):
        assert float(scale[i, j]) == expected_scale(float(w[rows, columns].abs().max()), scale_format)


@pytest.mark.parametrize("scale_format", FORMATS)
def test_representable_numbers_survive(scale_format):
    """All 253 finite numbers in one block, times a power of two: the largest is 448, so the scale is that power."""
    numbers = e4m3_numbers()
    assert numbers.numel() == 253 and float(numbers.max()) == FP8_MAX
    for power in (-20, -1, 0, 3, 40):
        w = (numbers * 2.0**power)[None]
        quantized, scale = quantize_blocks(w, scale_format=scale_format, block=(1, 253))
        assert scale.tolist() == [[2.0**power]]
        assert torch.equal(dequantize_blocks(quantized, scale, block=(1, 253)), w)


@pytest.mark.parametrize("shape", SHAPES)
def test_quantising_again_changes_nothing_with_powers_of_two(shape):
    quantized, scale = quantize_blocks(weight(shape), scale_format="ue8m0")
    w = dequantize_blocks(quantized, scale)
    again, scale_again = quantize_blocks(w, scale_format="ue8m0")
    assert torch.equal(dequantize_blocks(again, scale_again), w)


@pytest.mark.parametrize("scale_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_errors_stay_within_half_a_step(shape, scale_format):
    """Relative error at most 2^-4, and half of the smallest subnormal step, 2^-10 scales, near zero."""
    w = weight(shape)
    quantized, scale = quantize_blocks(w, scale_format=scale_format)
    step = expand_scale(scale, w.shape, (128, 128)).double()
    error = (dequantize_blocks(quantized, scale).double() - w.double()).abs()
    assert bool((error <= torch.maximum(w.double().abs() * 2.0**-4, step * 2.0**-10) * (1 + 1e-6)).all())
    assert float(quantized.float().abs().max()) <= FP8_MAX


def test_the_largest_number_of_a_block_is_used_in_full():
    quantized, _ = quantize_blocks(weight((200, 200)))
    for _, _, rows, columns in pieces((200, 200), (128, 128)):
        assert float(quantized[rows, columns].float().abs().max()) == FP8_MAX


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=12),
    st.sampled_from(FORMATS),
)
def test_any_numbers(numbers, scale_format):
    w = torch.tensor([numbers])
    quantized, scale = quantize_blocks(w, scale_format=scale_format, block=(1, 4))
    assert bool(quantized.float().isfinite().all()) and bool((scale > 0).all()) and bool(scale.isfinite().all())
    for j in range(scale.shape[1]):
        amax = float(w[0, 4 * j : 4 * j + 4].abs().max())
        assert float(scale[0, j]) == expected_scale(amax, scale_format)
    step = expand_scale(scale, w.shape, (1, 4)).double()
    error = (dequantize_blocks(quantized, scale, block=(1, 4)).double() - w.double()).abs()
    assert bool((error <= torch.maximum(w.double().abs() * 2.0**-4, step * 2.0**-10) * (1 + 1e-6)).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_ue8m0_scales_are_the_smallest_powers_of_two_that_hold_the_block(shape):
    w = weight(shape)
    _, scale = quantize_blocks(w, scale_format="ue8m0")
    assert bool(is_power_of_two(scale).all())
    for i, j, rows, columns in pieces(shape, (128, 128)):
        exact = float(w[rows, columns].abs().max()) / FP8_MAX
        assert exact <= float(scale[i, j]) < 2 * exact


@pytest.mark.parametrize("amax, expected", [(448.0, 1.0), (math.nextafter(448, 449), 2.0), (224.0, 0.5), (449.0, 2.0)])
def test_ue8m0_at_the_edge_of_a_power(amax, expected):
    value = torch.tensor([[amax]], dtype=torch.float64).float()
    if amax != 448 and float(value) == 448:
        value = torch.nextafter(value, torch.tensor(1e9))
    quantized, scale = quantize_blocks(value, scale_format="ue8m0")
    assert scale.tolist() == [[expected]]
    assert float(quantized.float()) <= FP8_MAX


@pytest.mark.parametrize("scale_format", FORMATS)
def test_partial_blocks_do_not_see_their_neighbours(scale_format):
    """Borders are computed as if they were blocks of their own."""
    w = weight((130, 300))
    quantized, scale = quantize_blocks(w, scale_format=scale_format)
    for i, j, rows, columns in pieces((130, 300), (128, 128)):
        alone, scale_alone = quantize_blocks(w[rows, columns], scale_format=scale_format)
        assert torch.equal(alone.float(), quantized[rows, columns].float())
        assert float(scale_alone) == float(scale[i, j])


@pytest.mark.parametrize("scale_format", FORMATS)
def test_zeros_have_scale_one(scale_format):
    w = weight((4, 8))
    w[:2, 4:] = 0
    w[2:, :4] = -0.0
    quantized, scale = quantize_blocks(w, scale_format=scale_format, block=(2, 4))
    assert float(scale[0, 1]) == 1 and float(scale[1, 0]) == 1
    assert float(scale[0, 0]) != 1
    back = dequantize_blocks(quantized, scale, block=(2, 4))
    assert not back[:2, 4:].any() and not back[2:, :4].any()


@pytest.mark.parametrize("scale_format", FORMATS)
@pytest.mark.parametrize("value", [2.0**-149, 1e-44, 2.0**-126, 3e38])
def test_the_smallest_and_largest_numbers_are_finite(value, scale_format):
    quantized, scale = quantize_blocks(torch.tensor([[value, -value]]), scale_format=scale_format)
    assert float(scale) >= SMALLEST_SCALE and math.isfinite(float(scale))
    back = dequantize_blocks(quantized, scale)
    assert bool(back.isfinite().all())
    torch.testing.assert_close(back, torch.tensor([[value, -value]]), rtol=2**-4, atol=SMALLEST_SCALE * 2**-10)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [(0, 0), (129, 0), (129, 299)])
def test_nan_and_infinity_are_errors(bad, where):
    w = weight((130, 300))
    w[where] = bad
    w[1, 1] = math.nan
    with pytest.raises(ValueError, match="2 of 39000 values are NaN or infinite"):
        quantize_blocks(w)


def test_numbers_beyond_float32_are_errors():
    with pytest.raises(ValueError, match="1 of 1 values"):
        quantize_blocks(torch.tensor([[1e300]], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_their_float32_numbers(dtype):
    w = weight((5, 9)).to(dtype)
    quantized, scale = quantize_blocks(w, block=SMALL_BLOCK)
    expected, expected_scales = quantize_blocks(w.float(), block=SMALL_BLOCK)
    assert torch.equal(quantized.float(), expected.float()) and torch.equal(scale, expected_scales)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dequantised_numbers_are_products_in_float32(dtype):
    quantized, scale = quantize_blocks(weight((7, 9)), block=SMALL_BLOCK)
    back = dequantize_blocks(quantized, scale, dtype, block=SMALL_BLOCK)
    assert back.dtype == dtype
    for i, j, rows, columns in pieces((7, 9), SMALL_BLOCK):
        assert torch.equal(back[rows, columns], (quantized[rows, columns].float() * scale[i, j]).to(dtype))


@pytest.mark.parametrize("scale_format", FORMATS)
def test_a_stack_is_its_matrices(scale_format):
    stack = weight((2, 3, 130, 140))
    quantized, scale = quantize_blocks(stack, scale_format=scale_format)
    assert quantized.shape == (2, 3, 130, 140) and scale.shape == (2, 3, 2, 2)
    back = dequantize_blocks(quantized, scale)
    for a in range(2):
        for b in range(3):
            one, one_scale = quantize_blocks(stack[a, b], scale_format=scale_format)
            assert torch.equal(one.float(), quantized[a, b].float()) and torch.equal(one_scale, scale[a, b])
            assert torch.equal(dequantize_blocks(one, one_scale), back[a, b])


@pytest.mark.parametrize("shape", [(0, 256), (5, 0), (0, 5, 256)])
def test_empty_matrices(shape):
    quantized, scale = quantize_blocks(torch.zeros(shape))
    assert quantized.shape == shape
    assert scale.shape == (*shape[:-2], -(-shape[-2] // 128), -(-shape[-1] // 128))
    assert dequantize_blocks(quantized, scale).shape == shape


def test_views_and_weights_that_train():
    w = weight((9, 7)).t()
    expected = quantize_blocks(w.contiguous(), block=SMALL_BLOCK)
    got = quantize_blocks(w.requires_grad_(), block=SMALL_BLOCK)
    assert torch.equal(got[0].float(), expected[0].float()) and torch.equal(got[1], expected[1])
    assert not got[1].requires_grad


def test_the_weight_is_left_alone():
    w = weight((5, 9))
    before = w.clone()
    quantize_blocks(w, block=SMALL_BLOCK)
    assert torch.equal(w, before)


def test_meta_tensors_give_shapes():
    quantized, scale = quantize_blocks(torch.empty(130, 300, device="meta"), scale_format="ue8m0")
    assert quantized.shape == (130, 300) and quantized.dtype == torch.float8_e4m3fn
    assert scale.shape == (2, 3) and scale.is_meta
    assert dequantize_blocks(quantized, scale, torch.bfloat16).dtype == torch.bfloat16


# activations


@pytest.mark.parametrize("scale_format", FORMATS)
@pytest.mark.parametrize("shape", [(1, 8), (5, 13), (2, 3, 8), (4, 3)])
def test_rows_have_scales_of_their_own(shape, scale_format):
    x = weight(shape)
    quantized, scale = quantize_rows(x, group=4, scale_format=scale_format)
    assert scale.shape == (*shape[:-1], -(-shape[-1] // 4))
    flat, flat_scale = x.reshape(-1, shape[-1]), scale.reshape(-1, scale.shape[-1])
    expected, expected_scales = by_hand(flat, scale_format, (1, 4))
    assert torch.equal(flat_scale, expected_scales)
    assert torch.equal(quantized.float().reshape(flat.shape), expected)


def test_rows_are_grouped_by_128_channels():
    assert quantize_rows(weight((3, 300)))[1].shape == (3, 3)


@pytest.mark.parametrize("scale_format", FORMATS)
@pytest.mark.parametrize("tokens, out, width, block", [(5, 7, 9, SMALL_BLOCK), (1, 1, 1, (2, 2)), (3, 140, 270, None)])
def test_scaled_linear_is_the_product_of_dequantised_numbers(tokens, out, width, block, scale_format):
    sizes = block or (128, 128)
    x_TD, w = weight((tokens, width), seed=1), weight((out, width))
    quantized, scale = quantize_blocks(w, scale_format=scale_format, block=sizes)
    y = scaled_linear(x_TD, quantized, scale, block=sizes, scale_format=scale_format)
    values_x, scale_x = by_hand(x_TD, scale_format, (1, sizes[1]))
    wide_x, wide_w = values_x.double(), quantized.double()
    for i, j, rows, columns in pieces(x_TD.shape, (1, sizes[1])):
        wide_x[rows, columns] *= float(scale_x[i, j])
    for i, j, rows, columns in pieces(w.shape, sizes):
        wide_w[rows, columns] *= float(scale[i, j])
    magnitude = wide_x.abs() @ wide_w.abs().T
    assert y.dtype == torch.float32 and y.shape == (tokens, out)
    assert bool(((y.double() - wide_x @ wide_w.T).abs() <= 1e-5 * magnitude).all())


def test_scaled_linear_approximates_the_unquantised_product():
    x_TD, w = torch.randn(16, 256, generator=torch.Generator().manual_seed(0)), weight((64, 256))
    y = scaled_linear(x_TD, *quantize_blocks(w))
    exact = x_TD.double() @ w.double().T
    assert float((y - exact).norm() / exact.norm()) < 0.05


def test_scaled_linear_keeps_the_dtype_and_leading_dims():
    quantized, scale = quantize_blocks(weight((6, 130)))
    x = weight((2, 3, 130)).bfloat16()
    y = scaled_linear(x, quantized, scale)
    assert y.dtype == torch.bfloat16 and y.shape == (2, 3, 6)
    assert torch.equal(y[1], scaled_linear(x[1], quantized, scale))
    assert scaled_linear(torch.zeros(0, 130), quantized, scale).shape == (0, 6)


# errors and small parts


def test_every_scale_is_repeated_over_its_block():
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    wide = expand_scale(scale, torch.Size((3, 5)), (2, 3))
    assert wide.tolist() == [[1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [3, 3, 3, 4, 4]]


def test_powers_of_two_are_recognised():
    numbers = torch.tensor([1.0, 2.0**-126, 2.0**-149, 2.0**127, 0.5, 3.0, 0.0, -2.0, 1.0000001, math.inf, math.nan])
    assert is_power_of_two(numbers).tolist() == [True] * 5 + [False] * 6


@pytest.mark.parametrize("scale_format", ["e8m0", "", "FP32", None])
def test_an_unknown_format_is_an_error(scale_format):
    with pytest.raises(ValueError, match="choose 'fp32' or 'ue8m0'"):
        quantize_blocks(torch.ones(2, 2), scale_format=scale_format)


@pytest.mark.parametrize("shape, block", [((4,), (2, 2)), ((), (1, 1)), ((4, 4), (0, 2)), ((4, 4), (2, -1))])
def test_vectors_and_blocks_without_size_are_errors(shape, block):
    with pytest.raises(ValueError, match="at least 1 x 1"):
        quantize_blocks(torch.ones(shape), block=block)


@pytest.mark.parametrize("shape", [(1, 2), (2, 2), (3, 3), (2, 3, 1), (6,)])
def test_scales_of_another_shape_are_errors(shape):
    quantized, scale = quantize_blocks(weight((130, 300)))
    assert scale.shape == (2, 3)
    with pytest.raises(ValueError, match=r"expected \(2, 3\)"):
        dequantize_blocks(quantized, torch.ones(shape))


@pytest.mark.parametrize("x, w", [((3, 9), (4, 8)), ((8,), (4, 8)), ((3, 8), (2, 4, 8)), ((3, 4), (4,))])
def test_activations_that_do_not_fit_the_weight_are_errors(x, w):
    quantized = torch.ones(w).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError):
        scaled_linear(torch.ones(x), quantized, torch.ones(1, 1))


def test_activations_with_nan_are_errors():
    quantized, scale = quantize_blocks(weight((4, 8)))
    with pytest.raises(ValueError, match="1 of 8 values"):
        scaled_linear(torch.tensor([[math.nan] + [1.0] * 7]), quantized, scale)
