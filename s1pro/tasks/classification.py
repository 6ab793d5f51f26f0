"""Metrics of answers that are one of a few classes: what all answers together say beyond the share of right ones.

    accuracy   right / all
    macro F1   mean over classes of 2 TP / (2 TP + FP + FN); a class that occurs neither in truth nor in answers is left
               out, one that is never hit counts 0
    MCC        correlation between truth and answer (Gorodkin's R_K for several classes):
               (c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2)), 0 where the root is 0;
               s answers, c right ones, t_k times class k is true, p_k times it is answered

An answer that could not be read is a class of its own (-1): it costs accuracy, and recall of the true class, and can
never be right. With it no class of the truth is added, so it is no term of the macro F1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

UNREADABLE = -1


def accuracy(truth: Sequence[int], answers: Sequence[int]) -> float:
    """See the module docstring."""
    return sum(t == a for t, a in _pairs(truth, answers)) / len(truth)


def macro_f1(truth: Sequence[int], answers: Sequence[int]) -> float:
    """See the module docstring."""
    pairs = _pairs(truth, answers)
    hits = Counter(t for t, a in pairs if t == a)
    seen, said = Counter(truth), Counter(answers)
    classes = (set(seen) | set(said)) - {UNREADABLE}
    return sum(2 * hits[k] / (seen[k] + said[k]) for k in classes) / len(classes)


def matthews(truth: Sequence[int], answers: Sequence[int]) -> float:
    """See the module docstring."""
    pairs = _pairs(truth, answers)
    seen, said, total = Counter(truth), Counter(answers), len(pairs)
    right = sum(t == a for t, a in pairs)
    covariance = right * total - sum(seen[k] * said[k] for k in seen)
    spread = (total**2 - sum(n * n for n in said.values())) * (total**2 - sum(n * n for n in seen.values()))
    return covariance / math.sqrt(spread) if spread else 0.0


def _pairs(truth: Sequence[int], answers: Sequence[int]) -> list[tuple[int, int]]:
    if not truth or len(truth) != len(answers):
        raise ValueError(f"need as many answers as truths, and at least one; got {len(answers)} and {len(truth)}")
    return list(zip(truth, answers, strict=True))
