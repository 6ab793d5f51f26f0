"""Exchanges between ranks that gradients flow through.

| forward | backward |
|---|---|
| all-to-all, sizes s -> r | all-to-all, sizes r -> s |
| all-gather of rows | reduce-scatter (sum) |
| reduce-scatter (sum) | all-gather |

Each is an autograd function over the plain collective, so both passes cost exactly one message per pair of ranks, and
all ranks call them in the same order (the order of the graph, which is the same everywhere).

Sums are made in float32 at least: a reduce-scatter of bfloat16 rows would round after every rank, so there the rows
travel as they are in an all-to-all, which moves as many bytes, and are added here. In float32 the library adds.

The names of two collectives changed in torch 2.13; this is the only place that knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

Sizes = Sequence[int] | None
"""Rows per rank, in order of rank; None for equal shares."""


def all_to_all(x: Tensor, group: dist.ProcessGroup, send: Sizes = None, receive: Sizes = None) -> Tensor:
    """Share p of the rows of `x` goes to rank p; the result holds what came from rank 0, 1, … in this order.

    Args:
        send, receive: rows to and from every rank; with None all shares are equal and nothing must be known.

    Raises:
        ValueError: equal shares are wanted, but the rows cannot be divided.
    """
    if send is None and x.shape[0] % group.size():
        raise ValueError(f"{x.shape[0]} rows cannot be divided equally among {group.size()} ranks")
    result: Tensor = _AllToAll.apply(x, group, send, receive)
    return result


def all_gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The rows of all ranks, in order of rank."""
    result: Tensor = _AllGather.apply(x, group)
    return result


def reduce_scatter(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Share r of the rows, summed over all ranks, for rank r."""
    if x.shape[0] % group.size():
        raise ValueError(f"{x.shape[0]} rows cannot be divided equally among {group.size()} ranks")
    result: Tensor = _ReduceScatter.apply(x, group)
    return result


class _AllToAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, send: Sizes, receive: Sizes) -> Tensor:
        ctx.group, ctx.send, ctx.receive = group, send, receive
        return _exchange(x, group, send, receive)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _exchange(grad, ctx.group, ctx.receive, ctx.send), None, None, None


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _gathered(x, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _reduced(grad, ctx.group), None


class _ReduceScatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _reduced(x, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _gathered(grad, ctx.group), None


def _exchange(x: Tensor, group: dist.ProcessGroup, send: Sizes, receive: Sizes) -> Tensor:
    rows = x.shape[0] if receive is None else sum(receive)
    out = x.new_empty(rows, *x.shape[1:])
    lists = [None if sizes is None else list(sizes) for sizes in (receive, send)]
    dist.all_to_all_single(out, x.contiguous(), *lists, group=group)
    return out


def _gathered(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    out = x.new_empty(x.shape[0] * group.size(), *x.shape[1:])
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(out, x.contiguous(), group=group)
    return out


def _reduced(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    if x.dtype in (torch.float32, torch.float64):
        out = x.new_empty(x.shape[0] // group.size(), *x.shape[1:])
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        scatter(out, x.contiguous(), group=group)
        return out
    parts = _exchange(x, group, None, None).unflatten(0, (group.size(), -1)).unbind()
    total = parts[0].float()
    for part in parts[1:]:
        total += part
    return total.to(x.dtype)
