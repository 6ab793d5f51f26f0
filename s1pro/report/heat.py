"""Heat maps in numbers: many small ones on one scale, and matrices of either sign.

    load_facets    load of layer × expert, one map per part (a modality, a source, a run), relative to an even split
    matrices       signed matrices side by side, white at zero
    shares         a table of shares between 0 and 1 with their numbers, such as agreement by round and layer

The scales are orange to purple and white to blue, which stay apart for colour-blind readers and in print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.report.plots import MAX_VECTOR_CELLS, WIDTH, relative_load
from s1pro.report.svg import BORDER, style, to_svg

COLUMNS = 2
MOST_LOAD = 4.0
"""Where the colour of a load ends: one expert with everything would leave all others pale."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix with what its axes are."""

    title: str
    values: npt.NDArray[np.float64]
    x_label: str
    y_label: str
    y_ticks: Mapping[int, str] | None = None


def load_facets(load_by_part: Mapping[str, npt.ArrayLike], *, num_groups: int, name: str) -> str:
    """One map `[layers, experts]` per part, all on one scale, with the borders of router groups.

    Args:
        load_by_part: counts or shares of rows, all of one shape; a layer without rows is left white.
    """
    if not load_by_part:
        raise ValueError(f"figure {name!r} has no parts")
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    relative = {part: relative_load(load) for part, load in load_by_part.items()}
    layers, experts = next(iter(relative.values())).shape
    rows = math.ceil(len(relative) / COLUMNS)
    norm = TwoSlopeNorm(1.0, vmin=0.0, vmax=MOST_LOAD)
    height = float(np.clip(0.5 + 0.2 * layers, 0.9, 2.6))
    with style(name):
        figure = Figure(figsize=(WIDTH, 0.35 + rows * height), layout="constrained")
        axes = figure.subplots(rows, min(COLUMNS, len(relative)), squeeze=False).flatten()
        for place, (ax, (part, load_LE)) in enumerate(zip(axes, relative.items(), strict=False)):
            mesh = _cells(ax, load_LE, cmap="PuOr", norm=norm)
            for border in range(1, num_groups):
                ax.axvline(border * experts / num_groups - 0.5, color=BORDER, linewidth=0.9)
            ax.set_title(part)
            if place >= len(relative) - COLUMNS:
                ax.set_xlabel("expert")
            if place % COLUMNS == 0:
                ax.set_ylabel("layer")
        for ax in axes[len(relative) :]:
            ax.set_axis_off()
        bar = figure.colorbar(mesh, ax=list(axes), shrink=0.9, aspect=18, pad=0.015, extend="max")
        bar.set_label("load, 1 = even")
        bar.set_ticks([0, 1, 2, MOST_LOAD])
        bar.outline.set_visible(False)
        return to_svg(figure)


def matrices(shown: Sequence[Matrix], *, name: str, label: str) -> str:
    """Matrices side by side on one symmetric scale."""
    if not shown:
        raise ValueError(f"figure {name!r} has no matrices")
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    limit = max(float(np.abs(matrix.values).max()) for matrix in shown) or 1.0
    with style(name):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.92 * WIDTH / max(len(shown), 2)), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for ax, matrix in zip(axes, shown, strict=True):
            mesh = _cells(ax, matrix.values, cmap="PuOr", norm=Normalize(-limit, limit))
            ax.set(title=matrix.title, xlabel=matrix.x_label, ylabel=matrix.y_label)
            if matrix.y_ticks is not None:
                ax.set_yticks(list(matrix.y_ticks), list(matrix.y_ticks.values()))
        bar = figure.colorbar(mesh, ax=list(axes), shrink=0.8, aspect=18, pad=0.015)
        bar.set_label(label)
        bar.outline.set_visible(False)
        return to_svg(figure)


def shares(matrix: Matrix, *, name: str, label: str) -> str:
    """One map of values between 0 and 1; pale is low."""
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    values = matrix.values
    low = float(np.floor(20 * values.min()) / 20)
    with style(name):
        height = float(np.clip(0.9 + 0.16 * values.shape[0], 1.4, 4.5))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        ax = figure.subplots()
        mesh = _cells(ax, values, cmap="Blues", norm=Normalize(min(low, 0.95), 1.0))
        ax.set(title=matrix.title, xlabel=matrix.x_label, ylabel=matrix.y_label)
        bar = figure.colorbar(mesh, ax=ax, shrink=0.9, aspect=12, pad=0.015)
        bar.set_label(label)
        bar.outline.set_visible(False)
        return to_svg(figure)


def _cells(ax: Any, values: npt.NDArray[np.float64], **looks: Any) -> Any:
    from matplotlib.ticker import MaxNLocator

    rows, columns = values.shape
    if values.size <= MAX_VECTOR_CELLS // 4:
        edges = (np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
        mesh = ax.pcolormesh(*edges, values, edgecolors="white", linewidth=0.4, **looks)
    else:
        mesh = ax.imshow(values, aspect="auto", interpolation="nearest", **looks)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    return mesh
