"""Metrics of SciTS: classes by name, verdicts about events with their times, series of numbers.

Golds of classes are `{key: [label, …]}`, those of detection `{"contain": bool, "times": [number, …]}`, predictions of
detection `{"contain": bool, "times": [number, …]}`, all JSON-able.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.tasks.benchmarks.metrics import binary_f1
from s1pro.tasks.benchmarks.spec import Metric, Pair

Numbers = dict[str, float]


def labels_of(pairs: Sequence[Pair], key: str) -> list[str]:
    """All labels of the golds in small letters."""
    return sorted({label.lower() for pair in pairs for label in pair.gold.get(key, ())})


def substring_labels(text: str, labels: Sequence[str]) -> set[str]:
    return {label for label in labels if label in text}


def whole_word_labels(text: str, labels: Sequence[str]) -> set[str]:
    """Labels that stand as whole words; longer ones first, and what they cover is not read again."""
    found = set()
    for label in sorted(labels, key=len, reverse=True):
        text, times = re.subn(rf"(?<![\w-]){re.escape(label)}(?![\w-])", " | ", text)
        if times:
            found.add(label)
    return found


def upstream_classes(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Accuracy (share of the gold's labels that occur), recall and F1 per key; the score is the F1 of the first key."""
    numbers: Numbers = {}
    for key in _keys(pairs):
        labels = labels_of(pairs, key)
        some = [pair for pair in pairs if key in pair.gold]
        said = [substring_labels((pair.prediction or "").lower(), labels) for pair in some]
        golds = [[label.lower() for label in pair.gold[key]] for pair in some]
        hits = [len(set(g) & s) / len(g) if g else 0.0 for g, s in zip(golds, said, strict=True)]
        recalls, scores = [], []
        for label in labels:
            tp, fp, fn = _counts(label, golds, said)
            if tp + fn:
                recalls.append(tp / (tp + fn))
            if tp:  # labels that were never hit are left out of the mean
                scores.append(2 * tp / (2 * tp + fp + fn))
        numbers |= _named(key, accuracy=hits, uar=recalls, f1_score=scores)
    return _first(numbers)


def strict_classes(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Macro F1 over all labels of the golds; accuracy is exact. Where the gold is one label, naming two is naming
    none."""
    numbers: Numbers = {}
    for key in _keys(pairs):
        labels = labels_of(pairs, key)
        some = [pair for pair in pairs if key in pair.gold]
        golds = [[label.lower() for label in pair.gold[key]] for pair in some]
        several = any(len(g) > 1 for g in golds)
        said = [whole_word_labels((pair.prediction or "").lower(), labels) for pair in some]
        said = [s if several or len(s) == 1 else set() for s in said]
        counts = [_counts(label, golds, said) for label in labels]
        scores = [2 * tp / (2 * tp + fp + fn) if tp else 0.0 for tp, fp, fn in counts]
        recalls = [tp / (tp + fn) for tp, _, fn in counts]
        exact = [float(set(g) == s) for g, s in zip(golds, said, strict=True)]
        numbers |= _named(key, accuracy=exact, uar=recalls, f1_score=scores)
    return _first(numbers)


def _keys(pairs: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(key for pair in pairs for key in pair.gold))


def _counts(label: str, golds: Sequence[Sequence[str]], said: Sequence[set[str]]) -> tuple[int, int, int]:
    """Right, wrong, missing."""
    pairs = [(label in g, label in s) for g, s in zip(golds, said, strict=True)]
    return sum(g and s for g, s in pairs), sum(s and not g for g, s in pairs), sum(g and not s for g, s in pairs)


def _named(key: str, **lists: Sequence[float]) -> Numbers:
    suffix = "" if key in ("default", "answer") else f"_{key}"
    return {f"{name}{suffix}": 100.0 * float(np.mean(values)) if values else 0.0 for name, values in lists.items()}


def _first(numbers: Numbers) -> Numbers:
    first = next((name for name in numbers if name.startswith("f1_score")), None)
    return {"score": 0.0 if first is None else numbers[first], **numbers}


def has_all_labels(gold: Mapping[str, Sequence[str]], prediction: str) -> float:
    """For rewards: all labels of the gold stand as whole words."""
    labels = [label.lower() for some in gold.values() for label in some]
    return float(whole_word_labels(prediction.lower(), labels) == set(labels))


def detection(*, undecided_in_f1: bool) -> Metric:
    """Accuracy over all, F1 of the positives, share of decided replies, relative errors of the times of right
    positives.

    Args:
        undecided_in_f1: count them as negatives there, instead of leaving them out.
    """

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        decided = [p for p in pairs if p.prediction is not None]
        used = pairs if undecided_in_f1 else decided
        f1 = binary_f1([p.gold["contain"] for p in used], [_verdict(p) is True for p in used])
        numbers = {
            "score": 100.0 * f1,
            "accuracy": 100.0 * sum(_verdict(p) == p.gold["contain"] for p in pairs) / len(pairs),
            "success_rate": 100.0 * len(decided) / len(pairs),
        }
        if any(p.gold["times"] for p in pairs):
            errors = [e for p in decided if _verdict(p) and p.gold["contain"] for e in _time_errors(p)]
            numbers["mean_relative_error"] = 100.0 * float(np.mean(errors)) if errors else 0.0
            numbers["median_relative_error"] = 100.0 * float(np.median(errors)) if errors else 0.0
            numbers["timed"] = float(len(errors))
        return numbers

    return metric


def _verdict(pair: Pair) -> bool | None:
    return None if pair.prediction is None else bool(pair.prediction["contain"])


def _time_errors(pair: Pair) -> list[float]:
    """In order of appearance. Upstream divides by a gold of 0; here that field is left out."""
    return [abs(n - g) / abs(g) for n, g in zip(pair.prediction["times"], pair.gold["times"], strict=False) if g]


def right_verdict(gold: Mapping[str, Any], prediction: Mapping[str, Any]) -> float:
    return float(gold["contain"] == prediction["contain"])


def series_errors(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Mean absolute error over all points, and the relative one over points whose gold is not 0.

    Points that were not answered, and whole replies without numbers, err as much as the mean of the gold series does at
    its worst. Missing points of the gold (None) do not count.
    """
    absolute: list[float] = []
    relative: list[float] = []
    for pair in pairs:
        known = [value for value in pair.gold if value is not None]
        worst = max((abs(value - sum(known) / len(known)) for value in known), default=0.0)
        said = list(pair.prediction or ())
        for place, gold in enumerate(pair.gold):
            if gold is None:
                continue
            error = abs(gold - said[place]) if place < len(said) else worst
            absolute.append(error)
            if gold:
                relative.append(error / (abs(gold) + 1e-6))
    return {
        "score": float(np.mean(absolute)) if absolute else 0.0,
        "relative_mae": float(np.mean(relative)) if relative else 0.0,
        "success_rate": 100.0 * sum(pair.prediction is not None for pair in pairs) / len(pairs),
    }


def near_series(gold: Sequence[float | None], prediction: Sequence[float]) -> float:
    """1 for the gold, 0 for errors as large as its standard deviation; for rewards."""
    known = [(g, p) for g, p in zip(gold, prediction, strict=False) if g is not None]
    if not known or len(gold) != len(prediction):
        return 0.0
    spread = float(np.std([g for g, _ in known])) or 1.0
    error = float(np.mean([abs(g - p) for g, p in known]))
    return max(0.0, 1.0 - error / spread) if math.isfinite(error) else 0.0
