"""MiniSEED, WFDB and EDF, written by their own packages and read back; skipped without them."""

from __future__ import annotations

import io
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.inputs.signal_files import load_signal

COUNTS = np.random.default_rng(0).integers(-1000, 1000, size=(3, 400)).astype(np.int32)


def miniseed(traces: list[tuple[str, float, float, np.ndarray]]) -> bytes:
    """Traces of (channel, rate, start in seconds, values)."""
    obspy = pytest.importorskip("obspy")
    stream = obspy.Stream()
    for channel, rate, start, values in traces:
        header = {"network": "XX", "station": "ABC", "channel": channel, "sampling_rate": rate}
        stream.append(obspy.Trace(values, {**header, "starttime": obspy.UTCDateTime(2020, 1, 1) + start}))
    data = io.BytesIO()
    stream.write(data, format="MSEED")
    return data.getvalue()


def test_miniseed_over_the_common_time(tmp_path: Path) -> None:
    data = miniseed([("BHZ", 100.0, 0.0, COUNTS[0]), ("BHN", 100.0, 0.5, COUNTS[1])])
    path = tmp_path / "x.mseed"
    path.write_bytes(data)
    for source in (path, data):
        found = load_signal(source)
        expected = np.stack((COUNTS[1][:350], COUNTS[0][50:]), axis=1)  # 0.5 s to the end of the first
        order = [found.channel_names.index(name) for name in ("XX.ABC..BHN", "XX.ABC..BHZ")]
        np.testing.assert_array_equal(found.values_SA[:, order], expected)
        assert found.sampling_rate == 100.0 and found.start_time == "2020-01-01T00:00:00.500000Z"


def test_gaps_of_miniseed_are_missing_values() -> None:
    found = load_signal(miniseed([("BHZ", 10.0, 0.0, COUNTS[0][:50]), ("BHZ", 10.0, 6.0, COUNTS[0][60:100])]))
    expected = COUNTS[0][:100].astype(float)
    expected[50:60] = np.nan
    np.testing.assert_array_equal(found.values_SA[:, 0], expected)


def test_miniseed_that_does_not_fit_together() -> None:
    with pytest.raises(InputError, match=r"different rates \(XX.ABC..BHN 20 Hz, XX.ABC..BHZ 10 Hz\)"):
        load_signal(miniseed([("BHN", 20.0, 0.0, COUNTS[0]), ("BHZ", 10.0, 0.0, COUNTS[1])]))
    with pytest.raises(InputError, match="share no time"):
        load_signal(miniseed([("BHZ", 10.0, 0.0, COUNTS[0]), ("BHN", 10.0, 100.0, COUNTS[1])]))
    with pytest.raises(InputError, match=r"XX\.ABC\.\.LOG holds text, not numbers"):
        load_signal(miniseed([("LOG", 10.0, 0.0, np.frombuffer(b"clock locked", dtype="S1"))]))
    with pytest.raises(InputError, match="not readable as MiniSEED"):
        load_signal(b"000001D " + b"x" * 600)


def test_wfdb(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    values = np.round(np.random.default_rng(1).normal(size=(500, 2)), 2)
    wfdb.wrsamp(
        "r1",
        fs=360,
        units=["mV", "mmHg"],
        sig_name=["II", "ABP"],
        p_signal=values,
        fmt=["16", "16"],
        write_dir=str(tmp_path),
        base_datetime=datetime(2020, 1, 2, 3, 4, 5),
    )
    found = load_signal(tmp_path / "r1.hea")
    np.testing.assert_allclose(found.values_SA, values, atol=1e-3)
    assert (found.sampling_rate, found.unit, found.channel_names) == (360.0, "mV, mmHg", ("II", "ABP"))
    assert found.start_time == "2020-01-02T03:04:05"
    header = (tmp_path / "r1.hea").read_text()
    (tmp_path / "r1.hea").write_text(header.replace("r1.dat", "../r1.dat"))
    with pytest.raises(InputError, match=r"names the file '\.\./r1\.dat'; only files of its own folder"):
        load_signal(tmp_path / "r1.hea")
    (tmp_path / "all.hea").write_text("all/1 2 360 500\nr1 500\n")
    with pytest.raises(InputError, match=r"r1\.hea: names the file '\.\./r1\.dat'"):
        load_signal(tmp_path / "all.hea")
    (tmp_path / "r1.hea").write_text(header)
    np.testing.assert_allclose(load_signal(tmp_path / "all.hea").values_SA, values, atol=1e-3)
    (tmp_path / "r1.hea").write_text(header.replace("500", "50000"))
    with pytest.raises(InputError, match="not readable as a WFDB record"):
        load_signal(tmp_path / "r1.hea")
    (tmp_path / "r1.hea").write_text(header.replace("500", "500000000"))
    with pytest.raises(InputError, match="500000000 points of 2 channels"):
        load_signal(tmp_path / "r1.hea")
    (tmp_path / "r1.hea").write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match="not a WFDB header"):
        load_signal(tmp_path / "r1.hea")


def test_edf(tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    values = np.random.default_rng(2).normal(size=(2, 512))

    def signal(row: int, rate: float, label: str) -> object:
        return edfio.EdfSignal(
            values[row, : int(2 * rate)], sampling_frequency=rate, label=label, physical_dimension="uV"
        )

    path = tmp_path / "x.edf"
    edfio.Edf([signal(0, 256.0, "Fz"), signal(1, 256.0, "Cz")]).write(path)
    for source in (path, path.read_bytes()):
        found = load_signal(source)
        np.testing.assert_allclose(found.values_SA, values.T, atol=2e-4)
        assert (found.sampling_rate, found.unit, found.channel_names) == (256.0, "uV", ("Fz", "Cz"))
    with pytest.raises(InputError, match="not readable as EDF"):
        load_signal(path.read_bytes()[:300])
    edfio.Edf([signal(0, 256.0, "Fz"), signal(1, 128.0, "Cz")], annotations=None).write(path)
    with pytest.raises(InputError, match=r"different rates \(Fz 256 Hz, Cz 128 Hz\)"):
        load_signal(path)


@pytest.mark.parametrize(
    ("package", "extra", "data"), [("obspy", "seismic", b"000001D "), ("edfio", "signals", b"0       ")]
)
def test_missing_packages(monkeypatch: pytest.MonkeyPatch, package: str, extra: str, data: bytes) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs the package '{package}'.*s1pro\[{extra}\]"):
        load_signal(data)


def test_missing_wfdb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wfdb", None)
    (tmp_path / "x.hea").write_text("x 1 1 1\n")
    with pytest.raises(MissingExtraError, match=r"s1pro\[signals\]"):
        load_signal(tmp_path / "x.hea")
