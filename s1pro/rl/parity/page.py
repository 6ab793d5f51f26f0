"""The page of a comparison: verdict, gap, explanations, where it is."""

from __future__ import annotations

from pathlib import Path

from s1pro import __version__
from s1pro.report import html
from s1pro.report.blocks import Block, Cell, Report, Section, Table, Tile, Verdict
from s1pro.rl.parity.diagnosis import Diagnosis


def write_page(found: Diagnosis, path: Path, *, model: str, engine: str) -> Path:
    """Writes the report and returns its path."""
    gap = found.gap
    tiles = [
        Tile(label="KL(engine ‖ trainer), k3", value=f"{gap.k3:.2g}", note=f"limit {found.limit:g}"),
        Tile(label="largest difference", value=f"{gap.largest:.2g}", note="nats, of a token"),
        Tile(label="greedy tokens that agree", value=f"{found.top1:.1%}"),
        Tile(label="tokens compared", value=f"{gap.tokens:,}"),
    ]
    verdicts: list[Block] = [Verdict(text=fault, passed=False) for fault in found.faults]
    verdicts = verdicts or [Verdict(text="Engine and trainer agree.", passed=True)]
    sections = [Section(title="Verdict", blocks=tuple(verdicts))]
    if found.explanations:
        rows: list[list[Cell]] = [[e.name, e.says, e.left] for e in found.explanations]
        note = "What would be left of the gap, had the engine computed like this; below 0.2 it is believed."
        table = Table(columns=("hypothesis", "the engine …", "share left"), rows=rows, note=note)
        sections.append(Section(title="What explains the gap", blocks=(table,)))
    sections.append(_where(found))
    report = Report(
        title="Parity of engine and trainer",
        subtitle=f"{engine} against {model}",
        tiles=tiles,
        sections=sections,
        footer=f"Made by s1pro {__version__}: s1pro parity.",
    )
    return html.write(report, path)


def _where(found: Diagnosis) -> Section:
    positions = Table(
        columns=("from position", "mean difference"),
        rows=[[low, mean] for low, mean in found.by_position],
        caption="By position; faults of positions grow",
        digits=6,
    )
    worst = Table(
        columns=("prompt", "position", "token id", "engine", "trainer"),
        rows=[[w.probe, w.position, w.token_id, w.engine, w.trainer] for w in found.worst],
        caption="Worst tokens, log-probabilities",
        digits=5,
    )
    blocks: list[Block] = [positions, worst]
    if found.routing_agreement:
        shifted = found.routing_agreement_shifted or (None,) * len(found.routing_agreement)
        rows = [[i, a, b] for i, (a, b) in enumerate(zip(found.routing_agreement, shifted, strict=True))]
        blocks.insert(
            0,
            Table(
                columns=("layer with experts", "equal experts", f"record moved by {found.routing_shift:+d}"),
                rows=rows,
                caption="Routing",
                digits=4,
            ),
        )
    return Section(title="Where", blocks=tuple(blocks))
