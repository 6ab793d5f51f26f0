"""Exact mode: products whose rows do not depend on what else is computed, bit for bit.

A library picks its way by the shape of a product: one row is summed in another order than the same row among 16, and
two threads may share the inner sum of a small product but not of a large one. So a token's log-probability depends in
its last bits on the batch that it was in, on how its prompt was cut, and on whether engine or trainer computed it.
Exact mode takes the choice away from the library: it is only ever asked for products of one shape.

* **Rows in tiles of eight** (`tiled_product`, `exact_linear`): each tile is a call of its own. Inside a call of fixed
  shape a row does not depend on its neighbours or its place (measured, and tested for every machine by
  `tests/kernels/test_exact.py`). Calls of fewer or more rows are made where they were seen to give the bits of tiles
  (`kernels.exact_calls`).
* **Attention in blocks** (`kernels.attention_exact`): 16 query rows against 64 keys, blocks at absolute positions,
  added in their order. A block that a row does not see adds exact zeros.
* **Experts** (`kernels.experts_exact`): the rows of each expert in calls of their own; a token adds its experts in the
  router's order.
* **Activation** (`exact_silu`): the library's own takes a vector or a scalar exponential depending on where in memory
  an element lies; the composed one does not.

Norms, softmax and log-softmax over the last dim are computed row by row by the library and are used as they are (tested
too). Towers of media compute as they always do, but one picture or signal at a time (`model.media`): calls of the same
shapes on the same numbers give the same bits. Float64 and bfloat16 work as float32 does. Only forward passes are exact:
gradients take the usual products.

What it guarantees: equal bits on one machine with one number of threads, in one version of torch, on the CPU.

Interface: `model.exact.use_exact_operators(network)` switches a network, for engine and trainer alike; from there on
`network(...)`, `network.logits` and (with `exact=network.exact`) the functions of `kernels.cross_entropy` are exact.
An engine has nothing else to do than to take log-probs as `logits.log_softmax(-1)` in float32, over whole rows. Any
chunking, block table, order of slots and mixture of prompts and decoding sequences gives the same bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from s1pro.kernels.exact_calls import TILE_ROWS, Piece, calls_of, is_one_product, pieces_of, smallest_call


def tiled_product(x_TD: Tensor, weight_ND: Tensor, out_TN: Tensor | None = None) -> Tensor:
    """`x @ weight^T`, `[T, N]`, with the bits of tiles; no gradient."""
    tokens, transposed, calls = x_TD.shape[0], weight_ND.t(), calls_of(weight_ND)
    if tokens <= TILE_ROWS:
        y_TN = torch.mm(_filled(x_TD, calls), transposed)[:tokens]
        return y_TN if out_TN is None else out_TN.copy_(y_TN)
    x_TD = x_TD.contiguous()
    if out_TN is None:
        out_TN = x_TD.new_empty(tokens, weight_ND.shape[0])
    for first, size, count in pieces_of(tokens, calls):
        first = min(first, tokens - size)  # a last call computes some rows a second time
        multiply(x_TD, transposed, out_TN, (first, size, count))
    return out_TN


def multiply(x_TD: Tensor, weight_DN: Tensor, out_TN: Tensor, piece: Piece) -> None:
    """The calls of one piece, from the rows of x into the same rows of `out`."""
    first, size, count = piece
    if count == 1:
        torch.mm(x_TD[first : first + size], weight_DN, out=out_TN[first : first + size])
        return
    stop = first + size * count
    for rows, out in zip(x_TD[first:stop].split(size), out_TN[first:stop].split(size), strict=True):
        torch.mm(rows, weight_DN, out=out)


def _filled(x_TD: Tensor, calls: tuple[int, ...]) -> Tensor:
    """As many rows as a call has: those that nobody reads repeat the first one."""
    tokens = x_TD.shape[0]
    size = smallest_call(tokens, calls)
    if tokens == size:
        return x_TD.contiguous()
    return (
        x_TD.index_select(0, _repeating(tokens, size, x_TD.device)) if tokens else x_TD.new_zeros(size, x_TD.shape[1])
    )


@cache
def _repeating(tokens: int, size: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor([*range(tokens), *[0] * (size - tokens)], device=device)


class ExactProducts:
    """`tiled_product` of one x with some weights, side by side, for the few rows of a decoding step: what does not
    change from step to step is at hand. For float32 on a CPU.

    Args:
        together: the same weights above each other: one product where it has the same bits.

    Attributes:
        calls: numbers of rows, up to `TILE_ROWS`, that are a call as they are.
    """

    def __init__(self, *weights: Tensor, together: Tensor | None = None) -> None:
        if together is not None and is_one_product(weights):
            weights = (together,)
        self._weights = weights
        each = [set(calls_of(weight_ND)) for weight_ND in weights]
        self.calls = tuple(sorted(size for size in set.intersection(*each) if size <= TILE_ROWS))
        self._rows = {tokens: smallest_call(tokens, self.calls) for tokens in range(1, TILE_ROWS + 1)}

    def __call__(self, x_BD: Tensor) -> Tensor:
        tokens = x_BD.shape[0]
        rows = self._rows.get(tokens)
        if rows is None:
            products = [tiled_product(x_BD, weight_ND) for weight_ND in self._weights]
        else:
            if rows != tokens:
                x_BD = x_BD.index_select(0, _repeating(tokens, rows, x_BD.device))
            products = [linear(x_BD, weight_ND) for weight_ND in self._weights]
        y_BN = products[0] if len(products) == 1 else torch.cat(products, dim=1)
        return y_BN if rows == tokens or rows is None else y_BN.narrow(0, 0, tokens)


def exact_linear(x: Tensor, weight_ND: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`: `[..., D]` to `[..., N]`, with gradients."""
    x_TD = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled() and (x.requires_grad or weight_ND.requires_grad):
        y: Tensor = _ExactProduct.apply(x_TD, weight_ND)
    else:
        y = tiled_product(x_TD, weight_ND)
    if x.dim() != 2:
        y = y.view(*x.shape[:-1], weight_ND.shape[0])
    return y if bias_N is None else y + bias_N


def exact_silu(x: Tensor) -> Tensor:
    """`x / (1 + exp(-x))`, in float32 at least, rounded once to the dtype of x."""
    wide = x if x.dtype is torch.float32 else x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide / wide.neg().exp_().add_(1)).to(x.dtype)


def with_gradient_of(exact: Tensor, usual: Tensor) -> Tensor:
    """The numbers of `exact`, and the gradient of `usual`, which is the same up to rounding."""
    result: Tensor = _GradientOf.apply(exact, usual)
    return result


class _GradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, usual: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


class _ExactProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight_ND: Tensor) -> Tensor:
        ctx.save_for_backward(x_TD, weight_ND)
        return tiled_product(x_TD, weight_ND)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TN: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_TD, weight_ND = ctx.saved_tensors
        grad_x = torch.mm(grad_TN, weight_ND) if ctx.needs_input_grad[0] else None
        return grad_x, torch.mm(grad_TN.t(), x_TD) if ctx.needs_input_grad[1] else None
