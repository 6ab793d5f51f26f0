"""Series of measurements as records: what a stretch of time of one station and variable looked like.

Stretches are calendar years of dated series, or windows of equal length of signals. A record is about one stretch; the
group (what a split may not tear apart) is the block of `block` neighbouring stretches of a series, since neighbours are
alike. A stretch with less than half of its usual number of values is left out.

    dated series   mean, smallest, largest, range, standard deviation, linear trend within the stretch, number of values
    signals        mean, RMS, peak to peak, strongest frequency (largest bin of the periodogram without the mean)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.science.facts.schema import Column, Schema

Values = npt.NDArray[np.float64]


def series_schema(variable: str, unit: str, domain: str, digits: int = 4) -> Schema:
    """Columns for calendar years of a variable."""
    columns = [Column(name="name", type="text", role="entity")]
    for name, words in (
        ("mean", f"mean {variable}"),
        ("smallest", f"lowest {variable}"),
        ("largest", f"highest {variable}"),
        ("range", f"range of the {variable}"),
        ("deviation", f"standard deviation of the {variable}"),
        ("trend", f"linear trend of the {variable} within the year"),
    ):
        columns.append(Column(name=name, unit=_difference(unit, name), digits=digits, words=(words,)))
    columns.append(Column(name="values", type="count", noun="value"))
    return Schema(name=variable, domain=domain, noun="year of measurements", columns=tuple(columns))


def signal_schema(variable: str, unit: str, domain: str = "physics", digits: int = 4) -> Schema:
    """Columns for windows of a signal."""
    columns = [Column(name="name", type="text", role="entity")]
    for name, words, of in (
        ("mean", f"mean {variable}", unit),
        ("rms", f"root mean square of the {variable}", unit),
        ("peak", f"peak-to-peak {variable}", unit),
        ("frequency", "strongest frequency", "Hz"),
        ("duration", "duration", "s"),
        ("rate", "sampling rate", "Hz"),
    ):
        columns.append(Column(name=name, unit=of, digits=digits, words=(words,)))
    return Schema(name=variable, domain=domain, noun="recording", columns=tuple(columns))


def year_rows(
    station: str, years: Sequence[int], times: Values, values: Values, *, block: int = 10
) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of the calendar years of a series, with their groups.

    Args:
        years: the year of every value.
        times: years with fractions, for the trend.
    """
    numbers = np.asarray(years)
    usual = np.median(np.unique(numbers, return_counts=True)[1])
    for year in np.unique(numbers):
        here = (numbers == year) & np.isfinite(values)
        part = values[here]
        if len(part) < max(1, usual / 2):
            continue
        row: dict[str, Any] = {"name": f"{station} in {year}", "mean": part.mean()}
        if len(part) > 2:
            slope = np.polyfit(times[here] - times[here].mean(), part, 1)[0]
            row |= {"smallest": part.min(), "largest": part.max(), "range": np.ptp(part)}
            row |= {"deviation": part.std(ddof=1), "trend": slope, "values": len(part)}
        yield (
            {key: value if isinstance(value, str | int) else float(value) for key, value in row.items()},
            (f"{station}/{int(year) // block * block}"),
        )


def signal_rows(
    name: str, values: Values, rate: float, *, window: int, block: int = 4
) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of windows of a signal sampled at `rate` Hz, with their groups."""
    for number in range(len(values) // window):
        part = values[number * window : (number + 1) * window]
        if not np.isfinite(part).all() or np.ptp(part) == 0:
            continue
        power = np.abs(np.fft.rfft(part - part.mean())) ** 2
        row = {
            "mean": part.mean(),
            "rms": np.sqrt((part**2).mean()),
            "peak": np.ptp(part),
            "frequency": (1 + np.argmax(power[1:])) * rate / window,
            "duration": window / rate,
            "rate": rate,
        }
        yield (
            {"name": f"{name}, window {number + 1}", **{k: float(v) for k, v in row.items()}},
            f"{name}/{number // block}",
        )


def _difference(unit: str, name: str) -> str:
    """Differences of temperatures are in kelvin: 5 °C of range is no temperature."""
    return "K" if unit in ("°C", "degC") and name in ("range", "deviation", "trend") else unit
