"""The experts by compiled code (`kernels.compiled`), on a CPU: no gradient, weights with the inner size first.

Weights are float32 or bfloat16; what is computed with them is float32.

Against the ways of the library, an Intel Sapphire Rapids with one thread, six layers of 64 experts of 256 x 128, eight
for each token, milliseconds:

| tokens | 1 | 32 | 64 | 256 | 1,024 | 2,048 |
|---|---|---|---|---|---|---|
| library (`experts_few`, `experts_loop`) | 1.3 | 11 | 14 | 43 | 116 | 210 |
| compiled | 0.85 | 6.7 | 9.0 | 26 | 79 | 145 |

With several threads each takes a part of the experts, with about as many rows as the others.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s1pro.kernels import compiled

ROWS_PER_THREAD = 64
"""With fewer, telling threads what to do takes longer than doing it."""


def is_supported(x_TD: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> bool:
    """Whether the compiled way can compute these; gradients are the caller's question."""
    tensors = (x_TD, gate_up_EFD, down_EDF)
    return (
        all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)
        and x_TD.dtype in (torch.float32, torch.bfloat16)
        and x_TD.device.type == "cpu"
        and x_TD.shape[0] > 0
        and gate_up_EFD.mT.is_contiguous()
        and down_EDF.mT.is_contiguous()
        and compiled.is_available()
        and fills_vectors(*down_EDF.shape[1:])
    )


def fills_vectors(*sizes: int) -> bool:
    """Whether these sizes are multiples of the numbers in a register."""
    from s1pro.kernels.compiled.vectors import LANES

    return all(size % LANES == 0 for size in sizes)


def forward(x_TD: Tensor, ids_TK: Tensor, weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
    """The combined output `[T, D]`.

    Raises:
        ValueError: ids that are no experts.
    """
    smallest, largest = ids_TK.aminmax()
    if smallest < 0 or largest >= len(down_EDF):
        raise ValueError(f"expert ids must lie in [0, {len(down_EDF)}), got {int(smallest)} to {int(largest)}")
    y_TD = torch.zeros(x_TD.shape)
    x, ids, weights = (given.detach().contiguous().numpy() for given in (x_TD.float(), ids_TK, weights_TK.float()))
    add(x, ids, weights, inner_first(gate_up_EFD), inner_first(down_EDF), y_TD.numpy())
    return y_TD.to(x_TD.dtype)


def inner_first(weight: Tensor) -> Any:
    """The memory of a weight `[..., outputs, inner]` as an array `[..., inner, outputs]`; bfloat16 as integers."""
    memory = weight.detach().mT
    return (memory if memory.dtype is torch.float32 else memory.view(torch.int16)).numpy()


def add(x_TD: Any, ids_TK: Any, weights_TK: Any, gate_up_EDG: Any, down_EFD: Any, y_TD: Any) -> None:
    """Adds to y what the experts give; arrays without gaps, and ids that are experts."""
    from s1pro.kernels.compiled.experts import add_experts
    from s1pro.kernels.compiled.tiles import ADDRESSES

    num_experts = len(down_EFD)
    threads = min(torch.get_num_threads(), -(-ids_TK.size // ROWS_PER_THREAD))
    given: tuple[Any, ...] = (ADDRESSES, x_TD, ids_TK, weights_TK, gate_up_EDG, down_EFD)
    if threads == 1:
        add_experts(*given, 0, num_experts, y_TD)
        return
    ends = np.cumsum(np.bincount(ids_TK.ravel(), minlength=num_experts))
    bounds = [0, *(np.searchsorted(ends, ids_TK.size * (i + 1) // threads) for i in range(threads - 1)), num_experts]
    parts = [y_TD, *(np.zeros_like(y_TD) for _ in range(threads - 1))]
    pool = _threads(threads - 1, os.getpid())
    shares = [(first, last, part) for (first, last), part in zip(pairwise(bounds), parts, strict=True)]
    others = [pool.submit(add_experts, *given, *share) for share in shares[1:]]
    add_experts(*given, *shares[0])
    for other, part in zip(others, parts[1:], strict=True):
        other.result()
        y_TD += part


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Of this process: a child does not inherit threads."""
    return ThreadPoolExecutor(count, thread_name_prefix="experts")
