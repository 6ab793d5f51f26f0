"""The experts on a CPU for a decoding step: few rows per expert, no gradient. The steps are those of `kernels.experts`.

Such a product is bound by reading the weight once, and the ways through the library differ in how well they do that.
With weights out of the cache, `weight @ x^T` for two or more columns took 10 us where `x @ weight^T` took 20 us and a
matrix-vector product 19 us (256 x 256, float32, two AMD Genoa cores). So everything is computed transposed, rows as
columns, and a single row goes the way of `kernels.linear`. Weights are never copied: the cost depends on the experts in
use, not on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import silu

from s1pro.kernels.linear import row_times_weight

FEW_ROWS = 512
"""Up to so many rows in all."""


def is_supported(x_TD: Tensor, topk_ids_TK: Tensor) -> bool:
    """Whether the rows are few enough for this way of computing."""
    return x_TD.device.type == "cpu" and 0 < topk_ids_TK.numel() <= FEW_ROWS


def forward(x_TD: Tensor, topk_ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The combined output `[T, D]`."""
    if x_TD.shape[0] == 1:
        return _one_token(x_TD, topk_ids_TK, weights_TK, gate_up_EFD, down_EDF)
    order_R, experts, sizes = _sorted_by_expert(topk_ids_TK)
    _check_range(min(experts), max(experts), gate_up_EFD.shape[0])
    tokens_R = order_R.div(topk_ids_TK.shape[1], rounding_mode="floor")
    x_RD = x_TD.index_select(0, tokens_R)
    gate_FR, up_FR = _products(x_RD, gate_up_EFD, experts, sizes).chunk(2)
    h_FR = silu(gate_FR).mul_(up_FR).mul_(weights_TK.reshape(-1)[order_R])
    y_DR = _products(h_FR.t().contiguous(), down_EDF, experts, sizes)
    total = torch.zeros(x_TD.shape, dtype=torch.promote_types(x_TD.dtype, torch.float32))
    return total.index_add_(0, tokens_R, y_DR.t().to(total.dtype)).to(x_TD.dtype)


def _sorted_by_expert(topk_ids_TK: Tensor) -> tuple[Tensor, list[int], list[int]]:
    """Order of the flat `[T * K]` ids, experts in use and rows of each; experts with as many rows are neighbours."""
    ids = topk_ids_TK.reshape(-1).tolist()
    by_expert = groupby(sorted(range(len(ids)), key=ids.__getitem__), key=ids.__getitem__)
    runs = [(expert, list(rows)) for expert, rows in by_expert]
    runs.sort(key=lambda run: len(run[1]))  # stable: ids still ascend among equals
    order = [row for _, rows in runs for row in rows]
    return torch.tensor(order), [expert for expert, _ in runs], [len(rows) for _, rows in runs]


def _products(x_RD: Tensor, weight_END: Tensor, experts: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """`weight_e @ x_r` for every row at its expert, as columns `[N, R]`; two experts with as many rows at a time."""
    products: list[Tensor] = []
    pair, first, row = _pairs(weight_END), 0, 0
    while first < len(experts):
        size = sizes[first]
        if first + 1 < len(experts) and sizes[first + 1] == size:
            x_2ND = x_RD[row : row + 2 * size].view(2, size, -1)
            weight_2ND = pair(experts[first], experts[first + 1])
            products.extend(torch.bmm(weight_2ND, x_2ND.transpose(1, 2)).unbind())
            first, row = first + 2, row + 2 * size
        else:
            products.append(_product(x_RD[row : row + size], weight_END[experts[first]]))
            first, row = first + 1, row + size
    return torch.cat(products, dim=1)


def _product(x_ND: Tensor, weight_GD: Tensor) -> Tensor:
    if x_ND.shape[0] == 1 and weight_GD.is_contiguous():
        return row_times_weight(x_ND, weight_GD).t()
    return torch.mm(weight_GD, x_ND.t())


def _pairs(weight_END: Tensor) -> Callable[[int, int], Tensor]:
    """Gives the weights of two experts as one strided batch, without a copy: any two lie at *some* distance."""
    expert, row, column = weight_END.stride()
    shape, offset = (2, *weight_END.shape[1:]), weight_END.storage_offset()

    def pair(first: int, second: int) -> Tensor:
        return weight_END.as_strided(shape, ((second - first) * expert, row, column), offset + first * expert)

    return pair


def _one_token(x_1D: Tensor, ids_1K: Tensor, weights_1K: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The same for a single token: all products are of one row."""
    ids, weights_K = ids_1K[0].tolist(), weights_1K[0]
    ordered = sorted(ids)
    if ids != ordered:
        weights_K = weights_K[torch.tensor(sorted(range(len(ids)), key=ids.__getitem__))]
    _check_range(ordered[0], ordered[-1], gate_up_EFD.shape[0])
    width = down_EDF.shape[2]
    act_KG = _row_products(x_1D, gate_up_EFD, ordered)
    h_KF = silu(act_KG[:, :width]).mul_(act_KG[:, width:]).mul_(weights_K[:, None])
    return _row_products(h_KF, down_EDF, ordered).sum(dim=0, keepdim=True)


def _row_products(x_KD: Tensor, weight_END: Tensor, ids: Sequence[int]) -> Tensor:
    """Row k, or the only row, times the weight of expert `ids[k]`; ids ascending: `[K, N]`."""
    rows, size = weight_END.shape[1:]
    x_KD = x_KD.expand(len(ids), size)
    if len(ids) % 2:
        return torch.cat([_product(x[None], weight_END[e]).t() for x, e in zip(x_KD.unbind(), ids, strict=True)])
    columns = x_KD.view(-1, 2, 1, size).transpose(2, 3).unbind()
    pair, triples = _pairs(weight_END), zip(ids[::2], ids[1::2], columns, strict=True)
    products = [torch.bmm(pair(first, second), column_2D1) for first, second, column_2D1 in triples]
    return torch.cat(products).view(len(ids), rows)


def _check_range(smallest: int, largest: int, num_experts: int) -> None:
    if smallest < 0 or largest >= num_experts:
        raise ValueError(f"expert ids must lie in [0, {num_experts}), got {smallest} to {largest}")
