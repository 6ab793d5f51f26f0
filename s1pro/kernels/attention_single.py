"""Attention of one new token over the cached tokens of its sequence, float32 on a CPU.

The H / J query heads of a key/value head are rows of one small matrix, so that all of it is

    scores_JGS = scale * q_JGC @ k_JSC^T        p = softmax(scores)        o_JGC = p @ v_JSC

with keys and values read where they lie. That is cheaper than the general function of the library, which prepares
blocks of queries and keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

View = tuple[tuple[int, int, int], tuple[int, int, int], int]
"""Shape, strides and offset."""


@dataclass(frozen=True, slots=True)
class SingleViews:
    """Where keys `[J, C, S]` and values `[J, S, C]` lie in the slots of a layer."""

    keys: View
    values: View

    @classmethod
    def of(cls, slots_N2JC: Tensor, first_slot: int, length: int) -> SingleViews:
        """Of a sequence that occupies `length` slots in a row."""
        kv_heads, channels = slots_N2JC.shape[2:]
        row = 2 * kv_heads * channels
        first, values = first_slot * row, kv_heads * channels
        return cls(
            keys=((kv_heads, channels, length), (channels, 1, row), first),
            values=((kv_heads, length, channels), (channels, row, 1), first + values),
        )


def is_supported(q_BHC: Tensor) -> bool:
    return q_BHC.shape[0] == 1 and q_BHC.dtype is torch.float32 and q_BHC.device.type == "cpu"


def attend_single(q_1HC: Tensor, slots_N2JC: Tensor, views: SingleViews, scale: float) -> Tensor:
    """`[1, H, C]` for the slots of a layer."""
    k_JCS, v_JSC = slots_N2JC.as_strided(*views.keys), slots_N2JC.as_strided(*views.values)
    kv_heads, channels, _ = views.keys[0]
    scores_JGS = torch.bmm(q_1HC.view(kv_heads, -1, channels), k_JCS)
    if scale != 1:
        scores_JGS.mul_(scale)
    return torch.bmm(scores_JGS.softmax(-1), v_JSC).view(q_1HC.shape)
