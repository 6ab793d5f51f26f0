"""RMSNorm: `x / sqrt(mean(x^2) + eps)` in float32, cast to the dtype of x, *then* times the weight (order as released).

Written as autograd operations the norm makes eight tensors of the size of x, forwards and backwards, and on a CPU the
fresh memory costs more than the arithmetic. `rms_norm` keeps only x and one number per row, r = 1 / rms, and
works in place. With g the incoming gradient, h = g * weight and the sum over the last dim of size D:

    dx      = r h - x r^3 sum(h x) / D
    dweight = sum over rows of g x r

Below float32 the backward pass skips the roundings in between and rounds once, at the end.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalises the last dim of x; `weight` has the size of that dim. float64 stays float64.

    Raises:
        ValueError: a weight of another size.
    """
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit the last dim of x {tuple(x.shape)}")
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _RMSNorm.apply(x, weight, eps)
    if x.device.type == "cuda" and x.dtype is not torch.float64:
        return fused_rms_norm(x, weight, eps)
    if x.dtype is torch.float32 is weight.dtype and type(x) is Tensor and not torch.compiler.is_compiling():
        return unit_rms(x, eps).mul_(weight)
    return _normalise(x, weight, eps)[0]


def fused_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Without gradient on a GPU: two kernels instead of six. torch's own weight would be multiplied before the cast."""
    return torch.nn.functional.rms_norm(x, weight.shape, None, eps) * weight


def unit_rms(x: Tensor, eps: float) -> Tensor:
    """The norm without its weight, for float32 without gradient: what a decoding step calls, with the bits of the
    general way but a third of its Python."""
    norm = torch.linalg.vector_norm(x, 2, -1, True)
    return x * torch.addcmul(_constant(eps, torch.float32, x.device), norm, norm, value=1 / x.shape[-1]).rsqrt_()


class UnitRMS:
    """`unit_rms` of rows of one size on a CPU, with its constants at hand."""

    def __init__(self, size: int, eps: float) -> None:
        self._eps = _constant(eps, torch.float32, torch.device("cpu"))
        self._share = 1 / size

    def __call__(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, 2, -1, True)
        return x * torch.addcmul(self._eps, norm, norm, value=self._share).rsqrt_()


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The definition, in plain operations."""
    wide = x.to(_wide_dtype(x))
    scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return weight * (wide * scale).to(x.dtype)


def _wide_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32


def _normalise(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The result and r."""
    dtype = _wide_dtype(x)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
    scale = _mean_plus(eps, norm, x.shape[-1]).rsqrt_()
    normal = x * scale
    if normal.dtype != x.dtype:
        normal = normal.to(x.dtype)
    if weight.dtype == normal.dtype:
        return normal.mul_(weight), scale
    return normal * weight, scale


def _mean_plus(eps: float, norm: Tensor, size: int) -> Tensor:
    """`norm^2 / size + eps`. Plain numbers as operands would cost more than all arithmetic of a decoding step."""
    if type(norm) is not Tensor or torch.compiler.is_compiling():
        return norm.square_().div_(size).add_(eps)
    return torch.addcmul(_constant(eps, norm.dtype, norm.device), norm, norm, value=1 / size)


@cache
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor(value, dtype=dtype, device=device)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y, scale = _normalise(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        size = x.shape[-1]
        grad, wide = grad.to(scale.dtype), x.to(scale.dtype)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = grad * weight
            pull = torch.linalg.vecdot(grad_x, wide).unsqueeze(-1) * scale.pow(3) / size
            grad_x = grad_x.mul_(scale).addcmul_(wide, pull, value=-1).to(x.dtype)
        if ctx.needs_input_grad[1]:
            products = (grad * wide).reshape(-1, size)
            grad_weight = torch.mv(products.t(), scale.reshape(-1)).to(weight.dtype)
        return grad_x, grad_weight, None
