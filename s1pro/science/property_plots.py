"""Plots of real properties, and questions about them (physics and materials).

    trend_in_plot    rising, falling, or with a peak
    unit_in_plot     the unit of the vertical axis
    value_in_plot    the density of a melt at a temperature that is a tick of the axis; right within 5 % of the axis

A trend cannot be read from the name of the property: each is shown both ways (pressure over T rises, its logarithm over
1/T falls; viscosity over T falls, over 1/T rises; density and specific volume; the share of molecules that are slower
or faster than v), and Maxwell's density of speeds, which peaks, has the abscissa of the last two. Correlations that go
the wrong way somewhere (polynomials of heat capacity bend at the cold end of their range) are not asked about.

Splits are by compound: everything that is measured of a compound is in one split.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.science import property_tables as tables
from s1pro.science.media import (
    AnswerKind,
    Choice,
    Draw,
    Example,
    MediaFamily,
    Medium,
    Reading,
    place_in,
    reading_answer,
    stream,
)
from s1pro.science.plot_canvas import draw_plot, round_axis, tick_text
from s1pro.science.property_tables import Curve
from s1pro.science.split import Split, split_of
from s1pro.science.templates import Bank, SlotKind

TRENDS = ("rising", "falling", "peak")
_TEMPERATURES = (200.0, 800.0)  # of gases, in K
_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What is drawn; the axes follow from the values."""

    cas: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    x_label: str
    y_label: str
    y_unit: str


TREND = Bank(
    {},
    "Is the curve rising, falling, or does it have a peak?",
    "Does the curve (rise, fall or have a peak|go up, go down, or up and then down)?",
    "(How|In which way) does the (curve|quantity|property) (change|develop|run)?",
    "(Trend|Shape of the curve): rising, falling or peak?",
    "(Describe|Name|Tell me) the trend.",
    held_out=("From left to right, what happens to the quantity?",),
)
UNIT = Bank(
    {},
    "(Which|What) unit does the (vertical axis|y axis|ordinate) have?",
    "(Read|Name|Tell me) the unit of the (vertical axis|y axis|ordinate)[, please].",
    "(In which unit|In what unit) is the property (given|plotted)?",
    "Unit of the (vertical axis|y axis|ordinate)?",
    held_out=("The numbers on the left are in which unit?",),
)


def _write_temperature(value: float) -> str:
    return f"{tick_text(value)} K"


def _read_temperature(text: str) -> float:
    return float(text[:-2])


_TEMPERATURE = SlotKind(pattern=r"\d+(?:\.\d+)? K", write=_write_temperature, read=_read_temperature)
VALUE = Bank(
    {"temperature": _TEMPERATURE},
    "(Read|Tell me|Give) the density at {temperature}[, please].",
    "(What|How large) is the density at {temperature}?",
    "(Density|Value) at {temperature}?",
    "{temperature}: (which density|what density|density)?",
    held_out=("The melt has {temperature}. How dense is it, by the plot?",),
)


def plot_families(*, width: int = 160, height: int = 128) -> tuple[MediaFamily, ...]:
    """The three families of the module docstring; pictures of `width` x `height` pixels."""

    def draw_trend(split: Split, number: int, seed: int) -> Example:
        plot, trend = trend_plot(split, number, seed)
        return _example(plot, {"text": trend}, width, height)

    def draw_unit(split: Split, number: int, seed: int) -> Example:
        plot = _turn(_BY_UNIT, split, number, "units", seed)
        return _example(plot, {"text": plot.y_unit}, width, height)

    def draw_value(split: Split, number: int, seed: int) -> Example:
        melts = _melts(split)
        plot = direct(melts[place_in(len(melts), number, "values", split, seed)])
        at = float(stream("value-at", split, seed, number).choice(_inner_ticks(plot)))
        value, axis = float(np.interp(at, plot.x, plot.y)), round_axis(plot.y, plot.y_label)
        answer = reading_answer(value, plot.y_unit, axis.high - axis.low)
        return _example(plot, answer, width, height, {"temperature": at})

    def family(
        name: str, domain: str, questions: Bank, answer: AnswerKind, draw: Draw, limits: Callable[[Split], int]
    ) -> MediaFamily:
        return MediaFamily(
            name=name,
            domain=domain,
            modality="image",
            questions=questions,
            answer=answer,
            draw=draw,
            limits=limits,
        )

    return (
        family("trend_in_plot", "physics", TREND, Choice(labels=TRENDS), draw_trend, _number_of_trends),
        family("unit_in_plot", "physics", UNIT, Choice(labels=UNITS), draw_unit, _number_of_units),
        family("value_in_plot", "materials", VALUE, Reading(), draw_value, lambda split: len(_melts(split))),
    )


def direct(curve: Curve) -> Plot:
    """The property over the temperature."""
    return _plot(curve, curve.x, curve.y, "T [K]", curve.property, curve.y_unit)


def over_inverse(curve: Curve) -> Plot:
    """The property over 1000 / T."""
    return _plot(curve, 1000 / curve.x[::-1], curve.y[::-1], "1000/T [1/K]", curve.property, curve.y_unit)


def log_over_inverse(curve: Curve) -> Plot:
    """Natural logarithm over 1000 / T (Clausius and Clapeyron: nearly a straight line)."""
    y = np.log(curve.y[::-1])
    return _plot(curve, 1000 / curve.x[::-1], y, "1000/T [1/K]", f"ln(p/{curve.y_unit})", "1")


def specific_volume(curve: Curve) -> Plot:
    """Volume of a gram over the temperature, from a density in kg/m3."""
    return _plot(curve, curve.x, 1000 / curve.y, "T [K]", "specific volume", "cm3/g")


def trend_plot(split: Split, number: int, seed: int) -> tuple[Plot, str]:
    """The plot of example `number`, and its trend."""
    turn, which = divmod(number, len(TRENDS))
    trend = TRENDS[which]
    views = len(_BY_TREND[trend]) + 1  # speeds are one more
    if turn % views == 0:
        return _speeds(split, turn // views, trend, seed), trend
    return _turn(_BY_TREND[trend], split, turn - turn // views - 1, trend, seed), trend


_Table = Callable[[], tuple[Curve, ...]]
_Views = Sequence[tuple[_Table, Callable[[Curve], Plot]]]

_BY_TREND: Mapping[str, _Views] = {
    "rising": (
        (tables.vapour_pressures, direct),
        (tables.viscosities, over_inverse),
        (tables.heat_capacities, direct),
        (tables.liquid_densities, specific_volume),
    ),
    "falling": (
        (tables.vapour_pressures, log_over_inverse),
        (tables.viscosities, direct),
        (tables.heat_capacities, over_inverse),
        (tables.liquid_densities, direct),
    ),
    "peak": (),
}
_BY_UNIT: _Views = (
    (tables.vapour_pressures, direct),
    (tables.heat_capacities, direct),
    (tables.viscosities, direct),
    (tables.liquid_densities, direct),
    (tables.surface_tensions, direct),
)
UNITS = ("kPa", "J/(mol K)", "mPa s", "kg/m3", "mN/m")


# Whether a property rises (1) or falls (-1) with the temperature.
_DIRECTIONS: Mapping[_Table, int] = {
    tables.vapour_pressures: 1,
    tables.heat_capacities: 1,
    tables.viscosities: -1,
    tables.liquid_densities: -1,
    tables.surface_tensions: -1,
    tables.melt_densities: -1,
}


@functools.cache
def _of_split(table: _Table, split: Split) -> tuple[Curve, ...]:
    """The curves of a split that go in one direction, the one that their property has."""
    found = (curve for curve in table() if _split(curve.cas) == split)
    return tuple(curve for curve in found if (np.diff(curve.y) * _DIRECTIONS[table] > 0).all())


@functools.cache
def _melts(split: Split) -> tuple[Curve, ...]:
    return tuple(curve for curve in _of_split(tables.melt_densities, split) if _inner_ticks(direct(curve)))


def _split(cas: str) -> Split:
    return split_of(f"compound:{cas}")


def _turn(views: _Views, split: Split, number: int, *key: object) -> Plot:
    """Views take turns; each goes through its compounds in an order of its own."""
    turn, which = divmod(number, len(views))
    table, view = views[which]
    curves = _of_split(table, split)
    return view(curves[place_in(len(curves), turn, "plots", which, split, *key)])


def _different(views: _Views, split: Split) -> int:
    return len(views) * min(len(_of_split(table, split)) for table, _ in views)


def _number_of_units(split: Split) -> int:
    return _different(_BY_UNIT, split)


def _number_of_trends(split: Split) -> int:
    return len(TRENDS) * min(_different(_BY_TREND[trend], split) for trend in ("rising", "falling"))


@functools.cache
def _gases(split: Split) -> list[tuple[str, str, float]]:
    return [entry for entry in tables.molar_masses() if _split(entry[0]) == split]


def _speeds(split: Split, number: int, trend: str, seed: int) -> Plot:
    """Maxwell's distribution of a compound at some temperature: its density, or the share that is slower or faster."""
    compounds = _gases(split)
    cas, _, mass = compounds[place_in(len(compounds), number, "speeds", trend, split, seed)]
    temperature = float(stream("speeds", trend, split, seed, number).uniform(*_TEMPERATURES))
    v = np.linspace(0, 2.8 * tables.most_probable_speed(mass, temperature), tables.NUM_POINTS)
    density = tables.speed_densities(v, mass, temperature)
    slower = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(v))])
    label, y, unit = {
        "peak": ("density of speeds", 1000 * density, "s/km"),
        "rising": ("share slower than v", slower, "1"),
        "falling": ("share faster than v", 1 - slower, "1"),
    }[trend]
    return Plot(cas=cas, x=v, y=y, x_label="v [m/s]", y_label=_label(label, unit), y_unit=unit)


def _plot(curve: Curve, x: _Array, y: _Array, x_label: str, name: str, unit: str) -> Plot:
    return Plot(cas=curve.cas, x=x, y=y, x_label=x_label, y_label=_label(name, unit), y_unit=unit)


def _label(name: str, unit: str) -> str:
    return name if unit == "1" else f"{name} [{unit}]"


def _inner_ticks(plot: Plot) -> tuple[float, ...]:
    return tuple(tick for tick in round_axis(plot.x, "").ticks if plot.x[0] < tick < plot.x[-1])


def _example(
    plot: Plot, answer: Mapping[str, Any], width: int, height: int, asked: Mapping[str, Any] | None = None
) -> Example:
    def render() -> Medium:
        axes = round_axis(plot.x, plot.x_label), round_axis(plot.y, plot.y_label)
        return Medium(kind="image", array=draw_plot(plot.x, plot.y, *axes, width=width, height=height))

    return Example(entity=f"compound:{plot.cas}", asked=asked or {}, answer=answer, render=render)
