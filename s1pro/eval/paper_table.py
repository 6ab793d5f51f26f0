"""The layout of the paper's table: its blocks, its benchmarks, its scores of Intern-S1-Pro.

The published scores were read off the table of the paper. They were made with other harnesses, prompts and judges, so
they stand in a column of their own, and nothing here computes with them. The remark says which cannot be computed here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from s1pro.eval.results import BenchmarkTotal
from s1pro.report.blocks import Cell
from s1pro.tasks.benchmarks.registry import BENCHMARKS

PUBLISHED_COLUMN = "Intern-S1-Pro (published)"
COLUMNS = ("block", "benchmark", "compat", "strict", PUBLISHED_COLUMN, "remark")
ROWS: tuple[tuple[str, str, str, float], ...] = (
    ("science", "scireasoner", "SciReasoner", 55.5),
    ("science", "sfe", "SFE", 52.7),
    ("science", "smolinstruct", "SmolInstruct", 74.8),
    ("science", "matbench", "MatBench", 72.8),
    ("science", "mol-instructions", "Mol-Instructions", 48.8),
    ("science", "microvqa", "MicroVQA", 63.3),
    ("science", "biology-instructions", "Biology-Instruction", 52.5),
    ("science", "xlrs-bench", "XLRS-Bench", 52.8),
    ("science", "msearth-mcq", "MSEarth-MCQ", 65.2),
    ("general", "mmmu-pro", "MMMU-Pro", 72.8),
    ("general", "mmlu-pro", "MMLU-Pro", 86.6),
    ("general", "aime-2025", "AIME-2025", 93.1),
    ("general", "imo-answer-bench", "IMO-Answer-Bench", 77.3),
    ("general", "refcoco", "RefCOCO-avg", 91.9),
    ("general", "ifbench", "IFBench", 71.2),
    ("general", "ocrbench-v2", "OCRBench V2 (en)", 60.1),
    ("general", "ocrbench-v2-zh", "OCRBench V2 (zh)", 60.6),
    ("general", "sarena", "SArena (Icon)", 83.5),
    ("general", "screenspot-v2", "ScreenSpot V2", 93.6),
    ("general", "livecodebench", "LCB V6", 74.3),
    ("agents", "gaia", "GAIA (text-only)", 77.4),
    ("agents", "tau2", "Tau2-Bench", 80.9),
)


def paper_rows(totals: Iterable[BenchmarkTotal]) -> list[list[Cell]]:
    """All rows of the table; cells of ours are empty where nothing was evaluated, only parts, or nothing can be."""
    ours = {total.name: total for total in totals}
    return [
        [block, title, *_own(ours.get(name)), published, _remark(name, ours.get(name))]
        for block, name, title, published in ROWS
    ]


def as_markdown(rows: Sequence[Sequence[Cell]], columns: Sequence[str] = COLUMNS) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_text(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[Sequence[Cell]], columns: Sequence[str] = COLUMNS) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return file.getvalue()


def _own(total: BenchmarkTotal | None) -> tuple[Cell, Cell]:
    if total is None:
        return None, None
    return total.profiles.get("compat"), total.profiles.get("strict")


def _remark(name: str, total: BenchmarkTotal | None) -> str:
    benchmark = BENCHMARKS.get(name)
    if benchmark is not None and benchmark.status != "computable":
        return benchmark.status
    if total is None or total.num_subtasks == total.of_subtasks:
        return ""
    return f"only {total.num_subtasks} of {total.of_subtasks} parts evaluated"


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
