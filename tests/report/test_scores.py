from __future__ import annotations

import pytest

from s1pro.report.scores import Estimate, TaskScore, score_table, score_verdict


def score(task: str, low: float, baseline: float) -> TaskScore:
    model = Estimate(value=low + 0.05, low=low, high=low + 0.1, num_items=100)
    return TaskScore(task=task, model=model, baselines={"constant": Estimate(value=baseline)})


def test_baselines_are_beaten_by_the_lower_bound() -> None:
    assert score("a", 0.50, 0.49).beats_baselines
    assert not score("a", 0.50, 0.50).beats_baselines
    assert not score("a", 0.50, 0.52).beats_baselines


def test_one_lost_baseline_is_enough_to_lose() -> None:
    baselines = {"untrained": Estimate(value=0.0), "copy": Estimate(value=0.9)}
    assert not TaskScore(task="a", model=Estimate(value=0.8), baselines=baselines).beats_baselines


def test_score_table_has_a_column_per_baseline() -> None:
    other = TaskScore(task="b", model=Estimate(value=1.0), baselines={"copy": Estimate(value=0.2)})
    table = score_table([score("a", 0.5, 0.4), other], model_name="demo")
    assert list(table.columns) == ["task", "questions", "demo", "constant", "copy", "above all baselines"]
    assert list(table.rows[0]) == ["a", 100, "0.550 [0.500, 0.600]", "0.400", None, True]
    assert list(table.rows[1]) == ["b", None, "1.000", None, "0.200", True]


def test_score_verdict_names_what_was_lost() -> None:
    scores = [score("a", 0.5, 0.4), score("b", 0.5, 0.6)]
    assert score_verdict(scores, required=1).passed
    verdict = score_verdict(scores, required=2)
    assert not verdict.passed
    assert "1 of 2" in verdict.text and "Not on: b." in verdict.text


def test_an_interval_holds_its_value() -> None:
    with pytest.raises(ValueError, match="outside"):
        Estimate(value=0.9, low=0.1, high=0.2)
    with pytest.raises(ValueError, match="two ends"):
        Estimate(value=0.9, low=0.1)
