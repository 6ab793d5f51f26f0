"""The experts on a CPU: a loop over the experts in use. The steps are those of `kernels.experts`.

Rows are taken in batches of whole runs, about `BATCH_ROWS` rows: gathers, activations and sums work on a batch at once
(few calls), products on a run, and the buffers of a batch stay in the cache. For a decoding step with a few rows per
expert everything is one batch.

Few rows (decoding). A product is then bound by reading the weight, and the libraries differ in how well they do it: with
weights out of the cache, `weight @ x^T` with 2 columns took 17 us where `x @ weight^T` took 38 us and a matrix-vector
product 35 us (256 x 256, float32, one AMD Genoa core). So up to `FEW_ROWS` rows are multiplied transposed, and a
single row takes its neighbour along.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from s1pro.kernels.expert_rows import ExpertRows

BATCH_ROWS = 512
FEW_ROWS = 16

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def forward(
    x: Tensor, weights_R: Tensor | None, gate_up_EFD: Tensor, down_EDF: Tensor, rows: ExpertRows, *, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """The result, `[T, D]` or `[R, D]`, and the output of gate and up `[R, 2F]` if it is to be kept."""
    hidden, width = down_EDF.shape[1:]
    scratch = _Scratch(x, rows, BATCH_ROWS)
    act_RG = x.new_empty(rows.num_rows, 2 * width) if keep else None
    target = _Sum(x, rows)
    for first, stop, runs in rows.batches(BATCH_ROWS):
        size = stop - first
        x_ND = _take(x, rows, first, stop, scratch("x", size, hidden))
        act_NG = scratch("act", size, 2 * width) if act_RG is None else act_RG[first:stop]
        for expert, a, b in runs:
            _rows_times_weight(x_ND, a, b, gate_up_EFD[expert], act_NG)
        h_NF = torch.ops.aten.silu.out(act_NG[:, :width], out=scratch("h", size, width)).mul_(act_NG[:, width:])
        if weights_R is not None:
            h_NF.mul_(weights_R[first:stop, None])
        y_ND = target.buffer(first, stop, scratch)
        for expert, a, b in runs:
            _rows_times_weight(h_NF, a, b, down_EDF[expert], y_ND)
        target.add(first, stop, y_ND)
    return target.result(), act_RG


def backward(
    grad_y: Tensor,
    x: Tensor,
    weights_R: Tensor | None,
    gate_up_EFD: Tensor,
    down_EDF: Tensor,
    act_RG: Tensor,
    rows: ExpertRows,
    wanted: tuple[bool, bool, bool, bool],
) -> Gradients:
    """Gradients of x, weights, gate_up and down; None where not wanted."""
    hidden, width = down_EDF.shape[1:]
    scratch = _Scratch(x, rows, BATCH_ROWS)
    grad_x = _Sum(x, rows) if wanted[0] else None
    grad_weights_R = torch.empty_like(weights_R) if wanted[1] and weights_R is not None else None
    grad_gate_up = _empty_with_idle_zero(gate_up_EFD, rows) if wanted[2] else None
    grad_down = _empty_with_idle_zero(down_EDF, rows) if wanted[3] else None
    for first, stop, runs in rows.batches(BATCH_ROWS):
        size = stop - first
        gate_NF, up_NF = act_RG[first:stop, :width], act_RG[first:stop, width:]
        dy_ND = _take(grad_y, rows, first, stop, scratch("x", size, hidden))
        dh_NF = scratch("dh", size, width)
        for expert, a, b in runs:
            torch.mm(dy_ND[a:b], down_EDF[expert], out=dh_NF[a:b])
        s_NF = torch.ops.aten.silu.out(gate_NF, out=scratch("s", size, width))
        h_NF = torch.mul(s_NF, up_NF, out=scratch("h", size, width))
        if grad_weights_R is not None:
            grad_weights_R[first:stop] = torch.linalg.vecdot(dh_NF.to(weights_R.dtype), h_NF.to(weights_R.dtype))
        if weights_R is not None:
            h_NF.mul_(weights_R[first:stop, None])
            dh_NF.mul_(weights_R[first:stop, None])
        if grad_down is not None:
            for expert, a, b in runs:
                torch.mm(dy_ND[a:b].t(), h_NF[a:b], out=grad_down[expert])
        dact_NG = scratch("dact", size, 2 * width)
        torch.mul(dh_NF, s_NF, out=dact_NG[:, width:])
        torch.ops.aten.silu_backward.grad_input(dh_NF.mul_(up_NF), gate_NF, grad_input=dact_NG[:, :width])
        if grad_gate_up is not None:
            x_ND = _take(x, rows, first, stop, scratch("x", size, hidden))
            for expert, a, b in runs:
                torch.mm(dact_NG[a:b].t(), x_ND[a:b], out=grad_gate_up[expert])
        if grad_x is not None:
            dx_ND = grad_x.buffer(first, stop, scratch)
            for expert, a, b in runs:
                torch.mm(dact_NG[a:b], gate_up_EFD[expert], out=dx_ND[a:b])
            grad_x.add(first, stop, dx_ND)
    return None if grad_x is None else grad_x.result(), grad_weights_R, grad_gate_up, grad_down


class _Scratch:
    """Buffers by name, made once and used by every batch."""

    def __init__(self, like: Tensor, rows: ExpertRows, limit: int) -> None:
        self._like = like
        longest = max((stop - start for _, start, stop in rows.runs), default=0)
        self._capacity = max(min(limit, rows.num_rows), longest)
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, size: int, width: int) -> Tensor:
        if name not in self._buffers:
            self._buffers[name] = self._like.new_empty(self._capacity, width)
        return self._buffers[name][:size]


class _Sum:
    """Where rows go: added to their token (in float32 at least), or straight to their place if rows are tokens."""

    def __init__(self, x: Tensor, rows: ExpertRows) -> None:
        self._tokens_R, self._dtype = rows.tokens_R, x.dtype
        if rows.tokens_R is None:
            self._total = torch.empty_like(x)
        else:
            self._total = torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))

    def buffer(self, first: int, stop: int, scratch: _Scratch) -> Tensor:
        if self._tokens_R is None:
            return self._total[first:stop]
        return scratch("y", stop - first, self._total.shape[1])

    def add(self, first: int, stop: int, y_ND: Tensor) -> None:
        if self._tokens_R is not None:
            self._total.index_add_(0, self._tokens_R[first:stop], y_ND.to(self._total.dtype))

    def result(self) -> Tensor:
        return self._total.to(self._dtype)


def _take(x: Tensor, rows: ExpertRows, first: int, stop: int, buffer: Tensor) -> Tensor:
    """The tokens of rows first to stop."""
    if rows.tokens_R is None:
        return x[first:stop]
    return torch.index_select(x, 0, rows.tokens_R[first:stop], out=buffer)


def _rows_times_weight(x_ND: Tensor, a: int, b: int, weight_GD: Tensor, out_NG: Tensor) -> None:
    """`out[a:b] = x[a:b] @ weight.T`; see the module docstring for few rows."""
    if b - a > FEW_ROWS or x_ND.shape[0] == 1:
        torch.mm(x_ND[a:b], weight_GD.t(), out=out_NG[a:b])
    elif b - a > 1:
        out_NG[a:b].copy_(torch.mm(weight_GD, x_ND[a:b].t()).t())
    else:
        first = max(0, a - 1)
        out_NG[a].copy_(torch.mm(weight_GD, x_ND[first : first + 2].t())[:, a - first])


def _empty_with_idle_zero(weight: Tensor, rows: ExpertRows) -> Tensor:
    """Memory for the gradient of stacked weights; experts without rows get zero, the others are overwritten."""
    if len(rows.runs) == weight.shape[0]:
        return torch.empty_like(weight, memory_format=torch.contiguous_format)
    grad = torch.empty_like(weight, memory_format=torch.contiguous_format)
    used = {expert for expert, _, _ in rows.runs}
    for expert in range(weight.shape[0]):
        if expert not in used:
            grad[expert].zero_()
    return grad
