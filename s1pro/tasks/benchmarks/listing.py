"""The registry as tables for people: `docs/benchmarks.md` holds what this writes, and a test keeps it so."""

from __future__ import annotations

from collections.abc import Iterator

from s1pro.tasks.benchmarks.registry import BENCHMARKS
from s1pro.tasks.benchmarks.spec import Benchmark


def overview() -> str:
    """One row per benchmark."""
    lines = ["| name | benchmark | subtasks | published | scored here | data, licence |", "|---|---|---:|---:|---|---|"]
    for benchmark in BENCHMARKS.values():
        published = "-" if benchmark.published is None else f"{benchmark.published:g}"
        lines.append(
            f"| `{benchmark.name}` | {benchmark.title} | {len(benchmark.subtasks) or '-'} | {published} | "
            f"{benchmark.status} | {benchmark.source}; {benchmark.licence} |"
        )
    return "\n".join(lines)


def details() -> str:
    """What to know of each benchmark: notes, and defects that compat reproduces, with the subtasks that have them."""
    return "\n\n".join("\n".join(_details(benchmark)) for benchmark in BENCHMARKS.values())


def _details(benchmark: Benchmark) -> Iterator[str]:
    yield f"**{benchmark.title}** (`{benchmark.name}`)"
    yield ""
    for note in benchmark.notes:
        yield f"* {note}"
    by_defect: dict[str, list[str]] = {}
    for subtask in benchmark.subtasks:
        for defect in subtask.defects:
            by_defect.setdefault(defect, []).append(subtask.name)
    for defect, names in by_defect.items():
        everywhere = len(names) == len(benchmark.subtasks)
        where = "" if everywhere else f" ({', '.join(names)})"
        yield f"* compat: {defect}{where}"
    if not benchmark.notes and not by_defect:
        yield "* no defect is known"
