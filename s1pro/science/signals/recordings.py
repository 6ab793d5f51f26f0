"""Real recordings that scientific packages carry, cut into windows.

| kind | what | points | package |
|---|---|---|---|
| heartbeat | electrocardiogram (rate not stated) | 1,024 | PyWavelets |
| sea temperature | Pacific, Nino 3 region, every three months, 1950 to 2015, standardised | 264 | PyWavelets |
| sea temperature | Pacific, Nino 1+2 region, monthly, 1950 to 2010 | 732 | statsmodels |
| sunspots | yearly number, 1700 to 2008 | 309 | statsmodels |
| carbon dioxide | Mauna Loa, weekly, 1958 to 2001 | 2,284 | statsmodels |

PyWavelets belongs to the extra `science`. With statsmodels (extra `signals`) there are four kinds instead of two, and
trends can be asked about. Files are read from the installed packages as they are, without importing them.

    recording_in_signal   which kind a window of 40 points is. Windows are given one point per second and without a
                          unit, because the true rate alone would give the kind away
    trend_in_recording    whether monthly sea temperature, sunspots or carbon dioxide rise or fall over 8 points;
                          windows whose linear fit explains at least half of the variance, at their true rate and
                          unit, as many rising as falling ones of each recording

Splits are three stretches of time with gaps between them: a window lies in one of them wholly.
"""

from __future__ import annotations

import csv
import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.science.media import Choice, Example, MediaFamily, Medium, place_in, time_series
from s1pro.science.split import Split
from s1pro.science.templates import Bank

STRETCHES: Mapping[Split, tuple[float, float]] = {"train": (0, 0.58), "validation": (0.62, 0.78), "test": (0.82, 1)}
KIND_POINTS = 40
TREND_POINTS = 8
TREND_RECORDINGS = ("elnino", "sunspots", "co2")
TRENDS = ("rising", "falling")
_EXPLAINED = 0.5
_YEAR_S = 365.25 * 86400

KIND = Bank(
    {},
    "(What|Which quantity) (was recorded|does the recording show|is this a recording of)?",
    "(Where does this series come from|What is this a series of)?",
    "(Name|Tell me) the (kind of recording|recorded quantity)[, please].",
    held_out=("Somebody lost the label of this recording. What should it say?",),
)
TREND = Bank(
    {},
    "Do the (values|readings) (rise or fall|increase or decrease)?",
    "Does the (series|recording) (rise or fall|go up or down)?",
    "(Is the trend|Are the values) rising or falling?",
    "(Trend|Direction of the trend): rising or falling?",
    held_out=("Over the whole window, where do the values go?",),
)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A whole series at equal distances in time; NaN where a value is missing."""

    name: str
    kind: str
    values: npt.NDArray[np.float64]
    sampling_rate: float
    unit: str

    def starts(self, split: Split, length: int) -> tuple[int, ...]:
        """Where a window of `length` points without missing values can begin in a split."""
        low, high = (round(share * len(self.values)) for share in STRETCHES[split])
        present = np.isfinite(self.values)
        return tuple(s for s in range(low, high - length + 1) if present[s : s + length].all())


@functools.cache
def recordings() -> tuple[Recording, ...]:
    """What the installed packages carry.

    Raises:
        MissingExtraError: PyWavelets is not installed.
        InputError: a file is not there, or not as expected (another version of the package).
    """
    wavelets = _package("pywt")
    if wavelets is None:
        raise MissingExtraError("pywavelets", "science")
    ecg = _array(wavelets / "data" / "ecg.npz", ndim=1)
    nino = _array(wavelets / "data" / "sst_nino3.npz", ndim=2)
    # Columns: year, month, Nino 1+2, anomaly, Nino 3, ...; the mean of three months, in whole years
    months = nino[: len(nino) // 12 * 12, 4]
    found = [
        Recording(name="ecg", kind="heartbeat", values=ecg, sampling_rate=1.0, unit="a.u."),
        Recording(
            name="nino3",
            kind="sea temperature",
            values=months.reshape(-1, 3).mean(axis=1),
            sampling_rate=4 / _YEAR_S,
            unit="degC",
        ),
    ]
    models = _package("statsmodels")
    if models is not None:
        found += _of_statsmodels(models / "datasets")
    return tuple(found)


def recording_families() -> tuple[MediaFamily, MediaFamily]:
    """The two families of the module docstring."""
    return (
        MediaFamily(
            name="recording_in_signal",
            domain="earth",
            modality="signal",
            questions=KIND,
            answer=Choice(labels=("heartbeat", "sea temperature", "sunspots", "carbon dioxide")),
            draw=_draw_kind,
            limits=lambda split: _number_of_kinds(split),
        ),
        MediaFamily(
            name="trend_in_recording",
            domain="earth",
            modality="signal",
            questions=TREND,
            answer=Choice(labels=TRENDS),
            draw=_draw_trend,
            limits=lambda split: _number_of_trends(split),
        ),
    )


def rises(window: npt.NDArray[np.float64]) -> bool | None:
    """Whether a straight line through the values rises; None where it explains less than half of their variance."""
    t = np.arange(len(window), dtype=np.float64)
    if not window.std():
        return None
    correlation = float(np.corrcoef(t, window)[0, 1])
    return correlation > 0 if correlation**2 >= _EXPLAINED else None


@functools.cache
def _windows_by_kind(split: Split) -> dict[str, list[tuple[Recording, int]]]:
    found: dict[str, list[tuple[Recording, int]]] = {}
    for recording in recordings():
        windows = [(recording, start) for start in recording.starts(split, KIND_POINTS)]
        found.setdefault(recording.kind, []).extend(windows)
    return found


@functools.cache
def _windows_by_trend(split: Split) -> list[dict[str, list[tuple[Recording, int]]]]:
    """The rising and the falling windows of every recording that has both."""
    found = []
    for recording in recordings():
        if recording.name not in TREND_RECORDINGS:
            continue
        trends: dict[str, list[tuple[Recording, int]]] = {trend: [] for trend in TRENDS}
        for start in recording.starts(split, TREND_POINTS):
            rising = rises(recording.values[start : start + TREND_POINTS])
            if rising is not None:
                trends["rising" if rising else "falling"].append((recording, start))
        found.append(trends)
    if not found:
        raise MissingExtraError("statsmodels", "signals")
    return found


def _number_of_kinds(split: Split) -> int:
    pools = _windows_by_kind(split)
    return len(pools) * min(map(len, pools.values()))


def _number_of_trends(split: Split) -> int:
    pools = _windows_by_trend(split)
    return 2 * len(pools) * min(len(windows) for trends in pools for windows in trends.values())


def _draw_kind(split: Split, number: int, seed: int) -> Example:
    pools = _windows_by_kind(split)
    turn, which = divmod(number, len(pools))
    kind = tuple(pools)[which]
    recording, start = pools[kind][place_in(len(pools[kind]), turn, "recordings", kind, split, seed)]
    return Example(
        entity=f"{recording.name}:{split}:{start}",
        answer={"text": kind},
        render=lambda: time_series(
            recording.values[start : start + KIND_POINTS], sampling_rate=1.0, unit="a.u.", channels=["value"]
        ),
    )


def _draw_trend(split: Split, number: int, seed: int) -> Example:
    pools = _windows_by_trend(split)
    trend = TRENDS[number % 2]
    turn, which = divmod(number // 2, len(pools))
    windows = pools[which][trend]
    recording, start = windows[place_in(len(windows), turn, "trends", which, trend, split, seed)]

    def render() -> Medium:
        window = recording.values[start : start + TREND_POINTS]
        rate, unit = recording.sampling_rate, recording.unit
        return time_series(window, sampling_rate=rate, unit=unit, channels=[recording.kind])

    return Example(entity=f"{recording.name}:{split}:{start}", answer={"text": trend}, render=render)


def _of_statsmodels(folder: Path) -> list[Recording]:
    elnino = _table(folder / "elnino" / "elnino.csv", num_columns=13)[:, 1:].reshape(-1)
    sunspots = _table(folder / "sunspots" / "sunspots.csv", num_columns=2)[:, 1]
    co2 = _table(folder / "co2" / "co2.csv", num_columns=2)[:, 1]
    return [
        Recording(name="elnino", kind="sea temperature", values=elnino, sampling_rate=12 / _YEAR_S, unit="degC"),
        Recording(name="sunspots", kind="sunspots", values=sunspots, sampling_rate=1 / _YEAR_S, unit="number"),
        Recording(name="co2", kind="carbon dioxide", values=co2, sampling_rate=1 / (7 * 86400), unit="ppm"),
    ]


def _package(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations)))


def _array(path: Path, *, ndim: int) -> npt.NDArray[np.float64]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = np.asarray(archive["data"], dtype=np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not there, or not as in the version that is known ({error})") from error
    if values.ndim != ndim:
        raise InputError(f"{path}: expected {ndim} axes, got the shape {values.shape}")
    return values


def _table(path: Path, *, num_columns: int) -> npt.NDArray[np.float64]:
    """Numbers of a CSV file with one line of names; empty cells are NaN."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        table = np.array([[float(cell or "nan") for cell in row] for row in rows])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not there, or not as in the version that is known ({error})") from error
    if table.ndim != 2 or table.shape[1] != num_columns:
        raise InputError(f"{path}: expected {num_columns} columns, got the shape {table.shape}")
    return table
