"""Reading arrays, `.npy`, audio and bytes; everything damaged or foreign is one `InputError`."""

from __future__ import annotations

import base64
import io
import struct
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.inputs import signal_files
from s1pro.inputs.signal_files import load_signal

VALUES = np.random.default_rng(0).uniform(-0.9, 0.9, size=(50, 2)).astype(np.float32)


def npy(array: Any, **kwargs: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **kwargs)
    return stream.getvalue()


def wav(values: np.ndarray, width: int, rate: int = 8000) -> bytes:
    """PCM by the standard library; quantised here with Python integers."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        for value in values.flatten().tolist():
            level = round(value * 2 ** (8 * width - 1))
            raw = bytes([level + 128]) if width == 1 else level.to_bytes(width, "little", signed=True)
            file.writeframesraw(raw)
    return stream.getvalue()


def float_wav(values: np.ndarray, rate: int) -> bytes:
    body = values.astype("<f4").tobytes()
    channels = values.shape[1]
    form = struct.pack("<HHIIHH", 3, channels, rate, rate * channels * 4, channels * 4, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_arrays_and_lists() -> None:
    found = load_signal(VALUES, sampling_rate=10, unit="mV")
    assert np.array_equal(found.values_SA, VALUES) and (found.sampling_rate, found.unit) == (10.0, "mV")
    assert load_signal([1, 2, 3]).values_SA.tolist() == [[1.0], [2.0], [3.0]]
    assert load_signal([[1, 2], [3, 4]]).values_SA.shape == (2, 2)


@pytest.mark.parametrize("form", ["path", "text path", "bytes", "data"])
def test_npy_from_everywhere(tmp_path: Path, form: str) -> None:
    data = npy(VALUES)
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    encoded = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    source = {"path": path, "text path": str(path), "bytes": data, "data": encoded}[form]
    assert np.array_equal(load_signal(source).values_SA, VALUES)


def test_npy_in_fortran_order() -> None:
    assert np.array_equal(load_signal(npy(np.asfortranarray(VALUES))).values_SA, VALUES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), "holds Python objects, which are never loaded"),
        (npy(VALUES)[:-1], r"damaged: the header says \(50, 2\) of float32, 399 bytes follow"),
        (npy(VALUES).replace(b"(50, 2)", b"(5e9,2)"), "not a .npy file"),
        (npy(VALUES).replace(b"(50, 2), }   ", b"(5000000000,)}"), "damaged: the header says"),
        (npy(VALUES)[:7], "not a .npy file"),
        (b"\x93NUMPY\x09\x09" + npy(VALUES)[8:], "not a .npy file"),
        (npy(VALUES + 1j), "complex values"),
        (b"", "empty"),
        (b"\x00\xff\x00", "neither a known binary format nor UTF-8 text"),
        ("data:text/plain,abc", "not of the form"),
        ("data:x;base64,a", "not base64"),
    ],
)
def test_bad_bytes(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_signal(data)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_of_every_width(tmp_path: Path, width: int) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav(VALUES, width))
    found = load_signal(path)
    assert found.sampling_rate == 8000.0
    np.testing.assert_allclose(found.values_SA, VALUES, atol=0.5 / 2 ** (8 * width - 1) + 1e-7)


def test_wav_of_floats_and_flac_keep_values_and_rate(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    found = load_signal(float_wav(VALUES, 11025))
    assert np.array_equal(found.values_SA, VALUES) and found.sampling_rate == 11025.0
    path = tmp_path / "x.flac"
    soundfile.write(path, VALUES, 360, subtype="PCM_24")
    found = load_signal(path, channels=None)
    assert found.sampling_rate == 360.0
    np.testing.assert_allclose(found.values_SA, VALUES, atol=1e-6)
    with pytest.raises(InputError, match="not readable as audio"):
        load_signal(b"fLaC" + b"x" * 100)


def test_damaged_wav() -> None:
    for data in (wav(VALUES, 2)[:20], wav(VALUES, 2)[:61], b"RIFF1234WAVEjunk"):
        with pytest.raises(InputError, match="WAV file"):
            load_signal(data)


def test_without_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match=r"s1pro\[audio\]"):
        load_signal(float_wav(VALUES, 100))
    assert load_signal(wav(VALUES, 2)).sampling_rate == 8000.0  # plain PCM needs no package


def test_rates_must_agree() -> None:
    assert load_signal(wav(VALUES, 2), sampling_rate=8001).sampling_rate == 8000.0
    with pytest.raises(InputError, match="sampling_rate=44100 was given, but the source says 8000 Hz"):
        load_signal(wav(VALUES, 2), sampling_rate=44100)
    with pytest.raises(InputError, match="sampling_rate must be positive"):
        load_signal([1.0], sampling_rate=0)


def test_channels_by_name() -> None:
    table = b"a,b,c\n1,2,3\n4,5,6\n"
    assert load_signal(table, channels=["c", "a"]).values_SA.tolist() == [[3.0, 1.0], [6.0, 4.0]]
    with pytest.raises(InputError, match=r"no channel \['d'\]; there are a, b, c"):
        load_signal(table, channels=["d"])


def test_files_that_are_not_there_not_known_not_allowed_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        load_signal(tmp_path / "none.npy")
    path = tmp_path / "x.pkl"
    path.write_bytes(b"12345678901")
    with pytest.raises(InputError, match=r"unknown kind of file '\.pkl'; readable are \.bdf, \.csv"):
        load_signal(path)
    with pytest.raises(InputError, match="is a file name; send the data itself"):
        load_signal("/etc/passwd", allow_files=False)
    monkeypatch.setattr(signal_files, "MAX_FILE_BYTES", 10)
    for source in (path, b"12345678901", "data:x;base64,MTIzNDU2Nzg5MDEyMzQ1"):
        with pytest.raises(InputError, match="more than the limit of 10"):
            load_signal(source)
