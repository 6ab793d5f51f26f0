"""Metrics of Biology-Instructions: Matthews, correlations per key, R2 both ways, AUC of classes, Fmax, the mixed
score."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.tasks.benchmarks.metrics import binary_f1, correlation, matthews, pearson
from s1pro.tasks.benchmarks.spec import Pair, defined

EC_NUMBER = re.compile(r"\d+\.\d+\.\d+\.\-?\d*")
MODIFICATIONS = ("AtoI", "m6A", "none", "m1A", "m5C", "m5U", "m6Am", "m7G", "Cm", "Am", "Gm", "Um", "Psi")


def upstream_mcc(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Unreadable answers are taken for the opposite of the gold."""
    predictions = [(not p.gold) if p.prediction is None else p.prediction for p in pairs]
    return {"score": 100.0 * matthews([p.gold for p in pairs], predictions)}


def strict_mcc(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Unreadable answers are a third class."""
    predictions = ["unread" if p.prediction is None else p.prediction for p in pairs]
    return {"score": 100.0 * matthews([p.gold for p in pairs], predictions)}


def pearson_squared(golds: Sequence[float], predictions: Sequence[float]) -> float:
    return pearson(golds, predictions) ** 2


def determination(golds: Sequence[float], predictions: Sequence[float]) -> float:
    """1 - SSE/SST; NaN for constant golds."""
    g, p = np.asarray(golds, dtype=float), np.asarray(predictions, dtype=float)
    total = float(((g - g.mean()) ** 2).sum())
    return float("nan") if total == 0 else 1.0 - float(((g - p) ** 2).sum()) / total


def per_key(measure: Callable[[Sequence[float], Sequence[float]], float]) -> Any:
    """Mean over the keys of the golds, times 100 and times the share that could be read."""
    one = correlation(measure)

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        keys = sorted({key for pair in pairs for key in pair.gold})
        by_key = {}
        for key in keys:
            some = [
                Pair(gold=p.gold[key], prediction=None if p.prediction is None else p.prediction.get(key))
                for p in pairs
                if key in p.gold
            ]
            by_key[key] = defined(one(some)["score"])
        return {"score": float(np.mean(list(by_key.values()))) if by_key else 0.0, **by_key}

    return metric


def classes_of(text: str) -> frozenset[str]:
    """Modifications named in a text: longer names first, and what they cover is not read again."""
    found = set()
    for name in sorted(MODIFICATIONS, key=len, reverse=True):
        text, times = re.subn(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", " ", text)
        if times:
            found.add(name)
    return frozenset(found)


def listed_classes(text: str) -> frozenset[str]:
    """Modifications as upstream reads them: items between commas that are names, case apart."""
    items = {item.strip().lower() for item in text.split(",")}
    return frozenset(name for name in MODIFICATIONS if name.lower() in items)


def modification_auc(read: Callable[[str], frozenset[str]], *, unread: frozenset[str]) -> Any:
    """Macro mean of the area under the curve over the classes with both labels, for hard predictions; F1 beside."""

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        golds = [listed_classes(p.gold) for p in pairs]
        predictions = [unread if p.prediction is None else read(p.prediction) for p in pairs]
        areas, scores = [], []
        for name in MODIFICATIONS:
            truth, said = [name in g for g in golds], [name in p for p in predictions]
            if any(truth) and not all(truth):
                sensitivity = sum(t and s for t, s in zip(truth, said, strict=True)) / sum(truth)
                specificity = sum(not t and not s for t, s in zip(truth, said, strict=True)) / (len(truth) - sum(truth))
                areas.append((sensitivity + specificity) / 2)
            if any(truth):
                scores.append(binary_f1(truth, said))
        return {
            "score": 100.0 * float(np.mean(areas)) if areas else float("nan"),
            "macro_f1": 100.0 * float(np.mean(scores)) if scores else 0.0,
        }

    return metric


def ec_numbers(text: str) -> frozenset[str]:
    return frozenset(EC_NUMBER.findall(text))


def f1_max(predictions: Sequence[Sequence[float]], targets: Sequence[Sequence[float]]) -> float:
    """Protein-centric F1 at its best threshold, 0 to 1.

    Labels are ranked within each protein and over all of them, ties in the order of the columns. After every label of
    the common ranking: precision is the mean, over proteins that have come up, of the precision among their labels so
    far; recall is the mean over all proteins. So answers without confidences are still cut at places inside their ties.
    """
    said, truth = np.asarray(predictions, dtype=float), np.asarray(targets, dtype=float)
    if said.size == 0 or truth.size == 0:
        return 0.0
    proteins, labels = said.shape
    order = np.argsort(-said, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1).cumsum(axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(labels), order.shape), axis=1)
    precision = hits / np.arange(1, labels + 1)
    recall = hits / (truth.sum(axis=1, keepdims=True) + 1e-10)
    steps = [np.diff(values, axis=1, prepend=0.0) for values in (precision, recall)]
    everything = np.argsort(-said.ravel(), kind="stable")
    rows, places = everything // labels, ranks.ravel()[everything]
    started = (places == 0).cumsum()
    p = steps[0][rows, places].cumsum() / np.maximum(started, 1)
    r = steps[1][rows, places].cumsum() / proteins
    return float((2 * p * r / (p + r + 1e-10)).max())


def upstream_fmax(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """`f1_max` over the numbers that occur, in alphabetical order (upstream's fixed list is not here)."""
    golds = [ec_numbers(p.gold) for p in pairs]
    said = [frozenset() if p.prediction is None else ec_numbers(p.prediction) for p in pairs]
    labels = sorted(frozenset().union(*golds, *said))
    vectors = [[[float(label in some) for label in labels] for some in side] for side in (said, golds)]
    return {"score": 100.0 * f1_max(vectors[0], vectors[1]) if labels else 0.0}


def fmax(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Protein-centric F1 of the answers as they are, without a threshold: precision is the mean over proteins with a
    prediction, recall over all."""
    precisions, recalls = [], []
    for pair in pairs:
        gold = ec_numbers(pair.gold)
        said = frozenset() if pair.prediction is None else ec_numbers(pair.prediction)
        if said:
            precisions.append(len(gold & said) / len(said))
        recalls.append(len(gold & said) / len(gold) if gold else 0.0)
    precision = float(np.mean(precisions)) if precisions else 0.0
    recall = float(np.mean(recalls)) if recalls else 0.0
    total = precision + recall
    return {"score": 200.0 * precision * recall / total if total else 0.0, "precision": precision, "recall": recall}


def mixed(*, unread: float | None) -> Any:
    """siRNA efficiency: half the mean error, half F1 of "below 30" times the error inside that range.

    Args:
        unread: what an unreadable answer is taken for; None lets it err by 100 and predict nothing.
    """

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        kept = [p for p in pairs if p.prediction is None or abs(p.prediction) <= 1000]
        if not kept:
            return {"score": 0.0}
        golds = np.array([p.gold for p in kept], dtype=float)
        said = np.array([np.nan if p.prediction is None else p.prediction for p in kept], dtype=float)
        if unread is not None:
            said = np.where(np.isnan(said), unread, said)
        errors = np.where(np.isnan(said), 100.0, np.abs(said - golds))
        mae = min(float(errors.mean()), 100.0)
        below = binary_f1((golds < 30).tolist(), (said < 30).tolist())
        inside = (said >= 0) & (said <= 30)
        range_mae = min(float(np.abs(said - golds)[inside].mean()), 100.0) if inside.any() else 100.0
        value = 0.5 * (1 - mae / 100) + 0.5 * below * (1 - range_mae / 100)
        return {
            "score": 100.0 * value * len(kept) / len(pairs),
            "mae": mae,
            "f1_below_30": below,
            "range_mae": range_mae,
        }

    return metric


def upstream_same_name(gold: str, prediction: str) -> float:
    """Equal names, case apart; small positive is yes and negative is no."""
    alias = {"positive": "yes", "negative": "no"}
    said = prediction.lower()
    return float(alias.get(gold, gold).lower() == alias.get(said, said))


def same_class_name(gold: str, prediction: str) -> float:
    """Equal names; case, a full stop, and hyphens or blanks instead of underscores apart."""
    return float(_class_name(gold) == _class_name(prediction))


def _class_name(text: str) -> str:
    text = re.sub(r"[\s_-]+", "_", text.strip().strip(".").lower())
    return {"positive": "yes", "negative": "no"}.get(text, text)


def overlap(read: Callable[[str], frozenset[str]]) -> Callable[[str, str], float]:
    """F1 of two sets of names."""

    def value(gold: str, prediction: str) -> float:
        wanted, said = read(gold), read(prediction)
        return 2 * len(wanted & said) / (len(wanted) + len(said)) if wanted or said else 1.0

    return value
