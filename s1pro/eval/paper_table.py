"""The layout of the paper's table: its blocks, its benchmarks, its scores of Intern-S1-Pro.

The published scores were read off the table of the paper. They were made with other harnesses, prompts and judges, so
they stand in a column of their own, and nothing here computes with them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from s1pro.eval.results import BenchmarkTotal
from s1pro.report.blocks import Cell

PUBLISHED_COLUMN = "Intern-S1-Pro (published)"
COLUMNS = ("block", "benchmark", "compat", "strict", PUBLISHED_COLUMN, "remark")
ROWS: tuple[tuple[str, str, float], ...] = (
    ("science", "SciReasoner", 55.5),
    ("science", "SFE", 52.7),
    ("science", "SmolInstruct", 74.8),
    ("science", "MatBench", 72.8),
    ("science", "Mol-Instructions", 48.8),
    ("science", "MicroVQA", 63.3),
    ("science", "Biology-Instruction", 52.5),
    ("science", "XLRS-Bench", 52.8),
    ("science", "MSEarth-MCQ", 65.2),
    ("general", "MMMU-Pro", 72.8),
    ("general", "MMLU-Pro", 86.6),
    ("general", "AIME-2025", 93.1),
    ("general", "IMO-Answer-Bench", 77.3),
    ("general", "RefCOCO-avg", 91.9),
    ("general", "IFBench", 71.2),
    ("general", "OCRBench V2 (en)", 60.1),
    ("general", "OCRBench V2 (zh)", 60.6),
    ("general", "SArena (Icon)", 83.5),
    ("general", "ScreenSpot V2", 93.6),
    ("general", "LCB V6", 74.3),
    ("agents", "GAIA (text-only)", 77.4),
    ("agents", "Tau2-Bench", 80.9),
)


def paper_rows(totals: Iterable[BenchmarkTotal]) -> list[list[Cell]]:
    """All rows of the table; cells of ours are empty where nothing was evaluated, or only parts."""
    ours = {key: total for total in totals for key in (_key(total.name), _key(total.title))}
    rows: list[list[Cell]] = []
    for block, title, published in ROWS:
        total = ours.get(_key(title)) or ours.get(_key(title) + "s")
        rows.append([block, title, *_own(total), published, _remark(total)])
    return rows


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


def _remark(total: BenchmarkTotal | None) -> str:
    if total is None or total.num_subtasks == total.of_subtasks:
        return ""
    return f"only {total.num_subtasks} of {total.of_subtasks} parts evaluated"


def _key(title: str) -> str:
    return re.sub(r"[^a-z0-9]", "", title.lower())


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
