"""Which way through torch's CPU library is the fast one on this machine, for products of few rows.

Decoding reads every weight for one or a few rows, and the library's ways of doing that differ by processor. Weights of
256 x 256, float32, out of the cache, two cores, microseconds per weight:

| | AMD Genoa | Intel Sapphire Rapids |
|---|---|---|
| one row: `x @ weight^T` | 21 | 8 |
| one row: the weight in two parts, each `part @ x^T` | 10 | 20 |
| two to eight rows: `x @ weight^T` | 20 | 10 to 15 |
| two to eight rows: `weight @ x^T` | 10 | 15 to 27 |
| two to four rows: many weights at once, each `x @ weight^T` | not measured | 5 to 6.5 |

The choice is made by the kind of processor and never by timing, so that a machine always computes the same numbers.
"""

from __future__ import annotations

from functools import cache

import torch


@cache
def prefers_weight_first() -> bool:
    """Whether few rows are multiplied fastest as `weight @ x^T`: so on AMD, where one row is best cut into parts.

    AMD is told by the instructions SSE4a, which nobody else has; a virtual machine may hide names.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("sse4a", False))
