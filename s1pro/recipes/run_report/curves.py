"""How training went: losses, learning rate, gradient norm, speed, and what was read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from s1pro.recipes.run_report.folders import Record, Run
from s1pro.report import plots
from s1pro.report.blocks import Block, Cell, Figure, Section, Table

SMOOTHING = 0.9
MOST_SKIPPED = 12
MOST_SOURCES = 6  # as many curves as can be told apart


def column(records: Iterable[Record], *path: str) -> tuple[list[float], list[float]]:
    """Steps and values of one number; a value that is missing or not finite is NaN."""
    steps, values = [], []
    for record in records:
        value: object = record
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        steps.append(float(record["step"]))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        values.append(float(value) if number else math.nan)  # type: ignore[arg-type]
    return steps, values


def curve(
    run: Run, kind: str, *path: str, label: str, smooth: bool = False, series: int | None = None
) -> plots.Curve | None:
    """None if the run has no such number."""
    steps, values = column(run.of(kind), *path)
    known = [(x, y) for x, y in zip(steps, values, strict=True) if math.isfinite(y)]
    if not known:
        return None
    dense = smooth and len(steps) > 30
    return plots.Curve(
        label=label,
        x=steps,
        y=values,
        smoothing=SMOOTHING if dense else 0.0,
        markers=kind != "train" and len(steps) < 60,
        series=series,
    )


def panel(
    runs: Sequence[Run], kind: str, *path: str, title: str, y_label: str, smooth: bool = False, log_y: bool = False
) -> plots.Panel | None:
    """One curve per run in the colour of the run. None if no run has the number."""
    several = len(runs) > 1
    curves = (
        curve(run, kind, *path, label=run.label if several else "", smooth=smooth, series=run.number) for run in runs
    )
    found = [one for one in curves if one is not None]
    if not found:
        return None
    positive = all(y > 0 for one in found for y in one.y if math.isfinite(y))
    return plots.Panel(title=title, y_label=y_label, curves=found, log_y=log_y and positive)


def figures(panels: Sequence[plots.Panel | None], *, name: str, alt: str, caption: str = "") -> list[Block]:
    """Panels two by two; those without numbers are left out."""
    shown = [one for one in panels if one is not None]
    rows = [shown[i : i + 2] for i in range(0, len(shown), 2)]
    return [
        Figure(
            svg=plots.curves(row, name=f"{name}-{number}"),
            alt=f"{alt}: {' and '.join(one.title for one in row)} over the steps.",
            caption=caption if number == len(rows) - 1 else "",
        )
        for number, row in enumerate(rows)
    ]


def learning_section(runs: Sequence[Run]) -> Section:
    """Losses with what the last numbers are."""
    alt = "Curves of " + ", ".join(run.label for run in runs)
    if len(runs) == 1:
        panels = [_both(runs[0]), _by_source(runs[0])]
    else:
        panels = [
            panel(runs, "train", "loss", title="training loss", y_label="loss", smooth=True),
            panel(runs, "validation", "loss", title="validation loss", y_label="loss"),
        ]
    blocks = figures(panels, name="loss", alt=alt, caption="Pale: every step. Strong: smoothed over both sides.")
    blocks.append(_outcome(runs))
    tables = [_sources(run) for run in runs if len(run.source_tokens) > 1 and run.kind != "rl"]
    return Section(
        title="Learning",
        intro="Losses are per predicted token, in nats; of policies they are the objective, which need not fall.",
        blocks=[*blocks, *tables],
    )


def _both(run: Run) -> plots.Panel:
    curves = [
        curve(run, "train", "loss", label="training", smooth=True),
        curve(run, "validation", "loss", label="validation"),
    ]
    return plots.Panel(title="loss", curves=[one for one in curves if one is not None])


def _by_source(run: Run) -> plots.Panel | None:
    """Validation loss of the sources, or training loss where nothing is validated."""
    kind = "validation" if any(record.get("source_loss") for record in run.of("validation")) else "train"
    names = list(dict.fromkeys(name for record in run.of(kind) for name in record.get("source_loss") or {}))
    if len(names) < 2:
        return None
    most = sorted(names, key=lambda name: -run.source_tokens.get(name, 0.0))[:MOST_SOURCES]
    curves = [curve(run, kind, "source_loss", name, label=name, smooth=True) for name in most]
    title = f"{'validation' if kind == 'validation' else 'training'} loss by source"
    return plots.Panel(title=title, curves=[one for one in curves if one is not None])


def retrieval_section(runs: Sequence[Run]) -> Section | None:
    """Which caption belongs to which held-out picture; None without contrastive runs."""
    contrastive = [run for run in runs if any(record.get("pairs") for record in run.of("validation"))]
    if not contrastive:
        return None
    panels = [
        panel(contrastive, "validation", way, f"recall_at_{k}", "value", title=f"{title}, first {k}", y_label="recall")
        for way, title in (("image_to_text", "captions of pictures"), ("text_to_image", "pictures of captions"))
        for k in (1, 5)
    ]
    rows: list[list[Cell]] = []
    for run in contrastive:
        last = next(record for record in reversed(run.of("validation")) if record.get("pairs"))
        for way in ("image_to_text", "text_to_image"):
            for name, found in last[way].items():
                value = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
                rows.append([run.label, way.replace("_", " "), name.replace("_", " "), value, found["chance"]])
    return Section(
        title="Retrieval",
        intro="Among all held-out pairs: how often the right caption is among the first, and the right picture.",
        blocks=[
            *figures(panels, name="retrieval", alt="Retrieval"),
            Table(columns=("run", "way", "number", "last value [95 % interval]", "chance"), rows=rows),
        ],
    )


def optimisation_section(runs: Sequence[Run]) -> Section | None:
    """Learning rate, gradient norm, speed."""
    panels = [
        panel(runs, "train", "lr", title="learning rate", y_label="rate"),
        panel(runs, "train", "grad_norm", title="gradient norm", y_label="norm", smooth=True, log_y=True),
        panel(runs, "train", "tokens_per_second", title="throughput", y_label="tokens per second", smooth=True),
        panel(runs, "train", "mfu", title="utilisation", y_label="MFU", smooth=True),
    ]
    blocks = figures(panels, name="optimisation", alt="Curves of " + ", ".join(run.label for run in runs))
    rows: list[list[Cell]] = [
        [run.label, record["step"], str(record.get("reason", ""))] for run in runs for record in run.of("skip")
    ]
    if rows:
        left_out = sum(run.skipped_steps for run in runs) - MOST_SKIPPED
        more = f"{left_out:,} more are in metrics.jsonl." if left_out > 0 else ""
        columns = ("run", "step", "why the update was skipped")
        blocks.append(Table(columns=columns, rows=rows[:MOST_SKIPPED], caption="Skipped steps", note=more))
    blocks += [table for run in runs if (table := skipped_sources(run)) is not None]
    if not blocks:
        return None
    return Section(
        title="Optimisation",
        intro="Utilisation (MFU) is relative to what the machine reaches in one matrix product with as many threads.",
        blocks=blocks,
    )


def skipped_sources(run: Run) -> Table | None:
    """Which share of every source stood in skipped steps, and so was never learned; None if it was nothing."""
    lost = run.skipped_tokens
    shares = {name: tokens / run.source_tokens[name] for name, tokens in lost.items() if tokens}
    rows: list[list[Cell]] = [
        [name, round(lost[name]), f"{100 * share:.1f} %"] for name, share in sorted(shares.items(), key=lambda x: -x[1])
    ]
    if not rows:
        return None
    note = "A source with a large share here is not learned: the guard takes its loss for spikes (guards.loss_spike)."
    columns = ("source", "tokens in skipped steps", "of all its tokens")
    return Table(columns=columns, rows=rows, caption=f"What {run.label} skipped, by source", note=note)


def _outcome(runs: Sequence[Run]) -> Table:
    rows: list[list[Cell]] = []
    for run in runs:
        train = run.of("train")
        last = train[-1] if train else {}
        tokens = int(last.get("total_tokens") or 0)
        rows.append(
            [
                run.label,
                int(last.get("step", 0)),
                tokens,
                round(run.seconds),
                round(tokens / run.seconds) if run.seconds else None,
                _number(last.get("loss")),
                best(run, "validation", "loss"),
                _number(run.of("validation")[-1].get("loss")) if run.of("validation") else None,
                run.skipped_steps,
            ]
        )
    return Table(
        columns=("run", "steps", "tokens", "seconds", "tokens per second", "last training loss", "best validation loss",
                 "last validation loss", "skipped"),
        rows=rows,
    )  # fmt: skip


def _sources(run: Run) -> Table:
    """What was learned from every source: steps that the guard skipped are left out."""
    last = run.of("validation")[-1].get("source_loss") or {} if run.of("validation") else {}
    learned = {name: tokens - run.skipped_tokens.get(name, 0.0) for name, tokens in run.source_tokens.items()}
    total = sum(learned.values()) or 1.0
    rows: list[list[Cell]] = [
        [name, round(tokens), f"{100 * tokens / total:.1f} %", _number(last.get(name))]
        for name, tokens in sorted(learned.items(), key=lambda pair: -pair[1])
    ]
    return Table(
        columns=("source", "learned tokens", "share", "last validation loss"),
        rows=rows,
        caption=f"Sources of {run.label}",
    )


def best(run: Run, kind: str, *path: str) -> float | None:
    """The smallest finite value."""
    values = [y for y in column(run.of(kind), *path)[1] if math.isfinite(y)]
    return min(values) if values else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
