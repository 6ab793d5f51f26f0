"""Attention of new tokens over a paged cache.

Keys and values are read where they lie, block by block; blocks that follow each other are one run. For the H / J query
heads of a key/value head: scores against all keys, their exponentials, and the weighted sum of values. A token does not
know of the others, so nothing is padded or gathered; and its sums have one order, wherever its blocks lie, so that it
has the same bits in any company (exact mode, `kernels.attention_compiled`).
"""

from __future__ import annotations

import numpy as np

from s1pro.kernels.compiled.elementwise import exp_from, filled, keep, largest
from s1pro.kernels.compiled.jit import jit, kept_jit
from s1pro.kernels.compiled.products import add_rows_times, rows_dot
from s1pro.kernels.compiled.vectors import LANES


@kept_jit
def attend(tiles, q_TNC, num_heads, slots_N2JC, table_BM, rows_T, lengths_T, block_size, out_TD):
    """`softmax(q k^T) v` of the first `num_heads` heads of q, which contains the scale.

    Token t sees the first `lengths_T[t]` tokens of the blocks in row `rows_T[t]` of the table.
    """
    tokens, q_heads, channels = q_TNC.shape
    kv_heads = slots_N2JC.shape[2]
    group, row, size = num_heads // kv_heads, 2 * kv_heads * channels, slots_N2JC.itemsize
    stride = (lengths_T.max() + LANES - 1) // LANES * LANES
    scores, totals = np.empty(group * stride, np.float32), np.empty(group, np.float32)
    base = scores.ctypes.data
    for t in range(tokens):
        b, length = rows_T[t], lengths_T[t]
        for j in range(kv_heads):
            q = q_TNC.ctypes.data + 4 * (t * q_heads + j * group) * channels
            out = out_TD.ctypes.data + 4 * (t * num_heads + j * group) * channels
            keys = slots_N2JC.ctypes.data + size * j * channels
            values, done = keys + size * kv_heads * channels, 0
            while done < length:
                first, count = _run(table_BM, b, done, length, block_size)
                line = keys + size * first * row
                rows_dot(tiles, size, q, channels, group, line, row, channels, count, base + 4 * done, stride)
                done += count
            for g in range(group):
                totals[g] = _exponentials(scores, g * stride, length)
            filled(out, np.float32(0), group * channels)
            done = 0
            while done < length:
                first, count = _run(table_BM, b, done, length, block_size)
                line = values + size * first * row
                add_rows_times(tiles, size, base + 4 * done, stride, group, line, row, count, channels, out, channels)
                done += count
            for g in range(group):
                for c in range(channels):
                    out_TD[t, (j * group + g) * channels + c] /= totals[g]
    keep(scores)


@jit
def _run(table_BM, b, done, length, block_size):
    """First slot and number of the tokens from the beginning of a block that lie in a row."""
    i = done // block_size
    first, stop = table_BM[b, i] * block_size, done + block_size
    while stop < length and table_BM[b, i + 1] == table_BM[b, i] + 1:
        i, stop = i + 1, stop + block_size
    return first, min(stop, length) - done


@jit
def _exponentials(scores, first, length):
    """Of the scores from `first` on, minus the largest; their sum."""
    padded = (length + LANES - 1) // LANES * LANES
    for s in range(first + length, first + padded):
        scores[s] = -np.inf
    line = scores.ctypes.data + 4 * first
    return exp_from(line, padded, largest(line, padded))
