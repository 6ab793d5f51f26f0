"""Charts whose content is known, drawn by two plotting libraries as PDF; and what a reader must find in them.

`make(library, kind, seed)` draws one. Names, units, data, legends, scales and styles vary with the seed. The truth
comes from the specification and, for tick labels, from the library itself.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LIBRARIES = ("matplotlib", "vega")
KINDS = ("line", "scatter", "bar", "histogram", "log", "panels")
QUANTITIES = [
    ("Time", "s"), ("Voltage", "mV"), ("Temperature", "K"), ("Pressure", "kPa"), ("Wavelength", "nm"),
    ("Absorbance", ""),
    ("Concentration", "mol/L"), ("Frequency", "GHz"), ("Distance", "km"), ("Intensity", "a.u."), ("Energy", "eV"),
    ("Flow rate", "mL/min"), ("Cell count", ""), ("Depth", "m"), ("Dose", "mg/kg"), ("Strain", "%"),
    ("Current density", "A/m²"),
    ("Heart rate", "bpm"), ("Accuracy", "%"), ("Training loss", ""), ("Mass", "μg"), ("Angle 2θ", "°"),
]  # fmt: skip
NAMES = [
    "control", "treated", "sample A", "sample B", "model", "baseline", "wild type", "mutant", "Fe", "Ni–Cu", "run 1",
    "ours",
    "reference", "site north", "pH 7",
]  # fmt: skip
CATEGORIES = ["alpha", "beta", "gamma", "delta", "wheat", "maize", "Mn", "Co", "LiCl", "E. coli", "yeast", "Q1", "Q2"]
TRENDS = ("rising", "falling", "peak", "valley", "flat", "oscillating")


@dataclass
class AxisTruth:
    title: str
    quantity: str
    unit: str
    low: str = ""
    high: str = ""
    scale: str = "linear"


@dataclass
class SeriesTruth:
    name: str
    trend: str
    x: list[float]
    y: list[float]
    top: str = ""


@dataclass
class PanelTruth:
    kind: str
    x: AxisTruth
    y: AxisTruth
    series: list[SeriesTruth]
    legend: bool
    title: str = ""
    label: str = ""
    categories: list[str] = field(default_factory=list)


@dataclass
class Drawn:
    library: str
    kind: str
    seed: int
    panels: list[PanelTruth]
    pdf: bytes


def make(library: str, kind: str, seed: int) -> Drawn:
    rng = random.Random(f"{library}|{kind}|{seed}")
    if kind == "panels":
        kinds = [rng.choice(("line", "scatter", "bar", "log")) for _ in range(rng.choice((2, 2, 3, 4)))]
        panels = [_panel(one, rng) for one in kinds]
        for letter, panel in zip("abcd", panels, strict=False):
            panel.label = f"({letter})"
    else:
        panels = [_panel(kind, rng)]
    pdf = (_matplotlib if library == "matplotlib" else _vega)(panels, rng)
    return Drawn(library, kind, seed, panels, pdf)


def _axis(rng: random.Random, taken: str = "") -> AxisTruth:
    quantity, unit = rng.choice([pair for pair in QUANTITIES if pair[0] != taken])
    bracket = rng.choice(("({})", "({})", "[{}]")).format(unit)
    return AxisTruth(f"{quantity} {bracket}" if unit else quantity, quantity, unit)


def _panel(kind: str, rng: random.Random) -> PanelTruth:
    x = _axis(rng)
    y = _axis(rng, x.quantity)
    title = rng.choice(("", "", "Measured on day three", "Results"))
    if kind == "bar":
        categories = rng.sample(CATEGORIES, rng.randint(3, 7))
        number = rng.choice((1, 1, 2))
        series = []
        for name in rng.sample(NAMES, number):
            heights = [rng.uniform(5, 95) for _ in categories]
            heights[rng.randrange(len(heights))] = 110.0
            top = categories[int(np.argmax(heights))]
            series.append(SeriesTruth(name, "", list(range(len(categories))), heights, top))
        x = AxisTruth(rng.choice(("Species", "Sample", "Group")), "", "", scale="category")
        x.quantity = x.title
        return PanelTruth(kind, x, y, series, number > 1, title, categories=categories)
    if kind == "histogram":
        data = np.random.default_rng(rng.randrange(10**6)).normal(rng.uniform(-5, 50), rng.uniform(1, 9), 400)
        y = AxisTruth("Count", "Count", "")
        return PanelTruth(kind, x, y, [SeriesTruth("", "", data.tolist(), [])], False, title)
    number = rng.choice((1, 2, 2, 3, 4)) if kind != "scatter" else rng.choice((1, 2, 3))
    log = kind == "log"
    low = rng.choice((0.0, 0.0, -5.0, 100.0))
    span = rng.choice((1.0, 10.0, 48.0, 350.0))
    scale = 10.0 ** rng.choice((-2, 0, 1, 2, 3, 5))
    series = []
    for name in rng.sample(NAMES, number):
        series.append(_series(name, "scatter" if kind == "scatter" else "line", rng, low, span, scale, log))
    if log:
        y.scale = "log"
    legend = number > 1 or rng.random() < 0.3
    return PanelTruth(kind, x, y, series, legend, title)


def _series(name: str, kind: str, rng: random.Random, low: float, span: float, scale: float, log: bool) -> SeriesTruth:
    noise = np.random.default_rng(rng.randrange(10**6))
    u = np.sort(noise.uniform(0, 1, 50)) if kind == "scatter" else np.linspace(0, 1, rng.choice((12, 30, 80)))
    shift, size = rng.uniform(0, 0.5), rng.uniform(0.6, 1.0)
    if kind == "scatter":
        trend = rng.choice(("positive", "negative"))
        y = (u if trend == "positive" else 1 - u) + noise.normal(0, 0.12, len(u))
    else:
        trend = rng.choice(TRENDS)
        y = {
            "rising": u ** rng.choice((0.5, 1, 2)), "falling": 1 - u ** rng.choice((0.5, 1, 2)),
            "peak": np.exp(-(((u - rng.uniform(0.35, 0.65)) / 0.15) ** 2)),
            "valley": 1 - np.exp(-(((u - rng.uniform(0.35, 0.65)) / 0.15) ** 2)),
            "flat": np.full(len(u), rng.uniform(0.3, 0.9)), "oscillating": 0.5 + 0.5 * np.sin(2 * np.pi * 3.5 * u),
        }[trend]  # fmt: skip
        y = y + noise.normal(0, 0.01, len(u)) * (trend != "flat")
    y = shift + size * y
    values = scale * 10.0 ** (3 * y) if log else scale * y
    return SeriesTruth(name, trend, (low + span * u).tolist(), values.tolist())


def nice_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Five or so round values inside a range, and how they are printed."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= 6)
    values = [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    digits = max(0, -math.floor(math.log10(step)))
    return values, [f"{value:.{digits}f}" for value in values]


# ------------------------------------------------------------------------------------------------- matplotlib

STYLES = [
    "default",
    "default",
    "default",
    "ggplot",
    "bmh",
    "classic",
    "seaborn-v0_8-whitegrid",
    "seaborn-v0_8-ticks",
    "fast",
]


def _matplotlib(panels: list[PanelTruth], rng: random.Random) -> bytes:
    import matplotlib as mpl
    import matplotlib.style
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    with mpl.style.context(rng.choice(STYLES)), mpl.rc_context({"pdf.fonttype": rng.choice((3, 42))}):
        columns = min(len(panels), 2)
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(4.2 * columns, 3.1 * rows), layout="constrained")
        FigureCanvasPdf(figure)
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(panels))]
        for axis, panel in zip(axes, panels, strict=True):
            _draw(axis, panel, rng)
        figure.canvas.draw()
        for axis, panel in zip(axes, panels, strict=True):
            _read_ticks(axis, panel)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="pdf")
        return buffer.getvalue()


def _draw(axis: Any, panel: PanelTruth, rng: random.Random) -> None:
    {"line": _lines, "log": _lines, "scatter": _scatter, "bar": _bars, "histogram": _histogram}[panel.kind](
        axis, panel, rng
    )
    axis.set_xlabel(panel.x.title)
    axis.set_ylabel(panel.y.title)
    axis.set_title(panel.title)
    if panel.label:
        axis.text(-0.05, 1.05, panel.label, transform=axis.transAxes)
    if panel.legend:
        axis.legend(loc=rng.choice(("best", "upper right", "lower left")), frameon=rng.random() < 0.7)
    if rng.random() < 0.3:
        axis.spines[["top", "right"]].set_visible(False)
    if rng.random() < 0.3:
        axis.grid(True, alpha=0.4)
    if rng.random() < 0.2:
        axis.tick_params(direction="in", top=True, right=True)


def _lines(axis: Any, panel: PanelTruth, rng: random.Random) -> None:
    marker = rng.choice(("", "", "o", "s", "^", "D"))
    for series in panel.series:
        axis.plot(series.x, series.y, label=series.name, marker=marker, linestyle=rng.choice(("-", "-", "--")))
    if panel.kind == "log":
        axis.set_yscale("log")
    elif all(series.trend == "flat" for series in panel.series):
        axis.set_ylim(0, 1.3 * max(max(series.y) for series in panel.series))


def _scatter(axis: Any, panel: PanelTruth, rng: random.Random) -> None:
    for color, series in zip(("C0", "C1", "C2"), panel.series, strict=False):
        size, marker = rng.choice((8, 20)), rng.choice("os^x")
        axis.scatter(series.x, series.y, label=series.name, s=size, marker=marker, color=color)


def _bars(axis: Any, panel: PanelTruth, rng: random.Random) -> None:
    width = 0.8 / len(panel.series)
    for i, series in enumerate(panel.series):
        axis.bar(np.array(series.x) + i * width, series.y, width, label=series.name)
    places = np.array(panel.series[0].x) + width * (len(panel.series) - 1) / 2
    axis.set_xticks(places, panel.categories, rotation=rng.choice((0, 0, 90)) if len(panel.categories) > 4 else 0)


def _histogram(axis: Any, panel: PanelTruth, rng: random.Random) -> None:
    axis.hist(panel.series[0].x, bins=rng.choice((10, 16)))


def _read_ticks(axis: Any, panel: PanelTruth) -> None:
    for truth, ticks, limits in (
        (panel.x, axis.xaxis.get_major_ticks(), axis.get_xlim()),
        (panel.y, axis.yaxis.get_major_ticks(), axis.get_ylim()),
    ):
        low, high = sorted(limits)
        slack = 1e-9 * (high - low)
        shown = [tick.label1.get_text() for tick in ticks if low - slack <= tick.get_loc() <= high + slack]
        shown = [_plain(text) for text in shown if text]
        truth.low, truth.high = (shown[0], shown[-1]) if shown else ("", "")


def _plain(text: str) -> str:
    """The text of a mathtext label."""
    return text.replace("$\\mathdefault{", "").replace("}}$", "").replace("^{", "^").replace("}$", "").replace("$", "")


# ------------------------------------------------------------------------------------------------------- vega


def _vega(panels: list[PanelTruth], rng: random.Random) -> bytes:
    import vl_convert

    charts = [_spec(panel, rng) for panel in panels]
    apart = {"scale": {"color": "independent"}, "legend": {"color": "independent"}}
    spec = charts[0] if len(charts) == 1 else {"concat": charts, "columns": 2, "resolve": apart}
    config: dict[str, Any] = {"axis": {"grid": rng.random() < 0.6}}
    if rng.random() < 0.4:
        config["view"] = {"stroke": None}
    if rng.random() < 0.3:
        config["font"] = "DejaVu Sans"
    spec = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "config": config, **spec}
    return bytes(vl_convert.vegalite_to_pdf(spec))


def _spec(panel: PanelTruth, rng: random.Random) -> dict[str, Any]:
    spec: dict[str, Any] = {"width": rng.choice((220, 300)), "height": rng.choice((160, 200))}
    title = " ".join(filter(None, (panel.label, panel.title)))
    if title:
        spec["title"] = {"text": title, "anchor": "start" if panel.label else rng.choice(("start", "middle"))}
    color: dict[str, Any] = {"field": "s", "type": "nominal", "title": rng.choice((None, "Series"))}
    color["scale"] = {"scheme": rng.choice(("tableau10", "category10", "set1"))}
    if not panel.legend:
        color["legend"] = None
    elif rng.random() < 0.3:
        color["legend"] = {"orient": rng.choice(("top", "bottom", "right"))}
    if panel.kind == "bar":
        return {**spec, **_bar_spec(panel, color, rng)}
    if panel.kind == "histogram":
        data = panel.series[0].x
        step = max(1.0, round((max(data) - min(data)) / rng.choice((7, 12))))
        panel.x.low = panel.x.high = panel.y.low = panel.y.high = ""
        x = {"bin": {"step": step}, "field": "x", "type": "quantitative", "title": panel.x.title}
        y = {"aggregate": "count", "type": "quantitative", "title": panel.y.title}
        values = [{"x": value} for value in data]
        return {**spec, "data": {"values": values}, "mark": "bar", "encoding": {"x": x, "y": y}}
    values = [
        {"x": a, "y": b, "s": series.name} for series in panel.series for a, b in zip(series.x, series.y, strict=True)
    ]
    x = _encoding("x", panel.x, [point["x"] for point in values])
    y = _encoding("y", panel.y, [point["y"] for point in values], flat=all(s.trend == "flat" for s in panel.series))
    mark: Any = "point" if panel.kind == "scatter" else {"type": "line", "point": rng.random() < 0.3}
    if panel.kind == "scatter" and rng.random() < 0.5:
        mark = rng.choice(("circle", "square"))
    return {**spec, "data": {"values": values}, "mark": mark, "encoding": {"x": x, "y": y, "color": color}}


def _encoding(name: str, truth: AxisTruth, data: list[float], flat: bool = False) -> dict[str, Any]:
    low, high = min(data), max(data)
    result: dict[str, Any] = {"field": name, "type": "quantitative", "title": truth.title}
    if truth.scale == "log":
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        result["scale"] = {"type": "log", "domain": [10.0 ** powers[0], 10.0 ** powers[-1]]}
        expression = "replace(format(datum.value, '.0e'), '+', '')"
        result["axis"] = {"values": [10.0**p for p in powers], "labelExpr": expression}
        truth.low, truth.high = (f"1e{'−' if p < 0 else ''}{abs(p)}" for p in (powers[0], powers[-1]))
        return result
    if flat:
        low, high = 0.0, 1.3 * high
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin
    ticks, labels = nice_ticks(low, high)
    digits = max((len(label.partition(".")[2]) for label in labels), default=0)
    result["scale"] = {"domain": [low, high], "nice": False, "zero": False}
    result["axis"] = {"values": ticks, "format": f".{digits}f"}
    truth.low, truth.high = labels[0].replace("-", "−"), labels[-1].replace("-", "−")
    return result


def _bar_spec(panel: PanelTruth, color: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    values = [
        {"x": category, "y": height, "s": series.name}
        for series in panel.series
        for category, height in zip(panel.categories, series.y, strict=True)
    ]
    x = {"field": "x", "type": "nominal", "title": panel.x.title, "sort": None}
    if rng.random() < 0.5:
        x["axis"] = {"labelAngle": 0} if len(panel.categories) < 5 else {"labelAngle": -90}
    y = _encoding("y", panel.y, [0.0, 125.0])
    y["scale"] = {"domain": [0, 125], "nice": False}
    y["axis"] = {"values": [0, 25, 50, 75, 100, 125]}
    panel.y.low, panel.y.high = "0", "125"
    encoding: dict[str, Any] = {"x": x, "y": y}
    if len(panel.series) > 1:
        encoding |= {"color": color, "xOffset": {"field": "s", "type": "nominal"}}
    return {"data": {"values": values}, "mark": "bar", "encoding": encoding}
