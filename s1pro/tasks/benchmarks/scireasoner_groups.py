"""How the 149 numbers of SciReasoner become nine group numbers, upstream's formulas with their defects.

Every formula takes the scores of a group in upstream's order, in the units that the sub-scorers give. A score that is
missing or not a number is 0. No formula that joins the nine groups is known; `overall` is their mean, our guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

Scores = Sequence[float | None]


def cleaned(scores: Scores, count: int) -> list[float]:
    """0 for what is missing or undefined. Raises `ValueError` for another number of scores than the group has."""
    if len(scores) != count:
        raise ValueError(f"expected {count} scores, got {len(scores)}")
    return [0.0 if score is None or not math.isfinite(score) else float(score) for score in scores]


def _mean(count: int) -> Callable[[Scores], float]:
    return lambda scores: sum(cleaned(scores, count)) / count


def opi(scores: Scores) -> float:
    """16 fractions."""
    return 100.0 * sum(cleaned(scores, 16)) / 16


def smolinstruct(scores: Scores) -> float:
    """15: captions (index 2) are a fraction, ESOL and Lipo (8, 9) are errors."""
    s = cleaned(scores, 15)
    # An error that is missing would be perfect as 0; upstream has it so.
    points = [*s[:2], 100.0 * s[2], *s[3:8], max(0.0, 25.0 * (4 - s[8])), max(0.0, 50.0 * (2 - s[9])), *s[10:]]
    return sum(points) / 15


def mol_instructions(scores: Scores) -> float:
    """17; the F1 of chemicals and proteins (index 2) is never added although the sum is divided by 17."""
    s = cleaned(scores, 17)
    total = s[3] + s[5] + sum(s[12:])
    total += 100.0 * (s[0] + s[1] + s[4] + sum(s[7:12]))
    return (total + max(0.0, 10.0 * (10 - s[6]))) / 17


def llm4mat(scores: Scores) -> float:
    """5 areas under curves, 60 ratios of deviation to error without a bound."""
    s = cleaned(scores, 65)
    return (100.0 * sum(s[:5]) + sum(s[5:])) / 65


def unconditional_generation(scores: Scores) -> float:
    """Materials in percent, free energy of RNA, proteins and molecules as fractions."""
    s = cleaned(scores, 4)
    return (s[0] + min(100.0, -s[1] / 10) + 100.0 * (s[2] + s[3])) / 4


GROUPS: Mapping[str, tuple[int, Callable[[Scores], float]]] = {
    "Bio_Instruction": (15, _mean(15)),
    "GUE": (11, _mean(11)),
    "OPI": (16, opi),
    "PEER": (4, _mean(4)),
    "SmolInstruct": (15, smolinstruct),
    "Mol_Instructions": (17, mol_instructions),
    "LLM4Mat": (65, llm4mat),
    "Conditional_Generation": (2, _mean(2)),
    "Unconditional_Generation": (4, unconditional_generation),
}


def overall(groups: Mapping[str, float]) -> float:
    """Mean of the groups that are there."""
    return sum(groups.values()) / len(groups)


def deviation_over_error(golds: Sequence[float], predictions: Sequence[float | None]) -> float | None:
    """LLM4Mat: mean absolute deviation of the golds whose prediction could be read, over the mean absolute error. None
    for an error of 0 or nothing to read, which a group then counts 0: perfection scores nothing."""
    kept = [(g, p) for g, p in zip(golds, predictions, strict=True) if p is not None]
    if not kept:
        return None
    mean = sum(g for g, _ in kept) / len(kept)
    deviation = sum(abs(g - mean) for g, _ in kept) / len(kept)
    error = sum(abs(g - p) for g, p in kept) / len(kept)
    return deviation / error if error else None
