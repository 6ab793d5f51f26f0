"""Which experts do what: load of layer × expert, by modality and by domain, over the steps; and copies that come apart.

Counts by source and modality come from `train.routing_counts`. A source that is a task of `tasks.registry` is shown
with its domain. The last records are added up, since one step holds few rows of a rare source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.recipes.run_report.curves import figures, panel
from s1pro.recipes.run_report.folders import Record, Run
from s1pro.report import heat, plots
from s1pro.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from s1pro.tasks import registry

LAST_RECORDS = 30
MOST_PARTS = 8
STRONGEST = 10
Counts = Mapping[str, npt.NDArray[np.int64]]
"""Part to `[L, E]`."""


def router_section(runs: Sequence[Run]) -> Section | None:
    """Heat maps of every run that has routers; None if none has."""
    routed = [run for run in runs if run.of("router")]
    if not routed:
        return None
    blocks: list[Block] = []
    for run in routed:
        blocks.extend(_maps(run, several=len(routed) > 1))
    blocks.extend(_courses(routed))
    return Section(
        title="Router",
        intro="Load is relative to an even split: 1 (white) is even, orange is less, purple is more. With grouped "
        "routing every group gets the same number of rows; inside a group the experts may specialise.",
        blocks=blocks,
    )


def _maps(run: Run, *, several: bool) -> list[Block]:
    last = run.of("router")[-1]
    layers = list(last["layers"].values())
    groups = len(layers[0]["group_load"])
    of = f" of {run.label}" if several else ""
    name = f"router-{run.label}"
    blocks: list[Block] = [
        Figure(
            svg=plots.router_load([layer["load"] for layer in layers], num_groups=groups, name=name),
            alt=f"Heat map{of}: load of every expert of every layer at step {last['step']}.",
            caption=f"All rows of step {last['step']}{of}.",
            data=_layer_table(last),
        )
    ]
    for division, what in (("modality", "modality"), ("source", "domain")):
        counts = summed(run, division)
        if counts:
            blocks.extend(_division(run, counts, what, groups=groups, of=of))
    if not summed(run, "source") and not summed(run, "modality"):
        blocks.append(Paragraph(text=f"The rows{of} are all of one source and one modality."))
    return blocks


def _division(run: Run, counts: Counts, what: str, *, groups: int, of: str) -> list[Block]:
    titled = {(part_title(name) if what == "domain" else name): table for name, table in counts.items()}
    shown = dict(sorted(titled.items(), key=lambda pair: -pair[1].sum())[:MOST_PARTS])
    left_out = len(titled) - len(shown)
    steps = [record["step"] for record in run.of("routing")[-LAST_RECORDS:]]
    svg = heat.load_facets(shown, num_groups=groups, name=f"{what}-{run.label}")
    more = f" {left_out} smaller ones are left out." if left_out else ""
    figure = Figure(
        svg=svg,
        alt=f"Heat maps{of}: load of every expert of every layer by {what}: {', '.join(shown)}.",
        caption=f"By {what}{of}, steps {steps[0]} to {steps[-1]}, largest first.{more}",
        data=_part_table(titled, what),
    )
    return [figure, preferences(titled, what, caption=f"Experts with the strongest preference by {what}{of}")]


def summed(run: Run, division: str) -> dict[str, npt.NDArray[np.int64]]:
    """Counts of the last records by part; parts without rows are left out."""
    found: dict[str, npt.NDArray[np.int64]] = {}
    for record in run.of("routing")[-LAST_RECORDS:]:
        for part, table in (record.get(division) or {}).items():
            counts = np.asarray(table, dtype=np.int64)
            found[part] = found[part] + counts if part in found else counts
    return found


def part_title(source: str) -> str:
    """A source with its domain, where a task of that name tells it."""
    domains = {entry.name: entry.domain for entry in registry.table()}
    return f"{source} ({domains[source]})" if source in domains else source


def divergence(counts: Counts) -> dict[str, float]:
    """By part: total variation between its load and that of all rows, mean over layers. 0 is the same, 1 disjoint."""
    whole = sum(counts.values(), start=np.zeros(()))
    share = whole / whole.sum(axis=1, keepdims=True)
    return {
        part: float(np.abs(table / table.sum(axis=1, keepdims=True) - share).sum(axis=1).mean() / 2)
        for part, table in counts.items()
    }


def _part_table(counts: Counts, what: str) -> Table:
    apart = divergence(counts)
    rows: list[list[Cell]] = []
    for part, table in sorted(counts.items(), key=lambda pair: -pair[1].sum()):
        unused = int((table == 0).sum())
        rows.append([part, int(table[0].sum()), apart[part], f"{unused} of {table.size}"])
    return Table(
        columns=(what, "assignments per layer", "distance to the whole", "experts without rows"),
        rows=rows,
        note="Distance: half the sum of absolute differences between the load of the part and the load of all rows, "
        "mean over layers; 0 is the same, 1 has no expert in common.",
    )


def preferences(counts: Counts, what: str, *, caption: str) -> Table:
    """Experts whose rows come from one part far more often than all rows do."""
    parts = list(counts)
    stack_PLE = np.stack([counts[part] for part in parts]).astype(np.float64)
    base_P = stack_PLE[:, 0].sum(axis=1) / stack_PLE[:, 0].sum()
    rows_LE = stack_PLE.sum(axis=0)
    share_PLE = stack_PLE / np.maximum(rows_LE, 1.0)
    enough = rows_LE >= 0.1 * rows_LE.mean()  # of experts that are hardly used a share says nothing
    gain_PLE = np.where(enough, share_PLE - base_P[:, None, None], -np.inf)
    order = np.argsort(-gain_PLE, axis=None)[:STRONGEST]
    rows: list[list[Cell]] = []
    for place in order:
        part, layer, expert = (int(i) for i in np.unravel_index(place, gain_PLE.shape))
        rows.append(
            [
                f"layer {layer}, expert {expert}",
                parts[part],
                f"{100 * share_PLE[part, layer, expert]:.0f} %",
                f"{100 * base_P[part]:.0f} %",
                f"{rows_LE[layer, expert] / rows_LE[layer].mean():.2f}",
            ]
        )
    return Table(
        columns=("expert", what, "share of its rows", "share of all rows", "load, 1 = even"), rows=rows, caption=caption
    )


def _layer_table(record: Record) -> Table:
    rows: list[list[Cell]] = [
        [int(number), *(layer[name] for name in ("entropy", "max_violation", "unused", "confidence"))]
        for number, layer in record["layers"].items()
    ]
    return Table(
        columns=("layer", "entropy", "busiest above even", "unused experts", "confidence"),
        rows=rows,
        note="Entropy: of the load, 1 is even. Busiest above even: load of the busiest expert over its even share, "
        "minus 1. Confidence: mean largest probability of the gate.",
    )


def _courses(runs: Sequence[Run]) -> list[Block]:
    """Entropy, unused experts and confidence over the steps, means over layers."""
    means = [_with_means(run) for run in runs]
    panels = [
        panel(means, "router", "entropy", title="entropy of the load", y_label="1 = even"),
        panel(means, "router", "unused", title="unused experts per layer", y_label="experts"),
    ]
    return figures(panels, name="router-course", alt="Router", caption="Means over layers.")


def _with_means(run: Run) -> Run:
    from dataclasses import replace

    def means(record: Record) -> dict[str, Any]:
        layers = list(record["layers"].values())
        return {
            "step": record["step"],
            **{name: float(np.mean([layer[name] for layer in layers])) for name in ("entropy", "unused")},
        }

    return replace(run, records={"router": [means(record) for record in run.of("router")]})
