"""The experts on a CPU: a loop over the experts in use. The steps are those of `kernels.experts`.

Rows are taken in batches of whole runs, about `BATCH_ROWS` rows: gathers, activations and sums work on a batch at once
(few calls), products on a run, and the buffers of a batch stay in the cache. Decoding steps, with a few rows per
expert and no gradient, go to `kernels.experts_few`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s1pro.kernels.expert_rows import ExpertRows, Run

BATCH_ROWS = 512

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
        _products(x_ND, gate_up_EFD.transpose(1, 2), runs, act_NG)
        h_NF = torch.ops.aten.silu.out(act_NG[:, :width], out=scratch("h", size, width)).mul_(act_NG[:, width:])
        if weights_R is not None:
            h_NF.mul_(weights_R[first:stop, None])
        y_ND = target.buffer(first, stop, scratch)
        _products(h_NF, down_EDF.transpose(1, 2), runs, y_ND)
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
        _products(dy_ND, down_EDF, runs, dh_NF)
        s_NF = torch.ops.aten.silu.out(gate_NF, out=scratch("s", size, width))
        h_NF = torch.mul(s_NF, up_NF, out=scratch("h", size, width))
        if weights_R is not None:
            if grad_weights_R is not None:
                grad_weights_R[first:stop] = torch.linalg.vecdot(dh_NF.to(weights_R.dtype), h_NF.to(weights_R.dtype))
            h_NF.mul_(weights_R[first:stop, None])
            dh_NF.mul_(weights_R[first:stop, None])
        if grad_down is not None:
            _weight_gradients(dy_ND, h_NF, runs, grad_down)
        dact_NG = scratch("dact", size, 2 * width)
        torch.mul(dh_NF, s_NF, out=dact_NG[:, width:])
        torch.ops.aten.silu_backward.grad_input(dh_NF.mul_(up_NF), gate_NF, grad_input=dact_NG[:, :width])
        if grad_gate_up is not None:
            x_ND = _take(x, rows, first, stop, scratch("x", size, hidden))
            _weight_gradients(dact_NG, x_ND, runs, grad_gate_up)
        if grad_x is not None:
            dx_ND = grad_x.buffer(first, stop, scratch)
            _products(dact_NG, gate_up_EFD, runs, dx_ND)
            grad_x.add(first, stop, dx_ND)
    return None if grad_x is None else grad_x.result(), grad_weights_R, grad_gate_up, grad_down


def _products(a_NI: Tensor, weight_EIO: Tensor, runs: Sequence[Run], out_NO: Tensor) -> None:
    """`out = a @ weight of its expert`, run by run."""
    for expert, start, stop in runs:
        torch.mm(a_NI[start:stop], weight_EIO[expert], out=out_NO[start:stop])


def _weight_gradients(grad_NO: Tensor, a_NI: Tensor, runs: Sequence[Run], out_EOI: Tensor) -> None:
    """`out_e = grad^T a` over the rows of each expert that has some."""
    for expert, start, stop in runs:
        torch.mm(grad_NO[start:stop].t(), a_NI[start:stop], out=out_EOI[expert])


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
            self._total = x.new_zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))

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
