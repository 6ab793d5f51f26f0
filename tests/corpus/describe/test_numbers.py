from __future__ import annotations

import pytest

from s1pro.corpus.describe.numbers import numbers_in, parse_number, parse_offset
from s1pro.corpus.describe.titles import split_unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("−20", -20), ("– 20", -20), ("1,000", 1000), ("1.5e-3", 0.0015), ("10^3", 1000), ("−10^2", -100),
        ("2×10^−3", 0.002),
        ("10⁻³", 0.001), ("20%", 20), ("$5", 5), ("40k", 40_000), ("3.5M", 3.5e6), (".5", 0.5), ("+7", 7), ("45°", 45),
        ("abc", None), ("1 2", None), ("3 May", None), ("", None), ("1,00", None), ("10^", None), ("5-7", None),
    ],
)  # fmt: skip
def test_a_label_is_one_number_or_none(text: str, value: float | None) -> None:
    assert parse_number(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e6", (1e6, 0)), ("×10^−3", (1e-3, 0)), ("1e-5+2.5", (1e-5, 2.5)), ("+1e4", (1, 1e4)), ("12", None), ("", None)],
)
def test_the_factor_of_an_axis(text: str, expected: tuple[float, float] | None) -> None:
    assert parse_offset(text) == (None if expected is None else pytest.approx(expected))


def test_numbers_in_running_text() -> None:
    text = "From −20 to 1,000 and 10^3 (2×10^−3), CO2 and x1; 3.5% in 2019–2020, 0.5."
    assert [number.value for number in numbers_in(text)] == [-20, 1000, 1000, 0.002, 3.5, 2019, 2020, 0.5]


@pytest.mark.parametrize(
    ("title", "quantity", "unit"),
    [
        ("Time (s)", "Time", "s"), ("T [K]", "T", "K"), ("E / eV", "E", "eV"),
        ("Rate, mL/min", "Rate", "mL/min"),
        ("Intensity (a.u.)", "Intensity", "a.u."), ("Flux (W m^−2)", "Flux", "W m^−2"), ("Angle (°)", "Angle", "°"),
        ("Accuracy (higher is better)", "Accuracy (higher is better)", ""),
        ("Loss (log scale)", "Loss (log scale)", ""),
        ("Panel (a)", "Panel (a)", ""), ("Signal / noise", "Signal / noise", ""), ("Count", "Count", ""),
        ("log(x)", "log(x)", ""), ("Dose (mg (kg d)^−1)", "Dose", "mg (kg d)^−1"),
    ],
)  # fmt: skip
def test_units_of_titles(title: str, quantity: str, unit: str) -> None:
    assert split_unit(title) == (quantity, unit)


def test_a_hostile_title_is_split_in_bounded_time() -> None:
    assert split_unit("(" * 50_000)[1] == ""
