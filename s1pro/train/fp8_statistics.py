"""What FP8 rounding does in every layer during one step: clipping, underflow, error (`kernels.fp8_statistics`).

Operands are those of the table in `kernels.experts_fp8`: `gate_up` and `down` (weights), `x` and `h` (forwards), `dy`
and `da` (backwards), and `rows`, what the gradients of weights see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from s1pro.kernels.fp8_statistics import RoundingStatistics, shares
from s1pro.model.precision import expert_layers
from s1pro.parallel.mesh import Ranks

OPERANDS = ("gate_up", "down", "x", "h", "dy", "da", "rows")


@contextmanager
def fp8_statistics(network: nn.Module, wanted: bool, ranks: Ranks) -> Iterator[dict[str, Any]]:
    """Counts while the context is active; then the dictionary holds a report per layer in FP8, over all ranks.

    Sums of an operand that a rank did not see are 0, so that all ranks add up the same list.
    """
    report: dict[str, Any] = {}
    engines = {n: e.fp8 for n, e in expert_layers(network).items() if e.fp8 is not None} if wanted else {}
    for engine in engines.values():
        engine.statistics = RoundingStatistics()
    try:
        yield report
        for number, engine in engines.items():
            assert engine.statistics is not None
            report[str(number)] = shares(OPERANDS, ranks.add(engine.statistics.sums(OPERANDS)))
    finally:
        for engine in engines.values():
            engine.statistics = None
