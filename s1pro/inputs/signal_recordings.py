"""Recordings in the formats of their sciences: MiniSEED (seismology), WFDB and EDF (physiology).

The packages that know these formats are optional and imported here only. What they return is brought to one form: all
channels at one rate over the same time, in physical units where the format has them, gaps as NaN.
"""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.inputs.signals import MAX_VALUES, Signal, as_values, check_rate, joined_units


def read_miniseed(data: bytes, where: str) -> Signal:
    """All traces over the time that they share."""
    obspy = _package("obspy", "seismic")
    try:
        # The format is named: ObsPy would otherwise try all it knows, pickle among them.
        stream = obspy.read(io.BytesIO(data), format="MSEED")
    except Exception as error:  # ObsPy raises many kinds, some of them bare exceptions
        raise InputError(f"{where}: not readable as MiniSEED ({error})") from error
    if not len(stream):
        raise InputError(f"{where}: no traces")
    for trace in stream:
        check_rate(float(trace.stats.sampling_rate), f"{where}: {trace.id}")
        if np.asarray(trace.data).dtype.kind not in "iuf":
            raise InputError(f"{where}: {trace.id} holds text, not numbers")
    rates = {trace.id: float(trace.stats.sampling_rate) for trace in stream}
    _same_rate(where, rates)
    if sum(trace.stats.npts for trace in stream) > MAX_VALUES:
        raise InputError(f"{where}: more than {MAX_VALUES} values")
    start = max(min(t.stats.starttime for t in stream if t.id == name) for name in rates)
    end = min(max(t.stats.endtime for t in stream if t.id == name) for name in rates)
    step = 1 / next(iter(rates.values()))
    length = round((end - start) / step) + 1
    if end < start:
        raise InputError(f"{where}: the channels {', '.join(rates)} share no time; read them one by one")
    if length * len(rates) > MAX_VALUES:
        raise InputError(f"{where}: {length} points with gaps, more than {MAX_VALUES}")
    values = np.full((length, len(rates)), np.nan)
    for trace in stream:
        first = round((trace.stats.starttime - start) / step)
        skip = max(-first, 0)
        part = np.ma.filled(np.ma.asarray(trace.data, dtype=np.float64), np.nan)[skip : max(length - first, 0)]
        values[first + skip : first + skip + len(part), list(rates).index(trace.id)] = part
    return Signal(
        values_SA=as_values(values, where),
        sampling_rate=1 / step,
        channel_names=tuple(rates),
        start_time=str(start),
    )


def read_wfdb(path: Path, max_bytes: int) -> Signal:
    """A record by its header `.hea`; its signal files lie in the same folder."""
    wfdb = _package("wfdb", "signals")
    _check_wfdb_files(path, max_bytes)
    try:
        header = wfdb.rdheader(str(path.with_suffix("")))
        if (header.sig_len or 0) * header.n_sig > MAX_VALUES:
            raise InputError(
                f"{path}: {header.sig_len} points of {header.n_sig} channels, more than {MAX_VALUES} values"
            )
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=True)
    except InputError:
        raise
    except Exception as error:  # wfdb raises whatever its parsing runs into
        raise InputError(f"{path}: not readable as a WFDB record ({error})") from error
    if record.p_signal is None:
        raise InputError(f"{path}: the record has no signals")
    start = record.base_datetime.isoformat() if getattr(record, "base_datetime", None) else None
    return Signal(
        values_SA=as_values(record.p_signal, str(path)),
        sampling_rate=float(record.fs),
        unit=joined_units(record.units),
        channel_names=tuple(record.sig_name),
        start_time=start,
    )


def read_edf(data: bytes, where: str) -> Signal:
    """European Data Format, or BioSemi's, without its annotations."""
    edfio = _package("edfio", "signals")
    read = edfio.read_bdf if data.startswith(b"\xffBIOSEMI") else edfio.read_edf
    try:
        recording = read(io.BytesIO(data))
        rates = {signal.label: float(signal.sampling_frequency) for signal in recording.signals}
        if not rates:
            raise InputError(f"{where}: no signals")
        _same_rate(where, rates)
        values = np.stack([np.asarray(signal.data) for signal in recording.signals], axis=1)
        start = _start(recording)
    except InputError:
        raise
    except Exception as error:  # fields of a damaged header fail in many ways
        raise InputError(f"{where}: not readable as EDF ({error})") from error
    return Signal(
        values_SA=as_values(values, where),
        sampling_rate=next(iter(rates.values())),
        unit=joined_units([signal.physical_dimension for signal in recording.signals]),
        channel_names=tuple(signal.label for signal in recording.signals),
        start_time=start,
    )


def _start(recording: Any) -> str | None:
    """ISO 8601; None where the date was taken out, as it is from published recordings of people."""
    try:
        return str(recording.startdatetime.isoformat())
    except ValueError:
        return None


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, extra) from error


def _same_rate(where: str, rates: dict[str, float]) -> None:
    if len({round(rate, 6) for rate in rates.values()}) > 1:
        listed = ", ".join(f"{name} {rate:.6g} Hz" for name, rate in list(rates.items())[:8])
        raise InputError(f"{where}: the channels have different rates ({listed}); split the file by rate")


def _check_wfdb_files(path: Path, max_bytes: int) -> None:
    """Every file that a header names, itself or in the headers of its segments, lies beside it and is of sane size."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a WFDB header ({error})") from error
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    is_segmented = bool(lines) and "/" in lines[0].split()[0]
    for name in sorted({line.split()[0] for line in lines[1:]} - {"~"}):
        if Path(name).name != name:
            raise InputError(f"{path}: names the file {name!r:.60}; only files of its own folder are read")
        segment = path.parent / f"{name}.hea"
        if is_segmented and segment.is_file() and segment != path:
            _check_wfdb_files(segment, max_bytes)
        file = path.parent / name
        if file.is_file() and file.stat().st_size > max_bytes:
            raise InputError(f"{file}: {file.stat().st_size} bytes, more than the limit of {max_bytes}")
