"""Copies of experts that come apart after an expansion, over the steps of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.recipes.run_report.curves import figures, panel
from s1pro.recipes.run_report.folders import Record, Run, read_object
from s1pro.report.blocks import Cell, Section, Table

NUMBERS = ("expert_cosine", "expert_distance", "router_distance", "identical")


def copies_section(runs: Sequence[Run]) -> Section | None:
    """None if no run measured copies."""
    found = [measured(run) for run in runs]
    watched = [run for run in found if run.of("copies")]
    if not watched:
        return None
    panels = [
        panel(watched, "copies", "expert_cosine", title="similarity of copies", y_label="cosine"),
        panel(watched, "copies", "expert_distance", title="distance of copies", y_label="relative distance"),
        panel(watched, "copies", "router_distance", title="distance of their router rows", y_label="relative distance"),
        panel(watched, "copies", "identical", title="pairs equal in every bit", y_label="share"),
    ]
    rows: list[list[Cell]] = [
        [run.label, when, int(record["step"]), *(record[name] for name in NUMBERS)]
        for run in watched
        for when, record in (("first", run.of("copies")[0]), ("last", run.of("copies")[-1]))
    ]
    return Section(
        title="Copies of experts",
        intro="Expansion makes copies of experts; only noise on their router rows tells them apart. They are useful "
        "when they become different. Distance is relative to the mean norm of the matrices.",
        blocks=[
            *figures(
                panels, name="copies", alt="Copies of one original", caption="Means over pairs of copies and layers."
            ),
            Table(columns=("run", "measured", "step", *(n.replace("_", " ") for n in NUMBERS)), rows=rows, digits=4),
        ],
    )


def measured(run: Run) -> Run:
    """The run with records `copies`: means over layers; what the expansion itself measured stands at step 0."""
    records: list[dict[str, Any]] = []
    source = run.config.get("init_from") if run.kind == "train" else None
    start = None if source is None else _found(run, Path(str(source)) / "expansion.json")
    watched = [record for record in run.of("validation") if record.get("copies")]
    if start is not None and watched and (copies := read_object(start).get("copies")):
        records.append({"step": 0, **_means(copies)})
    records += [{"step": record["step"], **_means(record["copies"])} for record in watched]
    return replace(run, records={"copies": records})


def _found(run: Run, path: Path) -> Path | None:
    """A file that the configuration names, from here or from beside the run."""
    for candidate in (path, run.folder.parent / path.parent.name / path.name):
        if candidate.is_file():
            return candidate
    return None


def _means(copies: Record) -> dict[str, float]:
    layers = [layer for layer in copies.values() if layer]
    return {name: float(np.mean([layer[name] for layer in layers])) for name in NUMBERS} if layers else {}
