from __future__ import annotations

import numpy as np
import pytest

from s1pro.corpus.describe.colours import name
from s1pro.corpus.describe.scales import fit_scale
from s1pro.corpus.describe.trend import bar_trend, cloud_trend, line_trend, rank_correlation

X = np.linspace(0, 1, 60)
NOISE = np.random.default_rng(0).normal(0, 0.015, 60)


@pytest.mark.parametrize(
    ("y", "trend"),
    [
        (X, "rising"), (1 - X**3, "falling"), (0 * X + 0.4, "flat"), (np.exp(-(((X - 0.4) / 0.1) ** 2)), "peak"),
        (np.abs(X - 0.6), "valley"), (np.sin(25 * X), "oscillating"), (1 / (1 + np.exp(-20 * (X - 0.5))), "rising"),
    ],
)  # fmt: skip
def test_trends_of_lines_survive_noise(y: np.ndarray, trend: str) -> None:
    assert line_trend(X, y) == trend
    assert line_trend(X, 0.6 * y + NOISE * (trend != "flat")) == trend


def test_trends_of_clouds_and_bars() -> None:
    cloud = np.random.default_rng(1).normal(size=60)
    assert cloud_trend(X, X + 0.2 * cloud) == "positive" and cloud_trend(X, -X + 0.2 * cloud) == "negative"
    assert cloud_trend(X, cloud) == "none" and cloud_trend(X[:3], X[:3]) == ""
    assert bar_trend(np.array([1.0, 2.0, 5.0])) == "rising" and bar_trend(np.array([1.0, 2.0, 1.5])) == ""


def test_rank_correlation_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    for _ in range(20):
        a, b = rng.integers(0, 9, 25).astype(float), rng.integers(0, 9, 25).astype(float)
        assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


@pytest.mark.parametrize(
    ("values", "texts", "scale"),
    [
        ([0, 10, 20, 30], None, "linear"), ([1, 10, 100], None, "log"), ([1, 2, 4, 8], None, "log"),
        ([10, 100], ["10^1", "10^2"], "log"), ([10, 100], None, "linear"), ([-1, 0, 10], None, "other"),
        ([100.0, 100.5, 101.0], None, "linear"), ([5, 4, 3], None, "linear"), ([1, 3, 100], None, "other"),
    ],
)  # fmt: skip
def test_scales(values: list[float], texts: list[str] | None, scale: str) -> None:
    positions = [10.0 * i for i in range(len(values))]
    found, (slope, intercept) = fit_scale(positions, values, texts or [str(value) for value in values])
    assert found == scale
    if scale == "linear":
        assert slope * positions[1] + intercept == pytest.approx(values[1])
    if scale == "log":
        assert 10 ** (slope * positions[1] + intercept) == pytest.approx(values[1])


def test_the_cycles_of_plotting_programs_have_different_names() -> None:
    tab10 = ["1f77b4", "ff7f0e", "2ca02c", "d62728", "9467bd", "8c564b", "e377c2", "7f7f7f", "bcbd22", "17becf"]
    names = [name((int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16))) for c in tab10]
    assert names == ["blue", "orange", "green", "red", "purple", "brown", "pink", "grey", "olive", "cyan"]
