"""Differences between arms, paired by seed.

* One number per arm and seed: mean of the differences over seeds, 95 % interval of Student's t. With five seeds this is
  wider than a percentile bootstrap, which has too few values to draw from.
* A value per held-out item: the bootstrap draws seeds and places among the items, both with replacement. Items are
  paired between arms, and a place drawn for one seed is drawn for all, as if the same question stood there. The claims
  on signals and on the generalist draw held-out items by seed, so that it is another question. The chance of items is
  then counted up to three times (with the seeds, with the places, and with both), and in this the interval is wider
  than it has to be; that of seeds is understated when they are few. Hence such a difference is reported and nothing is
  decided by it: claims give it no limit.
"""

from __future__ import annotations

import statistics

import numpy as np

from s1pro.recipes.claims.claim import Difference, Results
from s1pro.recipes.expansion_comparison import paired_interval
from s1pro.report.scores import Estimate

RESAMPLES = 2000


def seeds_of(results: Results) -> list[int]:
    """Seeds that every arm has."""
    return sorted(set.intersection(*(set(by_seed) for by_seed in results.values())))


def mean_of(results: Results, arm: str, value: str) -> float:
    """Over seeds."""
    return statistics.fmean(measured.values[value] for measured in results[arm].values())


def difference(
    results: Results,
    second: str,
    first: str,
    value: str,
    *,
    name: str = "",
    above: float | None = 0.0,
) -> Difference:
    """`value` of arm `second` minus that of arm `first`, over seeds."""
    gaps = [results[second][seed].values[value] - results[first][seed].values[value] for seed in seeds_of(results)]
    return Difference(name=name or f"{value}, {second} − {first}", estimate=paired_interval(gaps), above=above)


def level(results: Results, arm: str, value: str, *, name: str = "", above: float | None) -> Difference:
    """`value` of one arm over seeds, against a fixed limit."""
    values = [results[arm][seed].values[value] for seed in seeds_of(results)]
    return Difference(name=name or f"{value}, {arm}", estimate=paired_interval(values), above=above)


def item_difference(
    results: Results, second: str, first: str, items: str, *, name: str = "", above: float | None = 0.0
) -> Difference:
    """Mean over seeds and items of the paired differences, by the bootstrap of the module docstring."""
    seeds = seeds_of(results)
    gap_SN = np.array(
        [
            np.subtract(results[second][seed].items[items], results[first][seed].items[items], dtype=np.float64)
            for seed in seeds
        ]
    )
    random = np.random.default_rng(0)
    num_seeds, num_items = gap_SN.shape
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        rows = random.integers(0, num_seeds, num_seeds)
        columns = random.integers(0, num_items, num_items)
        means[draw] = gap_SN[rows].mean(axis=0)[columns].mean()
    mean = float(gap_SN.mean())
    low, high = (float(end) for end in np.quantile(means, (0.025, 0.975)))
    estimate = Estimate(value=mean, low=min(low, mean), high=max(high, mean), num_items=gap_SN.size)
    return Difference(name=name or f"{items}, {second} − {first}", estimate=estimate, above=above)
