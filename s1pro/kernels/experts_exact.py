"""The experts in exact mode (`kernels.exact`): an engine of `kernels.experts` whose forward pass has fixed shapes.

The rows of every expert start a new tile, so each row is computed in a call of `TILE_ROWS` rows whatever else the
expert has to do; a token adds the results of its experts one after the other, in the order of the router. The backward
pass is that of the loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s1pro.kernels import experts_loop
from s1pro.kernels.exact import TILE_ROWS, exact_silu
from s1pro.kernels.expert_rows import ExpertRows

backward = experts_loop.backward


def forward(
    x: Tensor, weights_R: Tensor | None, gate_up_EFD: Tensor, down_EDF: Tensor, rows: ExpertRows, *, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """As `experts_loop.forward`."""
    experts, places = _tiles(rows)
    place_R = torch.tensor(places, dtype=torch.int64, device=x.device)
    x_PD = x.new_zeros(len(experts) * TILE_ROWS, x.shape[1])
    x_PD[place_R] = x if rows.tokens_R is None else x.index_select(0, rows.tokens_R)
    act_PG = _products(x_PD, gate_up_EFD, experts)
    gate_PF, up_PF = act_PG.chunk(2, dim=1)
    h_PF = exact_silu(gate_PF) * up_PF
    if weights_R is not None:
        weights_P = weights_R.new_zeros(h_PF.shape[0])
        weights_P[place_R] = weights_R
        h_PF.mul_(weights_P[:, None])
    y_PD = _products(h_PF, down_EDF, experts)
    return _combine(y_PD, place_R, rows, x.dtype), act_PG.index_select(0, place_R) if keep else None


def _tiles(rows: ExpertRows) -> tuple[list[int], list[int]]:
    """Expert of every tile, and place of every row among the tiles."""
    experts: list[int] = []
    places: list[int] = []
    for expert, start, stop in rows.runs:
        first = len(experts) * TILE_ROWS
        places.extend(range(first, first + stop - start))
        experts.extend([expert] * -(-(stop - start) // TILE_ROWS))
    return experts, places


def _products(x_PD: Tensor, weight_END: Tensor, experts: list[int]) -> Tensor:
    y_PN = x_PD.new_empty(x_PD.shape[0], weight_END.shape[1])
    if experts:
        weights = weight_END.transpose(1, 2).unbind()
        for tile, expert, out in zip(x_PD.split(TILE_ROWS), experts, y_PN.split(TILE_ROWS), strict=True):
            torch.mm(tile, weights[expert], out=out)
    return y_PN


def _combine(y_PD: Tensor, place_R: Tensor, rows: ExpertRows, dtype: torch.dtype) -> Tensor:
    if rows.tokens_R is None:
        return y_PD.index_select(0, place_R)
    assert rows.order_R is not None
    place_of_flat_R = torch.empty_like(place_R)
    place_of_flat_R[rows.order_R] = place_R
    y_TKD = y_PD.index_select(0, place_of_flat_R).view(-1, rows.top_k, y_PD.shape[1])
    first, *others = y_TKD.unbind(1)
    total_TD = first.to(torch.promote_types(dtype, torch.float32), copy=True)
    for y_TD in others:
        total_TD += y_TD
    return total_TD.to(dtype)
