"""The experts on a CPU for a decoding step in which most of them have rows: one call for all experts.

Every expert gets the same number of places, S; a place holds one row, or repeats a row that nobody reads. Then

1. places gather their token:        x_ESD
2. gate and up, all experts at once: a_ES2F = x_ESD @ gate_up_EFD^T
3. activation:                       h_ESF = silu(a[:, :, :F]) * a[:, :, F:]
4. down:                             y_ESD = h_ESF @ down_EDF^T
5. each token adds the places of its K experts, weighted.

The library spreads the products of such a batch over the cores, which it does badly for a single small product: on two
Intel cores 64 experts of 2 x 128 x 256 with 4 places take 0.63 ms, one call per expert with the same rows 1.1 ms. Rows
beyond the S-th of their expert (a favourite of the router) take ordinary products, into places behind the others.

S, and whether to come here at all, follows from the counts alone, by costs in units of one expert in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu

PLACE_COST = 0.14
"""Of one more place, for all experts of a batch: the arithmetic beside reading the weight."""

CALL_COST = 2.0
"""Of an expert in a call of its own."""

Run = tuple[int, int, int]
"""Expert, its first place, and the place behind its last."""


@dataclass(frozen=True)
class Plan:
    """Where the rows go.

    Attributes:
        size: places of every expert in the batch.
        place_of_row: of every (token, expert) pair; those behind `num_experts * size` are in `extra`.
        extra: runs of rows that did not find a place in the batch.
    """

    size: int
    place_of_row: list[int]
    extra: list[Run]


def plan(ids_R: Sequence[int], num_experts: int) -> Plan | None:
    """The cheapest plan, or None if a call per expert costs less than any."""
    counts = [0] * num_experts
    nth_of_row = []
    for expert in ids_R:
        nth_of_row.append(counts[expert])
        counts[expert] += 1
    size = _best_size(counts)
    if size == 0:
        return None
    first_extra, runs, stop = [0] * num_experts, [], num_experts * size
    for expert, count in enumerate(counts):
        if count > size:
            runs.append((expert, stop, stop + count - size))
            first_extra[expert] = stop - size
            stop += count - size
    places = [
        expert * size + nth if nth < size else first_extra[expert] + nth
        for expert, nth in zip(ids_R, nth_of_row, strict=True)
    ]
    return Plan(size, places, runs)


def _best_size(counts: Sequence[int]) -> int:
    """0 for one call per expert."""
    larger = [0] * (max(counts) + 1)  # how many experts have more rows than that
    for count in counts:
        for size in range(count):
            larger[size] += 1
    costs = [CALL_COST * larger[0]]
    costs += [len(counts) * (1 + PLACE_COST * size) + CALL_COST * larger[size] for size in range(1, len(larger))]
    return costs.index(min(costs))


def forward(x_TD: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor, plan: Plan) -> Tensor:
    """The combined output `[T, D]`."""
    tokens, top_k = weights_TK.shape
    in_batch = gate_up_EFD.shape[0] * plan.size
    total = plan.extra[-1][2] if plan.extra else in_batch
    token_of_place = [0] * total
    for row, place in enumerate(plan.place_of_row):
        token_of_place[place] = row // top_k
    x_QD = x_TD.index_select(0, torch.tensor(token_of_place))
    gate_QF, up_QF = _products(x_QD, gate_up_EFD, in_batch, plan.extra).chunk(2, dim=1)
    y_QD = _products(silu(gate_QF).mul_(up_QF), down_EDF, in_batch, plan.extra)
    y_TKD = y_QD.index_select(0, torch.tensor(plan.place_of_row)).view(tokens, top_k, -1)
    wide = torch.promote_types(y_TKD.dtype, weights_TK.dtype)
    return torch.bmm(weights_TK[:, None].to(wide), y_TKD.to(wide))[:, 0].to(x_TD.dtype)


def _products(x_QD: Tensor, weight_END: Tensor, in_batch: int, extra: Sequence[Run]) -> Tensor:
    """Every place times the weight of its expert, `[P, N]`."""
    num_experts, width, size = weight_END.shape
    y_QN = x_QD.new_empty(x_QD.shape[0], width)
    x_ESD, y_ESN = x_QD[:in_batch].view(num_experts, -1, size), y_QN[:in_batch].view(num_experts, -1, width)
    torch.bmm(x_ESD, weight_END.transpose(1, 2), out=y_ESN)
    for expert, start, stop in extra:
        torch.mm(x_QD[start:stop], weight_END[expert].t(), out=y_QN[start:stop])
    return y_QN
