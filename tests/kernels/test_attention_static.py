"""Attention of a step without lengths on the host, against the definition."""

from __future__ import annotations

import pytest
import torch

from s1pro.kernels.attention import PackedContext, attention, attention_reference
from s1pro.kernels.attention_static import StaticContext
from s1pro.kernels.paged_cache import PagedKVCache

HEADS, KV_HEADS, CHANNELS, BLOCK, SPARE = 4, 2, 8, 4, 11


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scattered_blocks_of_unequal_sequences_with_rows_that_only_fill(width: int, dtype: torch.dtype) -> None:
    """Whatever lies behind the end of a sequence, in its last block or in the table, is not seen."""
    g = torch.Generator().manual_seed(0)
    cache = PagedKVCache(2, SPARE + 1, BLOCK, KV_HEADS, CHANNELS, dtype)
    for slots in cache.slots:
        slots.normal_(generator=g).mul_(100)
    lengths, blocks = (9, 1, 4, 12), ([3, 0, 5], [7], [2], [9, 1, 10])
    table_BM = torch.full((5, width), SPARE)
    expected = []
    new = [torch.randn(5, heads, CHANNELS, generator=g).to(dtype) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    for row, (length, held) in enumerate(zip(lengths, blocks, strict=True)):
        table_BM[row, : len(held)] = torch.tensor(held)
        slots_S = torch.tensor([held[i // BLOCK] * BLOCK + i % BLOCK for i in range(length)])
        older = [torch.randn(length, heads, CHANNELS, generator=g).to(dtype) for heads in (HEADS, KV_HEADS, KV_HEADS)]
        q, k, v = (torch.cat((x[:-1], y[row : row + 1])) for x, y in zip(older, new, strict=True))
        cache.write(1, k[:-1], v[:-1], slots_S[:-1])
        context = PackedContext.from_lengths([length])
        expected.append(attention_reference(q.float(), k.float(), v.float(), context, scale=0.3)[-1])
    positions_B = torch.tensor([*(length - 1 for length in lengths), 0])
    context = StaticContext(cache, table_BM, positions_B)
    out_BHC = attention(*new, context, layer=1, scale=0.3)
    tolerance = {"atol": 2e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}
    torch.testing.assert_close(out_BHC[:4].float(), torch.stack(expected), **tolerance)
    alone = new[2][4].float().repeat_interleave(HEADS // KV_HEADS, dim=0)  # it sees itself
    torch.testing.assert_close(out_BHC[4].float(), alone, **tolerance)
    assert context.slots_B.tolist() == [20, 28, 11, 43, SPARE * BLOCK]
