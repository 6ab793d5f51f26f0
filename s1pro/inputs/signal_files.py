"""Reading recordings: arrays, `.npy`, CSV, audio, and the formats of seismology and physiology.

| source | how | package, extra |
|---|---|---|
| numpy array, nested list | `[length]` or `[length, channels]` | |
| `.npy` | never with pickle | |
| `.csv`, `.tsv`, `.txt` | header and time column optional (`signal_csv`) | |
| `.wav` | PCM by the standard library, other codings by soundfile | `audio` for those |
| `.flac`, `.ogg`, `.mp3` | full scale is 1 | soundfile, `audio` |
| `.mseed`, `.miniseed` | gaps are missing values | ObsPy (LGPL), `seismic` |
| `.hea` (WFDB), `.edf`, `.bdf` | physical units | wfdb and edfio, `signals` |

`bytes`, and text that begins with `data:` (base64), are recognised by their first bytes. The sampling rate of a file is
kept; the caller's is for sources that do not know theirs, and must agree with those that do. Files are foreign: their
size, and the number of values they claim, are checked before memory is taken.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import tokenize
import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.inputs.signal_csv import parse_csv
from s1pro.inputs.signal_recordings import read_edf, read_miniseed, read_wfdb
from s1pro.inputs.signals import MAX_VALUES, Signal, as_values, check_rate

MAX_FILE_BYTES = 512 * 2**20


def load_signal(
    source: Any,
    *,
    sampling_rate: float | None = None,
    unit: str | None = None,
    channels: Sequence[str] | None = None,
    resample_irregular: bool = False,
    allow_files: bool = True,
) -> Signal:
    """The recording in an array, a file, or the bytes of one.

    Args:
        source: array or nested list; path; bytes; or text `data:…;base64,…`.
        sampling_rate: in Hz, where the source does not know it.
        unit: of the values, where the source does not know it.
        channels: names of the channels wanted, in this order; all by default. A source without names, such as an array,
            takes them as the names of its channels.
        resample_irregular: irregular times of a CSV are resampled linearly to a regular grid instead of being an error.
        allow_files: False for sources that a client names: it must not read files of this machine.

    Raises:
        InputError: anything wrong with the source; the message names it.
        MissingExtraError: the package for this format is not installed.
    """
    check_rate(sampling_rate, "signal")
    signal = _read(source, resample_irregular, allow_files)
    known = signal.sampling_rate
    if known is not None and sampling_rate is not None and not math.isclose(known, sampling_rate, rel_tol=0.01):
        raise InputError(f"signal: sampling_rate={sampling_rate} was given, but the source says {known:.6g} Hz")
    if known is None and sampling_rate is not None:
        signal = replace(signal, sampling_rate=float(sampling_rate))
    if signal.unit is None and unit is not None:
        signal = replace(signal, unit=unit)
    if channels is None:
        return signal
    if not isinstance(channels, (list, tuple)) or not channels or not all(isinstance(name, str) for name in channels):
        raise InputError(f"signal: channels must be a list of names, got {channels!r:.60}")
    if not signal.channel_names:
        return replace(signal, channel_names=tuple(map(str, channels)))
    return _selected(signal, channels)


def _read(source: Any, resample_irregular: bool, allow_files: bool) -> Signal:
    if isinstance(source, str) and source.startswith("data:"):
        source = _base64(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), resample_irregular)
    if isinstance(source, (str, Path)):
        if not allow_files:
            raise InputError(f"signal: {str(source)!r:.60} is a file name; send the data itself (data:…;base64,…)")
        return _from_file(Path(source), resample_irregular)
    return Signal(values_SA=as_values(source, "signal"))


def _base64(text: str) -> bytes:
    head, comma, body = text.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InputError(f"signal: {text[:40]!r}… is not of the form data:…;base64,…")
    if len(body) > MAX_FILE_BYTES * 4 // 3:
        raise InputError(f"signal: {len(body)} characters of base64, more than the limit of {MAX_FILE_BYTES} bytes")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise InputError(f"signal: not base64 ({error})") from error


def _from_file(path: Path, resample_irregular: bool) -> Signal:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {size} bytes, more than the limit of {MAX_FILE_BYTES}; cut the recording")
    suffix = path.suffix.lower()
    if suffix == ".hea":
        return read_wfdb(path, MAX_FILE_BYTES)
    reader = _readers(resample_irregular).get(suffix)
    if reader is None:
        known = ", ".join(sorted((*_readers(False), ".hea")))
        raise InputError(f"{path}: unknown kind of file {suffix!r}; readable are {known}")
    return reader(path.read_bytes(), str(path))


def _readers(resample_irregular: bool) -> dict[str, Callable[[bytes, str], Signal]]:
    def csv(data: bytes, where: str) -> Signal:
        return parse_csv(data, where, resample_irregular=resample_irregular)

    return {
        ".npy": read_npy,
        **dict.fromkeys((".csv", ".tsv", ".txt"), csv),
        ".wav": read_wav,
        **dict.fromkeys((".flac", ".ogg", ".mp3"), read_audio),
        **dict.fromkeys((".mseed", ".miniseed"), read_miniseed),
        **dict.fromkeys((".edf", ".bdf"), read_edf),
    }


def _from_bytes(data: bytes, resample_irregular: bool) -> Signal:
    """By the first bytes; what begins like none of the binary formats must be text with numbers."""
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"signal: {len(data)} bytes, more than the limit of {MAX_FILE_BYTES}")
    beginnings = {
        b"\x93NUMPY": ".npy",
        b"RIFF": ".wav",
        b"fLaC": ".flac",
        b"OggS": ".ogg",
        b"ID3": ".mp3",
        b"\xff\xfb": ".mp3",
        b"0       ": ".edf",
        b"\xffBIOSEMI": ".bdf",
    }
    suffix = next((kind for start, kind in beginnings.items() if data.startswith(start)), None)
    if suffix is None:  # MiniSEED: six digits and a quality letter
        suffix = ".mseed" if data[:6].isdigit() and data[6:7] in (b"D", b"R", b"Q", b"M") else ".csv"
    return _readers(resample_irregular)[suffix](data, "signal")


def _selected(signal: Signal, channels: Sequence[str]) -> Signal:
    missing = [name for name in channels if name not in signal.channel_names]
    if missing or not channels:
        raise InputError(f"signal: no channel {missing[:1]}; there are {', '.join(signal.channel_names) or 'no names'}")
    index = [signal.channel_names.index(name) for name in channels]
    return replace(signal, values_SA=signal.values_SA[:, index], channel_names=tuple(channels))


def read_npy(data: bytes, where: str) -> Signal:
    """A numpy file; what its header claims must be what follows."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, _, dtype = read_header(stream)
    except (ValueError, KeyError, SyntaxError, TypeError, tokenize.TokenError) as error:
        raise InputError(f"{where}: not a .npy file of numbers ({error})") from error
    if dtype.hasobject:
        raise InputError(f"{where}: holds Python objects, which are never loaded; save an array of numbers")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise InputError(
            f"{where}: damaged: the header says {shape} of {dtype}, {len(data) - stream.tell()} bytes follow"
        )
    return Signal(values_SA=as_values(np.load(io.BytesIO(data), allow_pickle=False), where))


def read_wav(data: bytes, where: str) -> Signal:
    """PCM of 8 to 32 bits, full scale 1; other codings through soundfile."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            count, width, channels, rate = (
                file.getnframes(),
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
            )
            raw = file.readframes(count)
    except (wave.Error, EOFError, RuntimeError) as error:  # the last for chunks of impossible size
        if "unknown format" in str(error):  # floats, A-law …
            return read_audio(data, where)
        raise InputError(f"{where}: not a WAV file ({error})") from error
    if width not in (1, 2, 3, 4) or len(raw) % (width * channels):
        raise InputError(f"{where}: damaged WAV file: {len(raw)} bytes for {channels} channels of {width} bytes")
    if width == 1:
        values = np.frombuffer(raw, np.uint8) / 128 - 1
    else:  # into the upper bytes of 32 bits
        wide = np.zeros((len(raw) // width, 4), np.uint8)
        wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
        values = np.frombuffer(wide.tobytes(), "<i4") / 2**31
    array = as_values(values.reshape(-1, channels), where)
    return Signal(values_SA=array.astype(np.float32) if width < 3 else array, sampling_rate=float(rate))


def read_audio(data: bytes, where: str) -> Signal:
    """What libsndfile reads."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, the library is not
        raise MissingExtraError("soundfile", "audio") from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames * file.channels > MAX_VALUES:
                raise InputError(f"{where}: {file.frames} points of {file.channels} channels, more than {MAX_VALUES}")
            values, rate = file.read(dtype="float32", always_2d=True), float(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{where}: not readable as audio ({error})") from error
    return Signal(values_SA=as_values(values, where), sampling_rate=rate)
