"""Tables: separators, headers, times, irregular times, and the messages for what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.inputs import signal_csv
from s1pro.inputs.signal_csv import parse_csv
from s1pro.inputs.signals import Signal


def parse(text: str, **kwargs: bool) -> Signal:
    return parse_csv(text.encode(), "x.csv", **kwargs)


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "1;2\r\n3;4", "1\t2\n3\t4\n\n", "1 2\n 3   4", "\ufeff1,2\n3,4"])
def test_separators(text: str) -> None:
    found = parse(text)
    assert found.values_SA.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found.channel_names == () and found.sampling_rate is None


def test_header_and_missing_cells() -> None:
    found = parse('"Fz, left",Cz\n1.5,\nNA,-2e3\n')
    assert found.channel_names == ("Fz, left", "Cz")
    np.testing.assert_array_equal(found.values_SA, [[1.5, np.nan], [np.nan, -2000.0]])


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("time", 0.25),
        ("T", 0.25),
        ("time (ms)", 250.0),
        ("time_ms", 250.0),
        ("Time [s]", 0.25),
        ("time_min", 0.25 / 60),
    ],
)
def test_times_give_the_rate(name: str, step: float) -> None:
    rows = "".join(f"{i * step!r},{i * i}\n" for i in range(9))
    found = parse(f"{name},x\n{rows}")
    assert found.sampling_rate == pytest.approx(4.0)
    assert found.values_SA[:, 0].tolist() == [i * i for i in range(9)] and found.channel_names == ("x",)


def test_stamps() -> None:
    found = parse("x,timestamp\n1,2024-01-01T00:00:00\n2,2024-01-01T00:00:30\n3,2024-01-01T00:01:00\n")
    assert found.sampling_rate == pytest.approx(1 / 30) and found.start_time == "2024-01-01T00:00:00"


def test_rounded_times_are_regular() -> None:
    rows = "".join(f"{i / 360:.3f},0\n" for i in range(720))
    assert parse("time,x\n" + rows).sampling_rate == pytest.approx(360, rel=1e-3)


IRREGULAR = "time,x,y\n0,0,0\n1,1,10\n2,2,20\n5,5,50\n6,6,60\n"


def test_irregular_times_are_an_error_and_interpolated_on_request() -> None:
    with pytest.raises(
        InputError, match=r"x\.csv: times are irregular \(row 4 is .* steps away .*resample_irregular=True"
    ):
        parse(IRREGULAR)
    found = parse(IRREGULAR, resample_irregular=True)
    assert found.values_SA.tolist() == [[float(i), 10.0 * i] for i in range(7)] and found.sampling_rate == 1.0
    assert found.note == "irregular times, interpolated linearly to 7 points at 1 Hz"


def test_a_gap_does_not_fill_the_memory() -> None:
    with pytest.raises(InputError, match="5 irregular points would become"):
        parse("time,x\n0,0\n1,0\n2,0\n3,0\n1000000000,0\n", resample_irregular=True)


def test_a_table_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_csv, "MAX_CELLS", 5)
    assert len(parse("1,2\n3,4").values_SA) == 2
    for text in ("1,2\n3,4\n5,6\n", "1 2\n3 4\n5 6\n"):
        with pytest.raises(InputError, match="more than 5 cells"):
            parse(text)


def test_one_row() -> None:
    assert parse("time,x\n5,7\n").sampling_rate is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a,b\n", "a header, but no values"),
        ("1,2\n3\n", "row 2 has 1 cells, the first row has 2"),
        ("a,b\n1,x\n", "row 2: 'x' is no number"),
        ("time\n1\n2\n", "a column of times, but none of values"),
        ("time,x\n1,1\n1,2\n", "row 3: times must increase"),
        ("time,x\n1,1\n,2\n", "row 3: the time is missing"),
        ("date,x\n2024-01-01,1\nsoon,2\n", "row 3: 'soon' is no time"),
    ],
)
def test_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)
