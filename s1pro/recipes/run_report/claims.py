"""What `s1pro claims` measured: verdicts, differences with what was asked of them, and the plots of every claim."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.recipes.claims.claim import Claim
from s1pro.recipes.claims.registry import CLAIMS
from s1pro.recipes.claims.runner import differences_of, read_results, read_runs
from s1pro.recipes.run_report.folders import Run
from s1pro.report import plots
from s1pro.report.blocks import Block, Cell, Figure, Paragraph, Section, Table, Verdict

OUTCOMES: Mapping[str, bool | None] = {"replicates": True, "does not replicate": False, "undecided": None}
Record = Mapping[str, Any]


def records(folder: Path) -> list[dict[str, Any]]:
    """Runs of claims, by number; full ones first, those without a mechanism last.

    Raises:
        InputError: a record that is not one.
    """
    try:
        found = read_runs(folder)
        for record in found:
            differences_of(record)
        order = {name: claim.number for name, claim in CLAIMS.items()}
        return sorted(
            found,
            key=lambda r: (order.get(r["claim"], 99), r["without"] is not None, r["setting"] == "fast", r["seeds"]),
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: a run-*.json in it is not the record of a claim ({error!r})") from error


def claims_sections(runs: Sequence[Run]) -> list[Section]:
    """One section per claim, over all folders; first a table of all verdicts."""
    found = [(run.label, record) for run in runs if run.kind == "claims" for record in records(run.folder)]
    if not found:
        return []
    by_claim: dict[str, list[tuple[str, Record]]] = {}
    for label, record in found:
        by_claim.setdefault(record["claim"], []).append((label, record))
    return [_overview(found), *(_claim(name, some) for name, some in by_claim.items())]


def _overview(found: Sequence[tuple[str, Record]]) -> Section:
    rows: list[list[Cell]] = [
        [record["claim"], record["setting"], _seeds(record), record["without"] or "", record["outcome"]]
        for _, record in found
    ]
    note = "A run without its mechanism has to come to another verdict: only then was the mechanism tested."
    return Section(
        title="Verdicts",
        intro="Claims of the paper, measured in miniature. Criteria were fixed before the full runs.",
        blocks=[Table(columns=("claim", "setting", "seeds", "without", "outcome"), rows=rows, note=note)],
    )


def _claim(name: str, found: Sequence[tuple[str, Record]]) -> Section:
    claim = CLAIMS.get(name)
    blocks: list[Block] = []
    if claim is not None:
        blocks += [Paragraph(text=f"Criterion. {claim.criterion}"), Paragraph(text=f"Tuning. {claim.tuning}")]
    for label, record in found:
        blocks += _run(label, record, name_folder=len({other for other, _ in found}) > 1)
        if claim is not None and record is found[0][1]:
            blocks += _figure(claim, record)
    # Another section may be called like a claim: "Expansion" is what a run of `s1pro expand` gives.
    return Section(title=f"Claim: {name}", intro="" if claim is None else claim.statement, blocks=blocks)


def _run(label: str, record: Record, *, name_folder: bool) -> list[Block]:
    without = f", without {record['without']}" if record["without"] else ""
    where = f"{label}: " if name_folder else ""
    rows: list[list[Cell]] = []
    for difference in differences_of(dict(record)):
        asked = "" if difference.above is None else f"above {difference.above:g}"
        met = None if difference.above is None else {True: "yes", False: "no", None: "undecided"}[difference.met]
        rows.append([difference.name, str(difference.estimate), asked, met])
    return [
        Verdict(
            word=f"{record['outcome'].capitalize()}.",
            text=f"{where}{record['setting']}, seeds {_seeds(record)}{without}. {record['text']}",
            passed=OUTCOMES.get(record["outcome"]),
        ),
        Table(
            columns=("difference", "mean [95 % interval]", "asked", "met"),
            rows=rows,
            note=f"{record['seconds']:,.0f} s of processor time, commit {record['stamp'].get('commit')}.",
        ),
    ]


def _figure(claim: Claim, record: Record) -> list[Block]:
    """The plots of the first run."""
    panels = claim.panels(read_results(record, claim))
    rows = [panels[i : i + 2] for i in range(0, len(panels), 2)]
    return [
        Figure(
            svg=plots.curves(row, name=f"claim-{claim.name}-{number}"),
            alt=f"{claim.name}: {', '.join(panel.title or panel.y_label for panel in row)}, for every arm.",
            caption=f"{record['setting']}, seeds {_seeds(record)}.",
        )
        for number, row in enumerate(rows)
    ]


def _seeds(record: Record) -> str:
    return ", ".join(map(str, record["seeds"]))
