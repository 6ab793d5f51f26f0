"""A plan as a report: tables for the terminal and for the page, and two pictures."""

from __future__ import annotations

from s1pro.model.sizes import count_parameters
from s1pro.parallel.planner.plan import Plan
from s1pro.parallel.planner.search import Change
from s1pro.report.blocks import Block, Cell, Figure, KeyValues, Paragraph, Report, Section, Table, Tile, Verdict
from s1pro.report.stacks import stacked_bars

GB = 1e9


def report_of(plan: Plan, change: Change | None, *, title: str, verification: Table | None = None) -> Report:
    """The page. `verification` is a table of what was measured, if it was."""
    memory: list[Block] = [memory_table(plan), _memory_figure(plan)]
    if verification is not None:
        memory.append(verification)
    sections = [
        Section(title="Verdict", blocks=[Verdict(text=plan.reason, passed=plan.fits), *_advice(plan, change)]),
        Section(title="Memory of one rank", blocks=memory),
        Section(title="Time", blocks=[time_table(plan), _time_figure(plan)]),
    ]
    if plan.flows:
        sections.append(Section(title="Traffic", blocks=[traffic_table(plan)]))
    sections.append(Section(title="Assumptions", blocks=_assumptions(plan)))
    return Report(title=title, subtitle="Arithmetic before a cluster is rented.", tiles=_tiles(plan), sections=sections)


def memory_table(plan: Plan) -> Table:
    """GB of every part (rows) in every phase (columns); parts that are never there are left out."""
    parts = list(dict.fromkeys(part for phase in plan.phases for part, value in phase.parts.items() if value))
    rows: list[list[Cell]] = [[part, *(phase.parts.get(part, 0.0) / GB for phase in plan.phases)] for part in parts]
    rows.append(["total", *(phase.total / GB for phase in plan.phases)])
    return Table(
        columns=["part", *(phase.name for phase in plan.phases)],
        rows=rows,
        digits=1,
        caption="GB per rank",
        emphasis=[len(parts)],
    )


def traffic_table(plan: Plan) -> Table:
    """GB that one rank receives in a step."""
    rows: list[list[Cell]] = [
        [flow.purpose, flow.node / GB, flow.network / GB, "yes" if flow.overlaps else "no"] for flow in plan.flows
    ]
    return Table(
        columns=["purpose", "links of the node", "network", "hidden behind arithmetic"],
        rows=rows,
        digits=1,
        caption="GB received per rank and step",
    )


def time_table(plan: Plan) -> Table:
    """Seconds of a step."""
    total = sum(plan.spent.values())
    rows: list[list[Cell]] = [[kind, seconds, f"{seconds / total:.0%}"] for kind, seconds in plan.spent.items()]
    what = "one generated token of every sequence" if plan.time is None else "one optimizer step"
    return Table(columns=["waits for", "seconds", "share"], rows=rows, digits=3, caption=f"Seconds of {what}")


def layout_line(plan: Plan) -> str:
    """The layout in words."""
    layout, parts = plan.layout, []
    if layout is not None:
        again = "blocks recomputed" if layout.checkpointing else "no recomputation"
        batches = layout.accumulation(plan.job.tokens_per_step)
        parts.append(
            f"dp_replicate={layout.dp_replicate} dp_shard={layout.dp_shard} ep={layout.ep} ({layout.dispatch}), "
            f"{again}, {batches} x {layout.tokens_per_batch} tokens per rank and step"
        )
    if plan.job.generates:
        serving = plan.job.serving
        parts.append(f"engine on {serving.ranks} ranks, {serving.sequences} sequences per rank")
    return "; ".join(parts)


def _advice(plan: Plan, change: Change | None) -> list[Block]:
    lines: list[Block] = [Paragraph(text=f"Tightest: {plan.tightest}."), Paragraph(text=layout_line(plan))]
    if change is not None:
        lines.append(Paragraph(text=f"Next thing to change: {change.what}. {change.plan.reason}."))
    return lines


def _tiles(plan: Plan) -> list[Tile]:
    sizes = count_parameters(plan.model)
    return [
        Tile(
            label="peak per rank",
            value=f"{plan.peak.total / GB:.0f} GB",
            note=f"of {plan.cluster.usable_bytes / GB:.0f} GB",
            tone="good" if plan.fits else "bad",
        ),
        Tile(label="tokens per second", value=f"{plan.tokens_per_second:,.0f}"),
        Tile(label="GPU hours", value=f"{plan.gpu_hours:,.0f}", note=f"{plan.job.total_tokens:.3g} tokens"),
        Tile(
            label="parameters",
            value=f"{sizes.total / 1e9:.1f} B",
            note=f"{sizes.active / 1e9:.1f} B active",
        ),
    ]


def _memory_figure(plan: Plan) -> Figure:
    rows = [(phase.name, {part: value / GB for part, value in phase.parts.items()}) for phase in plan.phases]
    limit = plan.cluster.usable_bytes / GB
    svg = stacked_bars(rows, name="plan-memory", x_label="GB per rank", limit=limit, limit_label="usable")
    return Figure(svg=svg, alt=f"Memory of one rank in every phase, beside {limit:.0f} GB that are usable.")


def _time_figure(plan: Plan) -> Figure:
    svg = stacked_bars([("a step", plan.spent)], name="plan-time", x_label="seconds")
    return Figure(svg=svg, alt="What the seconds of a step are spent on.")


def _assumptions(plan: Plan) -> list[Block]:
    gpu = {f"gpu {name}": value for name, value in vars(plan.cluster.gpu).items()}
    cluster = {
        "GPUs": plan.cluster.num_gpus,
        "GPUs per node": plan.cluster.gpus_per_node,
        "network GB/s per GPU": plan.cluster.network_gb_per_s,
        "reserve GB": plan.cluster.reserve_gb,
    }
    return [
        KeyValues(values=cluster | gpu, caption="Cluster, data sheet"),
        KeyValues(values=dict(vars(plan.efficiency)), caption="Share of the peak that is reached (assumed)"),
    ]
