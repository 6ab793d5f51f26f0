"""The experts of a layer (the steps of `kernels.experts`), forwards.

Rows are sorted by expert, so that the weights of an expert are read once for all its rows. What experts give a token is
added in the order of the experts, whatever the other tokens are.
"""

from __future__ import annotations

import numpy as np

from s1pro.kernels.compiled.elementwise import added, keep, swiglu
from s1pro.kernels.compiled.jit import jit, kept_jit
from s1pro.kernels.compiled.products import rows_times


@kept_jit
def add_experts(tiles, x_TD, ids_TK, weights_TK, gate_up_EDG, down_EFD, first_expert, last_expert, y_TD):
    """`y += sum_k weight_k down_k(silu(gate_k(x)) up_k(x))` over the experts from the first to behind the last."""
    num_experts, hidden, double = gate_up_EDG.shape
    top_k, width, size = ids_TK.shape[1], double // 2, down_EFD.itemsize
    order, starts = _sorted_by_expert(ids_TK, num_experts)
    most = 0
    for e in range(first_expert, last_expert):
        most = max(most, starts[e + 1] - starts[e])
    x, h, y = (
        np.empty(most * hidden, np.float32),
        np.empty(most * double, np.float32),
        np.empty(most * hidden, np.float32),
    )
    x_rows, h_rows, y_rows = x.ctypes.data, h.ctypes.data, y.ctypes.data
    for e in range(first_expert, last_expert):
        first, rows = starts[e], starts[e + 1] - starts[e]
        if rows == 0:
            continue
        for i in range(rows):
            token = order[first + i] // top_k
            for d in range(hidden):
                x[i * hidden + d] = x_TD[token, d]
        gate_up = gate_up_EDG.ctypes.data + size * e * hidden * double
        rows_times(tiles, size, x_rows, hidden, rows, gate_up, double, hidden, double, h_rows, double)
        for i in range(rows):
            line, pair = h_rows + 4 * i * double, order[first + i]
            swiglu(line, line + 4 * width, width, weights_TK[pair // top_k, pair % top_k])
        down = down_EFD.ctypes.data + size * e * width * hidden
        rows_times(tiles, size, h_rows, double, rows, down, hidden, width, hidden, y_rows, hidden)
        for i in range(rows):
            token = order[first + i] // top_k
            added(y_rows + 4 * i * hidden, y_TD.ctypes.data + 4 * token * hidden, hidden)
    keep(x)
    keep(h)
    keep(y)


@jit
def _sorted_by_expert(ids_TK, num_experts):
    """Flat numbers of the pairs, expert by expert and in the order of tokens, and where each expert begins."""
    tokens, top_k = ids_TK.shape
    starts = np.zeros(num_experts + 1, np.int64)
    for t in range(tokens):
        for k in range(top_k):
            starts[ids_TK[t, k] + 1] += 1
    for e in range(num_experts):
        starts[e + 1] += starts[e]
    next_place, order = starts.copy(), np.empty(tokens * top_k, np.int64)
    for t in range(tokens):
        for k in range(top_k):
            expert = ids_TK[t, k]
            order[next_place[expert]] = t * top_k + k
            next_place[expert] += 1
    return order, starts
