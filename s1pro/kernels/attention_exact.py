"""Causal attention in exact mode (`kernels.exact`): the same bits in training, prefill, chunks and single steps.

The rows of one key/value head are its H / J query heads at every new position. They are taken `QUERY_ROWS` at a time
(the last tile is filled with zeros) against `KEY_BLOCK` keys at a time, blocks counted from position 0 of the sequence:

    s_b = q k_b^T            one product of fixed shape per tile and block
    m = max over all blocks, p_b = exp(max(s_b - m, LEAST)), and 0 for hidden keys
    l = sum_b sum(p_b),  o = sum_b p_b v_b      block by block, in order

A block behind a row adds exact zeros, so it does not matter how many of them there are: a row does not know how long
its sequence is going to be. All in float32 at least. Memory is bounded by taking some tiles at a time. The
exponential of the library is up to fifty times slower where its result is nearly nothing; hence `LEAST`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

QUERY_ROWS = 16
KEY_BLOCK = 64

SCORES = 1 << 22
"""Scores that are held at once, roughly."""

LEAST = -80.0
"""Exponents below count as this: 1.8e-35."""


class Seen:
    """What all layers of a decoding step share: which keys are seen, and memory for tiles, which are few and small but
    many times as expensive to make as to fill.

    Attributes:
        blocks, batch: number of blocks of the longest sequence, and of sequences.
        bias_bB11N, seen_bB11N: minus infinity and 0 for keys behind the end of a sequence, 0 and 1 before.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.blocks, self.batch = -(-max(lengths) // KEY_BLOCK), len(lengths)
        key_b1N = torch.arange(self.blocks * KEY_BLOCK, device=device).view(self.blocks, 1, KEY_BLOCK)
        seen_bBN = (key_b1N < torch.tensor(lengths, device=device)[:, None]).to(torch.float32)
        self.seen_bB11N = seen_bBN[:, :, None, None]
        self.bias_bB11N = self.seen_bB11N.log()
        self._tiles: list[_StepTile] = []

    def tiles(self, kv_heads: int, group: int, values: Tensor) -> list[_StepTile]:
        """For the `group` query heads of each key/value head, `QUERY_ROWS` at a time."""
        if not self._tiles:
            shape = (self.blocks, self.batch, kv_heads)
            firsts = range(0, group, QUERY_ROWS)
            self._tiles = [_StepTile(first, min(group - first, QUERY_ROWS), shape, values) for first in firsts]
        return self._tiles


class _StepTile:
    """Memory of one tile of every block, sequence and key/value head. Rows that only fill it cost as much as others
    where numbers are taken one by one: `scores` and `parts` are views without them."""

    def __init__(self, first: int, rows: int, shape: tuple[int, int, int], values: Tensor) -> None:
        self.heads = slice(first, first + rows)
        q_bBJMC = values.new_zeros(*shape, QUERY_ROWS, values.shape[-1])
        scores_bBJMN = values.new_empty(*shape, QUERY_ROWS, KEY_BLOCK)
        parts_bBJMC = torch.empty_like(q_bBJMC)
        self.place, self.scores = q_bBJMC[..., :rows, :], scores_bBJMN[..., :rows, :]
        self.parts = parts_bBJMC[..., :rows, :].unbind()
        self.all_rows = tuple(x.flatten(0, 2) for x in (q_bBJMC, scores_bBJMN, parts_bBJMC))


def attend(q_SHC: Tensor, k_NJC: Tensor, v_NJC: Tensor, scale: float) -> Tensor:
    """The last S tokens of one sequence of N, `[S, H, C]`; each sees all keys up to its own."""
    new, heads, channels = q_SHC.shape
    if new == 0:
        return q_SHC
    length, kv_heads = k_NJC.shape[:2]
    filled = (pad(x_NJC, (0, 0, 0, 0, 0, -length % KEY_BLOCK)) for x_NJC in (k_NJC, v_NJC))
    keys, values = (in_blocks(x_NJC[None])[:, 0] for x_NJC in filled)
    q_JRC = (_wide(q_SHC) * scale).view(new, kv_heads, -1, channels).transpose(0, 1).reshape(kv_heads, -1, channels)
    group = heads // kv_heads
    position_R = torch.arange(length - new, length, device=q_SHC.device).repeat_interleave(group)
    tiles, position_XM = _tiles(q_JRC), _tiles(position_R[None, :, None])[0, :, :, 0]
    outs = [_rows(tiles[j], position_XM, keys[:, j], values[:, j]) for j in range(kv_heads)]
    o_JRC = torch.stack(outs).flatten(1, 2)[:, : new * group]
    return o_JRC.view(kv_heads, new, group, channels).transpose(0, 1).reshape(q_SHC.shape).to(q_SHC.dtype)


def attend_step(q_BHC: Tensor, keys: Tensor, values: Tensor, seen: Seen, scale: float) -> Tensor:
    """One new token of each of B sequences, `[B, H, C]`.

    Args:
        keys, values: rows of C numbers in the order `[blocks, B, J, KEY_BLOCK]`; behind the end of a sequence there may
            be any finite numbers.
        seen: of these sequences, made once for all layers.
    """
    _, heads, channels = q_BHC.shape
    keys, values = _wide(keys).view(-1, KEY_BLOCK, channels).mT, _wide(values).view(-1, KEY_BLOCK, channels)
    kv_heads = len(values) // (seen.blocks * seen.batch)
    q_BJGC = _wide(q_BHC).view(seen.batch, kv_heads, -1, channels)
    outs: list[Tensor] = []
    for tile in seen.tiles(kv_heads, heads // kv_heads, values):
        torch.mul(q_BJGC[:, :, tile.heads].expand(seen.blocks, -1, -1, -1, -1), scale, out=tile.place)
        q_XMC, scores_XMN, parts_XMC = tile.all_rows
        torch.bmm(q_XMC, keys, out=scores_XMN)
        _exponentials(tile.scores.add_(seen.bias_bB11N)).mul_(seen.seen_bB11N)
        torch.bmm(scores_XMN, values, out=parts_XMC)
        first, *others = tile.parts
        for part in others:
            first += part
        outs.append(first.div(_total(tile.scores)[..., None]))
    o_BJGC = outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)
    return o_BJGC.reshape(q_BHC.shape).to(q_BHC.dtype)


def in_blocks(x_BNJC: Tensor) -> Tensor:
    """`[blocks, B, J, KEY_BLOCK, C]`, in one piece; N is a multiple of `KEY_BLOCK`."""
    return _wide(x_BNJC).unflatten(1, (-1, KEY_BLOCK)).permute(1, 0, 3, 2, 4).contiguous()


def _exponentials(scores: Tensor) -> Tensor:
    """Of scores `[blocks, …, KEY_BLOCK]` less their largest, in place."""
    return scores.sub_(scores.amax(dim=(0, -1), keepdim=True)).clamp_(min=LEAST).exp_()


def _total(scores: Tensor) -> Tensor:
    """Sums of blocks, added in order."""
    sums = scores.sum(dim=-1)
    return sums[0] if len(sums) == 1 else sums.cumsum(dim=0)[-1]


def _rows(q_XMC: Tensor, position_XM: Tensor, keys_bNC: Tensor, values_bNC: Tensor) -> Tensor:
    """The tiles of one head of one sequence against its blocks, some tiles at a time: `[X, M, C]`."""
    count = max(1, SCORES // (len(keys_bNC) * QUERY_ROWS * KEY_BLOCK))
    outs = []
    for q, position in zip(q_XMC.split(count), position_XM.split(count), strict=True):
        firsts = _first_tiles(position)
        scores = q.new_empty(len(firsts), *q.shape[:2], KEY_BLOCK)
        for b, first in enumerate(firsts):
            keys = keys_bNC[b].t().expand(len(q) - first, -1, -1)
            torch.bmm(q[first:], keys, out=scores[b, first:])
        key_b11N = torch.arange(len(firsts) * KEY_BLOCK, device=q.device).view(-1, 1, 1, KEY_BLOCK)
        hidden = key_b11N > position[:, :, None]
        _exponentials(scores.masked_fill_(hidden, -torch.inf)).masked_fill_(hidden, 0)
        total_XM = _total(scores)
        out = torch.zeros_like(q)
        for b, first in enumerate(firsts):
            out[first:] += torch.bmm(scores[b, first:], values_bNC[b].expand(len(q) - first, -1, -1))
        outs.append(out.div_(total_XM[:, :, None]))
    return torch.cat(outs)


def _first_tiles(position_XM: Tensor) -> list[int]:
    """For every block that any row sees, the first tile with such a row."""
    last = position_XM.amax(dim=1).tolist()
    firsts: list[int] = []
    for x, position in enumerate(last):
        firsts.extend([x] * (position // KEY_BLOCK + 1 - len(firsts)))
    return firsts


def _tiles(x_YRC: Tensor) -> Tensor:
    """`[Y, X, QUERY_ROWS, C]`, filled with zeros."""
    return pad(x_YRC, (0, 0, 0, -x_YRC.shape[1] % QUERY_ROWS)).unflatten(1, (-1, QUERY_ROWS))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float32 else x.to(torch.promote_types(x.dtype, torch.float32))
