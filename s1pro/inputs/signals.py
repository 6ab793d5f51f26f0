"""Signals as the model reads them: standardised, of a known rate, and not longer than allowed (spec 1.8).

    file, array --signal_files.load_signal--> Signal --prepare_signal--> PreparedSignal --> Media, a line of the prompt

`prepare_signal`, in this order:

1. Missing values (NaN, infinite) are an error, or left out of all statistics and set to 0, the mean, at the end
   ("mask"), or interpolated linearly per channel with the ends held ("interpolate").
2. An unknown sampling rate is assumed by the released rule, max(length / 4, 1) Hz.
3. A signal of more than `max_tokens` embeddings is refused (`strict`), or every k neighbouring points become their
   mean, with the smallest k that fits. The mean also damps frequencies above the new limit, which would fold back.
   The rate becomes rate / k, so the model is told the truth. (The release cuts off behind 240,000 points.)
4. Each channel is standardised over time: (x - mean) / (std + 1e-8), with the population's deviation, in float64.

What was done stands in `note`, and in the line of text beside the placeholder: nothing is changed in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from s1pro.base.errors import InputError
from s1pro.base.signal_tokens import assumed_sampling_rate, signal_layout

Missing = Literal["error", "mask", "interpolate"]

MAX_CHANNELS = 1024
MAX_VALUES = 2**26
MIN_RATE, MAX_RATE = 1e-15, 1e15
_EPSILON = 1e-8
_SMALL, _HUGE = 1e-4, 1e100
_ROUNDING = 1e-6  # of float32 values, which most recordings are
_LONGEST_WORD = 40


@dataclass(frozen=True, kw_only=True)
class SignalSettings:
    """How signals are prepared; see the module docstring.

    Attributes:
        max_tokens: most embeddings of one signal.
        strict: a longer signal is an error instead of being averaged.
        missing: what to do with NaN and infinite values.
        describe: whether the prompt says what the signal is (`signal_text`); the release leaves that to the user.
    """

    max_tokens: int = 4096
    strict: bool = False
    missing: Missing = "error"
    describe: bool = True

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"signals: max_tokens must be positive, got {self.max_tokens}")
        if self.missing not in ("error", "mask", "interpolate"):
            raise InputError(f"signals: missing must be 'error', 'mask' or 'interpolate', got {self.missing!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Signal:
    """A recording as it came.

    Attributes:
        values_SA: `[length, channels]`, float32, or float64 where the source was more precise than that.
        sampling_rate: in Hz; None if unknown.
        unit: of the values, such as "mV"; several different ones are joined with commas.
        channel_names: one per channel, or none.
        start_time: ISO 8601, if known.
        note: what reading changed, for example that irregular times were resampled.
    """

    values_SA: NDArray[np.floating[Any]]
    sampling_rate: float | None = None
    unit: str | None = None
    channel_names: tuple[str, ...] = ()
    start_time: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.values_SA.ndim != 2 or 0 in self.values_SA.shape:
            raise InputError(f"signal: values must be [length, channels], got shape {list(self.values_SA.shape)}")
        check_rate(self.sampling_rate, "signal")
        if self.channel_names and len(self.channel_names) != self.values_SA.shape[1]:
            raise InputError(f"signal: {len(self.channel_names)} names for {self.values_SA.shape[1]} channels")


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedSignal:
    """What the model gets.

    Attributes:
        values_SA: float32 `[length, channels]`, standardised.
        sampling_rate: of `values_SA`, in Hz.
        tokens: how many placeholders the signal needs.
        note: what was done, empty if nothing.
    """

    values_SA: NDArray[np.float32]
    sampling_rate: float
    tokens: int
    note: str = ""


def as_values(data: Any, where: str) -> NDArray[np.floating[Any]]:
    """Numbers from outside as `[length, channels]`; a flat array is one channel.

    Raises:
        InputError: no numbers, complex or not rectangular ones, none at all, too many, or another number of dimensions.
    """
    try:
        array = np.asarray(data)
        if isinstance(data, np.ma.MaskedArray):
            array = np.ma.filled(data.astype(np.float64), np.nan)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise InputError(f"{where}: not a rectangular array of numbers ({error})") from error
    if array.dtype.kind == "c":
        raise InputError(f"{where}: complex values; give real and imaginary part as two channels")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: values must be numbers, got dtype {array.dtype}")
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{where}: values must be [length] or [length, channels], got shape {list(array.shape)}")
    if array.shape[1] > MAX_CHANNELS:
        raise InputError(f"{where}: {array.shape[1]} channels; values are [length, channels], perhaps transpose them")
    if array.size > MAX_VALUES:
        raise InputError(f"{where}: {array.size} values, more than {MAX_VALUES}; cut or average them first")
    narrow = array.dtype.itemsize <= (2 if array.dtype.kind in "iu" else 4)
    return array.astype(np.float32 if narrow else np.float64)


def check_rate(rate: float | None, where: str) -> None:
    """Raises:
    InputError: a sampling rate that is no positive finite number.
    """
    if rate is None:
        return
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)):
        raise InputError(f"{where}: sampling_rate must be a number in Hz, got {rate!r:.60}")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError(f"{where}: sampling_rate must be positive and finite (Hz, 1e-15 to 1e15), got {rate!s:.60}")


def prepare_signal(signal: Signal, settings: SignalSettings | None = None) -> PreparedSignal:
    """See the module docstring.

    Raises:
        InputError: missing values, a channel of nothing else, or with `strict` too long a signal.
    """
    settings = settings or SignalSettings()
    notes = [signal.note] if signal.note else []
    values = signal.values_SA.astype(np.float64)
    valid = np.isfinite(values)
    if not valid.all():
        notes.append(_treat_missing(values, valid, settings.missing))
    rate = signal.sampling_rate
    if rate is None:
        rate = assumed_sampling_rate(len(values))
        notes.append(f"sampling rate unknown, {_number(rate)} Hz assumed")
    factor = _factor(len(values), float(rate), settings)
    if factor > 1:
        values = _block_means(values, factor)
        rate = rate / factor
        notes.append(f"means of {factor} points, now {len(values)} points at {_number(rate)} Hz")
    return PreparedSignal(
        values_SA=_standardised(values),
        sampling_rate=float(rate),
        tokens=signal_layout(len(values), float(rate)).tokens,
        note="; ".join(notes),
    )


def signal_text(signal: Signal, prepared: PreparedSignal) -> str:
    """One line for the prompt: what was recorded, and what the model sees of it."""
    length, channels = signal.values_SA.shape
    parts = [f"{length} points" if length > 1 else "1 point", f"{channels} channels" if channels > 1 else "1 channel"]
    if signal.channel_names:
        names = [_word(name) for name in signal.channel_names[:8]]
        parts[-1] += f" ({', '.join(names)}{', …' if channels > 8 else ''})"
    if signal.sampling_rate is not None:
        parts.append(f"{_number(signal.sampling_rate)} Hz")
    if signal.unit:
        parts.append(f"unit {_word(signal.unit)}")
    if signal.start_time:
        parts.append(f"from {_word(signal.start_time)}")
    return "Signal: " + ", ".join(parts) + (f"; {prepared.note}" if prepared.note else "")


def joined_units(units: Sequence[str | None]) -> str | None:
    """One unit if all channels share it, else all of them in order; None if none is known."""
    known = [unit or "" for unit in units]
    if not any(known):
        return None
    return known[0] if len(set(known)) == 1 else ", ".join(unit or "?" for unit in known)


def _treat_missing(values_SA: NDArray[np.float64], valid_SA: NDArray[np.bool_], missing: Missing) -> str:
    """Changes missing values in place: to NaN to be left out, or to their interpolation. Returns the note."""
    count = int((~valid_SA).sum())
    if missing == "error":
        row, channel = (int(i) for i in np.argwhere(~valid_SA)[0])
        raise InputError(
            f"signal: {count} of {values_SA.size} values are NaN or infinite, "
            f"the first at point {row}, channel {channel}; choose missing='mask' or 'interpolate'"
        )
    known_A = valid_SA.any(axis=0)
    if not known_A.all():
        raise InputError(f"signal: channel {int(known_A.argmin())} has no finite value at all; leave it out")
    if missing == "mask":
        values_SA[~valid_SA] = np.nan
        return f"{count} missing values set to the mean"
    times = np.arange(len(values_SA))
    for gappy in np.flatnonzero(~valid_SA.all(axis=0)):
        known = valid_SA[:, gappy]
        values_SA[~known, gappy] = np.interp(times[~known], times[known], values_SA[known, gappy])
    return f"{count} missing values interpolated"


def _factor(length: int, rate: float, settings: SignalSettings) -> int:
    """The smallest number of points to average so that the signal fits."""
    tokens = signal_layout(length, rate).tokens
    if tokens <= settings.max_tokens:
        return 1
    if settings.strict:
        raise InputError(
            f"signal: {length} points at {_number(rate)} Hz need {tokens} tokens, more than max_tokens="
            f"{settings.max_tokens}; cut or resample it, or allow averaging with strict=False"
        )
    factor = 2
    while signal_layout(-(-length // factor), rate / factor).tokens > settings.max_tokens:
        factor += 1
    return factor


def _block_means(values_SA: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Means of `factor` points; NaN do not count, the last block may be shorter."""
    starts = np.arange(0, len(values_SA), factor)
    known = np.isfinite(values_SA)
    sums = np.add.reduceat(np.where(known, values_SA, 0.0), starts)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means


def _standardised(values_SA: NDArray[np.float64]) -> NDArray[np.float32]:
    """Zero mean and unit deviation per channel; NaN become 0.

    The released rule adds 1e-8 to the deviation, which flattens whatever is small in its unit, such as displacements in
    metres. A channel whose deviation is below 1e-4 is therefore brought to size first, unless it is constant but for
    rounding; so is one whose squares would overflow.
    """
    known = np.isfinite(values_SA)
    count = known.sum(axis=0)
    largest = np.abs(np.where(known, values_SA, 0.0)).max(axis=0)
    values_SA = values_SA / np.where(largest > _HUGE, largest, 1.0)
    mean = np.where(known, values_SA, 0.0).sum(axis=0) / count
    centred = np.where(known, values_SA - mean, 0.0)
    spread = np.abs(centred).max(axis=0)
    small = (spread < _SMALL) & (spread > _ROUNDING * np.abs(mean)) & (spread > 0)
    centred = centred / np.where(small, spread, 1.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    return np.ascontiguousarray(centred / (deviation + _EPSILON), dtype=np.float32)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _word(text: str) -> str:
    """Text of a file for the prompt: one short line that cannot spell a control token."""
    text = "".join(c for c in " ".join(text.split()) if c.isprintable() and c not in "<>|")
    return text if len(text) <= _LONGEST_WORD else text[: _LONGEST_WORD - 1] + "…"
