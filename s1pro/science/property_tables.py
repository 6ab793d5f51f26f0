"""Measured properties of real compounds as curves, from the tables that the package `chemicals` (MIT licence) carries.

| property | correlation | source of the coefficients |
|---|---|---|
| vapour pressure | log10(p / Pa) = A - B / (T + C) | Poling, Prausnitz and O'Connell, 5th edition (2001) |
| heat capacity of the ideal gas | R (a0 + a1 T + ... + a4 T^4) | the same |
| viscosity of the liquid | log10(mu / mPa s) = A + B / (C - T) | Viswanath and Natarajan (1989) |
| density of the liquid | rho_c + A t^0.35 + B t^(2/3) + C t + D t^(4/3), t = 1 - T / Tc | VDI Heat Atlas (2010) |
| surface tension | a - b (T - 273.15 K), mN/m | Jasper (1972), in Lange's Handbook |
| density of the melt | rho_m - k (T - T_m) | CRC Handbook (2014) |
| normal boiling point | (a number) | Yaws (2014) |

Files are tab-separated and read as they are, without importing the package. Curves stay inside the range of temperature
that the table states; for liquid density this is 0.5 to 0.9 Tc.

From the molar mass alone follow the speeds of the molecules of a gas (Maxwell): density of speeds, share that is slower
than v, and share that is faster.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.science.compounds import compounds_folder

GAS_CONSTANT = 8.31446261815324
NUM_POINTS = 40
_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One property of one compound: `y` in `y_unit` over the rising temperatures `x` in K."""

    cas: str
    compound: str
    property: str
    x: _Values
    y: _Values
    y_unit: str


@functools.cache
def vapour_pressures() -> tuple[Curve, ...]:
    """kPa over K."""

    def pressure(row: Mapping[str, str], t: _Values) -> _Values:
        a, b, c = _numbers(row, "A", "B", "C")
        return 10 ** (a - b / (t + c)) / 1000

    return _over_temperature("Vapor Pressure/Antoine Collection Poling.tsv", "vapour pressure", "kPa", pressure)


@functools.cache
def heat_capacities() -> tuple[Curve, ...]:
    """J/(mol K) of the ideal gas over K."""

    def capacity(row: Mapping[str, str], t: _Values) -> _Values:
        return GAS_CONSTANT * np.polynomial.Polynomial(_numbers(row, "a0", "a1", "a2", "a3", "a4"))(t)

    return _over_temperature("Heat Capacity/PolingDatabank.tsv", "heat capacity", "J/(mol K)", capacity)


@functools.cache
def viscosities() -> tuple[Curve, ...]:
    """mPa s of the liquid over K."""

    def viscosity(row: Mapping[str, str], t: _Values) -> _Values:
        a, b, c = _numbers(row, "A", "B", "C")
        return 10 ** (a + b / (c - t))

    return _over_temperature("Viscosity/Viswanath Natarajan Dynamic 3 term.tsv", "viscosity", "mPa s", viscosity)


@functools.cache
def surface_tensions() -> tuple[Curve, ...]:
    """mN/m over K."""

    def tension(row: Mapping[str, str], t: _Values) -> _Values:
        a, b = _numbers(row, "a", "b")
        return a - b * (t - 273.15)

    return _over_temperature("Interface/Jasper-Lange.tsv", "surface tension", "mN/m", tension)


@functools.cache
def liquid_densities() -> tuple[Curve, ...]:
    """kg/m3 of the saturated liquid over K."""

    def density(row: Mapping[str, str], t: _Values) -> _Values:
        critical, rho, a, b, c, d = _numbers(row, "Tc", "rhoc", "A", "B", "C", "D")
        x = 1 - t / critical
        return rho + a * x**0.35 + b * x ** (2 / 3) + c * x + d * x ** (4 / 3)

    def limits(row: Mapping[str, str]) -> tuple[float, float]:
        (critical,) = _numbers(row, "Tc")
        return 0.5 * critical, 0.9 * critical

    path = "Density/VDI PPDS Density of Saturated Liquids.tsv"
    return _over_temperature(path, "density", "kg/m3", density, limits)


@functools.cache
def melt_densities() -> tuple[Curve, ...]:
    """g/cm3 of molten salts, oxides and metals over K."""

    def density(row: Mapping[str, str], t: _Values) -> _Values:
        rho, k, melting = _numbers(row, "rho", "k", "Tm")
        return (rho - k * (t - melting)) / 1000

    path = "Density/CRC Inorganics densties of molten compounds and salts.tsv"
    return _over_temperature(path, "density of the melt", "g/cm3", density, lambda row: _numbers(row, "Tm", "Tmax"))


@functools.cache
def normal_boiling_points() -> Mapping[str, float]:
    """CAS number to K."""
    return {row["CAS"]: float(row["Tb"]) for row in _rows("Phase Change/Yaws Boiling Points.tsv")}


@functools.cache
def molar_masses() -> tuple[tuple[str, str, float], ...]:
    """CAS number, name and g/mol of the compounds with a table of density."""
    return tuple(
        (row["CAS"], row["Chemical"].strip(), float(row["MW"]))
        for row in _rows("Density/VDI PPDS Density of Saturated Liquids.tsv")
    )


def speed_densities(v: npt.ArrayLike, molar_mass: float, temperature: float) -> _Values:
    """Maxwell's density of speeds at `v` m/s, in s/m; `molar_mass` in g/mol."""
    v = np.asarray(v, dtype=np.float64)
    a = molar_mass / 1000 / (GAS_CONSTANT * temperature)
    return math.sqrt(2 / math.pi) * a**1.5 * v**2 * np.exp(-a * v**2 / 2)


def most_probable_speed(molar_mass: float, temperature: float) -> float:
    """Where `speed_densities` is largest, m/s."""
    return math.sqrt(2 * GAS_CONSTANT * temperature / (molar_mass / 1000))


_Function = Callable[[Mapping[str, str], _Values], _Values]
_Limits = Callable[[Mapping[str, str]], tuple[float, ...]]


def _over_temperature(
    path: str,
    name: str,
    unit: str,
    function: _Function,
    limits: _Limits = lambda row: _numbers(row, "Tmin", "Tmax"),
) -> tuple[Curve, ...]:
    """Curves of a table; compounds with an impossible range or values that are not positive are left out."""
    found = []
    for row in _rows(path):
        low, high = limits(row)
        if not 0 < low < high - 5:
            continue
        t = np.linspace(low, high, NUM_POINTS)
        with np.errstate(all="ignore"):
            y = function(row, t)
        if np.isfinite(y).all() and y.min() > 0 and np.ptp(y) > 0:
            compound = (row.get("Chemical") or row["Name"]).strip()
            found.append(
                Curve(
                    cas=row["CAS"],
                    compound=compound,
                    property=name,
                    x=t,
                    y=y,
                    y_unit=unit,
                )
            )
    if not found:
        raise InputError(f"{path}: no compound of this table of the package `chemicals` can be used")
    return tuple(found)


def _rows(name: str) -> Iterator[dict[str, str]]:
    path: Path = compounds_folder().parent / name
    if not path.is_file():
        raise InputError(f"{path}: not there; this version of the package `chemicals` keeps its tables elsewhere")
    with path.open(encoding="utf-8") as lines:
        columns = next(lines).rstrip("\r\n").split("\t")
        for line in lines:
            cells = line.rstrip("\r\n").split("\t")
            yield dict(zip(columns, cells, strict=False))


def _numbers(row: Mapping[str, str], *columns: str) -> tuple[float, ...]:
    """Cells as numbers; NaN where a cell is empty, which no comparison passes."""
    return tuple(float(row.get(column) or "nan") for column in columns)
