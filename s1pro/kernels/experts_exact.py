"""The experts in exact mode (`kernels.exact`): an engine of `kernels.experts` whose products have the bits of tiles.

Rows are sorted by expert, and every expert multiplies its run in calls of its own. The last call of a run may reach
beyond it, into rows of the next expert: what it writes there is overwritten by that one, and what it reads there does
not matter to its own rows. Behind the last run lie spare rows. A token adds the results of its experts one after the
other, in the order of the router. The backward pass is that of the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from s1pro.kernels import experts_loop
from s1pro.kernels.exact import exact_silu, multiply
from s1pro.kernels.exact_calls import TILE_ROWS, calls_of, pieces_of, smallest_call
from s1pro.kernels.expert_rows import ExpertRows, Run

SPARE = TILE_ROWS - 1

backward = experts_loop.backward

Weights: TypeAlias = Tensor | Sequence[Tensor]
"""Matrices of all experts: stacked, or one by one, which spares a call to select each."""


def forward(
    x: Tensor, weights_R: Tensor | None, gate_up_EFD: Tensor, down_EDF: Tensor, rows: ExpertRows, *, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """As `experts_loop.forward`."""
    if rows.num_rows == 0:
        return torch.zeros_like(x), x.new_empty(0, gate_up_EFD.shape[1]) if keep else None
    if rows.tokens_R is None:
        x_SD = pad(x, (0, 0, 0, SPARE))
    else:
        x_SD = x.index_select(0, pad(rows.tokens_R, (0, SPARE)))
    y_SD, act_SG = _run(x_SD, weights_R, gate_up_EFD, down_EDF, rows.runs)
    return combine(y_SD[: rows.num_rows], rows), act_SG[: rows.num_rows] if keep else None


def products(x_RD: Tensor, weight_END: Tensor, runs: Sequence[Run]) -> Tensor:
    """Every row times the weight of its expert, `[R, N]`; rows are sorted by expert."""
    return _products(pad(x_RD, (0, 0, 0, SPARE)), weight_END, runs)[: x_RD.shape[0]]


def combine(y_RD: Tensor, rows: ExpertRows) -> Tensor:
    """Adds to every token its experts, in the order of the router; rows that are tokens stay as they are."""
    if rows.order_R is None:
        return y_RD
    places_R = torch.arange(rows.num_rows, device=y_RD.device)
    return _sum(y_RD, torch.empty_like(places_R).index_copy_(0, rows.order_R, places_R), rows.top_k, y_RD.dtype)


def forward_few(x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Weights, down_EDF: Weights) -> Tensor:
    """The same numbers for a decoding step: rows are sorted in Python, with a third of the calls.

    For a single token x may have more rows that repeat it, as many as a call has.
    """
    top_k, ids = ids_TK.shape[1], ids_TK.reshape(-1).tolist()
    if min(ids) < 0 or max(ids) >= len(gate_up_EFD):
        raise ValueError(f"expert ids must lie in [0, {len(gate_up_EFD)}), got {min(ids)} to {max(ids)}")
    if ids_TK.shape[0] == 1:
        return _one_token(x_TD, ids, weights_TK[0], gate_up_EFD, down_EDF)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    runs, start = [], 0
    for expert, members in groupby(order, key=ids.__getitem__):
        stop = start + len(list(members))
        runs.append((expert, start, stop))
        start = stop
    places = [0] * len(ids)
    for place, flat in enumerate(order):
        places[flat] = place
    flat_R = torch.tensor(order, device=x_TD.device)
    x_SD = x_TD.index_select(0, pad(flat_R.div(top_k, rounding_mode="floor"), (0, SPARE)))
    y_SD, _ = _run(x_SD, weights_TK.reshape(-1).index_select(0, flat_R), gate_up_EFD, down_EDF, runs)
    return _sum(y_SD, torch.tensor(places, device=x_TD.device), top_k, x_TD.dtype)


def _one_token(x_MD: Tensor, ids: list[int], weights_K: Tensor, gate_up_EFD: Weights, down_EDF: Weights) -> Tensor:
    """Each expert has one row, in a call of rows that repeat it."""
    rows = smallest_call(1, calls_of(gate_up_EFD[0]))
    if x_MD.shape[0] != rows:
        x_MD = x_MD[:1].expand(rows, -1).contiguous()
    act_KMG = torch.cat([linear(x_MD, gate_up_EFD[expert]) for expert in ids]).view(len(ids), rows, -1)
    h_KF = _activate(act_KMG[:, 0], weights_K)
    h_KMF = h_KF[:, None].expand(-1, smallest_call(1, calls_of(down_EDF[0])), -1).contiguous()
    parts = [linear(h_MF, down_EDF[expert]) for expert, h_MF in zip(ids, h_KMF.unbind(), strict=True)]
    return _add(parts, x_MD.dtype)[:1]


def _run(
    x_SD: Tensor, weights_R: Tensor | None, gate_up_EFD: Weights, down_EDF: Weights, runs: Sequence[Run]
) -> tuple[Tensor, Tensor]:
    """Results of sorted rows, and of their gates and ups; the spare rows hold anything."""
    act_SG = _products(x_SD, gate_up_EFD, runs)
    h_SF = _activate(act_SG, None if weights_R is None else pad(weights_R, (0, SPARE)))
    return _products(h_SF, down_EDF, runs), act_SG


def _activate(act_RG: Tensor, weights_R: Tensor | None) -> Tensor:
    gate_RF, up_RF = act_RG.chunk(2, dim=-1)
    h_RF = exact_silu(gate_RF).mul_(up_RF)
    return h_RF if weights_R is None else h_RF.mul_(weights_R[:, None])


def _products(x_SD: Tensor, weight_END: Weights, runs: Sequence[Run]) -> Tensor:
    first_ND = weight_END[0]
    y_SN = x_SD.new_empty(x_SD.shape[0], first_ND.shape[0])
    y_SN[-SPARE:] = 0
    calls = calls_of(first_ND)
    matrices = weight_END.unbind() if isinstance(weight_END, Tensor) else weight_END
    for expert, start, stop in runs:
        weight_DN = matrices[expert].t()
        for first, size, count in pieces_of(stop - start, calls):
            multiply(x_SD, weight_DN, y_SN, (start + first, size, count))
    return y_SN


def _sum(y_RD: Tensor, place_of_flat_R: Tensor, top_k: int, dtype: torch.dtype) -> Tensor:
    """Adds to every token its experts, in the order of the router."""
    return _add(y_RD.index_select(0, place_of_flat_R).view(-1, top_k, y_RD.shape[1]).unbind(1), dtype)


def _add(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    first, *others = parts
    total = first.to(torch.promote_types(dtype, torch.float32), copy=True)
    for other in others:
        total += other
    return total.to(dtype)
