"""The plots of all reports, from plain numbers to inline SVG.

    curves        losses and other series over steps: raw values pale, smoothed ones strong, panels side by side
    router_load   how much of each layer's traffic every expert gets, relative to an even split, with group borders
    score_bars    a model's scores with 95 % intervals beside its baselines

Each takes a `name` that must differ between the figures of a page, and returns a string for `blocks.Figure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.report.scores import TaskScore, baseline_names
from s1pro.report.svg import AMBER, BLUE, BORDER, GREY, INK, SERIES_COLOURS, style, to_svg

WIDTH = 8.6  # inches; the page scales a drawing to its column
MAX_POINTS = 400  # per curve: more than a reader can tell apart, and each costs bytes
MOST_INSIDE = 3  # entries of a legend among the curves; LEGEND_COLUMNS of a longer one below them
LEGEND_COLUMNS, LEGEND_ROW = 2, 0.22  # inches
MAX_CELLS_WITH_NUMBERS = 160
MAX_COLUMNS_WITH_NUMBERS = 20  # over the width of the page
MAX_VECTOR_CELLS = 2048  # larger heat maps become an embedded picture


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One series. `smoothing` in [0, 1) is the weight of the past in a moving average; 0 draws the values as they are.

    Values that are not finite leave a gap. A curve without label is not in the legend. `series` is the
    number of its colour, where a thing keeps its colour over many figures; by default its place in the panel.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    smoothing: float = 0.0
    markers: bool = False
    series: int | None = None

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"curve {self.label!r}: {len(self.x)} positions for {len(self.y)} values")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"curve {self.label!r}: smoothing must be in [0, 1), got {self.smoothing}")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes."""

    curves: Sequence[Curve]
    title: str = ""
    x_label: str = "step"
    y_label: str = "loss"
    log_y: bool = False


def moving_average(values: Sequence[float], smoothing: float) -> npt.NDArray[np.float64]:
    """Average over both sides in which a value n steps away weighs `smoothing**n`: smooth, and never behind the data.

    Values that are not finite are passed over and stay gaps.
    """
    raw = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(raw)
    known = np.where(finite, raw, 0.0)
    sums = _both_sides(known, smoothing) - known
    weights = _both_sides(finite.astype(np.float64), smoothing) - finite
    return np.where(finite, sums / np.maximum(weights, 1e-300), np.nan)


def _both_sides(values: npt.NDArray[np.float64], smoothing: float) -> npt.NDArray[np.float64]:
    """Sum of the decayed sums from the left and from the right; each contains the value itself."""
    total = np.zeros_like(values)
    for direction in (slice(None), slice(None, None, -1)):
        running = 0.0
        for index in range(len(values))[direction]:
            running = smoothing * running + values[index]
            total[index] += running
    return total


def curves(panels: Sequence[Panel], *, name: str, height: float = 2.7) -> str:
    """Panels side by side, each with its own axes and legend."""
    if not panels:
        raise ValueError(f"figure {name!r} has no panels")
    with style(name):
        longest = max(len([curve for curve in panel.curves if curve.label]) for panel in panels)
        rows = -(-longest // LEGEND_COLUMNS) if longest > MOST_INSIDE else 0
        figure, axes = _figure(height + LEGEND_ROW * rows, len(panels))
        for ax, panel in zip(axes, panels, strict=True):
            for index, curve in enumerate(panel.curves):
                number = index if curve.series is None else curve.series
                _draw_curve(ax, curve, SERIES_COLOURS[number % len(SERIES_COLOURS)])
            ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
            ax.margins(x=0.01)
            if panel.log_y:
                ax.set_yscale("log")
            _draw_legend(ax, len([curve for curve in panel.curves if curve.label]))
        return to_svg(figure)


def _draw_legend(ax: Any, count: int) -> None:
    """Among the curves while it is small; a longer one would cover them and lies below."""
    if count > MOST_INSIDE:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=LEGEND_COLUMNS)
    elif count:
        ax.legend(loc="best")


def _draw_curve(ax: Any, curve: Curve, colour: str) -> None:
    x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
    keep = _thin(len(x))
    marker = {"marker": "o", "markersize": 3.5} if curve.markers else {}
    if curve.smoothing == 0:
        ax.plot(x[keep], y[keep], color=colour, label=curve.label, **marker)
        return
    ax.plot(x[keep], y[keep], color=colour, alpha=0.28, linewidth=0.8)
    smooth = moving_average(y.tolist(), curve.smoothing)
    label = f"{curve.label} (smoothed)" if curve.label else ""
    ax.plot(x[keep], smooth[keep], color=colour, label=label, **marker)


def _thin(count: int) -> npt.NDArray[np.int64]:
    """At most MAX_POINTS positions, evenly spaced, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(np.int64))


def relative_load(load_LE: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Counts or shares of routed tokens -> load relative to an even split: 1 is even, 0 is an expert never used."""
    load = np.asarray(load_LE, dtype=np.float64)
    if load.ndim != 2 or not load.size:
        raise ValueError(f"the load is a table [layers, experts], got shape {load.shape}")
    if not np.isfinite(load).all() or (load < 0).any():
        raise ValueError("the load of an expert must be finite and not negative")
    total = load.sum(axis=1, keepdims=True)
    if (total == 0).any():
        raise ValueError(f"layer {int(np.argmin(total))} routed no tokens at all")
    return load / total * load.shape[1]


def router_load(load_LE: npt.ArrayLike, *, num_groups: int, name: str) -> str:
    """Heat map layer × expert, and the share of every router group beside it when there are groups."""
    relative_LE = relative_load(load_LE)
    num_layers, num_experts = relative_LE.shape
    if num_groups < 1 or num_experts % num_groups:
        raise ValueError(f"{num_experts} experts do not divide into {num_groups} groups")
    relative_LG = relative_LE.reshape(num_layers, num_groups, -1).mean(axis=2)
    with style(name):
        height = float(np.clip(0.75 + 0.3 * num_layers, 1.5, 6.0))
        widths = [1.0] if num_groups == 1 else [1.0, float(np.clip(num_groups / num_experts, 0.16, 0.5))]
        figure, axes = _figure(height, len(widths), widths)
        limit = max(2.0, float(np.ceil(relative_LE.max())))
        mesh = _heat_map(axes[0], relative_LE, limit)
        axes[0].set(title="load of each expert", xlabel="expert", ylabel="layer")
        for border in range(1, num_groups):
            axes[0].axvline(border * num_experts / num_groups - 0.5, color=BORDER, linewidth=1.4)
        if num_groups > 1:
            _heat_map(axes[1], relative_LG, limit)
            axes[1].set(title="of each group", xlabel="group")
        bar = figure.colorbar(mesh, ax=list(axes), shrink=0.9, aspect=12, pad=0.015)
        bar.set_label("load, 1 = even")
        bar.set_ticks([0, 1, limit])
        bar.outline.set_visible(False)
        return to_svg(figure)


def _heat_map(ax: Any, values: npt.NDArray[np.float64], limit: float) -> Any:
    """Orange is less than an even share, purple is more; few cells carry their number."""
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.ticker import MaxNLocator

    rows, columns = values.shape
    looks = {"cmap": "PuOr", "norm": TwoSlopeNorm(1.0, vmin=0.0, vmax=limit)}
    if values.size <= MAX_VECTOR_CELLS:
        edges = (np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
        mesh = ax.pcolormesh(*edges, values, edgecolors="white", linewidth=0.6, **looks)
        ax.invert_yaxis()
    else:
        mesh = ax.imshow(values, aspect="auto", interpolation="nearest", **looks)
    width = ax.get_subplotspec().get_gridspec().get_width_ratios()[ax.get_subplotspec().colspan.start]
    if values.size <= MAX_CELLS_WITH_NUMBERS and columns <= MAX_COLUMNS_WITH_NUMBERS * width:
        for (row, column), value in np.ndenumerate(values):
            pale = abs(value - 1) / (limit - 1 if value > 1 else 1) < 0.6
            ax.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color="black" if pale else "white"
            )
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    return mesh


def score_bars(scores: Sequence[TaskScore], *, name: str, model_name: str = "this model") -> str:
    """One group of bars per task: the model with its interval, then every baseline."""
    if not scores:
        raise ValueError(f"figure {name!r} has no scores")
    names = baseline_names(scores)
    colours = [GREY, AMBER, *SERIES_COLOURS[1:]]
    with style(name):
        figure, (ax,) = _figure(0.7 + 0.2 * len(scores) * (len(names) + 2), 1)
        thickness = 1 / (len(names) + 2)
        for index, label in enumerate([model_name, *names]):
            rows = [(at, s.model if index == 0 else s.baselines.get(label)) for at, s in enumerate(scores)]
            offset = (index - len(names) / 2) * thickness
            present = [(at + offset, estimate) for at, estimate in rows if estimate is not None]
            colour = BLUE if index == 0 else colours[(index - 1) % len(colours)]
            _draw_bars(ax, present, thickness, colour, label, strong=index == 0)
        ax.set_yticks(range(len(scores)), [score.task for score in scores])
        ax.tick_params(axis="y", length=0)
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.set_xlabel("score (line: 95 % confidence interval)")
        ax.set_xlim(left=min(0.0, ax.get_xlim()[0]), right=max(1.0, ax.get_xlim()[1]) * 1.07)
        ax.set_xticks([tick for tick in ax.get_xticks() if tick <= max(1.0, ax.get_xlim()[1] / 1.07)])
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
        return to_svg(figure)


def _draw_bars(
    ax: Any, rows: Sequence[tuple[float, Any]], thickness: float, colour: str, label: str, *, strong: bool
) -> None:
    values = [estimate.value for _, estimate in rows]
    ax.barh([at for at, _ in rows], values, height=thickness * 0.9, color=colour, label=label)
    for at, estimate in rows:
        end = estimate.value
        if estimate.low is not None:
            end = estimate.high
            spread = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
            ax.errorbar(estimate.value, at, xerr=spread, ecolor=INK, elinewidth=1.3, capsize=2.2, capthick=1.3)
        weight = "bold" if strong else "normal"
        ax.annotate(
            f"{estimate.value:.2f}",
            (end, at),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            weight=weight,
        )


def _figure(height: float, num_axes: int, widths: Sequence[float] | None = None) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(1, num_axes, squeeze=False, width_ratios=widths)
    return figure, tuple(axes[0])
