"""Metrics over pairs of gold and prediction, each a function that returns numbers by name, `score` first of all.

Most come in two versions: upstream's, which says what it does about unreadable predictions and keeps its defects, and
ours, in which an unreadable prediction is a wrong one, in the denominator like every other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.tasks.benchmarks.spec import Metric, Pair

Numbers = Mapping[str, float]


def mean_of(value: Callable[[Any, Any], float], *, scale: float = 1.0) -> Metric:
    """Mean of a value per pair over all pairs; unreadable predictions count 0."""

    def metric(pairs: Sequence[Pair]) -> Numbers:
        values = [0.0 if p.prediction is None else value(p.gold, p.prediction) for p in pairs]
        return {"score": scale * float(np.mean(values))}

    return metric


def equality(gold: Any, prediction: Any) -> float:
    return float(gold == prediction)


def accuracy() -> Metric:
    """Share of predictions that equal the gold; unreadable ones are wrong."""
    return mean_of(equality, scale=100.0)


def upstream_mae() -> Metric:
    """Mean absolute error where an unreadable prediction is taken for 0."""

    def metric(pairs: Sequence[Pair]) -> Numbers:
        errors = [abs((0.0 if p.prediction is None else p.prediction) - p.gold) for p in pairs]
        return {"score": float(np.mean(errors))}

    return metric


def errors_with_penalty(*, root: bool = False) -> Metric:
    """Mean absolute error (or its quadratic sister), ours: an unreadable prediction errs as much as the mean of the
    golds does at its worst, so that silence never pays; the error over readable ones alone stands beside."""

    def metric(pairs: Sequence[Pair]) -> Numbers:
        golds = np.array([p.gold for p in pairs], dtype=float)
        worst = float(np.abs(golds - golds.mean()).max()) if len(golds) else 0.0
        errors = np.array([worst if p.prediction is None else abs(p.prediction - p.gold) for p in pairs])
        read = np.array([abs(p.prediction - p.gold) for p in pairs if p.prediction is not None])
        mae, rmse = float(errors.mean()), math.sqrt(float((errors**2).mean()))
        numbers = {"score": rmse if root else mae, "mae": mae, "rmse": rmse}
        if len(read):
            numbers |= {"mae_of_read": float(read.mean()), "rmse_of_read": math.sqrt(float((read**2).mean()))}
        return numbers

    return metric


def matthews(golds: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Matthews correlation of binary or categorical labels; 0 where it is undefined."""
    from sklearn.metrics import matthews_corrcoef

    if not golds:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(matthews_corrcoef([str(g) for g in golds], [str(p) for p in predictions]))


def pearson(golds: Sequence[float], predictions: Sequence[float]) -> float:
    """NaN for constant input, as scipy has it; raises `ValueError` for fewer than two values."""
    from scipy.stats import pearsonr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(pearsonr(golds, predictions)[0])


def spearman(golds: Sequence[float], predictions: Sequence[float]) -> float:
    """NaN for constant input or fewer than two values, as scipy has it."""
    from scipy.stats import spearmanr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(spearmanr(golds, predictions)[0])


def correlation(measure: Callable[[Sequence[float], Sequence[float]], float]) -> Metric:
    """A correlation over the readable predictions, multiplied by the share that could be read (upstream's rule, and a
    fair one); undefined is 0, where upstream gives NaN, inf or an exception."""

    def metric(pairs: Sequence[Pair]) -> Numbers:
        read = [p for p in pairs if p.prediction is not None]
        if len(read) < 2:
            return {"score": 0.0, "undefined": 1.0}
        value = measure([p.gold for p in read], [p.prediction for p in read])
        undefined = not math.isfinite(value)
        return {"score": 0.0 if undefined else 100.0 * value * len(read) / len(pairs), "undefined": float(undefined)}

    return metric


def f1(true_positives: int, false_positives: int, false_negatives: int) -> float:
    """0 where nothing was there to find."""
    total = 2 * true_positives + false_positives + false_negatives
    return 2 * true_positives / total if total else 0.0


def binary_f1(golds: Sequence[bool], predictions: Sequence[bool]) -> float:
    pairs = list(zip(golds, predictions, strict=True))
    hits = sum(g and p for g, p in pairs)
    return f1(hits, sum(p and not g for g, p in pairs), sum(g and not p for g, p in pairs))


def macro_f1(golds: Sequence[Any], predictions: Sequence[Any], labels: Sequence[Any]) -> float:
    """Mean over all gold labels; a label that was never found counts 0."""
    scores = []
    for label in labels:
        scores.append(binary_f1([g == label for g in golds], [p == label for p in predictions]))
    return float(np.mean(scores)) if scores else 0.0
