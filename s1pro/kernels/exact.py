"""Exact mode: products whose rows do not depend on what else is computed, bit for bit.

A library picks its way by the shape of a product: one row is summed in another order than the same row among 16, and
two threads may share the inner sum of a small product but not of a large one. So a token's log-probability depends in
its last bits on the batch that it was in, on how its prompt was cut, and on whether engine or trainer computed it.
Exact mode takes the choice away from the library: it is only ever asked for products of one shape.

* **Rows in tiles of eight** (`tiled_product`, `exact_linear`): each tile is a call of its own, the last one is filled
  up. Inside a call of fixed shape a row does not depend on its neighbours or its place (measured, and tested
  for every machine by `tests/kernels/test_exact.py`).
* **Attention in blocks** (`kernels.attention_exact`): 16 query rows against 64 keys, blocks at absolute positions,
  added in their order. A block that a row does not see adds exact zeros.
* **Experts** (`kernels.experts_exact`): the rows of each expert in tiles of their own; a token adds its experts in the
  router's order.
* **Activation** (`exact_silu`): the library's own takes a vector or a scalar exponential depending on where in memory
  an element lies; the composed one does not.

Norms, softmax and log-softmax over the last dim are computed row by row by the library and are used as they are (tested
too). Float64 and bfloat16 work as float32 does. Only forward passes are exact: gradients take the usual products.

What it guarantees: equal bits on one machine with one number of threads, in one version of torch, on the CPU. It says
nothing about media towers, nor about FP8 and expert parallelism, which refuse it.

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

TILE_ROWS = 8
"""Rows of one product. Fewer waste less on a single token, more are faster for many."""


def tiled_product(x_TD: Tensor, weight_ND: Tensor, out_TN: Tensor | None = None) -> Tensor:
    """`x @ weight^T`, `[T, N]`, in tiles; no gradient."""
    tokens, transposed = x_TD.shape[0], weight_ND.t()
    if tokens <= TILE_ROWS:
        y_TN = torch.mm(_filled(x_TD), transposed)[:tokens]
        return y_TN if out_TN is None else out_TN.copy_(y_TN)
    x_TD = x_TD.contiguous()
    if out_TN is None:
        out_TN = x_TD.new_empty(tokens, weight_ND.shape[0])
    whole = tokens - tokens % TILE_ROWS
    for tile, out in zip(x_TD[:whole].split(TILE_ROWS), out_TN[:whole].split(TILE_ROWS), strict=True):
        torch.mm(tile, transposed, out=out)
    if whole < tokens:
        out_TN[whole:] = torch.mm(_filled(x_TD[whole:]), transposed)[: tokens - whole]
    return out_TN


def _filled(x_TD: Tensor) -> Tensor:
    """A whole tile: rows that nobody reads repeat the first one."""
    tokens = x_TD.shape[0]
    if tokens == TILE_ROWS:
        return x_TD.contiguous()
    return (
        x_TD.index_select(0, _tile_index(tokens, x_TD.device)) if tokens else x_TD.new_zeros(TILE_ROWS, x_TD.shape[1])
    )


@cache
def _tile_index(tokens: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor([*range(tokens), *[0] * (TILE_ROWS - tokens)], device=device)


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
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide / (1 + torch.exp(-wide))).to(x.dtype)


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
