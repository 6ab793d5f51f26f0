"""The page of an expansion, from the record that `recipes.expand` puts into `expansion.json`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s1pro import __version__
from s1pro.report import html
from s1pro.report.blocks import Block, Cell, Commands, Figure, KeyValues, Paragraph, Report, Section, Table, Tile

Record = Mapping[str, Any]


def write_expansion_report(record: Record, path: Path) -> Path:
    """Writes the page; drawings are left out where matplotlib is not installed."""
    sections = [_sizes_section(record), _notes_section(record)]
    if "held_out" in record:
        sections.append(_function_section(record))
    if "mass" in record:
        sections.append(_mass_section(record))
    if "held_out" in record:
        sections.append(_load_section(record))
    if "copies" in record:
        sections.append(_copies_section(record))
    report = Report(
        title="Expert expansion",
        subtitle=f"Strategy {record['settings']['strategy']}: {record['before']['num_experts']} experts, "
        f"{record['before']['top_k']} per token, became {record['after']['num_experts']} in "
        f"{record['after']['num_groups']} groups, {record['after']['top_k']} per token.",
        tiles=_tiles(record),
        sections=[*sections, _environment_section(record)],
        footer=f"Made by s1pro {__version__}: s1pro expand.",
    )
    return html.write(report, path)


def _tiles(record: Record) -> list[Tile]:
    sizes = [f"{record[when]['parameters'] / 1e6:,.1f} M" for when in ("before", "after")]
    tiles = [Tile(label="parameters", value=sizes[1], note=f"before: {sizes[0]}")]
    if "held_out" in record:
        held = record["held_out"]
        tiles.append(Tile(label="loss", value=f"{held['loss_after']:.4f}", note=f"before: {held['loss_before']:.4f}"))
        tiles.append(Tile(label="divergence", value=f"{held['kl']:.4f}", note="KL(before, after), nats per token"))
    if "mass" in record:
        kept = sum(layer["kept"] for layer in record["mass"]) / len(record["mass"])
        tiles.append(Tile(label="routing mass kept", value=f"{100 * kept:.1f} %", note=f"on {record['mass_from']}"))
    return tiles


def _sizes_section(record: Record) -> Section:
    names = ("num_experts", "num_groups", "top_k", "parameters", "active")
    rows = [[name.replace("_", " "), record["before"][name], record["after"][name]] for name in names]
    settings: dict[str, Cell] = dict(record["settings"].items())
    return Section(
        title="What was done",
        blocks=(
            Table(columns=("", "before", "after"), rows=rows),
            KeyValues(values={"source": record["source"], **settings}, caption="Settings"),
        ),
    )


def _notes_section(record: Record) -> Section:
    notes = [Paragraph(text=note) for note in record["notes"]]
    return Section(
        title="What has no counterpart",
        blocks=notes or [Paragraph(text="Nothing was dropped, and nothing but experts and router changed.")],
    )


def _function_section(record: Record) -> Section:
    held = record["held_out"]
    rows: list[list[Cell]] = [
        ["loss before", held["loss_before"]],
        ["loss after", held["loss_after"]],
        ["difference", held["loss_after"] - held["loss_before"]],
        ["KL(before, after)", held["kl"]],
    ]
    note = f"Nats per token, over {held['tokens']:,.0f} predicted tokens that calibration did not see."
    return Section(title="Loss and divergence", blocks=(Table(columns=("", "nats"), rows=rows, digits=4, note=note),))


def _mass_section(record: Record) -> Section:
    rows = [[i, layer["kept"], layer["overlap"], layer["distinct"]] for i, layer in enumerate(record["mass"])]
    blocks: list[Block] = []
    if importlib.util.find_spec("matplotlib") is not None:
        blocks.append(_mass_figure(record))
    note = (
        "Kept: share of the original routing weight whose expert is still active. Overlap: share of the new mixture "
        "that equals the old one. Distinct: different originals active per token. Noise on router rows is left out."
    )
    blocks.append(Table(columns=("layer", "kept", "overlap", "distinct"), rows=rows, note=note))
    return Section(
        title="Routing mass", intro=f"Means over {record['mass_from']}, per layer with experts.", blocks=blocks
    )


def _mass_figure(record: Record) -> Figure:
    from s1pro.report import plots

    layers = list(range(len(record["mass"])))
    series = [
        plots.Curve(label=name, x=layers, y=[layer[name] for layer in record["mass"]], markers=len(layers) < 24)
        for name in ("kept", "overlap")
    ]
    svg = plots.curves([plots.Panel(curves=series, x_label="layer", y_label="share")], name="mass", height=2.2)
    return Figure(svg=svg, alt="Share of the routing mass that is kept, and overlap of the mixtures, for every layer.")


def _load_section(record: Record) -> Section:
    layers = record["held_out"]["routers"]
    rows = [
        [int(number), layer["entropy"], layer["max_violation"], layer["unused"], _shares(layer["group_load"])]
        for number, layer in layers.items()
    ]
    columns = ("layer", "entropy", "busiest above even", "unused experts", "load of groups")
    return Section(
        title="Load after expansion",
        intro="Groups get equal numbers of rows by construction; inside a group the load of the experts varies.",
        blocks=(Table(columns=columns, rows=rows, note="Entropy: of the load, 1 is even."),),
    )


def _shares(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values[:16]) + (" …" if len(values) > 16 else "")


def _copies_section(record: Record) -> Section:
    names = ("expert_distance", "expert_cosine", "router_distance", "identical")
    rows = [[int(n), *(layer[name] for name in names)] for n, layer in record["copies"].items() if layer]
    if not rows:
        return Section(title="Copies", blocks=(Paragraph(text="No expert was copied."),))
    return Section(
        title="Copies",
        intro="Copies of one original, over all pairs. They are to come apart when training goes on.",
        blocks=(
            Table(columns=("layer", *(name.replace("_", " ") for name in names)), rows=rows, digits=5),
            Commands(
                lines=(
                    "# in Python: the same numbers at every evaluation of a training run",
                    "train(run, on_evaluate=copies_hook(read_origins(folder)))",
                )
            ),
        ),
    )


def _environment_section(record: Record) -> Section:
    found = dict(record["stamp"])
    versions = found.pop("versions")
    return Section(title="Environment", blocks=(KeyValues(values={**found, **versions}),))
