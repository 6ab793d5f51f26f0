"""What several draws per question say: chances over `k` of `n` draws, chosen without replacement."""

from __future__ import annotations

import math


def pass_at(draws: int, right: int, k: int) -> float:
    """Chance that at least one of `k` draws is right (pass@k)."""
    return 1.0 - math.comb(draws - right, k) / math.comb(draws, k)


def all_at(draws: int, right: int, k: int) -> float:
    """Chance that all `k` are right (tau2 writes it pass^k)."""
    return math.comb(right, k) / math.comb(draws, k)
