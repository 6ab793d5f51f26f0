"""`x @ weight^T + bias`, with a way of its own for a single row on an AMD processor (see `kernels.processor`).

At batch 1 a decoding step is bound by reading weights once, and there a matrix-vector product of the BLAS reads them
badly: one core, few loads in flight. Cutting the rows of the weight into a small batch of products, one per thread and
at least two, takes another path through the same library. Weights out of the cache, float32, two AMD Genoa cores:

| rows x columns | matrix-vector | batch of two |
|---|---|---|
| 256 x 256 | 21 us | 10 us |
| 4096 x 256 | 270 us | 64 us |

The orders of sums differ, the results by rounding.

`wide_product` is for what the precision policy wants in float32 whatever the dtype of the network. Products of two
bfloat16 numbers are exact in float32, so a GPU can read a bfloat16 weight as it is and only sum in float32. Making a
float32 copy first moves five times as many bytes, for a head of 151,936 x 2048 in every step.
"""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor

from s1pro.kernels.processor import prefers_weight_first

SMALLEST = 128 * 256
"""Weights with fewer numbers are faster the ordinary way."""


def linear(x: Tensor, weight_ND: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`: `[..., D]` to `[..., N]`."""
    if x.shape[0] == 1 and x.dim() == 2 and prefers_weight_first() and _is_supported(x, weight_ND):
        return row_times_weight(x, weight_ND, bias_N)
    return torch.nn.functional.linear(x, weight_ND, bias_N)


def wide_product(x_TD: Tensor, weight_ND: Tensor) -> Tensor | None:
    """`x @ weight^T` of bfloat16, `[T, N]` in float32, on a GPU and without gradient; None elsewhere."""
    same = x_TD.dtype == weight_ND.dtype == torch.bfloat16
    if not same or x_TD.device.type != "cuda" or torch.is_grad_enabled():
        return None
    return torch.mm(x_TD, weight_ND.t(), out_dtype=torch.float32)


def row_times_weight(x_1D: Tensor, weight_ND: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """`[1, D]` to `[1, N]` as a batch of products; no gradient."""
    rows, columns = weight_ND.shape
    parts = parts_of(rows)
    y_1N = torch.bmm(weight_ND.view(parts, rows // parts, columns), x_1D.t().expand(parts, columns, 1)).view(1, rows)
    return y_1N if bias_N is None else y_1N + bias_N


def parts_of(rows: int) -> int:
    """How many equal parts a weight with so many rows is cut into."""
    return gcd(rows, max(2, torch.get_num_threads()))


def _is_supported(x: Tensor, weight: Tensor) -> bool:
    return (
        weight.numel() >= SMALLEST
        and not torch.is_grad_enabled()
        and weight.dtype == torch.float32 == x.dtype
        and weight.device.type == "cpu"
        and type(weight) in (Tensor, torch.nn.Parameter)
        and weight.is_contiguous()
        and not torch.compiler.is_compiling()
    )
