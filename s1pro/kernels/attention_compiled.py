"""Attention in exact mode by compiled code (`kernels.compiled.attention`), float32 and bfloat16 on a CPU.

What a token gets depends on its query and on the keys and values that it sees, in their order, and on nothing else: not
on the other tokens, nor on how keys are spread over the cache. So the packed forward pass of training, chunks of a
prompt and single steps agree to the last bit without tiles filled with zeros. Without numba `kernels.attention_exact`
does it, with other bits: trainer and engine must have the same packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s1pro.kernels import compiled

Places = tuple[Any, Any, Any, int]
"""Block table, and of every new token its row in there and how many tokens it sees; slots of a block."""


def is_supported(q_THC: Tensor) -> bool:
    return (
        type(q_THC) is Tensor
        and q_THC.device.type == "cpu"
        and q_THC.dtype in (torch.float32, torch.bfloat16)
        and compiled.is_available()
        and compiled.fills_vectors(q_THC.shape[-1])
    )


def packed(q_THC: Tensor, k_TJC: Tensor, v_TJC: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    """Of whole sequences, one after another: `[T, H, C]`."""
    table = np.zeros((1, 1), np.int64)
    out, first = torch.empty(q_THC.shape), 0
    q_THC, kv_T2JC = q_THC.float() * scale, torch.stack((k_TJC, v_TJC), dim=1)
    for length in lengths:
        rows = slice(first, first + length)
        seen = np.arange(1, length + 1)
        _attend(q_THC[rows], kv_T2JC[rows], table, np.zeros(length, np.int64), seen, length, out[rows])
        first += length
    return out.to(k_TJC.dtype)


def paged(q_THC: Tensor, slots_N2JC: Tensor, where: Places, scale: float) -> Tensor:
    """Of the last tokens of sequences in a cache: `[T, H, C]`."""
    out = torch.empty(q_THC.shape)
    _attend(q_THC.float() * scale, slots_N2JC, *where, out)
    return out.to(q_THC.dtype)


def places(table_BM: Tensor, bounds: Sequence[int], lengths: Sequence[int], block_size: int) -> Places:
    """What `paged` has to know, for all layers.

    Args:
        bounds: of the new tokens of each sequence.
        lengths: of the sequences with them.
    """
    new = np.diff(bounds)
    rows = np.repeat(np.arange(len(new)), new)
    seen = np.repeat(np.array(lengths) - new, new) + np.arange(1, len(rows) + 1) - np.repeat(bounds[:-1], new)
    return table_BM.numpy(), rows, seen, block_size


def _attend(q: Tensor, slots: Tensor, table: Any, rows: Any, seen: Any, block_size: int, out: Tensor) -> None:
    from s1pro.kernels.compiled.attention import attend
    from s1pro.kernels.compiled.tiles import ADDRESSES

    if len(q):
        out_TD = out.flatten(1).numpy()
        attend(
            ADDRESSES, q.contiguous().numpy(), q.shape[1], compiled.memory(slots), table, rows, seen, block_size, out_TD
        )
