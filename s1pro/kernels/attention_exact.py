"""Causal attention in exact mode (`kernels.exact`): the same bits in training, prefill, chunks and single steps.

The rows of one key/value head are its H / J query heads at every new position. They are taken `QUERY_ROWS` at a time
(the last tile is filled with zeros) against `KEY_BLOCK` keys at a time, blocks counted from position 0 of the sequence:

    s_b = q k_b^T            one product of fixed shape per tile and block
    m = max over all blocks, p_b = exp(s_b - m)
    l = sum_b sum(p_b),  o = sum_b p_b v_b      block by block, in order

A block behind a row adds exact zeros, so it does not matter how many of them there are: a row does not know how long
its sequence is going to be. All in float32 at least. Memory is bounded by taking some tiles at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

QUERY_ROWS = 16
KEY_BLOCK = 64

SCORES = 1 << 22
"""Scores that are held at once, roughly."""


def attend(q_SHC: Tensor, k_NJC: Tensor, v_NJC: Tensor, scale: float) -> Tensor:
    """The last S tokens of one sequence of N, `[S, H, C]`; each sees all keys up to its own."""
    new, heads, channels = q_SHC.shape
    if new == 0:
        return q_SHC
    length, kv_heads = k_NJC.shape[:2]
    keys, values = (_blocks(x_NJC[None])[:, 0] for x_NJC in (k_NJC, v_NJC))
    q_JRC = (_wide(q_SHC) * scale).view(new, kv_heads, -1, channels).transpose(0, 1).reshape(kv_heads, -1, channels)
    group = heads // kv_heads
    position_R = torch.arange(length - new, length, device=q_SHC.device).repeat_interleave(group)
    tiles, position_XM = _tiles(q_JRC), _tiles(position_R[None, :, None])[0, :, :, 0]
    outs = [_rows(tiles[j], position_XM, keys[:, j], values[:, j]) for j in range(kv_heads)]
    o_JRC = torch.stack(outs).flatten(1, 2)[:, : new * group]
    return o_JRC.view(kv_heads, new, group, channels).transpose(0, 1).reshape(q_SHC.shape).to(q_SHC.dtype)


def attend_step(q_BHC: Tensor, k_BNJC: Tensor, v_BNJC: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """One new token of each of B sequences, `[B, H, C]`; sequence b has `lengths[b]` of the N keys, the rest is filled
    with any finite numbers."""
    batch, heads, channels = q_BHC.shape
    kv_heads = k_BNJC.shape[2]
    keys, values = (_blocks(x_BNJC).flatten(1, 2) for x_BNJC in (k_BNJC, v_BNJC))
    tiles = _tiles((_wide(q_BHC) * scale).view(batch * kv_heads, -1, channels))
    position_X = torch.tensor(lengths, device=q_BHC.device).repeat_interleave(kv_heads) - 1
    outs = []
    for x in range(tiles.shape[1]):  # one unless more than QUERY_ROWS heads share their keys
        position_XM = position_X[:, None].expand(-1, QUERY_ROWS)
        outs.append(_rows(tiles[:, x], position_XM, keys[:, :, None], values[:, :, None], each=True))
    o_YRC = torch.cat(outs, dim=1)[:, : heads // kv_heads]
    return o_YRC.reshape(q_BHC.shape).to(q_BHC.dtype)


def _rows(q_XMC: Tensor, position_XM: Tensor, keys: Tensor, values: Tensor, *, each: bool = False) -> Tensor:
    """The tiles against their blocks, some tiles at a time: `[X, M, C]`.

    Args:
        position_XM: ascending, unless `each`.
        keys, values: `[blocks, KEY_BLOCK, C]`, or `[blocks, X, 1, KEY_BLOCK, C]` if `each` tile has its own.
    """
    count = max(1, SCORES // (keys.shape[0] * QUERY_ROWS * KEY_BLOCK))
    outs = []
    for start in range(0, q_XMC.shape[0], count):
        part = slice(start, start + count)
        position = position_XM[part]
        blocks = int(position.max()) // KEY_BLOCK + 1
        if each:
            k, v = keys[:blocks, part, 0], values[:blocks, part, 0]
        else:
            k, v = (x[:blocks, None].expand(-1, len(position), -1, -1) for x in (keys, values))
        firsts = [0] * blocks if each else _first_tiles(position, blocks)
        outs.append(_some_rows(q_XMC[part], position, k, v, firsts))
    return torch.cat(outs)


def _some_rows(q_XMC: Tensor, position_XM: Tensor, k_bXNC: Tensor, v_bXNC: Tensor, firsts: list[int]) -> Tensor:
    tiles, rows, _ = q_XMC.shape
    scores = q_XMC.new_full((len(firsts), tiles, rows, KEY_BLOCK), -torch.inf)
    for b, first in enumerate(firsts):
        torch.bmm(q_XMC[first:], k_bXNC[b, first:].transpose(1, 2), out=scores[b, first:])
    key_b11N = torch.arange(len(firsts) * KEY_BLOCK, device=q_XMC.device).view(-1, 1, 1, KEY_BLOCK)
    scores.masked_fill_(key_b11N > position_XM[:, :, None], -torch.inf)
    scores.sub_(scores.amax(dim=(0, 3), keepdim=True)).exp_()
    total_XM = scores.sum(dim=3).cumsum(dim=0)[-1]
    out = torch.zeros_like(q_XMC)
    for b, first in enumerate(firsts):
        out[first:] += torch.bmm(scores[b, first:], v_bXNC[b, first:])
    return out / total_XM[:, :, None]


def _first_tiles(position_XM: Tensor, blocks: int) -> list[int]:
    """For every block the first tile with a row that sees it."""
    last = position_XM.amax(dim=1).tolist()
    return [next(x for x, position in enumerate(last) if position >= b * KEY_BLOCK) for b in range(blocks)]


def _tiles(x_YRC: Tensor) -> Tensor:
    """`[Y, X, QUERY_ROWS, C]`, filled with zeros."""
    return pad(x_YRC, (0, 0, 0, -x_YRC.shape[1] % QUERY_ROWS)).unflatten(1, (-1, QUERY_ROWS))


def _blocks(x_BNJC: Tensor) -> Tensor:
    """`[blocks, B, J, KEY_BLOCK, C]`, in one piece, filled with zeros."""
    filled = pad(_wide(x_BNJC), (0, 0, 0, 0, 0, -x_BNJC.shape[1] % KEY_BLOCK))
    return filled.unflatten(1, (-1, KEY_BLOCK)).permute(1, 0, 3, 2, 4).contiguous()


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
