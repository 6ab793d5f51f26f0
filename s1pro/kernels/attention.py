"""Attention over an `AttentionContext`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from s1pro.kernels.paged_cache import PagedKVCache


@dataclass(frozen=True)
class PackedContext:
    cu_seqlens: tuple[int, ...]

    @classmethod
    def from_lengths(cls, lengths: Sequence[int]) -> PackedContext:
        return cls((0, *accumulate(lengths)))


@dataclass(frozen=True)
class PagedContext:
    cache: PagedKVCache
    cu_seqlens_q: tuple[int, ...]
    block_table_BM: Tensor
    context_lens: tuple[int, ...]
    slot_mapping_T: Tensor


AttentionContext = PackedContext | PagedContext


def attention(
    q_THC: Tensor, k_TJC: Tensor, v_TJC: Tensor, context: AttentionContext, *, layer: int, scale: float
) -> Tensor:
    if isinstance(context, PackedContext):
        bounds = context.cu_seqlens
        lengths = [b - a for a, b in zip(bounds, bounds[1:], strict=False)]
        if len(set(lengths)) == 1:
            parts = [x.view(len(lengths), lengths[0], *x.shape[1:]).transpose(1, 2) for x in (q_THC, k_TJC, v_TJC)]
            out = scaled_dot_product_attention(*parts, is_causal=True, scale=scale, enable_gqa=True)
            return out.transpose(1, 2).reshape(q_THC.shape)
        outs = [
            scaled_dot_product_attention(
                *(x.transpose(0, 1)[None] for x in qkv), is_causal=True, scale=scale, enable_gqa=True
            )
            for qkv in zip(q_THC.split(lengths), k_TJC.split(lengths), v_TJC.split(lengths), strict=True)
        ]
        return torch.cat([out[0].transpose(0, 1) for out in outs])
    context.cache.write(layer, k_TJC, v_TJC, context.slot_mapping_T)
    outs = []
    for b, length in enumerate(context.context_lens):
        start, stop = context.cu_seqlens_q[b], context.cu_seqlens_q[b + 1]
        blocks = context.block_table_BM[b, : -(-length // context.cache.block_size)]
        k = context.cache.key[layer][blocks].flatten(0, 1)[:length].transpose(0, 1)[None]
        v = context.cache.value[layer][blocks].flatten(0, 1)[:length].transpose(0, 1)[None]
        q = q_THC[start:stop].transpose(0, 1)[None]
        new = stop - start
        mask = torch.ones(new, length, dtype=torch.bool, device=q.device).tril(length - new)
        outs.append(
            scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)[0].transpose(0, 1)
        )
    return torch.cat(outs)
