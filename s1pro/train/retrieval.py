"""Zero-shot retrieval: does a picture find its caption among n held-out ones, and a caption its picture?

    recall@k = share of queries whose own partner is among the k best of n;  chance is k / n

with Wilson's 95 % interval over queries. A partner that merely *ties* with others counts as worse than they are, so a
model that maps everything to one point scores 0 and not 1. Of pairs with the same caption only the first takes part:
nothing could tell the others apart.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from s1pro.report.scores import share_estimate

CUTOFFS = (1, 5, 10)


def retrieval_record(image_BE: Tensor, text_BE: Tensor) -> dict[str, Any]:
    """Recall in both directions; row i of `image_BE` belongs to row i of `text_BE`.

    Returns:
        `{"pairs": n, "image_to_text": {"recall_at_1": {"value", "low", "high", "chance"}, …}, "text_to_image": …}`
    """
    if image_BE.shape != text_BE.shape or len(image_BE) == 0:
        raise ValueError(f"pictures {tuple(image_BE.shape)} and captions {tuple(text_BE.shape)} do not pair up")
    scores_BB = image_BE.double() @ text_BE.double().T
    directions = {"image_to_text": scores_BB, "text_to_image": scores_BB.T}
    return {"pairs": len(image_BE), **{name: _recalls(scores) for name, scores in directions.items()}}


def distinct(captions: list[tuple[int, ...]]) -> list[int]:
    """Places of the first pair of every caption."""
    return sorted({caption: place for place, caption in reversed(list(enumerate(captions)))}.values())


def _recalls(scores_BB: Tensor) -> dict[str, dict[str, float]]:
    count = len(scores_BB)
    own_B1 = scores_BB.diagonal()[:, None]
    better_B = (scores_BB >= own_B1).fill_diagonal_(False).sum(dim=1)
    record = {}
    for k in CUTOFFS:
        estimate = share_estimate(int((better_B < k).sum()), count)
        assert estimate.low is not None and estimate.high is not None
        record[f"recall_at_{k}"] = {
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "chance": min(k / count, 1.0),
        }
    return record


def above_chance(record: dict[str, Any], k: int = 1) -> bool:
    """Whether the lower end of the interval lies above chance in both directions."""
    directions = (record[name][f"recall_at_{k}"] for name in ("image_to_text", "text_to_image"))
    return all(recall["low"] > recall["chance"] for recall in directions)
