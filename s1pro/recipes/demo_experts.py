"""What the report of the demo says about experts: how they were multiplied, and how the router loads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s1pro.model.config import RouterConfig
from s1pro.recipes.demo_runs import Run
from s1pro.report import plots
from s1pro.report.blocks import Cell, Figure, Paragraph, Section, Table


def expansion_section(folder: Path) -> Section:
    """How the model grew between the two runs (paper: expert expansion)."""
    found = json.loads((folder / "expanded" / "expansion.json").read_text(encoding="utf-8"))
    before, after, held_out = found["before"], found["after"], found["held_out"]
    rows: list[list[Cell]] = [[layer, mass["kept"], mass["overlap"]] for layer, mass in enumerate(found["mass"])]
    return Section(
        title="Expansion",
        intro="Between the two runs every expert was copied into several router groups. From then on a token uses the "
        "best expert of every group, so that all groups, and the devices that would hold them, get the same load.",
        blocks=(
            Table(
                columns=("", "before", "after"),
                rows=[
                    ["experts", before["num_experts"], after["num_experts"]],
                    ["router groups", before["num_groups"], after["num_groups"]],
                    ["experts per token", before["top_k"], after["top_k"]],
                    ["parameters", before["parameters"], after["parameters"]],
                    ["loss on held-out descriptions", held_out["loss_before"], held_out["loss_after"]],
                ],
            ),
            Table(
                columns=("layer", "routing mass kept", "overlap"),
                rows=rows,
                note="Routing mass kept: share of what the old router gave to its chosen experts that the new choice "
                "still reaches. Overlap: agreement of the old and the new mixture weights.",
            ),
            Paragraph(text="More, layer by layer: expanded/expansion.html beside this file."),
        ),
    )


def router_section(runs: Sequence[Run]) -> Section:
    figures = [
        Figure(
            svg=plots.router_load(
                [layer["load"] for layer in run.layers.values()],
                num_groups=run.router_config.num_groups,
                name=f"router-{run.name}",
            ),
            alt=f"Share of the tokens that every expert of every layer got at the end of {run.title}.",
            caption=f"At the end of {run.title}",
        )
        for run in runs
    ]
    rows = [_router_row(run, number, layer) for run in runs for number, layer in run.layers.items()]
    table = Table(
        columns=("stage", "layer", "entropy", "busiest above even", "unused experts", "confidence", "load of groups"),
        rows=rows,
        note="Entropy: of the load, 1 is even. Busiest above even: load of the busiest expert over its even share, "
        "minus 1. Confidence: mean largest probability of the gate.",
    )
    return Section(
        title="Router",
        intro=" ".join(f"{run.title.capitalize()}: {_choice(run.router_config)}." for run in runs)
        + " Load is relative to an even split.",
        blocks=(*figures, table),
    )


def _router_row(run: Run, number: str, layer: Mapping[str, Any]) -> list[Cell]:
    values: list[Cell] = [layer[name] for name in ("entropy", "max_violation", "unused", "confidence")]
    return [run.title, int(number), *values, ", ".join(f"{share:.2f}" for share in layer["group_load"])]


def _choice(router: RouterConfig) -> str:
    groups = f"{router.num_groups} groups" if router.num_groups > 1 else "one group"
    return f"each token uses {router.top_k} of {router.num_experts} experts in {groups}"
