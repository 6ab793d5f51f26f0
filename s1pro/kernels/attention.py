"""Causal attention over an `AttentionContext`: where keys and values live, and which tokens see which.

* `PackedContext`: sequences lie one after another in `[T, H, C]`; a token sees its own sequence up to itself
  (training).
* `PagedContext`: new tokens are written to a `PagedKVCache` and see all cached tokens of their sequence up to
  themselves (generation, from the first prompt to single steps); `MixedContext` joins several of them in one pass.
* `StaticContext`: single steps that are recorded and replayed (`kernels.attention_static`).

H query heads share J key/value heads, H / J each. Keys and values are read where they are: sequences of equal length
are one batched call; in a decoding step the queries of one key/value head are treated as H / J rows of one sequence
(all see everything, no mask), and the cache of a batch whose sequences lie at equal distances is one strided view.
Only sequences scattered over the cache are gathered.

Which of these applies is found once per forward pass, not per layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, scaled_dot_product_attention

from s1pro.kernels import attention_compiled, attention_single, attention_static
from s1pro.kernels.attention_exact import KEY_BLOCK, Seen, attend, attend_step
from s1pro.kernels.attention_single import SingleViews
from s1pro.kernels.attention_static import StaticContext
from s1pro.kernels.paged_cache import PagedKVCache

GATHER_SLOTS = 32_768
"""Decoding steps whose padded batch needs more slots are computed sequence by sequence."""


@dataclass(frozen=True)
class PackedContext:
    """Bounds of packed sequences: sequence b is rows `cu_seqlens[b]` to `cu_seqlens[b + 1]`."""

    cu_seqlens: tuple[int, ...]

    @classmethod
    def from_lengths(cls, lengths: Sequence[int]) -> PackedContext:
        return cls((0, *accumulate(lengths)))

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in pairwise(self.cu_seqlens))


@dataclass(frozen=True)
class PagedContext:
    """New tokens of B sequences and where their keys and values go.

    Attributes:
        cache: of all layers.
        cu_seqlens_q: bounds of the new tokens per sequence.
        block_table_BM: blocks of each sequence, in order; rows may be padded with any block.
        context_lens: tokens per sequence including the new ones.
        slot_mapping_T: slot of each new token.
        first_slots: if each sequence occupies consecutive slots, its first one; spares a copy of the cache.
    """

    cache: PagedKVCache
    cu_seqlens_q: tuple[int, ...]
    block_table_BM: Tensor
    context_lens: tuple[int, ...]
    slot_mapping_T: Tensor
    first_slots: tuple[int, ...] | None = None

    @cached_property
    def fresh(self) -> PackedContext | None:
        """The packed view of a step in which no sequence has older tokens (a prompt's first pass)."""
        packed = PackedContext(self.cu_seqlens_q)
        return packed if packed.lengths == self.context_lens else None

    @cached_property
    def is_decoding(self) -> bool:
        """One new token per sequence, and few enough slots to treat them as one padded batch."""
        batch = len(self.context_lens)
        strided = self.stride is not None
        return self.cu_seqlens_q[-1] == batch and (strided or batch * max(self.context_lens) <= GATHER_SLOTS)

    @cached_property
    def stride(self) -> int | None:
        """Distance in slots between the sequences, if all distances are equal and the view stays in the cache."""
        first = self.first_slots
        if first is None:
            return None
        steps = {b - a for a, b in pairwise(first)} or {0}
        if len(steps) > 1 or min(steps) < 0 or first[-1] + max(self.context_lens) > self.cache.num_slots:
            return None
        return steps.pop()

    @cached_property
    def view_BJSC(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Shape, strides and offset of the strided view of a decoding batch, the latter from the first slot."""
        assert self.stride is not None and self.first_slots is not None
        slots_NJC = self.cache.key_slots[0]
        heads, channels = slots_NJC.shape[1:]
        row = slots_NJC.stride(0)
        shape = (len(self.context_lens), heads, max(self.context_lens), channels)
        return shape, (self.stride * row, channels, row, 1), self.first_slots[0] * row

    @cached_property
    def single(self) -> SingleViews | None:
        """Where the tokens of the only sequence lie, if there is one and they lie in a row."""
        if self.first_slots is None or len(self.first_slots) > 1:
            return None
        return SingleViews.of(self.cache.slots[0], self.first_slots[0], self.context_lens[0])

    @cached_property
    def bias_B11S(self) -> Tensor | None:
        """0 where a sequence has a token, minus infinity behind its end; None if all are equally long."""
        if len(set(self.context_lens)) == 1:
            return None
        cache = self.cache.key[0]
        lengths_B = torch.tensor(self.context_lens, device=cache.device)
        beyond_BS = torch.arange(max(self.context_lens), device=cache.device) >= lengths_B[:, None]
        bias_BS = torch.zeros(beyond_BS.shape, dtype=cache.dtype, device=cache.device)
        return bias_BS.masked_fill_(beyond_BS, -torch.inf)[:, None, None]

    @cached_property
    def slots_BS(self) -> Tensor:
        """Slot of every cached token, padded at the end with slots that exist."""
        size, longest = self.cache.block_size, max(self.context_lens)
        blocks_BM = self.block_table_BM[:, : -(-longest // size)]
        offsets = torch.arange(size, device=blocks_BM.device)
        return (blocks_BM[:, :, None] * size + offsets).flatten(1)[:, :longest]

    @cached_property
    def flat_slots(self) -> Tensor:
        return self.slots_BS.flatten()

    @cached_property
    def visible(self) -> tuple[Tensor, ...]:
        """Which cached tokens each new token of a sequence sees, bool `[new, length]` per sequence."""
        masks = []
        for (start, stop), length in zip(pairwise(self.cu_seqlens_q), self.context_lens, strict=True):
            mask = torch.ones(stop - start, length, dtype=torch.bool, device=self.slot_mapping_T.device)
            masks.append(mask.tril(length - (stop - start)))
        return tuple(masks)

    @cached_property
    def rows_of_blocks(self) -> Tensor:
        """For exact mode, rows of keys and then of values in the slots of a layer `[slots * 2 * J, C]`: as
        `[2, blocks, B, J, KEY_BLOCK]`."""
        kv_heads = self.cache.key_slots[0].shape[1]
        slots_BS = pad(self.slots_BS, (0, -max(self.context_lens) % KEY_BLOCK))
        slots_bB1N = slots_BS.unflatten(1, (-1, KEY_BLOCK)).transpose(0, 1)[:, :, None]
        row_211J1 = torch.arange(2 * kv_heads, device=slots_BS.device).view(2, 1, 1, kv_heads, 1)
        return (slots_bB1N * (2 * kv_heads) + row_211J1).flatten()

    @cached_property
    def places(self) -> attention_compiled.Places:
        """For exact mode by compiled code."""
        return attention_compiled.places(
            self.block_table_BM, self.cu_seqlens_q, self.context_lens, self.cache.block_size
        )

    @cached_property
    def seen(self) -> Seen:
        return Seen(self.context_lens, self.block_table_BM.device)


@dataclass(frozen=True)
class MixedContext:
    """Several paged contexts over one cache, whose rows lie one after another: each is computed in its own way.

    A step of an engine that decodes some sequences while it reads the prompts of others.
    """

    parts: tuple[PagedContext, ...]

    @cached_property
    def num_rows(self) -> tuple[int, ...]:
        return tuple(part.cu_seqlens_q[-1] for part in self.parts)


AttentionContext = PackedContext | PagedContext | MixedContext | StaticContext


def attention(
    q_THC: Tensor,
    k_TJC: Tensor,
    v_TJC: Tensor,
    context: AttentionContext,
    *,
    layer: int,
    scale: float,
    exact: bool = False,
) -> Tensor:
    """`softmax(scale q k^T) v` for every new token, `[T, H, C]`.

    Args:
        layer: index of the layer in the cache.
        scale: usually `C ** -0.5`.
        exact: the same bits whatever else is in the context (`kernels.exact`).
    """
    if isinstance(context, PackedContext):
        if exact:
            return _ExactPacked.apply(q_THC, k_TJC, v_TJC, context, scale)
        return _packed(q_THC, k_TJC, v_TJC, context, scale)
    if isinstance(context, StaticContext):
        assert not exact, "recorded steps are not exact"
        return attention_static.attend(q_THC, k_TJC, v_TJC, context, layer=layer, scale=scale)
    if isinstance(context, MixedContext):
        rows = zip(*(x.split(context.num_rows) for x in (q_THC, k_TJC, v_TJC)), context.parts, strict=True)
        return torch.cat([attention(q, k, v, part, layer=layer, scale=scale, exact=exact) for q, k, v, part in rows])
    context.cache.write(layer, k_TJC, v_TJC, context.slot_mapping_T)
    if exact:
        return _exact_paged(q_THC, context, layer, scale)
    if context.fresh is not None:
        return _packed(q_THC, k_TJC, v_TJC, context.fresh, scale)
    if context.is_decoding:
        return _decode(q_THC, context, layer, scale)
    return _extend(q_THC, context, layer, scale)


def attention_step(
    q_BHC: Tensor, kv_B2JC: Tensor, context: PagedContext, *, layer: int, scale: float, exact: bool = False
) -> Tensor:
    """`attention` where every sequence has one new token, after older ones; keys and values in one tensor."""
    context.cache.write_both(layer, kv_B2JC, context.slot_mapping_T)
    if exact:
        return _exact_paged(q_BHC, context, layer, scale)
    return _decode(q_BHC, context, layer, scale) if context.is_decoding else _extend(q_BHC, context, layer, scale)


def attention_reference(q_THC: Tensor, k_TJC: Tensor, v_TJC: Tensor, context: PackedContext, *, scale: float) -> Tensor:
    """The definition, sequence by sequence and head by head, in plain operations."""
    heads, groups = q_THC.shape[1], k_TJC.shape[1]
    out = torch.zeros_like(q_THC)
    for start, stop in pairwise(context.cu_seqlens):
        hidden = torch.ones(stop - start, stop - start, dtype=torch.bool, device=q_THC.device).triu(1)
        for h in range(heads):
            j = h * groups // heads
            scores = scale * q_THC[start:stop, h] @ k_TJC[start:stop, j].T
            out[start:stop, h] = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v_TJC[start:stop, j]
    return out


def _packed(q_THC: Tensor, k_TJC: Tensor, v_TJC: Tensor, context: PackedContext, scale: float) -> Tensor:
    lengths = context.lengths
    if len(set(lengths)) == 1:
        q, k, v = (x.view(len(lengths), lengths[0], *x.shape[1:]).transpose(1, 2) for x in (q_THC, k_TJC, v_TJC))
        out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        return out.transpose(1, 2).reshape(q_THC.shape)
    outs = []
    for q_SHC, k_SJC, v_SJC in zip(*(x.split(lengths) for x in (q_THC, k_TJC, v_TJC)), strict=True):
        q, k, v = (x.transpose(0, 1)[None] for x in (q_SHC, k_SJC, v_SJC))
        out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        outs.append(out[0].transpose(0, 1))
    return torch.cat(outs)


def _decode(q_BHC: Tensor, context: PagedContext, layer: int, scale: float) -> Tensor:
    cache = context.cache
    if context.single is not None and attention_single.is_supported(q_BHC):
        return attention_single.attend_single(q_BHC, cache.slots[layer], context.single, scale)
    if context.stride is None:
        kv_BS2JC = cache.slots[layer].index_select(0, context.flat_slots).unflatten(0, context.slots_BS.shape)
        k_BJSC, v_BJSC = kv_BS2JC.transpose(1, 3).unbind(2)
    else:
        k_BJSC, v_BJSC = (_strided(slots[layer], context) for slots in (cache.key_slots, cache.value_slots))
    q_BJGC = q_BHC.unflatten(1, (k_BJSC.shape[1], -1))
    out = scaled_dot_product_attention(q_BJGC, k_BJSC, v_BJSC, attn_mask=context.bias_B11S, scale=scale)
    return out.reshape(q_BHC.shape)


def _strided(slots_NJC: Tensor, context: PagedContext) -> Tensor:
    """Cached keys or values of a decoding batch whose sequences lie at equal distances, `[B, J, S, C]`."""
    shape, strides, offset = context.view_BJSC
    return slots_NJC.as_strided(shape, strides, slots_NJC.storage_offset() + offset)


def _extend(q_THC: Tensor, context: PagedContext, layer: int, scale: float) -> Tensor:
    """Several new tokens after older ones, sequence by sequence."""
    cache, outs = context.cache, []
    for b, (start, stop) in enumerate(pairwise(context.cu_seqlens_q)):
        k, v = (_of_sequence(slots[layer], context, b) for slots in (cache.key_slots, cache.value_slots))
        q = q_THC[start:stop].transpose(0, 1)[None]
        repeated = _repeats_heads(q.device)
        if repeated:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        out = scaled_dot_product_attention(q, k, v, attn_mask=context.visible[b], scale=scale, enable_gqa=not repeated)
        outs.append(out[0].transpose(0, 1))
    return torch.cat(outs)


def _repeats_heads(device: torch.device) -> bool:
    """On a GPU the kernel that takes a mask knows no groups of heads; without it all scores would exist at once."""
    return device.type == "cuda"


def _of_sequence(slots_NJC: Tensor, context: PagedContext, b: int) -> Tensor:
    """Cached keys or values of one sequence, `[1, J, S, C]`."""
    length, size = context.context_lens[b], context.cache.block_size
    if context.first_slots is not None:
        first = context.first_slots[b]
        return slots_NJC[first : first + length].transpose(0, 1)[None]
    blocks = context.block_table_BM[b, : -(-length // size)]
    cached = slots_NJC.unflatten(0, (-1, size))[blocks].flatten(0, 1)[:length]
    return cached.transpose(0, 1)[None]


def _exact_paged(q_THC: Tensor, context: PagedContext, layer: int, scale: float) -> Tensor:
    if attention_compiled.is_supported(q_THC):
        return attention_compiled.paged(q_THC, context.cache.slots[layer], context.places, scale)
    if context.is_decoding:
        rows = context.cache.slots[layer].view(-1, q_THC.shape[2]).index_select(0, context.rows_of_blocks)
        keys, values = rows.chunk(2)
        return attend_step(q_THC, keys, values, context.seen, scale)
    key, value = context.cache.key_slots[layer], context.cache.value_slots[layer]
    outs = []
    for b, (start, stop) in enumerate(pairwise(context.cu_seqlens_q)):
        k, v = (_of_sequence(slots, context, b)[0].transpose(0, 1) for slots in (key, value))
        outs.append(attend(q_THC[start:stop], k, v, scale))
    return torch.cat(outs)


class _ExactPacked(torch.autograd.Function):
    """Exact forwards; the gradient is that of the usual way, which is computed again for it."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, context: PackedContext, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.context, ctx.scale = context, scale
        if attention_compiled.is_supported(q):
            return attention_compiled.packed(q, k, v, context.lengths, scale)
        pieces = zip(*(x.split(context.lengths) for x in (q, k, v)), strict=True)
        return torch.cat([attend(q_SHC, k_SJC, v_SJC, scale) for q_SHC, k_SJC, v_SJC in pieces])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            q, k, v = (x.detach().requires_grad_() for x in ctx.saved_tensors)
            out = _packed(q, k, v, ctx.context, ctx.scale)
        return *torch.autograd.grad(out, (q, k, v), grad), None, None
