"""Stacked horizontal bars: what a total is made of, row by row, with a limit that it should not pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s1pro.report.plots import WIDTH
from s1pro.report.svg import AMBER, GREY, INK, SERIES_COLOURS, style, to_svg

ROW_HEIGHT = 0.36  # inches


def stacked_bars(
    rows: Sequence[tuple[str, Mapping[str, float]]],
    *,
    name: str,
    x_label: str,
    limit: float | None = None,
    limit_label: str = "limit",
) -> str:
    """One bar per row; parts keep their colour over all rows. Rows that pass the limit are marked in words too.

    Args:
        rows: label, and values by part; not negative.
        name: differs between the figures of a page.
    """
    if not rows:
        raise ValueError(f"figure {name!r} has no rows")
    for label, values in rows:
        if any(value < 0 for value in values.values()):
            raise ValueError(f"figure {name!r}: row {label!r} has a negative part")
    from matplotlib.figure import Figure

    parts = list(dict.fromkeys(part for _, values in rows for part, value in values.items() if value > 0))
    colours = [*SERIES_COLOURS, GREY, AMBER]
    with style(name):
        figure = Figure(figsize=(WIDTH, 0.9 + ROW_HEIGHT * len(rows)), layout="constrained")
        ax = figure.subplots()
        starts = [0.0] * len(rows)
        for index, part in enumerate(parts):
            widths = [values.get(part, 0.0) for _, values in rows]
            ax.barh(range(len(rows)), widths, left=starts, height=0.66, color=colours[index % len(colours)], label=part)
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
        for at, total in enumerate(starts):
            over = " (over)" if limit is not None and total > limit else ""
            ax.annotate(
                f"{total:,.3g}{over}", (total, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7
            )
        if limit is not None:
            ax.axvline(limit, color=INK, linewidth=1.3, linestyle="--")
            ax.annotate(limit_label, (limit, -0.5), xytext=(3, 1), textcoords="offset points", va="bottom", fontsize=7)
        ax.set_yticks(range(len(rows)), [label for label, _ in rows])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.5, -0.75)
        ax.set_xlim(0, 1.14 * max(max(starts), limit or 0.0))
        ax.grid(False, axis="y")
        ax.set_xlabel(x_label)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
        return to_svg(figure)
