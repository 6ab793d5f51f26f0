"""Numbers with units and significant digits: rounded once, written as decimal text, compared across units.

    quantity(0.1 + 0.2, "eV", 3)  ->  0.300 eV      no float noise: the number is a `Decimal` from here on
    1.52 × 10^-7 m                                  powers of ten below 0.001 and from a million on

A unit is checked by pint, and conversions are pint's; only then pint is imported (about a second). Counted things
(residues, atoms) are no units here but nouns, see `science.slots.counted`.
"""

from __future__ import annotations

import functools
import math
import re
import tokenize
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.science.templates import SlotKind

MAX_DIGITS = 15
NUMBER = r"-?\d+(?:\.\d+)?(?: × 10\^-?\d+)?"
_SMALL, _LARGE = Decimal("0.001"), Decimal(1_000_000)
_POWER = re.compile(r"(-?\d+(?:\.\d+)?)(?: × 10\^(-?\d+))?")


@dataclass(frozen=True)
class Quantity:
    """A number as it is printed, and its unit; the empty unit is a pure number."""

    number: Decimal
    unit: str = ""

    def __str__(self) -> str:
        text = write_number(self.number)
        return f"{text} {self.unit}" if self.unit else text

    def to(self, unit: str) -> Quantity:
        """The same in another unit of the same dimension; its last digit means as much as before, or less."""
        value = convert(float(self.number), self.unit, unit)
        exponent = self.number.as_tuple().exponent
        assert isinstance(exponent, int)
        last = Decimal(1).scaleb(exponent)
        step = abs(convert(float(self.number + last), self.unit, unit) - value)
        decimals = -math.floor(math.log10(step) + 1e-9)
        return quantity(value, unit, decimals=decimals)


def quantity(value: float, unit: str = "", digits: int = 3, *, decimals: int | None = None) -> Quantity:
    """A measured value as it shall be printed: `digits` significant digits, or a fixed number of decimals.

    Raises:
        ValueError: not finite, or another number of digits than 1 to 15.
    """
    if not math.isfinite(value):
        raise ValueError(f"a quantity is a finite number, got {value}")
    if not 1 <= digits <= MAX_DIGITS:
        raise ValueError(f"significant digits lie between 1 and {MAX_DIGITS}, got {digits}")
    exact = Decimal(repr(float(value)))
    if decimals is not None:
        with localcontext(prec=60):
            return Quantity(exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN) + 0, unit)
    return Quantity(round_significant(exact, digits), unit)


def round_significant(exact: Decimal, digits: int) -> Decimal:
    """Rounded half to even; zero keeps `digits - 1` decimals."""
    if exact == 0:
        return Decimal(0).scaleb(1 - digits).copy_abs()
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), rounding=ROUND_HALF_EVEN)
    if rounded.adjusted() > exact.adjusted():  # 9.99 became 10.0: one digit less behind the point
        rounded = rounded.quantize(Decimal(1).scaleb(rounded.adjusted() - digits + 1), rounding=ROUND_HALF_EVEN)
    return rounded


def write_number(number: Decimal) -> str:
    """Plain decimals between 0.001 and a million, else `1.52 × 10^-7`; all significant digits, no others."""
    if number == 0 or _SMALL <= abs(number) < _LARGE:
        return f"{number:f}"
    exponent = number.adjusted()
    return f"{number.scaleb(-exponent):f} × 10^{exponent}"


def read_number(text: str) -> Decimal:
    """The inverse of `write_number`. Raises `ValueError` for other texts."""
    found = _POWER.fullmatch(text)
    if found is None:
        raise ValueError(f"not a number as it is written here: {text!r}")
    return Decimal(found[1]).scaleb(int(found[2] or 0))


def quantity_kind(units: tuple[str, ...]) -> SlotKind:
    """The slot of a quantity in one of `units` (the first is the canonical one)."""
    written = "|".join(re.escape(unit) for unit in sorted(units, key=len, reverse=True))
    pattern = NUMBER if units == ("",) else f"{NUMBER} (?:{written})"

    def write(value: Quantity) -> str:
        if not isinstance(value, Quantity) or value.unit not in units:
            raise ValueError(f"expected a quantity in {' or '.join(units) or 'no unit'}, got {value!r}")
        return str(value)

    def read(text: str) -> Quantity:
        number = re.match(NUMBER, text)
        assert number is not None, text
        return Quantity(read_number(number[0]), text[number.end() :].strip())

    return SlotKind(pattern=pattern, write=write, read=read)


def check_unit(unit: str) -> None:
    """Raises `InputError` if pint does not know the unit."""
    if unit:
        _unit(unit)


def same_dimension(unit: str, other: str) -> bool:
    """Whether one can be converted into the other."""
    return bool(_unit(unit).dimensionality == _unit(other).dimensionality)


def convert(value: float, unit: str, to: str) -> float:
    """The value in another unit; temperatures with their zero points.

    Raises:
        InputError: the units have different dimensions.
    """
    if unit == to:
        return value
    import pint

    try:
        return float(_registry().Quantity(value, _unit(unit)).to(_unit(to)).magnitude)
    except pint.DimensionalityError as error:
        raise InputError(f"{unit!r} cannot be converted to {to!r}: {error}") from error


@functools.cache
def _registry() -> Any:
    try:
        import pint
    except ImportError as error:
        raise MissingExtraError("pint", "science") from error
    return pint.UnitRegistry(cache_folder=None)


@functools.cache
def _unit(unit: str) -> Any:
    import pint

    known = {"°C": "degC", "": "dimensionless", "°": "degree"}
    if len(unit) > 40 or not re.fullmatch(r"[\w°%µμÅΩ/*^() .·²³-]*", unit):
        raise InputError(f"{unit[:60]!r} is no unit")
    try:
        return _registry().Unit(known.get(unit, unit.replace("·", "*").replace("²", "**2").replace("³", "**3")))
    except (
        pint.errors.PintError, ValueError, AttributeError, TypeError, SyntaxError, AssertionError, RecursionError,
        OverflowError, tokenize.TokenError,
    ) as error:  # fmt: skip  # whatever its parser stumbles over
        raise InputError(f"{unit!r} is no unit that pint knows ({error})") from error
