"""The parts of a decoding step, each with its norm: what `model.decoder` computes, for one token per sequence."""

from __future__ import annotations

import numpy as np

from s1pro.kernels.compiled.attention import attend
from s1pro.kernels.compiled.elementwise import added, exp_from, keep, largest, scaled, sum_of_squares, to_bfloat16
from s1pro.kernels.compiled.jit import jit, kept_jit
from s1pro.kernels.compiled.products import rows_times
from s1pro.kernels.compiled.vectors import LANES


@kept_jit
def attention_block(
    tiles, h_BD, norm_D, qkv_DN, q_norm_C, k_norm_C, cos_BNC, sin_BNC, o_ND, eps,
    slots_N2JC, slots_B, table_BM, lengths_B, block_size,
):  # fmt: skip
    """`h += o(attention(turn(norm(qkv(norm(h))))))`; keys and values go into their slots.

    The cosines and sines of queries contain the scale of attention.
    """
    batch, hidden = h_BD.shape
    channels, kv_heads, width = q_norm_C.shape[0], slots_N2JC.shape[2], qkv_DN.shape[1]
    heads = width // channels - 2 * kv_heads
    x, qkv_BNC = np.empty((batch, hidden), np.float32), np.empty((batch, width // channels, channels), np.float32)
    _norm_rows(h_BD, norm_D, eps, x)
    qkv = qkv_BNC.ctypes.data
    rows_times(
        tiles, qkv_DN.itemsize, x.ctypes.data, hidden, batch, qkv_DN.ctypes.data, width, hidden, width, qkv, width
    )
    unit = np.empty(channels, np.float32)
    for b in range(batch):
        for n in range(heads + kv_heads):
            head, norm_C = qkv + 4 * (b * width + n * channels), q_norm_C if n < heads else k_norm_C
            scaled(head, norm_C.ctypes.data, _inverse_rms(head, channels, eps), unit.ctypes.data, channels)
            _turn(unit, cos_BNC[b, n], sin_BNC[b, n], qkv_BNC[b, n])
        _put_in_slot(qkv_BNC[b], heads, slots_N2JC[slots_B[b]])
    o_BN = np.empty((batch, heads * channels), np.float32)
    attend(tiles, qkv_BNC, heads, slots_N2JC, table_BM, np.arange(batch), lengths_B, block_size, o_BN)
    o, inner = o_BN.ctypes.data, heads * channels
    rows_times(tiles, o_ND.itemsize, o, inner, batch, o_ND.ctypes.data, hidden, inner, hidden, x.ctypes.data, hidden)
    added(x.ctypes.data, h_BD.ctypes.data, batch * hidden)
    keep(qkv_BNC)
    keep(unit)
    keep(o_BN)
    keep(x)


@kept_jit
def router_block(
    tiles, h_BD, norm_D, gate_DE, eps, num_groups, normalise, renorm_eps, x_BD, logits_BE, ids_BK, weights_BK
):
    """`x = norm(h)` and what the router decides for it."""
    batch, hidden = h_BD.shape
    num_experts, logits = gate_DE.shape[1], logits_BE.ctypes.data
    _norm_rows(h_BD, norm_D, eps, x_BD)
    gate, size = gate_DE.ctypes.data, gate_DE.itemsize
    rows_times(
        tiles, size, x_BD.ctypes.data, hidden, batch, gate, num_experts, hidden, num_experts, logits, num_experts
    )
    _select(logits_BE, num_groups, normalise, renorm_eps, ids_BK, weights_BK)


@kept_jit
def head_block(tiles, h_BD, norm_D, head_DV, eps, hidden_BD, logits_BV):
    """The final norm, and the logits."""
    batch, hidden = h_BD.shape
    _norm_rows(h_BD, norm_D, eps, hidden_BD)
    head, hidden_rows = head_DV.ctypes.data, hidden_BD.ctypes.data
    words, logits = head_DV.shape[1], logits_BV.ctypes.data
    rows_times(tiles, head_DV.itemsize, hidden_rows, hidden, batch, head, words, hidden, words, logits, words)


@jit
def _norm_rows(h_BD, weight_D, eps, out_BD):
    batch, hidden = h_BD.shape
    for b in range(batch):
        row, out = h_BD.ctypes.data + 4 * b * hidden, out_BD.ctypes.data + 4 * b * hidden
        scaled(row, weight_D.ctypes.data, _inverse_rms(row, hidden, eps), out, hidden)


@jit
def _inverse_rms(address, count, eps):
    return np.float32(1) / np.sqrt(sum_of_squares(address, count) / np.float32(count) + eps)


@jit
def _turn(x_C, cos_C, sin_C, out_C):
    """The rotary turn of one head (`model.rope.turn`)."""
    half = x_C.shape[0] // 2
    for c in range(half):
        out_C[c] = x_C[c] * cos_C[c] + x_C[c + half] * sin_C[c]
    for c in range(half):
        out_C[c + half] = x_C[c + half] * cos_C[c + half] + x_C[c] * sin_C[c + half]


@jit
def _put_in_slot(qkv_NC, heads, slot_2JC):
    """Writes keys and values, which follow the queries, to a slot; in bfloat16 (as integers) rounded to even."""
    kv_heads, channels = slot_2JC.shape[1:]
    for j in range(kv_heads):
        for c in range(channels):
            key, value = qkv_NC[heads + j, c], qkv_NC[heads + kv_heads + j, c]
            if slot_2JC.itemsize == 4:
                slot_2JC[0, j, c], slot_2JC[1, j, c] = key, value
            else:
                slot_2JC[0, j, c], slot_2JC[1, j, c] = to_bfloat16(key), to_bfloat16(value)


@jit
def _select(logits_TE, num_groups, normalise, renorm_eps, ids_TK, weights_TK):
    """`model.router.route`: the likeliest experts of every group, best first, and their weights."""
    tokens, num_experts = logits_TE.shape
    per_group, top = num_experts // num_groups, ids_TK.shape[1] // num_groups
    padded = (num_experts + LANES - 1) // LANES * LANES
    probs = np.full(padded, -np.inf, np.float32)
    line = probs.ctypes.data
    for t in range(tokens):
        for e in range(num_experts):
            probs[e] = logits_TE[t, e]
        for e in range(num_experts, padded):
            probs[e] = -np.inf
        total, chosen = exp_from(line, padded, largest(line, padded)), np.float32(0)
        for g in range(num_groups):
            for k in range(top):
                best = g * per_group
                for e in range(best + 1, best + per_group):
                    if probs[e] > probs[best]:
                        best = e
                share = probs[best] / total
                ids_TK[t, g * top + k], weights_TK[t, g * top + k] = best, share
                chosen += share
                probs[best] = -1
        if normalise:
            for k in range(ids_TK.shape[1]):
                weights_TK[t, k] /= chosen + renorm_eps
    keep(probs)
