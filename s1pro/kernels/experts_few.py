"""The experts on a CPU for a decoding step: few rows per expert, no gradient. The steps are those of `kernels.experts`.

Such a product is bound by reading the weight once. With one thread all products of a kind are one call, which loops
over the experts inside the library (`grouped_mm`). On an Intel Sapphire Rapids, six layers of 64 experts of
256 x 128, eight for each token, out of the cache, milliseconds:

| tokens | 2 | 4 | 8 | 16 | 32 | 64 |
|---|---|---|---|---|---|---|
| float32, calls for two experts each, from here | 5.3 | 8.5 | 13.5 | 18.0 | 22.8 | 29.3 |
| float32, `grouped_mm` | 4.9 | 7.1 | 10.8 | 14.3 | 17.9 | 23.0 |
| bfloat16, calls for two experts each, from here | 17.5 | | 36.0 | | 68.9 | |
| bfloat16, `grouped_mm` | 8.2 | | 19.2 | | 31.4 | |

With several threads a call per expert uses them badly, so two experts with as many rows are one call, a batch of two
products: their weights lie at *some* distance, which makes them one strided tensor without a copy. Whether
`x @ weight^T` or `weight @ x^T` is asked for decides how fast the library reads (`kernels.processor`); on processors
that prefer the latter a single row goes the way of `kernels.linear`. Where most experts have rows, one call for all of
them is faster still (`kernels.experts_padded`). The cost of the others depends on the experts in use, not on how many
there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm, silu

from s1pro.kernels import experts_padded
from s1pro.kernels.expert_rows import ExpertRows
from s1pro.kernels.linear import row_times_weight
from s1pro.kernels.processor import prefers_weight_first

FEW_ROWS = 512
"""Up to so many rows in all."""


def is_supported(x_TD: Tensor, topk_ids_TK: Tensor) -> bool:
    """Whether the rows are few enough for this way of computing."""
    return x_TD.device.type == "cpu" and 0 < topk_ids_TK.numel() <= FEW_ROWS


def forward(x_TD: Tensor, topk_ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The combined output `[T, D]`."""
    num_experts = gate_up_EFD.shape[0]
    if _is_grouped(x_TD, down_EDF):
        return _grouped(x_TD, topk_ids_TK, weights_TK, gate_up_EFD, down_EDF)
    if x_TD.shape[0] == 1:
        return _one_token(x_TD, topk_ids_TK[0].tolist(), weights_TK[0], gate_up_EFD, down_EDF)
    ids_R = topk_ids_TK.reshape(-1).tolist()
    _check_range(min(ids_R), max(ids_R), num_experts)
    if not prefers_weight_first():
        plan = experts_padded.plan(ids_R, num_experts)
        if plan is not None:
            return experts_padded.forward(x_TD, weights_TK, gate_up_EFD, down_EDF, plan)
    order_R, experts, sizes = _sorted_by_expert(ids_R)
    tokens_R = order_R.div(topk_ids_TK.shape[1], rounding_mode="floor")
    x_RD = x_TD.index_select(0, tokens_R)
    gate_RF, up_RF = _products(x_RD, gate_up_EFD, experts, sizes).chunk(2, dim=1)
    h_RF = silu(gate_RF).mul_(up_RF).mul_(weights_TK.reshape(-1)[order_R, None])
    y_RD = _products(h_RF.contiguous(), down_EDF, experts, sizes)
    return _added(y_RD, tokens_R, x_TD)


def _is_grouped(x_TD: Tensor, down_EDF: Tensor) -> bool:
    """One thread, and what `grouped_mm` can do. Single rows in float32 are matrix-vector products."""
    if torch.get_num_threads() > 1 or prefers_weight_first():
        return False
    single = torch.bfloat16 if x_TD.shape[0] == 1 else torch.float32
    aligned = all(size * x_TD.element_size() % 16 == 0 for size in down_EDF.shape[1:])
    return x_TD.dtype in (single, torch.bfloat16) and aligned


def _grouped(x_TD: Tensor, topk_ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    rows = ExpertRows.from_ids(topk_ids_TK, num_experts=gate_up_EFD.shape[0])
    assert rows.sorted_ids_R is not None and rows.tokens_R is not None and rows.order_R is not None
    _check_range(int(rows.sorted_ids_R[0]), int(rows.sorted_ids_R[-1]), rows.num_experts)
    act_RG = grouped_mm(x_TD.index_select(0, rows.tokens_R), gate_up_EFD.mT, offs=rows.ends_E)
    gate_RF, up_RF = act_RG.chunk(2, dim=1)
    h_RF = silu(gate_RF).mul_(up_RF).mul_(weights_TK.reshape(-1).index_select(0, rows.order_R)[:, None])
    y_RD = grouped_mm(h_RF, down_EDF.mT, offs=rows.ends_E)
    return _added(y_RD, rows.tokens_R, x_TD)


def _added(y_RD: Tensor, tokens_R: Tensor, x_TD: Tensor) -> Tensor:
    """The rows of each token, added up in float32 at least."""
    total = torch.zeros(x_TD.shape, dtype=torch.promote_types(x_TD.dtype, torch.float32))
    return total.index_add_(0, tokens_R, y_RD.to(total.dtype)).to(x_TD.dtype)


def _sorted_by_expert(ids: Sequence[int]) -> tuple[Tensor, list[int], list[int]]:
    """Order of the flat `[T * K]` ids, experts in use and rows of each; experts with as many rows are neighbours."""
    by_expert = groupby(sorted(range(len(ids)), key=ids.__getitem__), key=ids.__getitem__)
    runs = [(expert, list(rows)) for expert, rows in by_expert]
    runs.sort(key=lambda run: len(run[1]))  # stable: ids still ascend among equals
    order = [row for _, rows in runs for row in rows]
    return torch.tensor(order), [expert for expert, _ in runs], [len(rows) for _, rows in runs]


def _products(x_RD: Tensor, weight_END: Tensor, experts: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Every row times the weight of its expert, `[R, N]`; two experts with as many rows at a time."""
    products: list[Tensor] = []
    weight_first = prefers_weight_first()
    pair, first, row = _pairs(weight_END), 0, 0
    while first < len(experts):
        size = sizes[first]
        if first + 1 < len(experts) and sizes[first + 1] == size:
            x_2ND = x_RD[row : row + 2 * size].view(2, size, -1)
            weight_2ND = pair(experts[first], experts[first + 1])
            if weight_first:
                products.extend(torch.bmm(weight_2ND, x_2ND.transpose(1, 2)).unbind())
            else:
                products.append(torch.bmm(x_2ND, weight_2ND.transpose(1, 2)).flatten(0, 1))
            first, row = first + 2, row + 2 * size
        else:
            products.append(_product(x_RD[row : row + size], weight_END[experts[first]], weight_first))
            first, row = first + 1, row + size
    return torch.cat(products, dim=1).t() if weight_first else torch.cat(products)


def _product(x_ND: Tensor, weight_GD: Tensor, weight_first: bool) -> Tensor:
    """One expert: `[N, G]`, or its transpose if the weight comes first."""
    if not weight_first:
        return torch.mm(x_ND, weight_GD.t())
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


def _one_token(x_1D: Tensor, ids: list[int], weights_K: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The same for a single token: all products are of one row."""
    if x_1D.dtype == torch.float32 == weights_K.dtype and not prefers_weight_first():
        return one_float32_token(x_1D, ids, weights_K, gate_up_EFD, down_EDF)
    ordered = sorted(ids)
    if ids != ordered:
        weights_K = weights_K[torch.tensor(sorted(range(len(ids)), key=ids.__getitem__))]
    _check_range(ordered[0], ordered[-1], gate_up_EFD.shape[0])
    gate_KF, up_KF = _row_products(x_1D, gate_up_EFD, ordered).chunk(2, dim=1)
    h_KF = silu(gate_KF).mul_(up_KF).mul_(weights_K[:, None])
    return _row_products(h_KF, down_EDF, ordered).sum(dim=0, keepdim=True)


def one_float32_token(
    x_1D: Tensor,
    ids: list[int],
    weights_K: Tensor,
    gate_up_EFD: Tensor | Sequence[Tensor],
    down_EDF: Tensor | Sequence[Tensor],
) -> Tensor:
    """Matrix-vector products into their place; the last ones add up what the experts give.

    Args:
        gate_up_EFD, down_EDF: stacked, or a matrix per expert, which spares a call to select each.
    """
    _check_range(min(ids), max(ids), len(gate_up_EFD))
    act_KG, x_D = x_1D.new_empty(len(ids), gate_up_EFD[0].shape[0]), x_1D[0]
    for expert, act_G in zip(ids, act_KG.unbind(), strict=True):
        torch.mv(gate_up_EFD[expert], x_D, out=act_G)
    gate_KF, up_KF = act_KG.tensor_split(2, dim=1)
    h_KF = silu(gate_KF).mul_(up_KF).mul_(weights_K[:, None]).unbind()
    y_D = torch.mv(down_EDF[ids[0]], h_KF[0])
    for expert, h_F in zip(ids[1:], h_KF[1:], strict=True):
        y_D.addmv_(down_EDF[expert], h_F)
    return y_D[None]


def _row_products(x_KD: Tensor, weight_END: Tensor, ids: Sequence[int]) -> Tensor:
    """Row k, or the only row, times the weight of expert `ids[k]`; ids ascending: `[K, N]`."""
    rows, size = weight_END.shape[1:]
    x_KD = x_KD.expand(len(ids), size)
    weight_first = prefers_weight_first()
    if len(ids) % 2:
        singles = zip(x_KD.unbind(), ids, strict=True)
        products = [_product(x[None], weight_END[e], weight_first) for x, e in singles]
        return torch.cat([product.t() for product in products] if weight_first else products)
    pair, x_P21D = _pairs(weight_END), x_KD.view(-1, 2, 1, size)
    if weight_first:
        triples = zip(ids[::2], ids[1::2], x_P21D.transpose(2, 3).unbind(), strict=True)
        products = [torch.bmm(pair(first, second), x_2D1) for first, second, x_2D1 in triples]
        return torch.cat(products).view(len(ids), rows)
    y_KN = x_KD.new_empty(len(ids), rows)
    places = zip(ids[::2], ids[1::2], x_P21D.unbind(), y_KN.view(-1, 2, 1, rows).unbind(), strict=True)
    pair = _pairs(weight_END.transpose(1, 2))
    for first, second, x_21D, y_21N in places:
        torch.bmm(x_21D, pair(first, second), out=y_21N)
    return y_KN


def _check_range(smallest: int, largest: int, num_experts: int) -> None:
    if smallest < 0 or largest >= num_experts:
        raise ValueError(f"expert ids must lie in [0, {num_experts}), got {smallest} to {largest}")
