"""The FP8 quantiser of trainer, exporter and engine (paper: precision policy; DeepSeek-V3: block-wise scaling).

    scale = amax(block) / 448          in float64, stored as float32; 448 is the largest e4m3 number
    q     = round(w / scale)           to float8 e4m3 (4 exponent bits, 3 mantissa bits), nearest even
    w'    = q * scale                  the checkpoint calls the scale `weight_scale_inv`

Weights `[out, in]` have one scale per 128 x 128 block, activations one per row and 128 channels; blocks at the right
and lower border may be partial. There is one quantiser so that the bytes on both sides of a publication are equal.

`scale_format="ue8m0"` rounds the scale up to a power of two, so that it fits eight exponent bits and scaling is exact.
A block of zeros has scale 1. The quotient is clamped before the cast, because versions of torch differ in what they
make of numbers beyond 448. NaN and infinity have no place in a checkpoint and are an error; in a training step
(`refuse=False`) they make their block NaN, nothing waits for the device, and the guard of the loop sees the loss.

Matrix units for FP8 exist on few machines; the same numbers come out of quantise, dequantise, matmul, which is what
`scaled_linear` does. On a CPU this is also faster than torch's own scaled product.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

FP8_MAX = 448.0
"""Largest finite value of float8 e4m3fn."""

SMALLEST_SCALE = 2.0**-126
"""Smallest normal float32; blocks of smaller numbers share it."""

ScaleFormat = Literal["fp32", "ue8m0"]


def quantize_blocks(
    weight: Tensor, *, scale_format: ScaleFormat = "fp32", block: tuple[int, int] = (128, 128), refuse: bool = True
) -> tuple[Tensor, Tensor]:
    """Quantises the logical matrix (or stack of matrices) `weight` `[..., out, in]`.

    Args:
        refuse: NaN and infinity are errors; otherwise they make their whole block NaN.

    Returns:
        float8_e4m3fn of the same shape, and float32 scales `[..., ceil(out / block), ceil(in / block)]`.

    Raises:
        ValueError: NaN or infinity in `weight`, an unknown format, or a block without size.
    """
    if scale_format not in ("fp32", "ue8m0"):
        raise ValueError(f"scale_format is {scale_format!r}; choose 'fp32' or 'ue8m0'")
    if min(block) < 1 or weight.dim() < 2:
        raise ValueError(f"a matrix and a block of at least 1 x 1 are needed, got {tuple(weight.shape)} and {block}")
    wide = weight.detach().to(torch.float32)
    amax = _block_amax(wide, block)
    if refuse and not amax.is_meta and not bool(amax.isfinite().all()):
        bad = int((~wide.isfinite()).sum())
        raise ValueError(f"{bad} of {wide.numel()} values are NaN or infinite; a model like this must not be stored")
    scale = (amax.double() / FP8_MAX).clamp(min=SMALLEST_SCALE)
    if scale_format == "ue8m0":
        scale = _next_power_of_two(scale)
    scale = torch.where(amax == 0, 1.0, scale).to(torch.float32)
    if not refuse:
        scale = torch.where(amax.isfinite(), scale, torch.nan)
    quotient = (wide / expand_scale(scale, weight.shape, block)).clamp_(-FP8_MAX, FP8_MAX)
    return quotient.to(torch.float8_e4m3fn), scale


def dequantize_blocks(
    quantized: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32, *, block: tuple[int, int] = (128, 128)
) -> Tensor:
    """`quantized * scale of its block`, multiplied in float32 and cast to `dtype`.

    Raises:
        ValueError: scales of another shape than the blocks demand.
    """
    return (quantized.to(torch.float32) * expand_scale(scale, quantized.shape, block)).to(dtype)


def quantize_rows(x: Tensor, *, group: int = 128, scale_format: ScaleFormat = "fp32") -> tuple[Tensor, Tensor]:
    """Quantises activations `[..., T, D]` with one scale per row and `group` channels, `[..., T, ceil(D / group)]`."""
    return quantize_blocks(x, scale_format=scale_format, block=(1, group))


def scaled_linear(
    x_TD: Tensor,
    quantized: Tensor,
    scale: Tensor,
    *,
    block: tuple[int, int] = (128, 128),
    scale_format: ScaleFormat = "fp32",
) -> Tensor:
    """`x @ w.T` as an FP8 machine computes it: x quantised per row and group, products summed in float32.

    Args:
        x_TD: activations; the result has their dtype.
        quantized, scale: weight `[out, in]` from `quantize_blocks`.
        scale_format: of the activations.

    Raises:
        ValueError: shapes that do not fit together, or NaN or infinity in `x_TD`.
    """
    if quantized.dim() != 2 or x_TD.shape[-1] != quantized.shape[1]:
        raise ValueError(f"x {tuple(x_TD.shape)} does not fit a weight [out, in] of shape {tuple(quantized.shape)}")
    x_fp8, x_scale = quantize_rows(x_TD, group=block[1], scale_format=scale_format)
    x_wide = dequantize_blocks(x_fp8, x_scale, block=(1, block[1]))
    return torch.nn.functional.linear(x_wide, dequantize_blocks(quantized, scale, block=block)).to(x_TD.dtype)


def expand_scale(scale: Tensor, shape: torch.Size, block: tuple[int, int]) -> Tensor:
    """Repeats every scale over its block: `[..., out, in]`."""
    expected = (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))
    if tuple(scale.shape) != expected:
        raise ValueError(
            f"scales of shape {tuple(scale.shape)} do not fit a weight {tuple(shape)} in blocks of "
            f"{block[0]} x {block[1]}; expected {expected}"
        )
    rows = scale.repeat_interleave(block[0], dim=-2)[..., : shape[-2], :]
    return rows.repeat_interleave(block[1], dim=-1)[..., : shape[-1]]


def is_power_of_two(scale: Tensor) -> Tensor:
    """Elementwise, whether a float is a finite positive power of two (what `ue8m0` promises)."""
    mantissa, _ = torch.frexp(scale)
    return (mantissa == 0.5) & scale.isfinite()


def _block_amax(wide: Tensor, block: tuple[int, int]) -> Tensor:
    """Largest magnitude of every block; NaN stays NaN."""
    down, right = -wide.shape[-2] % block[0], -wide.shape[-1] % block[1]
    padded = torch.nn.functional.pad(wide, (0, right, 0, down)) if down or right else wide
    return padded.unflatten(-1, (-1, block[1])).unflatten(-3, (-1, block[0])).abs().amax(dim=(-1, -3))


def _next_power_of_two(scale: Tensor) -> Tensor:
    """Smallest power of two that is not below a positive number, without rounding of a logarithm."""
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).to(exponent.dtype))
