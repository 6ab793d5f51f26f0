from __future__ import annotations

import random

import pytest

from s1pro.tasks.classification import UNREADABLE, accuracy, macro_f1, matthews

metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("seed", range(30))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    generator = random.Random(seed)
    classes, count = generator.randint(2, 6), generator.randint(1, 60)
    truth = [generator.randrange(classes) for _ in range(count)]
    answers = [t if generator.random() < 0.5 else generator.randrange(classes) for t in truth]
    assert accuracy(truth, answers) == pytest.approx(metrics.accuracy_score(truth, answers))
    assert macro_f1(truth, answers) == pytest.approx(metrics.f1_score(truth, answers, average="macro"))
    if len(set(truth) | set(answers)) > 1:
        assert matthews(truth, answers) == pytest.approx(metrics.matthews_corrcoef(truth, answers))
    # an answer that cannot be read: a class that is no term of the macro mean
    answers = [UNREADABLE if generator.random() < 0.3 else answer for answer in answers]
    labels = sorted((set(truth) | set(answers)) - {UNREADABLE})
    expected = metrics.f1_score(truth, answers, average="macro", labels=labels, zero_division=0)
    assert macro_f1(truth, answers) == pytest.approx(expected)
    if len(set(truth) | set(answers)) > 1:
        assert matthews(truth, answers) == pytest.approx(metrics.matthews_corrcoef(truth, answers))


def test_constants_and_bad_lists() -> None:
    assert matthews([0, 1, 1], [1, 1, 1]) == 0 and macro_f1([0, 1, 1], [1, 1, 1]) == pytest.approx(0.4)
    assert macro_f1([0, 1], [UNREADABLE, UNREADABLE]) == 0
    for function in (accuracy, macro_f1, matthews):
        with pytest.raises(ValueError, match="as many answers as truths"):
            function([0], [])
        with pytest.raises(ValueError, match="at least one"):
            function([], [])
