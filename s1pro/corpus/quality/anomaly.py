"""From features to a probability: how unusual is each number, and what does that mean together?

1. For each register the distribution of every feature in good text is kept as quantiles. A value becomes two
   **anomalies**, one for being too high and one for being too low: `-log10` of the share of good text that lies beyond,
   and outside of everything seen it grows with the distance. Inside the usual range both are near zero.
2. Every anomaly enters twice: as it is, and what exceeds a knee, so that far out can count for more than its distance.
   A logistic regression weighs them, with **weights that cannot be negative**: being unusual never speaks for a text.
   That is why damage of a kind that was not trained is noticed too. The greatest anomaly and the sum of the five
   greatest are among the inputs.
3. The result is calibrated on other documents (slope and offset of the logit).

Everything is numbers in a JSON file; reasons are the anomalies with the greatest share in the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.corpus.write import atomic_path

QUANTILES = np.concatenate([[0.0, 0.002, 0.005], np.linspace(0.01, 0.99, 50), [0.995, 0.998, 1.0]])
_FLOOR = 0.0015
_UNUSUAL = 0.4  # powers of ten: an anomaly begins where 40 % of good text are as far out or further
_KNEE = 0.8
_GREATEST = 5


@dataclass(frozen=True, kw_only=True)
class AnomalyModel:
    """Usual ranges, weights, calibration.

    Attributes:
        features: names, in the order of the columns.
        usual: by register, quantiles `(features, len(QUANTILES))` of good text.
        weights: `(2, 2 features + 2)`: of too high, too low, greatest and sum of the five greatest; the second row is
            for what exceeds the knee.
        threshold: probability of being damaged from which a text is not kept.
    """

    features: tuple[str, ...]
    usual: Mapping[str, np.ndarray]
    weights: np.ndarray
    offset: float
    slope: float = 1.0
    shift: float = 0.0
    threshold: float = 0.5

    def anomalies(self, registers: Sequence[str], values: np.ndarray) -> np.ndarray:
        """Anomalies `(texts, 2 features + 2)` of features `(texts, features)`; zero where a feature is not a number."""
        found = np.zeros((len(values), 2 * len(self.features)))
        for register, usual in self.usual.items():
            rows = np.flatnonzero(np.array(registers) == register)
            if len(rows):
                found[rows] = _beyond(values[rows], usual)
        ordered = -np.sort(-found, axis=1)[:, :_GREATEST]
        return np.concatenate([found, ordered[:, :1], ordered.sum(axis=1, keepdims=True)], axis=1)

    def logits(self, anomalies: np.ndarray) -> np.ndarray:
        """Before calibration."""
        return np.asarray(_with_knee(anomalies) @ self.weights.ravel() + self.offset)

    def probabilities(self, anomalies: np.ndarray) -> np.ndarray:
        """That the texts are damaged."""
        return _sigmoid(self.slope * self.logits(anomalies) + self.shift)

    def reasons(self, anomalies: np.ndarray, number: int = 3) -> tuple[str, ...]:
        """Names of what counts most in one row of anomalies, such as `order_gain low`."""
        parts = (_with_knee(anomalies[None])[0].reshape(2, -1) * self.weights).sum(axis=0)[: 2 * len(self.features)]
        names = [f"{name} high" for name in self.features] + [f"{name} low" for name in self.features]
        order = np.argsort(-parts, kind="stable")[:number]
        return tuple(names[i] for i in order if parts[i] > 0.05)

    def as_dict(self) -> dict[str, Any]:
        return {
            "features": list(self.features),
            "usual": {name: [[_short(v) for v in row] for row in table] for name, table in self.usual.items()},
            "weights": [[_short(v) for v in row] for row in self.weights],
            "offset": _short(self.offset),
            "slope": _short(self.slope),
            "shift": _short(self.shift),
            "threshold": _short(self.threshold),
        }

    @classmethod
    def load(cls, path: Path) -> AnomalyModel:
        """Raises `InputError` for a file that is not one."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                features=tuple(data["features"]),
                usual={name: np.array(table) for name, table in data["usual"].items()},
                weights=np.array(data["weights"]),
                offset=float(data["offset"]),
                slope=float(data["slope"]),
                shift=float(data["shift"]),
                threshold=float(data["threshold"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a model of text quality ({error})") from error


def fit(
    registers: Sequence[str],
    values: np.ndarray,
    damaged: np.ndarray,
    names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    penalty: float = 0.3,
    steps: int = 2000,
) -> AnomalyModel:
    """Usual ranges of the good rows and weights by projected gradient descent.

    Args:
        values: `(texts, features)`; damaged: `(texts,)` of 0 and 1.
        groups: family of each text; each family weighs the same, and all damage together as much as all good text.
        penalty: of the squared weights, so that they spread over features that say the same.
    """
    good = damaged == 0
    usual = {}
    for register in sorted(set(registers)):
        rows = values[good & (np.array(registers) == register)]
        with np.errstate(all="ignore"):
            usual[register] = np.nan_to_num(_quantiles(rows))
    untrained = AnomalyModel(features=tuple(names), usual=usual, weights=np.zeros((2, 2 * len(names) + 2)), offset=0.0)
    inputs = untrained.anomalies(registers, values)
    weights, offset = _descend(_with_knee(inputs), damaged, _balance(damaged, groups), penalty, steps)
    return AnomalyModel(features=tuple(names), usual=usual, weights=weights.reshape(2, -1), offset=offset)


def calibrate(
    model: AnomalyModel, logits: np.ndarray, damaged: np.ndarray, *, false_rejects: float = 0.01
) -> AnomalyModel:
    """Slope and shift by logistic regression on other documents; the threshold leaves that share of good text out."""
    slope, shift = 1.0, 0.0
    for _ in range(50):
        p = _sigmoid(slope * logits + shift)
        error, curve = p - damaged, np.maximum(p * (1 - p), 1e-6)
        gradient = np.array([error @ logits, error.sum()])
        hessian = np.array([[curve @ logits**2, curve @ logits], [curve @ logits, curve.sum()]])
        step = np.linalg.solve(hessian + 1e-3 * np.eye(2), gradient)
        slope, shift = slope - float(np.clip(step[0], -0.5, 0.5)), shift - float(np.clip(step[1], -1, 1))
    good = _sigmoid(slope * logits[damaged == 0] + shift)
    threshold = float(np.quantile(good, 1 - false_rejects))
    return replace(model, slope=slope, shift=shift, threshold=threshold)


def auc(good: np.ndarray, damaged: np.ndarray) -> float:
    """Probability that a damaged text scores higher than a good one; ties count half."""
    both = np.concatenate([good, damaged])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[len(good) :].sum() - len(damaged) * (len(damaged) + 1) / 2) / (len(good) * len(damaged)))


def _quantiles(rows: np.ndarray) -> np.ndarray:
    columns = []
    for column in rows.T:
        told = column[~np.isnan(column)]
        columns.append(np.quantile(told, QUANTILES) if len(told) else np.full(len(QUANTILES), np.nan))
    return np.stack(columns)


def _beyond(values: np.ndarray, usual: np.ndarray) -> np.ndarray:
    width = usual.shape[0]
    found = np.zeros((len(values), 2 * width))
    for i, table in enumerate(usual):
        column = values[:, i]
        told = ~np.isnan(column)
        spread = max(table[-12] - table[11], 0.25 * (table[-1] - table[0]), 1e-3)
        steps = table + 1e-12 * np.arange(len(table))  # quantiles may be equal
        below = np.interp(column, steps, QUANTILES)
        first, last = np.searchsorted(table, column, "left"), np.searchsorted(table, column, "right")
        tied = np.where(last > first, QUANTILES[np.minimum(last, len(QUANTILES)) - 1], below)
        tied_low = np.where(last > first, QUANTILES[np.minimum(first, len(QUANTILES) - 1)], below)
        # of equal values all count as beyond: a usual value is never an anomaly
        upper = np.where(last > first, 1 - tied_low, 1 - below)
        lower = np.where(last > first, tied, below)
        far_up = np.log1p(np.maximum(column - table[-1], 0.0) / spread)
        far_down = np.log1p(np.maximum(table[0] - column, 0.0) / spread)
        found[told, i] = (_decades(upper) + far_up)[told]
        found[told, width + i] = (_decades(lower) + far_down)[told]
    return found


def _decades(share: np.ndarray) -> np.ndarray:
    """Nothing while much good text is as far out, then one per factor of ten."""
    return np.asarray(np.maximum(0.0, -np.log10(np.maximum(share, _FLOOR)) - _UNUSUAL))


def _with_knee(anomalies: np.ndarray) -> np.ndarray:
    return np.concatenate([anomalies, np.maximum(0.0, anomalies - _KNEE)], axis=1)


def _balance(damaged: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    weights = np.where(damaged == 0, 0.5 / max(1, (damaged == 0).sum()), 0.5 / max(1, (damaged == 1).sum()))
    if groups is not None:
        names = np.array(groups)
        families = sorted(set(names[damaged == 1]))
        for family in families:
            rows = (names == family) & (damaged == 1)
            weights[rows] = 0.5 / len(families) / rows.sum()
    return weights


def _descend(
    inputs: np.ndarray, damaged: np.ndarray, balance: np.ndarray, penalty: float, steps: int
) -> tuple[np.ndarray, float]:
    """Accelerated projected gradient; the penalty is per 1000 texts."""
    weights, offset = np.full(inputs.shape[1], 0.1), -2.0
    ahead, ahead_offset, rate = weights.copy(), offset, 4.0 / float((balance @ inputs**2).sum() + 1.0)
    for step in range(steps):
        error = balance * (_sigmoid(inputs @ ahead + ahead_offset) - damaged)
        new = np.maximum(0.0, ahead - rate * (inputs.T @ error + penalty * 1e-3 * ahead))
        new_offset = ahead_offset - rate * float(error.sum())
        momentum = step / (step + 3)
        ahead, ahead_offset = new + momentum * (new - weights), new_offset + momentum * (new_offset - offset)
        weights, offset = new, new_offset
    return weights, offset


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))))


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def write_model(model: AnomalyModel, path: Path) -> None:
    """As JSON, under a temporary name first."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(model.as_dict(), separators=(",", ":")) + "\n", encoding="utf-8")
