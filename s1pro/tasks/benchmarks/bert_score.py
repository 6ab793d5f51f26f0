"""BERTScore (Zhang et al., 2020): how alike two texts are to a language model, token by token.

Every token of either text has a vector of the model, in its context. A token is worth the largest cosine with any token
of the other text; precision is the mean over the hypothesis, recall over the reference, and the score is their F.
Marks that the model puts around a text may be matched, but are not in the means.

The vectors need weights, which are the user's (`s1pro eval --bert-score FOLDER`; SciReasoner's are those of
roberta-large, layer 14). This module is the arithmetic; `cli/bert_score.py` runs the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Similarity = Callable[[str, str], float]
"""Of a reference and a hypothesis."""
Vectors = tuple[np.ndarray, np.ndarray]
"""Of the tokens of a text, `[T, D]`, and which of them are in the means, `[T]`."""


def greedy_f(reference: Vectors, hypothesis: Vectors) -> float:
    """F of the two means; 0 for a text without tokens."""
    (left, in_left), (right, in_right) = reference, hypothesis
    if not in_left.any() or not in_right.any():
        return 0.0
    cosines = _unit(left) @ _unit(right).T
    recall, precision = float(cosines.max(1)[in_left].mean()), float(cosines.max(0)[in_right].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _unit(vectors: np.ndarray) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
