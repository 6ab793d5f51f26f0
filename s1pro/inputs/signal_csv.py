"""Tables of numbers as signals: one row per point, one column per channel.

* Cells are separated by commas, semicolons, tabs or spaces. Empty cells, `nan`, `na` and `null` are missing values.
* The first row is a header if it holds a word that is no number.
* A column called time, t, timestamp, date, datetime or seconds (or with its unit: `time_ms`, `time (s)`) holds times:
  numbers, or ISO 8601 stamps. The sampling rate follows from the first and the last one.
* Times are regular if each lies within a quarter of a step of the regular grid; printed times may be rounded so much.
  Otherwise reading is an error, or, on request, values are interpolated linearly onto a grid with the median step.
"""

from __future__ import annotations

import csv
import io
import math
import re
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from s1pro.base.errors import InputError
from s1pro.inputs.signals import Signal, as_values

MAX_CELLS = 2**24

_TIME = re.compile(
    r"^(time|t|timestamp|datetime|date|seconds|secs?)\s*[_ \[(]*\s*(s|secs?|seconds|ms|us|min|h)?\s*[\])]?$"
)
_SECONDS = {"ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none"})
_REGULAR = 0.25
_MOST_NEW_POINTS = 10

Cells = list[list[str]]


def parse_csv(data: bytes, where: str, *, resample_irregular: bool = False) -> Signal:
    """See the module docstring.

    Raises:
        InputError: names the line and the cell.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: neither a known binary format nor UTF-8 text ({error})") from error
    rows, header = _cells(text, where)
    time_column = next((i for i, name in enumerate(header) if _TIME.match(name.strip().lower())), None)
    columns = [i for i in range(len(rows[0])) if i != time_column]
    if not columns:
        raise InputError(f"{where}: there is a column of times, but none of values")
    first = 2 if header else 1
    values = np.array([[_number(row[i], where, first + n) for i in columns] for n, row in enumerate(rows)])
    names = tuple(header[i].strip() for i in columns) if header else ()
    if time_column is None:
        return Signal(values_SA=as_values(values, where), channel_names=names)
    stamps = [row[time_column].strip() for row in rows]
    times, start = _times(stamps, header[time_column], where, first)
    values, rate, note = _regular(times, values, where, first, resample_irregular)
    return Signal(
        values_SA=as_values(values, where), sampling_rate=rate, channel_names=names, start_time=start, note=note
    )


def _cells(text: str, where: str) -> tuple[Cells, list[str]]:
    """Rows of equal length, and the header or an empty list."""
    line = text.lstrip().partition("\n")[0]
    delimiter = next((d for d in ("\t", ";", ",") if d in line), None)
    if text.count(delimiter or " ") + text.count("\n") > MAX_CELLS:
        raise InputError(f"{where}: more than {MAX_CELLS} cells; tables of this size are read as .npy")
    try:
        if delimiter is None:
            rows = [line.split() for line in text.splitlines() if line.strip()]
        else:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(c.strip() for c in row)]
    except csv.Error as error:
        raise InputError(f"{where}: not a table ({error})") from error
    if not rows:
        raise InputError(f"{where}: empty")
    header = rows.pop(0) if any(_is_word(cell) for cell in rows[0]) else []
    if not rows:
        raise InputError(f"{where}: a header, but no values")
    width = len(header or rows[0])
    for number, row in enumerate(rows):
        if len(row) != width:
            line_number = number + (2 if header else 1)
            raise InputError(f"{where}: row {line_number} has {len(row)} cells, the first row has {width}")
    return rows, header


def _is_word(cell: str) -> bool:
    cell = cell.strip()
    if cell.lower() in _MISSING:
        return False
    try:
        float(cell)
    except ValueError:
        return _stamp(cell) is None
    return False


def _number(cell: str, where: str, row: int) -> float:
    cell = cell.strip()
    if cell.lower() in _MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{where}: row {row}: {cell!r:.40} is no number") from None


def _stamp(cell: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 stamp (without a zone: UTC); None if it is none."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _times(stamps: list[str], name: str, where: str, first: int) -> tuple[NDArray[np.float64], str | None]:
    """Seconds, and the first stamp if the column holds stamps."""
    if not _is_number(stamps[0]):
        moments = [_stamp(cell) for cell in stamps]
        for row, moment in enumerate(moments):
            if moment is None:
                raise InputError(f"{where}: row {first + row}: {stamps[row]!r:.40} is no time")
        return np.array(moments, dtype=np.float64), stamps[0]
    found = _TIME.match(name.strip().lower())
    assert found is not None
    times = np.array([_number(cell, where, first + row) for row, cell in enumerate(stamps)])
    if not np.isfinite(times).all():
        raise InputError(f"{where}: row {first + int(np.argmin(np.isfinite(times)))}: the time is missing")
    return times * _SECONDS.get(found.group(2) or "s", 1.0), None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _regular(
    times: NDArray[np.float64], values_SA: NDArray[np.float64], where: str, first: int, resample: bool
) -> tuple[NDArray[np.float64], float | None, str]:
    """Values on a regular grid, their rate, and a note if they were resampled."""
    if len(times) == 1:
        return values_SA, None, ""
    steps = np.diff(times)
    if not (steps > 0).all():
        row = first + int(np.argmin(steps > 0)) + 1
        raise InputError(f"{where}: row {row}: times must increase; sort the rows and remove doubles")
    step = (times[-1] - times[0]) / (len(times) - 1)
    deviation = np.abs(times - (times[0] + step * np.arange(len(times)))) / step
    if deviation.max() <= _REGULAR:
        return values_SA, float(1 / step), ""
    if not resample:
        row = first + int(deviation.argmax())
        raise InputError(
            f"{where}: times are irregular (row {row} is {deviation.max():.2g} steps away from a regular grid); "
            "resample_irregular=True interpolates linearly"
        )
    step = float(np.median(steps))
    count = int((times[-1] - times[0]) / step * (1 + 1e-12)) + 1
    if count > _MOST_NEW_POINTS * len(times):
        raise InputError(f"{where}: {len(times)} irregular points would become {count}; cut the gaps out first")
    grid = times[0] + step * np.arange(count)
    columns = [np.interp(grid, times, column) for column in values_SA.T]
    note = f"irregular times, interpolated linearly to {count} points at {1 / step:.6g} Hz"
    return np.stack(columns, axis=1), 1 / step, note
