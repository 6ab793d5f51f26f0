"""Kernels for decoding on a CPU, compiled by numba (extra `cpu`). Nothing here is imported without it.

From the ground up: `jit` (how numba compiles), `vectors` (registers), `tiles` (products in registers), `elementwise`
(passes over rows), `products` (any number of rows and columns), `attention`, `experts` and `step` (what a decoding step
calls). Only the last three are for other modules; arrays go in, and arrays that are given are written to. Sizes are not
checked there: whoever calls them has chosen the sizes (`kernels.experts_compiled`, `kernels.attention_compiled`,
`model.decoding_compiled`).

What numba compiles is kept next to the source, or in the user's cache where that cannot be written. numba looks at the
date of the one file in which a kept function stands; `forget_older` looks at all of them.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@cache
def is_available() -> bool:
    """Whether numba is installed, and knows the vectors of this processor."""
    if find_spec("numba") is None:
        return False
    from s1pro.kernels.compiled.vectors import LANES

    return LANES > 0


def fills_vectors(*sizes: int) -> bool:
    """Whether these sizes are multiples of the numbers in a register."""
    from s1pro.kernels.compiled.vectors import LANES

    return all(size % LANES == 0 for size in sizes)


def memory(tensor: Tensor) -> Any:
    """The memory of a tensor as an array; bfloat16 as integers."""
    return (tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()


def forget_older(folder: Path) -> None:
    """Removes what was compiled from older versions of the modules in `folder`."""
    newest = max(path.stat().st_mtime for path in folder.glob("*.py"))
    for kept in (folder / "__pycache__").glob("*.nb[ic]"):
        with suppress(OSError):
            if kept.stat().st_mtime < newest:
                kept.unlink()


forget_older(Path(__file__).parent)
