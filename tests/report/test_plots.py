from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from s1pro.report import plots
from s1pro.report.blocks import check_svg
from s1pro.report.plots import Curve, Panel
from s1pro.report.scores import Estimate, TaskScore

SCORE = TaskScore(
    task="rings",
    model=Estimate(value=0.6, low=0.5, high=0.7),
    baselines={"untrained": Estimate(value=0.1, low=0.0, high=0.2), "constant": Estimate(value=0.3)},
)


def panel(num_steps: int = 50, **changes: object) -> Panel:
    steps = list(range(num_steps))
    curve = Curve(label="training", x=steps, y=[5 * math.exp(-step / 20) for step in steps], smoothing=0.9)
    return Panel(curves=[curve], **changes)  # type: ignore[arg-type]


def test_curves_have_labels_and_follow_the_page_colours() -> None:
    svg = plots.curves([panel(title="pre-training"), panel(y_label="gradient norm", log_y=True)], name="c")
    check_svg(svg)
    for text in ("pre-training", "gradient norm", "training (smoothed)", "step"):
        assert f">{text}<" in svg
    assert "currentColor" in svg and "var(--line" in svg
    assert "#010203" not in svg and "<metadata" not in svg


@pytest.mark.parametrize(("count", "below"), [(plots.MOST_INSIDE, False), (plots.MOST_INSIDE + 1, True), (6, True)])
def test_a_long_legend_lies_below_the_curves(count: int, below: bool) -> None:
    """Below the label of the axis, where no curve can be."""
    lines = [Curve(label=f"source number {i}", x=[0, 1, 2], y=[1.0, 2.0, float(i)]) for i in range(count)]
    svg = plots.curves([Panel(title="by source", curves=lines)], name="l")
    heights = {text: float(y) for y, text in re.findall(r' y="([0-9.]+)"[^>]*>([^<]+)</text>', svg)}
    assert all((heights[f"source number {i}"] > heights["step"]) == below for i in range(count))


def test_equal_input_gives_equal_bytes_and_names_keep_ids_apart() -> None:
    first, again, other = (plots.curves([panel()], name=name) for name in ("a", "a", "b"))
    assert first == again
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (first, other)]
    assert ids[0] and not ids[0] & ids[1]


def test_bytes_are_equal_across_processes() -> None:
    code = (
        "from s1pro.report import plots; import hashlib; "
        "p = plots.Panel(curves=[plots.Curve(label='l', x=[0, 1], y=[1.0, 2.0])]); "
        "print(hashlib.sha256(plots.curves([p], name='n').encode()).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout


def test_long_curves_stay_small() -> None:
    short, long = (plots.curves([panel(count)], name="c") for count in (plots.MAX_POINTS, 100_000))
    assert len(long) < 1.2 * len(short) < 40_000


def test_values_that_are_not_finite_leave_a_gap() -> None:
    values = [1.0, float("nan"), 3.0, float("inf"), 5.0]
    smooth = plots.moving_average(values, 0.5)
    assert np.isfinite(smooth).tolist() == [True, False, True, False, True]
    svg = plots.curves([Panel(curves=[Curve(label="l", x=range(5), y=values, smoothing=0.5)])], name="g")
    assert "nan" not in svg.lower()


def test_moving_average_keeps_a_constant_and_does_not_lag() -> None:
    np.testing.assert_allclose(plots.moving_average([2.0] * 30, 0.9), 2.0)
    ramp = list(range(101))
    assert plots.moving_average([float(v) for v in ramp], 0.8)[50] == pytest.approx(50.0)


def test_moving_average_is_the_weighted_mean_of_all_finite_values() -> None:
    values = np.random.default_rng(0).normal(size=40)
    values[7] = np.nan
    finite = np.isfinite(values)
    distance = np.abs(np.arange(40)[:, None] - np.arange(40))
    weights = 0.7**distance * finite
    expected = weights @ np.where(finite, values, 0.0) / weights.sum(axis=1)
    np.testing.assert_allclose(plots.moving_average(values.tolist(), 0.7)[finite], expected[finite])


def test_relative_load_is_one_when_even() -> None:
    np.testing.assert_allclose(plots.relative_load([[3, 3, 3], [0, 1, 2]]), [[1, 1, 1], [0, 1, 2]])


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ([1.0, 2.0], "shape"),
        ([[1.0, -1.0]], "not negative"),
        ([[float("nan"), 1.0]], "finite"),
        ([[1, 1], [0, 0]], "layer 1 routed no tokens"),
    ],
)
def test_a_wrong_load_is_refused(load: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.relative_load(load)  # type: ignore[arg-type]


def test_router_load_shows_cells_groups_and_borders() -> None:
    load_LE = np.array([[1, 1, 3, 3], [2, 2, 2, 2]])
    svg = plots.router_load(load_LE, num_groups=2, name="r")
    check_svg(svg)
    for text in ("0.50", "1.50", "1.00", "expert", "group", "layer"):
        assert f">{text}<" in svg
    assert ">group<" not in plots.router_load(load_LE, num_groups=1, name="r")
    with pytest.raises(ValueError, match="4 experts do not divide into 3 groups"):
        plots.router_load(load_LE, num_groups=3, name="r")


def test_router_load_of_a_large_model_is_a_small_picture() -> None:
    load_LE = np.random.default_rng(0).gamma(5.0, size=(94, 512))
    svg = plots.router_load(load_LE, num_groups=8, name="large")
    check_svg(svg)
    assert "data:image/png" in svg
    assert len(svg) < 400_000


def test_score_bars_show_every_value() -> None:
    svg = plots.score_bars([SCORE], name="s")
    check_svg(svg)
    for text in ("rings", "0.60", "0.10", "0.30", "this model", "untrained", "constant"):
        assert f">{text}<" in svg
    with pytest.raises(ValueError, match="no scores"):
        plots.score_bars([], name="s")


def test_wrong_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="2 positions for 1 values"):
        Curve(label="l", x=[0, 1], y=[1.0])
    with pytest.raises(ValueError, match="smoothing"):
        Curve(label="l", x=[0], y=[1.0], smoothing=1.0)
    with pytest.raises(ValueError, match="no panels"):
        plots.curves([], name="c")
