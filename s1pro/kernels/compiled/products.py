"""Products of few rows, cut into tiles (`kernels.compiled.tiles`). Called from compiled functions."""

from __future__ import annotations

import numpy as np

from s1pro.kernels.compiled.elementwise import read, read_bfloat16, write
from s1pro.kernels.compiled.jit import jit
from s1pro.kernels.compiled.tiles import (
    ADDING,
    ADDING_BFLOAT16,
    BFLOAT16,
    DOT,
    DOT_ROWS,
    DOTS,
    MOST_ROWS,
    NARROW,
    call,
    keys_for,
    vectors_for,
)
from s1pro.kernels.compiled.vectors import LANES

BLOCK = 8 * LANES
"""Columns that all rows are multiplied with before the next ones: that part of the weight stays in the cache."""

WIDTHS = np.array([vectors_for(rows) * LANES for rows in range(1, MOST_ROWS + 1)])
KEYS_OF_FOUR, KEYS_OF_ONE = keys_for(DOT_ROWS), keys_for(1)


@jit
def _tiled(tiles, kind, size, x, x_stride, rows, weight, weight_stride, inner, columns, out, out_stride):
    """Columns that fill vectors; `kind` is where the tiles begin in their table."""
    for block in range(0, columns, BLOCK):
        stop, row = min(block + BLOCK, columns), 0
        while row < rows:
            left = rows - row
            take = left if left <= MOST_ROWS else (MOST_ROWS if left >= 2 * MOST_ROWS else (left + 1) // 2)
            a, b = x + 4 * row * x_stride, out + 4 * row * out_stride
            column, width = block, WIDTHS[take - 1]
            while column < stop:
                wide = column + width <= stop
                tile = tiles[kind + (0 if wide else NARROW) + take - 1]
                call(tile, a, x_stride, weight + size * column, weight_stride, b + 4 * column, out_stride, inner)
                column += width if wide else LANES
            row += take


@jit
def add_rows_times(tiles, size, x, x_stride, rows, weight, weight_stride, inner, columns, out, out_stride):
    """`out += x @ weight` for columns that fill vectors."""
    kind = ADDING if size == 4 else ADDING_BFLOAT16
    _tiled(tiles, kind, size, x, x_stride, rows, weight, weight_stride, inner, columns, out, out_stride)


@jit
def rows_times(tiles, size, x, x_stride, rows, weight, weight_stride, inner, columns, out, out_stride):
    """`out = x @ weight` for a weight `[inner, columns]`; addresses and strides as tiles take them.

    Args:
        size: bytes of a number of the weight.
    """
    kind, full = 0 if size == 4 else BFLOAT16, columns // LANES * LANES
    _tiled(tiles, kind, size, x, x_stride, rows, weight, weight_stride, inner, full, out, out_stride)
    for row in range(rows):
        for column in range(full, columns):
            total = np.float32(0)
            for k in range(inner):
                number = weight + size * (k * weight_stride + column)
                factor = read(number) if size == 4 else read_bfloat16(number)
                total += read(x + 4 * (row * x_stride + k)) * factor
            write(total, out + 4 * (row * out_stride + column))


@jit
def rows_dot(tiles, size, x, x_stride, rows, keys, key_stride, inner, count, out, out_stride):
    """`out[row, key] = x[row] . keys[key]` for `count` keys; the inner size fills vectors."""
    kind = 0 if size == 4 else BFLOAT16
    row = 0
    while row < rows:
        few = rows - row < DOT_ROWS
        a, b, key, many = x + 4 * row * x_stride, out + 4 * row * out_stride, 0, KEYS_OF_ONE if few else KEYS_OF_FOUR
        while key < count:
            together = key + many <= count
            tile = tiles[kind + (DOTS if together else DOT) + (0 if few else 1)]
            call(tile, a, x_stride, keys + size * key * key_stride, key_stride, b + 4 * key, out_stride, inner)
            key += many if together else 1
        row += 1 if few else DOT_ROWS
