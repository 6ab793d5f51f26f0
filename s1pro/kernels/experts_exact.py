"""The experts in exact mode (`kernels.exact`): an engine of `kernels.experts` whose forward pass has fixed shapes.

The rows of every expert start a new tile, so each row is computed in a call of `TILE_ROWS` rows whatever else the
expert has to do; a token adds the results of its experts one after the other, in the order of the router. The backward
pass is that of the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from s1pro.kernels import experts_loop
from s1pro.kernels.exact import TILE_ROWS, exact_silu
from s1pro.kernels.expert_rows import ExpertRows, Run

backward = experts_loop.backward


def forward(
    x: Tensor, weights_R: Tensor | None, gate_up_EFD: Tensor, down_EDF: Tensor, rows: ExpertRows, *, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """As `experts_loop.forward`."""
    experts, places = _tiles(rows.runs)
    place_R = torch.tensor(places, dtype=torch.int64, device=x.device)
    row_Q = torch.zeros(len(experts) * TILE_ROWS, dtype=torch.int64, device=x.device)  # places beyond repeat a row
    row_Q.index_copy_(0, place_R, torch.arange(rows.num_rows, device=x.device))
    x_QD = x.index_select(0, row_Q if rows.tokens_R is None else rows.tokens_R.index_select(0, row_Q))
    act_QG = _products(x_QD, gate_up_EFD, experts)
    y_QD = _down(act_QG, None if weights_R is None else weights_R.index_select(0, row_Q), down_EDF, experts)
    if rows.order_R is None:
        y = y_QD.index_select(0, place_R)
    else:
        y = _sum(y_QD, torch.empty_like(place_R).index_copy_(0, rows.order_R, place_R), rows.top_k, x.dtype)
    return y, act_QG.index_select(0, place_R) if keep else None


def forward_few(x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The same numbers for a decoding step: rows are sorted in Python, with a third of the calls."""
    top_k, ids = ids_TK.shape[1], ids_TK.reshape(-1).tolist()
    if min(ids) < 0 or max(ids) >= gate_up_EFD.shape[0]:
        raise ValueError(f"expert ids must lie in [0, {gate_up_EFD.shape[0]}), got {min(ids)} to {max(ids)}")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    runs, start = [], 0
    for expert, members in groupby(order, key=ids.__getitem__):
        stop = start + len(list(members))
        runs.append((expert, start, stop))
        start = stop
    experts, places = _tiles(runs)
    flat_of_place, place_of_flat = [0] * (len(experts) * TILE_ROWS), [0] * len(ids)
    for flat, place in zip(order, places, strict=True):
        flat_of_place[place], place_of_flat[flat] = flat, place
    flat_Q = torch.tensor(flat_of_place, device=x_TD.device)
    x_QD = x_TD.index_select(0, flat_Q // top_k)
    act_QG = _products(x_QD, gate_up_EFD, experts)
    y_QD = _down(act_QG, weights_TK.reshape(-1).index_select(0, flat_Q), down_EDF, experts)
    return _sum(y_QD, torch.tensor(place_of_flat, device=x_TD.device), top_k, x_TD.dtype)


def _tiles(runs: Sequence[Run]) -> tuple[list[int], list[int]]:
    """Expert of every tile, and place of every row among the tiles."""
    experts: list[int] = []
    places: list[int] = []
    for expert, start, stop in runs:
        first = len(experts) * TILE_ROWS
        places.extend(range(first, first + stop - start))
        experts.extend([expert] * -(-(stop - start) // TILE_ROWS))
    return experts, places


def _down(act_QG: Tensor, weights_Q: Tensor | None, down_EDF: Tensor, experts: list[int]) -> Tensor:
    gate_QF, up_QF = act_QG.chunk(2, dim=1)
    h_QF = exact_silu(gate_QF).mul_(up_QF)
    if weights_Q is not None:
        h_QF.mul_(weights_Q[:, None])
    return _products(h_QF, down_EDF, experts)


def _products(x_QD: Tensor, weight_END: Tensor, experts: list[int]) -> Tensor:
    y_QN = x_QD.new_empty(x_QD.shape[0], weight_END.shape[1])
    if not experts:
        return y_QN
    weight_EDN = weight_END.transpose(1, 2)
    if len(experts) < weight_EDN.shape[0]:
        weights = [weight_EDN[expert] for expert in experts]
    else:
        every = weight_EDN.unbind()
        weights = [every[expert] for expert in experts]
    for tile, weight_DN, out in zip(x_QD.split(TILE_ROWS), weights, y_QN.split(TILE_ROWS), strict=True):
        torch.mm(tile, weight_DN, out=out)
    return y_QN


def _sum(y_QD: Tensor, place_of_flat_R: Tensor, top_k: int, dtype: torch.dtype) -> Tensor:
    """Adds to every token its experts, in the order of the router."""
    y_TKD = y_QD.index_select(0, place_of_flat_R).view(-1, top_k, y_QD.shape[1])
    first, *others = y_TKD.unbind(1)
    total_TD = first.to(torch.promote_types(dtype, torch.float32), copy=True)
    for y_TD in others:
        total_TD += y_TD
    return total_TD.to(dtype)
