"""Whether an answer is right: numbers with units within a tolerance, options, names, orders; and why it is not.

1. The answer is what follows the last "Answer:" (or stands in the last `\\boxed{}`); without either, the last line.
2. A number is read in the usual spellings (`1.2e-3`, `1.2 × 10^-3`, `1,200`, LaTeX, unicode minus) with what follows
   as its unit. The unit must be there, be known and have the dimension of the gold; the value is converted.
3. It is right within `relative_tolerance` or half a unit in the gold's last digit, and has enough significant digits.
4. A gold that cannot be read is an error of the data, never a reward (`InputError`).

Chains of reasoning that state the answer before they derive it teach to guess: `states_answer_first` finds the gold's
value in the first tenth of a chain (at least its first 80 characters).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from s1pro.base.errors import InputError
from s1pro.science.facts.quantities import Quantity, convert, same_dimension

Reason = Literal[
    "right", "no_answer", "no_number", "unit_missing", "unit_unknown", "unit_wrong", "value_wrong", "too_few_digits",
    "choice_wrong", "name_wrong", "order_wrong",
]  # fmt: skip
_FINAL = re.compile(r"(?:final answer|answer)\s*(?:is\s*:?|:)\s*(.+)", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_TIMES = r"(?:[×x*·]|\\times|\\cdot)"
_NUMBER = re.compile(
    r"(?P<mantissa>[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?)"
    rf"(?:\s*{_TIMES}\s*10\s*\^?\s*\{{?(?P<power>[-+−]?\d+)\}}?|[eE](?P<exponent>[-+−]?\d+))?"
)
# "MPa", "g/cm^3", "W/(m*K)", "kJ per mol"; not the full stop after it, nor a bracket that opens a remark
_ATOM = r"[^\s\d,;.()=<>/*·][^\s,;.()=<>/*·]*"
_GROUP = rf"\({_ATOM}(?:\s?[*·/]\s?{_ATOM})*\)"
_UNIT = re.compile(rf"\s*({_ATOM}(?:\s?(?:/|\*|·|per\b)\s?(?:{_ATOM}|{_GROUP}))*)")
_LATEX = ((r"\\(?:text|mathrm|,|;|!)\s*", ""), (r"[{}$~]", ""), (r"\\circ", "°"), (r"\\mu", "µ"), (r"\\%", "%"))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How strict numbers are judged.

    Attributes:
        digits_missing: so many significant digits fewer than the gold are allowed.
        unit_needed: whether an answer without a unit is wrong where the gold has one.
    """

    relative_tolerance: float = 0.01
    digits_missing: int = 1
    unit_needed: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an answer is right, the first reason why not, and what was read."""

    right: bool
    reason: Reason
    read: str = ""


def final_answer(text: str) -> str:
    """The part of a response that is its answer; empty if there is none."""
    boxed = _BOXED.findall(text)
    if boxed:
        return str(boxed[-1]).strip()
    marked = _FINAL.findall(text)
    if marked:
        return str(marked[-1]).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def verify(response: str, gold: Any, rules: Rules | None = None, *, accepted: Sequence[str] = ()) -> Verdict:
    """Judges a response by its final answer.

    Args:
        gold: a `Quantity`, a whole number, a text, or a tuple of texts in order.
        accepted: further texts that are right.

    Raises:
        InputError: the gold is nothing that can be compared.
    """
    answer = final_answer(response)
    if not answer:
        return Verdict(right=False, reason="no_answer")
    if isinstance(gold, Quantity):
        return _verify_quantity(answer, gold, rules or Rules())
    if isinstance(gold, bool) or (isinstance(gold, str) and gold.strip()):
        return _verify_text(answer, gold, accepted)
    if isinstance(gold, int):
        return _verify_count(answer, gold)
    if isinstance(gold, tuple) and gold and all(isinstance(item, str) and item for item in gold):
        return _verify_order(answer, gold)
    raise InputError(f"the gold answer {gold!r} cannot be compared with anything")


def read_quantity(text: str) -> tuple[Decimal, str, int] | None:
    """The first number in a text, the unit after it, and its significant digits; None without a number."""
    for pattern, plain in _LATEX:
        text = re.sub(pattern, plain, text)
    for found in _NUMBER.finditer(text):
        mantissa = found["mantissa"].replace(",", "").replace("−", "-").replace("+", "")
        if not re.search(r"\d", mantissa):
            continue
        power = (found["power"] or found["exponent"] or "0").replace("−", "-").replace("+", "")
        if len(power) > 4:
            return None
        unit = _UNIT.match(text, found.end())
        return Decimal(mantissa).scaleb(int(power)), (unit[1] if unit else ""), _digits(mantissa)
    return None


def states_answer_first(chain: str, gold: Any, *, share: float = 0.1, at_least: int = 80) -> bool:
    """Whether the gold stands near the beginning of a chain of reasoning, before anything is derived."""
    head = chain.strip()[: max(at_least, int(share * len(chain)))]
    if isinstance(gold, Quantity):
        wanted = {str(gold.number), f"{gold.number:f}", f"{gold.number.normalize():f}"}
        numbers = re.findall(r"-?\d+(?:\.\d+)?", head.replace(",", "").replace("−", "-"))
        return any(number in wanted or Decimal(number) == gold.number for number in numbers)
    if isinstance(gold, str) and len(gold) == 1:
        return (
            re.search(rf"\b(?:answer|option|choice)\b[^.]{{0,12}}\b{re.escape(gold)}\b", head, re.IGNORECASE)
            is not None
        )
    if isinstance(gold, tuple):
        return "; ".join(gold).lower() in head.lower()
    return re.search(r"\banswer\b", head, re.IGNORECASE) is not None and str(gold) in head


def _verify_quantity(answer: str, gold: Quantity, rules: Rules) -> Verdict:
    found = read_quantity(answer)
    if found is None:
        return Verdict(right=False, reason="no_number", read=answer)
    number, unit, digits = found
    read = f"{number} {unit}".strip()
    value = float(number)
    if gold.unit and not unit:
        if rules.unit_needed:
            return Verdict(right=False, reason="unit_missing", read=read)
    elif gold.unit and unit != gold.unit:
        try:
            if not same_dimension(unit, gold.unit):
                return Verdict(right=False, reason="unit_wrong", read=read)
        except InputError:
            return Verdict(right=False, reason="unit_unknown", read=read)
        value = convert(value, unit, gold.unit)
    exponent = gold.number.as_tuple().exponent
    assert isinstance(exponent, int)
    true = float(gold.number)
    slack = max(rules.relative_tolerance * abs(true), 0.5 * 10.0**exponent) * (1 + 1e-9)
    if abs(value - true) > slack:
        return Verdict(right=False, reason="value_wrong", read=read)
    if digits < max(1, len(gold.number.as_tuple().digits) - rules.digits_missing) and number != gold.number:
        return Verdict(right=False, reason="too_few_digits", read=read)
    return Verdict(right=True, reason="right", read=read)


def _verify_count(answer: str, gold: int) -> Verdict:
    found = read_quantity(answer)
    if found is None:
        return Verdict(right=False, reason="no_number", read=answer)
    right = found[0] == gold
    return Verdict(right=right, reason="right" if right else "value_wrong", read=str(found[0]))


def _verify_text(answer: str, gold: str | bool, accepted: Sequence[str]) -> Verdict:
    text = "yes" if gold is True else "no" if gold is False else str(gold)
    read = answer.strip().rstrip(".").strip()
    if len(text) == 1 and text.isupper():
        letter = re.match(r"\(?([A-Z])\)?(?:[.:)\s]|$)", read)
        right = letter is not None and letter[1] == text
        return Verdict(right=right, reason="right" if right else "choice_wrong", read=read)
    wanted = {_plain(item) for item in (text, *accepted)}
    plain = _plain(read)
    right = plain in wanted or any(plain.startswith(f"{item} (") for item in wanted)
    return Verdict(right=right, reason="right" if right else "name_wrong", read=read)


def _verify_order(answer: str, gold: tuple[str, ...]) -> Verdict:
    read = tuple(_plain(item) for item in re.split(r"\s*[;>\n]\s*", answer.strip().rstrip(".")))
    right = read == tuple(_plain(item) for item in gold)
    return Verdict(right=right, reason="right" if right else "order_wrong", read="; ".join(read))


def _plain(text: str) -> str:
    """Without tags and needless white space; the first letter small, the others as they are (SMILES, formulas)."""
    bare = " ".join(re.sub(r"</?(?:SMILES|protein|dna|rna)>", "", text).split())
    return bare[:1].lower() + bare[1:] if bare[1:2].islower() else bare


def _digits(mantissa: str) -> int:
    """Significant digits of a number as written: 0.30 has two, 1200 four."""
    bare = mantissa.lstrip("-").replace(".", "").lstrip("0")
    return max(1, len(bare))
