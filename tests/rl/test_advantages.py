"""Advantages by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from s1pro.rl.advantages import advantages, informative, token_weight
from s1pro.rl.objective import ObjectiveConfig, preset


def test_leave_one_out_by_hand() -> None:
    assert advantages([1.0, 0.0, 0.0, 1.0], ObjectiveConfig()).tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    assert advantages([3.0, 1.0], ObjectiveConfig()).tolist() == [2.0, -2.0]


def test_group_mean_and_scale_by_hand() -> None:
    rewards = [0.0, 1.0, 1.0, 2.0]
    assert advantages(rewards, preset("dr-grpo")).tolist() == [-1.0, 0.0, 0.0, 1.0]
    std = math.sqrt(0.5)
    assert advantages(rewards, preset("grpo")).tolist() == pytest.approx([-1 / std, 0, 0, 1 / std], rel=1e-5)
    assert advantages(rewards, ObjectiveConfig(baseline="none")).tolist() == rewards


def test_leave_one_out_is_unbiased_and_proportional_to_the_group_mean() -> None:
    rewards = np.random.default_rng(0).normal(size=7)
    left_out, centred = advantages(rewards, ObjectiveConfig()), advantages(rewards, preset("dr-grpo"))
    np.testing.assert_allclose(left_out, centred * 7 / 6)
    assert left_out.sum() == pytest.approx(0, abs=1e-12)


def test_groups_without_information() -> None:
    assert not informative([1.0, 1.0, 1.0]) and informative([1.0, 0.0])
    for name in ("intern-s1-pro", "grpo", "dr-grpo", "rloo"):
        assert advantages([0.5] * 4, preset(name)).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("rewards", "message"),
    [([1.0], "at least two"), ([], "list of numbers"), ([math.nan, 1.0], "finite"), ([[1.0]], "list of numbers")],
)
def test_errors(rewards: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        advantages(rewards, ObjectiveConfig())


def test_token_weights() -> None:
    assert token_weight(5, 8, ObjectiveConfig()) == 1 / 40
    assert token_weight(5, 8, preset("rloo")) == 1.0
    assert token_weight(5, 8, preset("dr-grpo", max_length=100)) == 0.01
