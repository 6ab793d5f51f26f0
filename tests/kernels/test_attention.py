"""Packed and paged attention against the definition, for every way a cache can be laid out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from s1pro.kernels.attention import PackedContext, PagedContext, attention, attention_reference
from s1pro.kernels.paged_cache import PagedKVCache

HEADS, GROUPS, CHANNELS = 6, 2, 8
SCALE = 0.3
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def qkv(tokens: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    heads = (HEADS, GROUPS, GROUPS)
    q, k, v = (torch.randn(tokens, h, CHANNELS, generator=g, dtype=torch.float64).to(dtype) for h in heads)
    return q, k, v


@pytest.mark.parametrize("lengths", [(7,), (5, 5, 5), (1, 9, 4), (1, 1, 1), (3, 0, 2)])
def test_packed_values_and_gradients(lengths: tuple[int, ...]) -> None:
    context = PackedContext.from_lengths(lengths)
    mine, plain = ([x.requires_grad_() for x in qkv(sum(lengths), dtype=torch.float64)] for _ in range(2))
    out = attention(*mine, context, layer=0, scale=SCALE)
    expected = attention_reference(*plain, context, scale=SCALE)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-10)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for got, want in zip(
        torch.autograd.grad(out, mine, weight), torch.autograd.grad(expected, plain, weight), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-11, rtol=1e-9)


class Decoder:
    """Feeds sequences to a paged cache in steps and compares with the packed result over all tokens."""

    def __init__(self, lengths: Sequence[int], table_BM: Sequence[Sequence[int]], block_size: int, blocks: int) -> None:
        self.table_BM, self.block_size = torch.tensor(table_BM), block_size
        self.cache = PagedKVCache(2, blocks, block_size, GROUPS, CHANNELS)
        self.sequences = [qkv(length, seed) for seed, length in enumerate(lengths)]
        self.done = [0] * len(lengths)
        torch.nn.init.normal_(self.cache.key[1])  # what other sequences left behind must not matter

    def step(self, new: Sequence[int], first_slots: tuple[int, ...] | None = None) -> tuple[PagedContext, Tensor]:
        slots, parts = [], []
        for b, count in enumerate(new):
            places = torch.arange(self.done[b], self.done[b] + count)
            slots.append(self.table_BM[b, places // self.block_size] * self.block_size + places % self.block_size)
            parts.append([x[self.done[b] : self.done[b] + count] for x in self.sequences[b]])
            self.done[b] += count
        context = PagedContext(
            cache=self.cache,
            cu_seqlens_q=PackedContext.from_lengths(new).cu_seqlens,
            block_table_BM=self.table_BM,
            context_lens=tuple(self.done),
            slot_mapping_T=torch.cat(slots),
            first_slots=first_slots,
        )
        q, k, v = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return context, attention(q, k, v, context, layer=1, scale=SCALE)

    def expected(self, new: Sequence[int]) -> Tensor:
        outs = []
        for (q, k, v), count, done in zip(self.sequences, new, self.done, strict=True):
            packed = PackedContext.from_lengths([done])
            outs.append(attention_reference(q[:done], k[:done], v[:done], packed, scale=SCALE)[done - count :])
        return torch.cat(outs)


SCATTERED = [[3, 0, 5], [1, 7, 2], [6, 4, 8]]
EQUAL_DISTANCES = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
UNEQUAL_DISTANCES = [[5, 6, 7], [0, 1, 2], [8, 9, 10]]


def first_slots(table: list[list[int]], block_size: int) -> tuple[int, ...] | None:
    return None if table is SCATTERED else tuple(row[0] * block_size for row in table)


@pytest.mark.parametrize("table", [SCATTERED, EQUAL_DISTANCES, UNEQUAL_DISTANCES])
@pytest.mark.parametrize("lengths", [(9, 9, 9), (9, 5, 7)])
def test_prompt_then_single_steps(table: list[list[int]], lengths: tuple[int, ...]) -> None:
    decoder = Decoder([length + 2 for length in lengths], table, block_size=4, blocks=11)
    first = first_slots(table, 4)
    context, out = decoder.step(lengths, first)
    assert context.fresh is not None
    torch.testing.assert_close(out, decoder.expected(lengths), **CLOSE)
    for _ in range(2):
        context, out = decoder.step((1, 1, 1), first)
        assert context.is_decoding and context.fresh is None
        assert (context.stride is not None) == (table is EQUAL_DISTANCES)
        torch.testing.assert_close(out, decoder.expected((1, 1, 1)), **CLOSE)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("table", [SCATTERED, EQUAL_DISTANCES])
def test_several_new_tokens_after_old_ones(
    table: list[list[int]], repeated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1pro.kernels.attention._repeats_heads", lambda device: repeated)
    decoder = Decoder((12, 12, 12), table, block_size=4, blocks=11)
    first = first_slots(table, 4)
    decoder.step((3, 5, 1), first)
    for new in ((4, 1, 2), (1, 3, 6)):
        context, out = decoder.step(new, first)
        assert not context.is_decoding and context.fresh is None
        torch.testing.assert_close(out, decoder.expected(new), **CLOSE)


def test_large_scattered_batches_are_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1pro.kernels.attention.GATHER_SLOTS", 10)
    decoder = Decoder((7, 9, 8), SCATTERED, block_size=4, blocks=9)
    decoder.step((6, 8, 7))
    context, out = decoder.step((1, 1, 1))
    assert not context.is_decoding
    torch.testing.assert_close(out, decoder.expected((1, 1, 1)), **CLOSE)


def test_a_strided_view_never_leaves_the_cache() -> None:
    """The last sequence is short and lies at the end: a view as long as the longest would run over the edge."""
    decoder = Decoder((12, 3), [[0, 1, 2], [3, 3, 3]], block_size=4, blocks=4)
    decoder.step((11, 2), (0, 12))
    context, out = decoder.step((1, 1), (0, 12))
    assert context.stride is None
    torch.testing.assert_close(out, decoder.expected((1, 1)), **CLOSE)


def test_only_its_own_layer_and_slots_are_written() -> None:
    decoder = Decoder((3, 3), [[2], [0]], block_size=4, blocks=3)
    before = decoder.cache.key[1].clone()
    decoder.step((3, 3))
    changed = (decoder.cache.key[1] != before).any(dim=-1).any(dim=-1)
    assert changed.tolist() == [[True, True, True, False], [False] * 4, [True, True, True, False]]
    assert not decoder.cache.key[0].any()
