"""Exchanges that run while something else is computed, in both passes.

An exchange is cut in two: `start` sends and returns at once, `finish` waits for what comes. What lies between the two
calls is computed meanwhile. In the backward pass the halves change places: the node of `finish` starts the reverse
exchange of its gradient, the node of `start` waits for it.

Autograd runs the node that was made last first, so two parts of a batch written as a pipeline forward

    start 0, start 1, finish 0, compute 0, finish 1, compute 1

are a pipeline backward too: gradients of part 1 travel while part 0 is computed. The graph is the same on all ranks,
and so is the order of their messages. What is gained is up to the backend: NCCL has streams of its own, gloo threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass
class Pending:
    """A message under way. Calling it waits and returns what came; until then what is sent is kept alive."""

    work: Any
    out: Tensor
    sent: Tensor

    def __call__(self) -> Tensor:
        if self.work is not None:
            self.work.wait()
        return self.out


Wait = Callable[[], Tensor]
Begin = Callable[[Tensor, dist.ProcessGroup], Wait]


@dataclass
class Started:
    """An exchange under way: a stand-in of the shape of its result, and what waits for it in either pass."""

    group: dist.ProcessGroup
    forward: Begin
    backward: Begin
    rows: int
    stand_in: Tensor = field(init=False)
    arrival: Wait | None = None
    gradient_arrival: Wait | None = None


def start_all_gather(x: Tensor, group: dist.ProcessGroup) -> Started:
    """As `collectives.all_gather`, in two halves; see the module docstring."""
    return _start(x, Started(group, _begin_gather, _begin_reduce, x.shape[0] * group.size()))


def start_reduce_scatter(x: Tensor, group: dist.ProcessGroup) -> Started:
    """As `collectives.reduce_scatter`, in two halves."""
    _check_shares(x, group)
    return _start(x, Started(group, _begin_reduce, _begin_gather, x.shape[0] // group.size()))


def start_all_to_all(x: Tensor, group: dist.ProcessGroup) -> Started:
    """As `collectives.all_to_all` with equal shares, in two halves."""
    _check_shares(x, group)
    return _start(x, Started(group, _begin_exchange, _begin_exchange, x.shape[0]))


def finish(started: Started) -> Tensor:
    """What an exchange brought. To be called once."""
    result: Tensor = _Finish.apply(started.stand_in, started)
    return result


def _check_shares(x: Tensor, group: dist.ProcessGroup) -> None:
    if x.shape[0] % group.size():
        raise ValueError(f"{x.shape[0]} rows cannot be divided equally among {group.size()} ranks")


def _begin_exchange(x: Tensor, group: dist.ProcessGroup) -> Wait:
    sent = x.contiguous()
    out = torch.empty_like(sent)
    return Pending(dist.all_to_all_single(out, sent, group=group, async_op=True), out, sent)


def _begin_gather(x: Tensor, group: dist.ProcessGroup) -> Wait:
    sent, out = x.contiguous(), x.new_empty(x.shape[0] * group.size(), *x.shape[1:])
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    return Pending(gather(out, sent, group=group, async_op=True), out, sent)


def _begin_reduce(x: Tensor, group: dist.ProcessGroup) -> Wait:
    """Sums in float32 at least (`collectives` says why)."""
    if x.dtype not in (torch.float32, torch.float64):
        arrival = _begin_exchange(x, group)
        return lambda: arrival().unflatten(0, (group.size(), -1)).sum(0, dtype=torch.float32).to(x.dtype)
    sent, out = x.contiguous(), x.new_empty(x.shape[0] // group.size(), *x.shape[1:])
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    return Pending(scatter(out, sent, group=group, async_op=True), out, sent)


def _start(x: Tensor, started: Started) -> Started:
    started.stand_in = _Start.apply(x, started)
    return started


class _Start(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, started: Started) -> Tensor:
        ctx.started = started
        started.arrival = started.forward(x, started.group)
        return x.new_empty(1).expand(started.rows, *x.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        arrival, ctx.started.gradient_arrival = ctx.started.gradient_arrival, None
        assert arrival is not None, "the gradient of an exchange that was not finished"
        return arrival(), None


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stand_in: Tensor, started: Started) -> Tensor:
        ctx.started = started
        arrival, started.arrival = started.arrival, None
        assert arrival is not None, "an exchange can be finished once"
        return arrival()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        started = ctx.started
        started.gradient_arrival = started.backward(grad, started.group)
        return grad, None  # for its shape alone: the node of `start` hands on what travels
