from __future__ import annotations

import numpy as np
import pytest

from s1pro.eval.statistics import mean_estimate, paired_difference, share_estimate


def test_shares_have_wilson_intervals() -> None:
    """Values of Wilson's formula computed by statsmodels' `proportion_confint(method="wilson")`."""
    for successes, count, low, high in [(8, 10, 0.490162, 0.943318), (0, 20, 0.0, 0.161125), (20, 20, 0.838875, 1.0)]:
        estimate = share_estimate(successes, count)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-6)
        assert estimate.value == successes / count
        assert mean_estimate([1.0] * successes + [0.0] * (count - successes)) == estimate


def test_other_means_have_bootstrap_intervals_of_the_right_width() -> None:
    values = np.random.default_rng(1).normal(2.0, 0.5, 400).tolist()
    estimate = mean_estimate(values)
    half = 1.96 * float(np.std(values)) / 20
    assert estimate.low is not None and estimate.high is not None
    assert estimate.value - estimate.low == pytest.approx(half, rel=0.15)
    assert estimate.high - estimate.value == pytest.approx(half, rel=0.15)
    assert mean_estimate(values) == estimate  # fixed seed


def test_paired_differences_cancel_what_makes_items_hard() -> None:
    random = np.random.default_rng(2)
    hard = random.uniform(0, 1, 200)
    first, second = (hard + 0.05).tolist(), (hard + random.normal(0, 0.05, 200)).tolist()
    difference = paired_difference(first, second)
    alone = mean_estimate(first)
    assert difference.significant
    assert difference.mean.low is not None and difference.mean.high is not None
    assert alone.low is not None and alone.high is not None
    assert difference.mean.high - difference.mean.low < 0.5 * (alone.high - alone.low)
    assert difference.wins + difference.losses + difference.ties == 200
    assert not paired_difference([1, 0, 1], [1, 0, 1]).significant


def test_empty_and_unequal_lists_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_estimate([])
    with pytest.raises(ValueError, match="same items"):
        paired_difference([1.0], [1.0, 0.0])
