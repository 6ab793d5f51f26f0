"""Numbers as charts and tables print them, and numbers in running text.

    "−20"  "1,000"  "1.5e-3"  "10^3"  "2×10^−3"  "10⁻³"  "20%"  "$5"  "40k"  "3.5M"  "1/2"

One label is one number or none (`parse_number`); `numbers_in` finds all numbers of a text, for the checks. A number
keeps its printed form, because captions quote what is printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MINUS = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "⁻": "-", "\u2009": "", "\u202f": "", "\xa0": ""})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED = re.compile(r"(?<=\d)([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_SIGN_APART = re.compile(r"^([-+])\s+(?=[\d.])")
_SI = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12, "m": 1e-3, "µ": 1e-6, "μ": 1e-6, "n": 1e-9}
_BODY = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)[$€£]?\s?(?:(?P<mantissa>{_BODY})\s?[×x·*]\s?)?10\^\(?(?P<power>[-+]?\d+)\)?\s?%?"
    rf"|(?P<sign2>[-+]?)[$€£]?\s?(?P<value>{_BODY})(?:[eE](?P<exponent>[-+]?\d+))?\s?(?P<suffix>%|°|[kKMGBTmµμn])?"
)
_OFFSET = re.compile(r"(?:[×x]\s?)?(?P<factor>1e[-+]?\d+|10\^[-+]?\d+)?\s*(?P<shift>[-+]\s?[\d.]+(?:e[-+]?\d+)?)?")
_IN_TEXT = re.compile(
    rf"(?<![\w.^])(?:[-+](?=[\d.]))?(?:(?:{_BODY})\s?[×x·]\s?)?(?:10\^[-+]?\d+|(?:{_BODY})(?:[eE][-+]?\d+)?)"
)


@dataclass(frozen=True)
class Number:
    """A number with its printed form."""

    value: float
    text: str


def normalise(text: str) -> str:
    """One kind of minus, no thin blanks, superscripts as `^`."""
    marked = _RAISED.sub(lambda match: "^" + match[1].translate(_SUPERSCRIPTS), text)
    return _SIGN_APART.sub(r"\1", marked.translate(_MINUS).strip())


def parse_number(text: str) -> float | None:
    """The value of a label that is one number, else None."""
    match = _NUMBER.fullmatch(normalise(text))
    if match is None:
        return None
    if match["power"] is not None:
        value = float((match["mantissa"] or "1").replace(",", "")) * 10.0 ** min(int(match["power"]), 300)
        return -value if match["sign"] == "-" else value
    value = float(match["value"].replace(",", ""))
    exponent = int(match["exponent"] or 0)
    value *= 10.0 ** max(min(exponent, 300), -300) * _SI.get(match["suffix"] or "", 1.0)
    return -value if match["sign2"] == "-" else value


def parse_offset(text: str) -> tuple[float, float] | None:
    """(factor, shift) of the note at the end of an axis ("1e6", "×10^−3", "1e-5+2.5"); None if it is none."""
    match = _OFFSET.fullmatch(normalise(text))
    if match is None or not (match["factor"] or match["shift"]):
        return None
    if match["shift"] and not match["factor"] and "e" not in match["shift"]:
        return None
    factor = match["factor"] or "1"
    scale = 10.0 ** int(factor[3:]) if factor.startswith("10^") else float(factor)
    return scale, float((match["shift"] or "0").replace(" ", ""))


def numbers_in(text: str) -> list[Number]:
    """All numbers of a text in order, with their printed forms (normalised)."""
    found = []
    for match in _IN_TEXT.finditer(normalise(text)):
        value = parse_number(match[0])
        if value is not None:
            found.append(Number(value, match[0]))
    return found
