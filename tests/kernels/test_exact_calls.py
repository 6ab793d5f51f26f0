"""Calls that give the bits of tiles: they change the cost of exact mode and never a number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s1pro.kernels import exact_calls
from s1pro.kernels.exact import ExactProducts, tiled_product
from s1pro.kernels.exact_calls import CANDIDATES, TILE_ROWS, calls_of, cancelling, pieces_of, smallest_call
from s1pro.kernels.experts import experts_forward

SIZES = [(256, 64), (128, 256), (64, 64), (32, 64), (64, 8), (40, 24), (33, 17)]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def only_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_calls, "_calls", lambda *_: (TILE_ROWS,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", SIZES)
def test_products_have_the_bits_of_tiles(
    sizes: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, outer = sizes
    x, weight = cancelling(150, outer, inner, dtype)
    found = [tiled_product(x[:rows], weight) for rows in (1, 2, 5, 8, 9, 63, 150)]
    few = [ExactProducts(weight, weight[:5].contiguous())(x[:rows]) for rows in (1, 3, 8, 20)]
    only_tiles(monkeypatch)
    tiles = torch.cat([torch.mm(rows, weight.t()) for rows in x[:144].split(TILE_ROWS)])
    for product in found:
        assert torch.equal(product, tiled_product(x[: len(product)], weight))
        assert torch.equal(product[:144], tiles[: len(product)])
    for products in few:
        apart = [tiled_product(x[: len(products)], part) for part in (weight, weight[:5].contiguous())]
        assert torch.equal(products, torch.cat(apart, dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_row_of_a_tile_does_not_see_its_place_nor_its_neighbours(sizes: tuple[int, int], dtype: torch.dtype) -> None:
    """The definition itself, by numbers that show every other order of a sum: rows shuffled, anywhere in memory."""
    inner, outer = sizes
    x, weight = cancelling(64, outer, inner, dtype)
    tiles = torch.cat([torch.mm(rows, weight.t()) for rows in x.split(TILE_ROWS)])
    assert (tiles != 0).float().mean() > 0.5  # the exact sums are 0, but for an odd number
    g = torch.Generator().manual_seed(4)
    for offset in range(9):
        order = torch.randperm(64, generator=g)
        memory = torch.empty(x.numel() + 16, dtype=dtype)[offset : offset + x.numel()].view_as(x).copy_(x[order])
        again = torch.cat([torch.mm(rows, weight.t()) for rows in memory.split(TILE_ROWS)])
        assert torch.equal(again, tiles[order])


@pytest.mark.parametrize("tokens", [1, 5, 40, 300])
def test_experts_have_the_bits_of_tiles(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids_TK = torch.rand(tokens, 8, generator=torch.Generator().manual_seed(2)).topk(3, dim=1).indices
    inputs = numbers(tokens, 128), ids_TK, numbers(tokens, 3).abs(), numbers(8, 96, 128), numbers(8, 128, 48)
    found = experts_forward(*inputs, exact=True)
    only_tiles(monkeypatch)
    assert torch.equal(experts_forward(*inputs, exact=True), found)


def test_a_call_with_other_bits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that sums calls of 3 and of 16 rows in another order, here: by another number."""
    product = exact_calls._product

    def other(x_TD: Tensor, weight_DN: Tensor, size: int) -> Tensor:
        return product(x_TD, weight_DN, TILE_ROWS if size in (3, 16) else size) * (1.5 if size in (3, 16) else 1.0)

    monkeypatch.setattr(exact_calls, "_product", other)
    calls = exact_calls._calls.__wrapped__(37, 19, torch.bfloat16, 1)
    assert TILE_ROWS in calls and 3 not in calls and 16 not in calls


def test_what_is_not_tried_takes_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = numbers(64, 32)
    assert calls_of(weight.t()) == (TILE_ROWS,)
    assert set(calls_of(weight)) <= {*CANDIDATES, TILE_ROWS}
    monkeypatch.setattr(exact_calls, "LARGEST_WEIGHT", weight.numel() - 1)
    assert calls_of(weight) == (TILE_ROWS,)


@pytest.mark.parametrize("calls", [(8,), (2, 3, 8), (1, 5, 8, 16, 64)])
@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 63, 64, 100, 191])
def test_pieces_cover_all_rows(rows: int, calls: tuple[int, ...]) -> None:
    covered = 0
    for first, size, count in pieces_of(rows, calls):
        assert first == covered and size in calls and count > 0
        covered += size * count
    assert rows <= covered <= rows + TILE_ROWS - 1
    assert smallest_call(min(rows, TILE_ROWS), calls) >= min(rows, TILE_ROWS)


def test_weights_with_one_input_are_one_product_where_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, x = [numbers(outer, 256, seed=outer) for outer in (128, 64, 64)], numbers(40, 256, seed=9)
    together = torch.cat(weights)
    products = ExactProducts(*weights, together=together)
    for rows in (1, 2, 7, 8, 13, 40):
        apart = torch.cat([tiled_product(x[:rows], weight) for weight in weights], dim=1)
        assert torch.equal(products(x[:rows]), apart)
    found = exact_calls.is_one_product(weights)
    assert (len(products._weights) == 1) == found
    product = exact_calls._product
    exact_calls._agree_together.cache_clear()

    def other(x_TD: Tensor, weight_DN: Tensor, size: int) -> Tensor:  # a library that sums wide weights differently
        return product(x_TD, weight_DN, size) * (1.5 if weight_DN.shape[1] == len(together) else 1.0)

    monkeypatch.setattr(exact_calls, "_product", other)
    assert not exact_calls.is_one_product(weights)
    assert len(ExactProducts(*weights, together=together)._weights) == 3
    exact_calls._agree_together.cache_clear()
    assert not exact_calls.is_one_product([weights[0], weights[1].double()])
