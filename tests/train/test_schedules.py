"""Shapes of the learning-rate schedules."""

from __future__ import annotations

import pytest

from s1pro.train.schedules import ScheduleConfig, lr_scale, step_progress


def test_wsd_rises_stays_and_falls() -> None:
    config = ScheduleConfig(kind="wsd", warmup=0.1, decay=0.2, min_ratio=0.1)
    assert [lr_scale(config, p) for p in (0, 0.05, 0.1, 0.5, 0.8)] == pytest.approx([0, 0.5, 1, 1, 1])
    assert [lr_scale(config, p) for p in (0.9, 1.0, 1.5)] == pytest.approx([0.55, 0.1, 0.1])


def test_cosine_linear_and_constant() -> None:
    cosine = ScheduleConfig(kind="cosine", warmup=0.2, min_ratio=0.0)
    assert [lr_scale(cosine, p) for p in (0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.5, 1, 0.5, 0])
    linear = ScheduleConfig(kind="linear", warmup=0.0, min_ratio=0.5)
    assert [lr_scale(linear, p) for p in (0, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5])
    constant = ScheduleConfig(kind="constant", warmup=0.5)
    assert [lr_scale(constant, p) for p in (0.25, 0.5, 1.0)] == pytest.approx([0.5, 1, 1])


@pytest.mark.parametrize("kind", ["wsd", "cosine", "linear"])
def test_no_step_has_rate_zero_and_all_are_within_bounds(kind: str) -> None:
    config = ScheduleConfig(kind=kind, warmup=0.1, decay=0.5)  # type: ignore[arg-type]
    scales = [lr_scale(config, step_progress(step, 50)) for step in range(50)]
    assert all(0 < scale <= 1 for scale in scales) and scales[0] < 0.2 and scales[-1] < 0.05
    peak = scales.index(max(scales))
    assert scales[:peak] == sorted(scales[:peak]) and scales[peak:] == sorted(scales[peak:], reverse=True)


def test_schedule_without_warmup_and_decay_is_flat() -> None:
    config = ScheduleConfig(kind="wsd", warmup=0.0, decay=0.0)
    assert {lr_scale(config, p / 10) for p in range(11)} == {1.0}


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="together exceed"):
        ScheduleConfig(warmup=0.6, decay=0.6)
    with pytest.raises(ValueError, match=r"min_ratio must lie in \[0, 1\], got 2"):
        ScheduleConfig(min_ratio=2)
