"""Tokens to rows and back: the two moves of a dispatch that happen on one rank.

A token is copied to one row per expert, and the weighted outputs of its rows are added up again. The two moves are
transposes of each other, so each is the backward pass of the other:

    spread    y_row = x_token                     dx_token = sum over its rows of dy_row
    combine   y_token = sum over its rows of x_row    dx_row = dy_token

`places_TK` says where the rows of a token lie. Sums run over the K columns in order, in float32 at least and without
atomic additions: with columns ordered by expert id these are the sums of a single process (`kernels.experts_loop`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def spread_rows(x_TD: Tensor, places_TK: Tensor) -> Tensor:
    """`[T, D]` -> `[T * K, D]`; `places_TK` is a permutation of 0 .. T * K - 1."""
    result: Tensor = _Spread.apply(x_TD, places_TK)
    return result


def combine_rows(y_RD: Tensor, places_TK: Tensor) -> Tensor:
    """`[T * K, D]` -> `[T, D]`."""
    result: Tensor = _Combine.apply(y_RD, places_TK)
    return result


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, places_TK: Tensor) -> Tensor:
        ctx.save_for_backward(places_TK)
        return _copied(x_TD, places_TK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RD: Tensor) -> tuple[Tensor, None]:
        return _summed(grad_RD, *ctx.saved_tensors), None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_RD: Tensor, places_TK: Tensor) -> Tensor:
        ctx.save_for_backward(places_TK)
        return _summed(y_RD, places_TK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, None]:
        return _copied(grad_TD, *ctx.saved_tensors), None


def _copied(x_TD: Tensor, places_TK: Tensor) -> Tensor:
    rows_RD = x_TD.new_empty(places_TK.numel(), x_TD.shape[1])
    for places_T in places_TK.unbind(1):
        rows_RD.index_copy_(0, places_T, x_TD)
    return rows_RD


def _summed(rows_RD: Tensor, places_TK: Tensor) -> Tensor:
    first_T, *others = places_TK.unbind(1)
    total_TD = rows_RD.index_select(0, first_T).to(torch.promote_types(rows_RD.dtype, torch.float32))
    for places_T in others:
        total_TD += rows_RD.index_select(0, places_T)
    return total_TD.to(rows_RD.dtype)
