"""The experts on a CPU for a decoding step: few rows per expert, no gradient. The steps are those of `kernels.experts`.

Such a product is bound by reading the weight once, and the ways through the library differ in how well they do that.
With weights out of the cache, `weight @ x^T` for two or more columns took 10 us where `x @ weight^T` took 20 us and a
matrix-vector product 19 us (256 x 256, float32, two AMD Genoa cores). So everything is computed transposed, rows as
columns, and the only row of an expert is computed twice, the second time with weight zero; a single token goes the way
of `kernels.linear`. Weights are never copied: the cost depends on the experts in use, not on how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import silu

from s1pro.kernels.linear import parts_of

FEW_ROWS = 1024
"""Up to so many rows in all."""


def is_supported(x_TD: Tensor, topk_ids_TK: Tensor) -> bool:
    """Whether the rows are few enough for this way of computing."""
    return x_TD.device.type == "cpu" and 0 < topk_ids_TK.numel() <= FEW_ROWS


def forward(x_TD: Tensor, topk_ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The combined output `[T, D]`."""
    if x_TD.shape[0] == 1:
        return _one_token(x_TD, topk_ids_TK, weights_TK, gate_up_EFD, down_EDF)
    columns = _Columns.from_ids(topk_ids_TK, num_experts=gate_up_EFD.shape[0])
    tokens_R = columns.rows_R.div(topk_ids_TK.shape[1], rounding_mode="floor")
    weights_R = weights_TK.reshape(-1)[columns.rows_R] * columns.counts_R
    gate_FR, up_FR = columns.products(x_TD.index_select(0, tokens_R), gate_up_EFD).chunk(2)
    h_FR = silu(gate_FR).mul_(up_FR).mul_(weights_R)
    y_DR = columns.products(h_FR.t().contiguous(), down_EDF)
    total = torch.zeros(x_TD.shape, dtype=torch.promote_types(x_TD.dtype, torch.float32))
    return total.index_add_(0, tokens_R, y_DR.t().to(total.dtype)).to(x_TD.dtype)


def _one_token(x_1D: Tensor, ids_1K: Tensor, weights_1K: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The same for a single token: no sorting, and every weight is cut into parts as in `kernels.linear`."""
    ids = ids_1K[0].tolist()
    _check_range(min(ids), max(ids), gate_up_EFD.shape[0])
    width = down_EDF.shape[2]
    act_KG = _column_products(gate_up_EFD, ids, [x_1D.t()] * len(ids))
    h_KF = silu(act_KG[:, :width]).mul_(act_KG[:, width:]).mul_(weights_1K.view(-1, 1))
    y_KD = _column_products(down_EDF, ids, h_KF.view(-1, 1, width).transpose(1, 2).unbind())
    return y_KD.sum(dim=0, keepdim=True)


def _column_products(weight_END: Tensor, ids: Sequence[int], columns: Sequence[Tensor]) -> Tensor:
    """`weight_e @ column` for each expert and its column `[D, 1]`: `[K, N]`."""
    rows, size = weight_END.shape[1:]
    parts = parts_of(rows)
    weight = weight_END.view(-1, rows // parts, size)
    pairs = zip(ids, columns, strict=True)
    products = [torch.bmm(weight[e * parts : (e + 1) * parts], x.expand(parts, size, 1)) for e, x in pairs]
    return torch.stack(products).view(len(ids), rows)


def _check_range(smallest: int, largest: int, num_experts: int) -> None:
    if smallest < 0 or largest >= num_experts:
        raise ValueError(f"expert ids must lie in [0, {num_experts}), got {smallest} to {largest}")


@dataclass(frozen=True)
class _Columns:
    """What to compute, sorted by expert, at least two columns each.

    Attributes:
        experts, sizes: in use, and their columns.
        rows_R: index of each column in the flat `[T * K]` ids.
        counts_R: 1, or 0 for a column that only keeps another one company.
    """

    experts: Sequence[int]
    sizes: Sequence[int]
    rows_R: Tensor
    counts_R: Tensor

    @classmethod
    def from_ids(cls, topk_ids_TK: Tensor, num_experts: int) -> _Columns:
        ids = topk_ids_TK.reshape(-1).tolist()
        experts, sizes, rows, counts = [], [], [], []
        for expert, run in groupby(sorted(range(len(ids)), key=ids.__getitem__), key=ids.__getitem__):
            mine = list(run)
            counts += [1.0] * len(mine)
            if len(mine) == 1:
                mine *= 2
                counts.append(0.0)
            experts.append(expert)
            sizes.append(len(mine))
            rows += mine
        _check_range(experts[0], experts[-1], num_experts)
        return cls(experts, sizes, torch.tensor(rows), torch.tensor(counts))

    def products(self, x_RD: Tensor, weight_EGD: Tensor) -> Tensor:
        """`weight_e @ x_r` for every column at its expert, `[G, R]`."""
        parts = zip(self.experts, x_RD.split(self.sizes), strict=True)
        return torch.cat([torch.mm(weight_EGD[expert], x_ND.t()) for expert, x_ND in parts], dim=1)
