"""How sure a score is: 95 % confidence intervals over items, and paired tests.

* A score whose values are all 0 or 1 is a share: Wilson's interval, which stays honest at 0 % and 100 %.
* Any other mean, and every paired difference: percentile bootstrap over items with a fixed seed.

Two models that answered the same items are compared by the differences *per item*: what makes an item hard for both
cancels, so the interval is narrower than that of two separate scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s1pro.report.scores import Estimate, share_estimate

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Mean of `first - second` over common items with its interval, and on how many items which one was better."""

    mean: Estimate
    wins: int
    losses: int
    ties: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        assert self.mean.low is not None and self.mean.high is not None
        return self.mean.low > 0 or self.mean.high < 0


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Mean of at least one score with its interval."""
    if not values:
        raise ValueError("a mean needs at least one score")
    if all(value in (0, 1) for value in values):
        return share_estimate(int(sum(values)), len(values))
    return _bootstrap(values)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compares two lists of scores of the same items."""
    if len(first) != len(second):
        raise ValueError(f"paired scores need the same items, got {len(first)} and {len(second)}")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return PairedDifference(
        mean=_bootstrap(differences),
        wins=sum(d > 0 for d in differences),
        losses=sum(d < 0 for d in differences),
        ties=sum(d == 0 for d in differences),
    )


def _bootstrap(values: Sequence[float]) -> Estimate:
    data = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(0)
    means = np.array([data[random.integers(0, len(data), len(data))].mean() for _ in range(RESAMPLES)])
    mean = float(data.mean())
    low, high = (float(end) for end in np.quantile(means, (0.025, 0.975)))
    return Estimate(value=mean, low=min(low, mean), high=max(high, mean), num_items=len(data))


def paired_p(first: Sequence[float], second: Sequence[float], *, flips: int = 10_000) -> float:
    """Two-sided probability of a difference as large as this one if the two were equally good.

    Scores that differ by one size only (right or wrong): the exact sign test on the items where they differ, which is
    McNemar's. Others: signs of the differences are flipped at random, `flips` times with a fixed seed.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    differences = differences[np.abs(differences) > 1e-12]
    if not differences.size:
        return 1.0
    if np.allclose(np.abs(differences), abs(differences[0])):
        number, fewer = len(differences), int(min((differences > 0).sum(), (differences < 0).sum()))
        tail = sum(math.comb(number, i) for i in range(fewer + 1))
        return float(min(1.0, 2 * tail / 2**number))
    random = np.random.default_rng(0)
    observed, extreme = abs(float(differences.sum())), 0
    for _ in range(flips // 1000):
        signs = random.choice((-1.0, 1.0), size=(1000, differences.size))
        extreme += int((np.abs(signs @ differences) >= observed - 1e-9).sum())
    return (extreme + 1) / (flips // 1000 * 1000 + 1)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Adjusted for so many questions asked at once: the chance of any false alarm stays below the level."""
    order = sorted(range(len(probabilities)), key=lambda i: probabilities[i])
    adjusted, highest = [0.0] * len(order), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * probabilities[i]))
        adjusted[i] = highest
    return adjusted
