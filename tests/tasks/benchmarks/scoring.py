"""Scores of replies to records of a subtask, through the same objects as a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.tasks.benchmarks.registry import BENCHMARKS
from s1pro.tasks.benchmarks.spec import BenchmarkTask


def numbers(
    benchmark: str, name: str, records: Sequence[Mapping[str, Any]], replies: Sequence[str]
) -> dict[str, float]:
    """What `aggregate` says of the replies."""
    task = BenchmarkTask(BENCHMARKS[benchmark], BENCHMARKS[benchmark].subtask(name), records)
    return dict(task.aggregate([task.grade(item, reply) for item, reply in zip(task.items(), replies, strict=True)]))
