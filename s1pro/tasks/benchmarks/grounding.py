"""Boxes and points in pictures: RefCOCO, ScreenSpot V2. Upstream guesses the scale of numbers; so does compat.

**RefCOCO.** Four numbers, corners sorted; a hit if IoU >= 0.5. compat: all numbers up to 1.5 are fractions, up to 1000
per-mille, else pixels, so pixel answers below 1000 are misread. strict: the scale that the prompt asks for (`scale` of
the record: fraction, per-mille or pixel; per-mille by default), no guess.

**ScreenSpot.** A click; compat reads `x=..., y=...` with a comma and one blank, takes a value above 1 in either for
pixels, and an unreadable reply for the point (0, 0), which hits a box that touches the corner. strict: unreadable is
wrong, and per-mille answers (0 to 1000) are read where the record says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, upstream_visible
from s1pro.tasks.benchmarks.spec import Pair, Record

Box = tuple[float, float, float, float]
_CLICK = re.compile(r"x=([\d.]+), y=([\d.]+)")
SPLITS = (
    "RefCOCO_val", "RefCOCO_testA", "RefCOCO_testB", "RefCOCO+_val", "RefCOCO+_testA", "RefCOCO+_testB", "RefCOCOg_val",
    "RefCOCOg_test",
)  # fmt: skip
_ANY_CLICK = re.compile(
    r"x\s*=\s*(-?\d+\.?\d*)\s*,?\s*y\s*=\s*(-?\d+\.?\d*)|[\(\[]\s*(-?\d+\.?\d*)\s*,\s*(-?\d+\.?\d*)\s*[\)\]]"
)


def intersection_over_union(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two boxes with sorted corners."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _sorted(box: Sequence[float]) -> Box:
    x0, x1 = sorted((box[0], box[2]))
    y0, y1 = sorted((box[1], box[3]))
    return (x0, y0, x1, y1)


def upstream_box(response: str, record: Record) -> Box | None:
    """The first four numbers, scaled to pixels by guessing."""
    numbers = [float(text) for text in re.findall(r"-?\d+\.?\d*", upstream_visible(response))]
    if len(numbers) < 4:
        return None
    box, width, height = numbers[:4], float(record["width"]), float(record["height"])
    top = max(map(abs, box))
    factor = 1.0 if top <= 1.5 else 1000.0 if top <= 1000 else None
    if factor is not None:
        box = [v / factor * side for v, side in zip(box, (width, height, width, height), strict=True)]
    return _sorted(box)


def strict_box(response: str, record: Record) -> Box | None:
    """The last four numbers in brackets, or the only four, in the scale of the record."""
    text = answer_part(response)
    grouped = re.findall(r"[\[\(]\s*(-?\d[^\[\]\(\)]*)[\]\)]", text)
    lists = [[float(v) for v in re.findall(r"-?\d+\.?\d*", part)] for part in grouped]
    fours = [numbers for numbers in lists if len(numbers) == 4]
    if not fours:
        numbers = [float(v) for v in re.findall(r"-?\d+\.?\d*", text)]
        fours = [numbers] if len(numbers) == 4 else []
    if not fours:
        return None
    sides = (float(record["width"]), float(record["height"])) * 2
    factor = {"fraction": 1.0, "per-mille": 1000.0}.get(str(record.get("scale", "per-mille")))
    box = fours[-1] if factor is None else [v / factor * side for v, side in zip(fours[-1], sides, strict=True)]
    return _sorted(box)


def box_hit(gold: Sequence[float], prediction: Sequence[float]) -> float:
    return float(intersection_over_union(_sorted(gold), prediction) >= 0.5)


def hits_by(field: str) -> Any:
    """Mean over the splits named by a field, times 100."""

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        groups: dict[str, list[float]] = {}
        for pair in pairs:
            hit = 0.0 if pair.prediction is None else box_hit(pair.gold, pair.prediction)
            groups.setdefault(str(pair.record.get(field, "all")), []).append(hit)
        means = {name: 100.0 * float(np.mean(values)) for name, values in groups.items()}
        return {"score": float(np.mean(list(means.values()))), **means}

    return metric


def upstream_click(response: str, record: Record) -> tuple[float, float] | None:
    """A point as fractions; (0, 0) for what cannot be read, None for digits and dots that are no number."""
    found = _CLICK.search(upstream_visible(response))
    if not found:
        return 0.0, 0.0
    try:
        x, y = float(found[1]), float(found[2])
    except ValueError:
        return None
    if x > 1 or y > 1:
        x, y = x / float(record["width"]), y / float(record["height"])
    return x, y


def strict_click(response: str, record: Record) -> tuple[float, float] | None:
    """The last point, in fractions, per-mille (`scale` of the record) or pixels."""
    found = list(_ANY_CLICK.finditer(answer_part(response)))
    if not found:
        return None
    x, y = (float(value) for value in found[-1].groups() if value is not None)
    if record.get("scale") == "per-mille":
        return x / 1000, y / 1000
    if x > 1 or y > 1:
        return x / float(record["width"]), y / float(record["height"])
    return x, y


def click_hit(gold: Sequence[float], prediction: Sequence[float]) -> float:
    """Whether a point lies in `[x0, y0, x1, y1]`, all in fractions."""
    return float(gold[0] <= prediction[0] <= gold[2] and gold[1] <= prediction[1] <= gold[3])


def click_gold(record: Record) -> Box:
    """`bbox` is x, y, width, height in pixels; the last pixel belongs to the box: x + w - 1. A corner at -1 is at 0."""
    x, y, w, h = (float(v) for v in record["bbox"])
    width, height = float(record["width"]), float(record["height"])
    corners = (x, y, x + w - 1, y + h - 1)
    box = [(0.0 if v == -1 else v) / side for v, side in zip(corners, (width, height) * 2, strict=True)]
    if any(v < 0 or v > 1 for v in box):
        raise InputError(f"the box {record['bbox']} is not inside the picture of {width:g} x {height:g}")
    return (box[0], box[1], box[2], box[3])


def box_gold(record: Record) -> Box:
    """Corners in pixels, from `bbox_x1` to `bbox_y2`, or from `answer` (fractions if nothing is above 1.5)."""
    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    if all(name in record for name in names):
        numbers = [float(record[name]) for name in names]
    else:
        numbers = [float(text) for text in re.findall(r"-?\d+\.?\d*", str(record.get("answer", "")))][:4]
    if len(numbers) != 4:
        raise InputError(f"expected {', '.join(names)} or four numbers in 'answer', got {record.get('answer')!r:.60}")
    if max(map(abs, numbers)) <= 1.5:
        sides = (float(record["width"]), float(record["height"])) * 2
        numbers = [value * side for value, side in zip(numbers, sides, strict=True)]
    return _sorted(numbers)


def click_accuracy(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Share of hits, over all and for text and icons."""
    hits = [
        (p.record.get("data_type", ""), 0.0 if p.prediction is None else click_hit(p.gold, p.prediction)) for p in pairs
    ]
    numbers = {"score": 100.0 * float(np.mean([hit for _, hit in hits]))}
    for kind in sorted({str(kind) for kind, _ in hits if kind}):
        numbers[kind] = 100.0 * float(np.mean([hit for k, hit in hits if k == kind]))
    return numbers
