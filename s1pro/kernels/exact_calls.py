"""How many rows a call of the library may have so that every row gets the bits that it has in a tile of `TILE_ROWS`.

`kernels.exact` defines a product by tiles of eight rows. That is wasteful at both ends: a single token pays for eight
rows, and a trainer pays a call for every eight. But a library has few ways to sum a product, and many numbers of rows
take the same one. Which ones is not documented and differs by processor, so it is *measured*, once per process for
each shape of a weight: calls of 1 to 64 rows multiply numbers whose products cancel, so that all that is left of a sum
is what its order rounded away (`cancelling`), and a number of rows is used where all bits are those of tiles. Ordinary
random numbers do not do: in bfloat16 another order shows in one result of a hundred thousand. In float32 on an Intel
Sapphire Rapids (torch 2.13):

| inner size | as tiles of 8 | other orders of sums |
|---|---|---|
| 64 | 3 to 64 rows | 1; 2 |
| 128 | 6 to 64 rows | 1; 2 to 5 |
| 256 | 2 to 8 rows | 1; 12 to 64 |

and in bfloat16 nearly any number of rows (with an inner size of 64 not 1, with 32 neither 1 nor 2). Several weights
with one input (queries, keys, values) are tried as one weight in the same way. The tile stays the definition. What is
found here decides about the cost and never about a number: two processes that find different calls, or none, still
compute the same bits.

Large weights are not tried: a trial is about a hundred calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

TILE_ROWS = 8
"""Rows of the product that defines the bits."""

CANDIDATES = (1, 2, 3, 4, 5, 6, 7, 16, 32, 64)

FEW = 2 * TILE_ROWS
"""Rows that calls of fewer than a tile are tried with."""

LARGEST_WEIGHT = 1 << 23
"""Numbers of a weight up to which calls are tried."""

Piece = tuple[int, int, int]
"""First row, rows of a call, and how many such calls follow each other."""


def calls_of(weight_ND: Tensor) -> tuple[int, ...]:
    """Numbers of rows, ascending, that give the bits of tiles in `x @ weight^T`; `TILE_ROWS` is always among them."""
    if weight_ND.device.type != "cpu" or not weight_ND.is_contiguous() or weight_ND.numel() > LARGEST_WEIGHT:
        return (TILE_ROWS,)
    outer, inner = weight_ND.shape
    return _calls(inner, outer, weight_ND.dtype, torch.get_num_threads())


def is_one_product(weights: Sequence[Tensor]) -> bool:
    """Whether these weights above each other, as one weight, give the bits that tiles give with each of them."""
    first, *others = weights
    plain = all(weight.device.type == "cpu" and weight.is_contiguous() for weight in weights)
    alike = all(weight.dtype is first.dtype and weight.shape[1] == first.shape[1] for weight in others)
    outers = tuple(weight.shape[0] for weight in weights)
    if not plain or not alike or sum(outers) * first.shape[1] > LARGEST_WEIGHT:
        return False
    return _agree_together(first.shape[1], outers, first.dtype, torch.get_num_threads())


@cache
def pieces_of(rows: int, calls: tuple[int, ...]) -> tuple[Piece, ...]:
    """Calls that cover `rows` rows, the largest first; the last one may reach beyond them."""
    pieces, first = [], 0
    for size in (size for size in reversed(calls) if size >= TILE_ROWS):
        count = (rows - first) // size
        if count:
            pieces.append((first, size, count))
            first += count * size
    if first < rows:
        pieces.append((first, smallest_call(rows - first, calls), 1))
    return tuple(pieces)


def smallest_call(rows: int, calls: tuple[int, ...]) -> int:
    """The smallest call for up to `TILE_ROWS` rows."""
    return next(size for size in calls if size >= rows)


@cache
def _calls(inner: int, outer: int, dtype: torch.dtype, threads: int) -> tuple[int, ...]:
    most = max(CANDIDATES)
    with torch.inference_mode(mode=False), torch.no_grad():
        x, weight = cancelling(most + 1, outer, inner, dtype)
        transposed = weight.t()
        agree = set(CANDIDATES)
        for first in (0, 1):  # rows may begin anywhere in memory
            rows = x[first : first + most]
            tiles = _product(rows, transposed, TILE_ROWS)
            agree = {n for n in agree if _agrees(rows if n > TILE_ROWS else rows[:FEW], transposed, n, tiles)}
    return tuple(sorted(agree | {TILE_ROWS}))


@cache
def _agree_together(inner: int, outers: tuple[int, ...], dtype: torch.dtype, threads: int) -> bool:
    with torch.inference_mode(mode=False), torch.no_grad():
        x, together = cancelling(max(CANDIDATES) + 1, sum(outers), inner, dtype)
        parts = together.split(outers)
        for rows in (x[:-1], x[1:]):
            separate = torch.cat([_product(rows, part.t(), TILE_ROWS) for part in parts], dim=1)
            if not torch.equal(_product(rows, together.t(), TILE_ROWS), separate):
                return False
    return True


def cancelling(rows: int, outer: int, inner: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x `[rows, inner]` and a weight `[outer, inner]`, numbers of many sizes: every product of the first half occurs in
    the second half with the other sign, in another place."""
    g, half = torch.Generator().manual_seed(inner + outer), inner // 2

    def draw(count: int) -> Tensor:
        sizes = torch.randint(-6, 7, (count, half), generator=g).exp2()
        return torch.randn(count, half, generator=g).mul_(sizes)

    x_XH, weight_NH, order_H = draw(rows), draw(outer), torch.randperm(half, generator=g)
    parts_x, parts_weight = [x_XH, x_XH[:, order_H]], [weight_NH, -weight_NH[:, order_H]]
    if inner % 2:
        parts_x.append(torch.randn(rows, 1, generator=g))
        parts_weight.append(torch.randn(outer, 1, generator=g))
    return torch.cat(parts_x, dim=1).to(dtype), torch.cat(parts_weight, dim=1).to(dtype)


def _agrees(x_TD: Tensor, weight_DN: Tensor, size: int, tiles_TN: Tensor) -> bool:
    return torch.equal(_product(x_TD, weight_DN, size), tiles_TN[: len(x_TD) - len(x_TD) % size])


def _product(x_TD: Tensor, weight_DN: Tensor, size: int) -> Tensor:
    """In calls of `size` rows; the rest is left out."""
    whole = len(x_TD) - len(x_TD) % size
    return torch.cat([torch.mm(rows, weight_DN) for rows in x_TD[:whole].split(size)])
