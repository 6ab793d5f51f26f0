from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.science.facts.lint import lint_text
from s1pro.science.facts.quantities import (
    NUMBER,
    Quantity,
    convert,
    quantity,
    quantity_kind,
    read_number,
    same_dimension,
    write_number,
)

numbers = st.floats(min_value=1e-30, max_value=1e30) | st.floats(min_value=-1e30, max_value=-1e-30) | st.just(0.0)


@settings(max_examples=400, deadline=None)
@given(value=numbers, digits=st.integers(1, 12))
def test_numbers_keep_their_significant_digits_and_come_back(value: float, digits: int) -> None:
    rounded = quantity(value, "", digits).number
    text = write_number(rounded)
    assert re.fullmatch(NUMBER, text) and read_number(text) == rounded and not lint_text(text.replace("0" * 6, ""))
    assert (
        abs(float(rounded) - value) <= 0.5000001 * 10.0 ** (Decimal(repr(value)).adjusted() - digits + 1) or value == 0
    )
    mantissa = text.split(" ")[0].lstrip("-").replace(".", "").lstrip("0")
    plain_integer = "." not in text and "×" not in text
    assert value == 0 or len(mantissa) == digits or plain_integer


def test_no_float_noise() -> None:
    assert str(quantity(0.1 + 0.2, "eV", 3)) == "0.300 eV"
    assert str(quantity(9.996, "", 3)) == "10.0" and str(quantity(0.00012345, "m", 3)) == "1.23 × 10^-4 m"
    assert str(quantity(2.0e6, "Pa", 2)) == "2.0 × 10^6 Pa" and str(quantity(123456.0, "Pa", 3)) == "123000 Pa"
    assert str(quantity(46.069, "g/mol", decimals=1)) == "46.1 g/mol" and str(quantity(-0.04, decimals=1)) == "0.0"
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            quantity(bad)


@settings(max_examples=200, deadline=None)
@given(value=numbers, digits=st.integers(1, 8), unit=st.sampled_from(["eV", "kJ/mol", "%", "°C", "W/(m*K)"]))
def test_quantities_come_back_from_a_slot(value: float, digits: int, unit: str) -> None:
    kind = quantity_kind(("eV", "kJ/mol", "%", "°C", "W/(m*K)"))
    written = kind.write(quantity(value, unit, digits))
    assert re.fullmatch(kind.pattern, written)
    assert kind.read(written) == quantity(value, unit, digits)
    with pytest.raises(ValueError, match="expected a quantity in"):
        kind.write(quantity(value, "m", digits))


def test_units() -> None:
    assert convert(25.0, "°C", "K") == pytest.approx(298.15) and convert(1.5, "GPa", "MPa") == pytest.approx(1500)
    assert same_dimension("kJ/mol", "kJ/mol") and not same_dimension("eV", "K")
    assert Quantity(Decimal("1.20"), "nm").to("Å") == Quantity(Decimal("12.0"), "Å")
    for unit in ("furlong per what", "__import__('os')", "m" * 60, "W/", "K)(", "eV; 1"):
        with pytest.raises(InputError):
            same_dimension(unit, "K")
    with pytest.raises(InputError, match="cannot be converted"):
        convert(1.0, "eV", "K")
