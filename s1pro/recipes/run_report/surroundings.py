"""What else belongs to a run: how an expansion went, on what it was run, how runs differ, how to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s1pro.recipes.run_report.folders import TITLES, Run
from s1pro.report.blocks import Block, Cell, Commands, KeyValues, Section, Table

MOST_SETTINGS = 60
_MISSING = "—"


def expansion_section(runs: Sequence[Run]) -> Section | None:
    """Sizes, loss and routing mass of expansions, one column each; None without any."""
    expanded = [run for run in runs if run.kind == "expand"]
    if not expanded:
        return None
    rows: list[list[Cell]] = [["strategy", *(str(run.config["settings"]["strategy"]) for run in expanded)]]
    for name in ("num_experts", "num_groups", "top_k", "parameters", "active"):
        cells = (f"{run.config['before'][name]:,} → {run.config['after'][name]:,}" for run in expanded)
        rows.append([name.replace("_", " "), *cells])
    for name, label in (("loss_before", "loss before"), ("loss_after", "loss after"), ("kl", "KL(before, after)")):
        rows.append([label, *(_held_out(run, name) for run in expanded)])
    for name in ("kept", "overlap", "distinct"):
        rows.append([f"routing mass: {name}", *(_mass(run, name) for run in expanded)])
    return Section(
        title="Expansion",
        intro="Losses are nats per token on held-out text. Routing mass kept: share of what the old router gave to its "
        "chosen experts that the new choice still reaches.",
        blocks=[
            Table(columns=("", *(run.label for run in expanded)), rows=rows, digits=4),
            *_notes(expanded),
        ],
    )


def _notes(runs: Sequence[Run]) -> list[Block]:
    rows: list[list[Cell]] = [[run.label, note] for run in runs for note in run.config.get("notes") or ()]
    return [Table(columns=("run", "what has no counterpart"), rows=rows)] if rows else []


def _held_out(run: Run, name: str) -> float | None:
    return (run.config.get("held_out") or {}).get(name)


def _mass(run: Run, name: str) -> float | None:
    layers = run.config.get("mass") or []
    return sum(layer[name] for layer in layers) / len(layers) if layers else None


def environment_section(runs: Sequence[Run]) -> Section:
    """Machine and versions; settings in which the runs differ, or those of a single run that are not the defaults."""
    stamps = {run.label: _flat_stamp(run.stamp) for run in runs}
    blocks: list[Block] = []
    same = len({json.dumps(stamp, sort_keys=True) for stamp in stamps.values()}) == 1
    if same:
        blocks.append(KeyValues(values=next(iter(stamps.values())), caption="Machine and versions"))
    else:
        names = list(dict.fromkeys(name for stamp in stamps.values() for name in stamp))
        rows = [[name, *(stamp.get(name) for stamp in stamps.values())] for name in names]
        blocks.append(Table(columns=("", *stamps), rows=rows, caption="Machine and versions"))
    trained = [run for run in runs if run.trains]
    if len(trained) > 1:
        blocks.extend(differences(trained))
    elif trained:
        blocks.append(KeyValues(values=dict(_shown(trained[0].config)), caption="Settings"))
    return Section(title="Environment", blocks=blocks)


def differences(runs: Sequence[Run]) -> list[Block]:
    """A table of the settings in which configurations differ."""
    flat = {run.label: dict(_flat(run.config)) for run in runs}
    names = list(dict.fromkeys(name for config in flat.values() for name in config))
    rows: list[list[Cell]] = []
    for name in names:
        values = [config.get(name, _MISSING) for config in flat.values()]
        if name != "folder" and len({json.dumps(value) for value in values}) > 1:
            rows.append([name, *(_cell(value) for value in values)])
    left_out = f" {len(rows) - MOST_SETTINGS} more are left out." if len(rows) > MOST_SETTINGS else ""
    note = f"Settings that are equal are left out.{left_out}"
    return [
        Table(
            columns=("setting", *flat),
            rows=rows[:MOST_SETTINGS],
            caption="Settings in which the runs differ",
            note=note,
        )
    ]


def commands_section(runs: Sequence[Run]) -> Section:
    """How to run it again, and how to go on from it."""
    lines: list[str] = []
    for run in runs:
        folder = shlex.quote(str(run.folder))
        config, again = shlex.quote(str(run.folder / "config.json")), shlex.quote(f"{run.folder}-again")
        lines.append(f"# {run.label}: {TITLES[run.kind]}")
        if run.kind in ("train", "contrastive"):
            lines.append(f"s1pro train --recipe {config} --folder {again}")
        elif run.kind == "rl":
            lines.append(f"s1pro rl --recipe {config} --folder {again}")
        elif run.kind == "claims":
            lines.append(f"s1pro claims run all --folder {folder}")
        elif run.kind == "eval":
            lines.append(f"s1pro eval --compare {folder} OTHER")
        if run.model_folder is not None and run.kind in ("train", "rl", "expand"):
            model = shlex.quote(str(run.model_folder))
            lines += [f"s1pro chat {model}", f"s1pro eval {model} --list-tasks"]
    lines += ["# this page", "s1pro report " + " ".join(shlex.quote(str(run.folder)) for run in runs)]
    return Section(
        title="Commands", intro="From the folder in which the runs were started.", blocks=[Commands(lines=lines)]
    )


def _flat_stamp(stamp: Mapping[str, Any]) -> dict[str, Cell]:
    plain = {name: _cell(value) for name, value in stamp.items() if name != "versions"}
    return {**plain, **{name: _cell(value) for name, value in (stamp.get("versions") or {}).items()}}


def _shown(config: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """What is set at all, the model apart, which the tiles sum up."""
    for name, value in list(_flat(config))[: 4 * MOST_SETTINGS]:
        if value not in (None, [], {}) and not name.startswith("model."):
            yield name, _cell(value)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        yield path, ", ".join(f"{item['name']} ({item.get('weight', 1):g})" for item in value)  # sources, tasks
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{path}.{number}")
    else:
        yield path, value


def _cell(value: Any) -> Cell:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str | int | bool | None) else json.dumps(value)
