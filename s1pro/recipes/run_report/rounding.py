"""What rounding to FP8 did to the operands of the experts, over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from s1pro.recipes.run_report.curves import curve, figures
from s1pro.recipes.run_report.folders import Record, Run
from s1pro.report import plots
from s1pro.report.blocks import Block, Cell, Section, Table

NUMBERS = ("error", "underflow", "clipped")
OPERANDS: Mapping[str, str] = {
    "gate_up": "weights, gate and up",
    "down": "weights, down",
    "x": "inputs of gate and up",
    "h": "inputs of down",
    "dy": "gradients of outputs",
    "da": "gradients behind gate and up",
    "rows": "operands of the gradients of weights, in blocks of rows",
}


def rounding_section(runs: Sequence[Run]) -> Section | None:
    """None where no expert computed in FP8."""
    rounded = [_with_means(run) for run in runs if run.of("fp8")]
    if not rounded:
        return None
    blocks: list[Block] = []
    rows: list[list[Cell]] = []
    for run in rounded:
        last = run.of("fp8")[-1]
        operands = [name for name in last if name != "step"]
        panels = [_panel(run, operands, number) for number in NUMBERS[:2]]
        blocks += figures(panels, name=f"fp8-{run.label}", alt=f"Rounding to FP8 of {run.label}", caption=run.label)
        rows += [[run.label, OPERANDS.get(o, o), *(last[o][number] for number in NUMBERS)] for o in operands]
    columns = ("run", "operand", "relative error", "share that became 0", "share clipped")
    return Section(
        title="Rounding to FP8",
        intro="Error: root mean square of the rounding, over that of the numbers. Means over layers.",
        blocks=[*blocks, Table(columns=columns, rows=rows, digits=5, caption="At the last measured step")],
    )


def _panel(run: Run, operands: Sequence[str], number: str) -> plots.Panel:
    curves = [curve(run, "fp8", operand, number, label=operand) for operand in operands]
    return plots.Panel(title=number, y_label="share", curves=[one for one in curves if one is not None])


def _with_means(run: Run) -> Run:
    """Means over layers, by operand."""

    def means(record: Record) -> dict[str, Any]:
        layers = list(record["layers"].values())
        found = {
            operand: {number: float(np.mean([layer[operand][number] for layer in layers])) for number in NUMBERS}
            for operand in layers[0]
        }
        return {"step": record["step"], **found}

    return replace(run, records={"fp8": [means(record) for record in run.of("fp8") if record["layers"]]})
