"""Faults that no text with numbers may have: what a writer produces who forgets to round or to name units.

| rule | finds |
|---|---|
| `float_noise` | 0.30000000000000004, 2.9999999999999996: more than 15 digits, or runs of 0 or 9 |
| `empty_slot` | "of ." and "is ." and "(, )" and doubled spaces, braces of a template, "None", "nan" |
| `unit_missing` | a quantity of a column with a unit that stands without it, or with one of another column |
| `digits` | a number that has other significant digits than its column |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from s1pro.science.facts.quantities import Quantity, round_significant
from s1pro.science.facts.schema import Schema

_NOISE = re.compile(r"\d+\.\d*?(?:0{6,}|9{6,})\d*|\d+\.\d{16,}")
_EMPTY = re.compile(r"\b(?:is|of|to|are|the|an)\s*[.,;:?)]|\(\s*[,;)]|  |[{}]|\bNone\b|\bnan\b|\binf\b|^\s*$")


def lint_text(text: str) -> list[str]:
    """Faults that the text alone shows."""
    bare = re.sub(r"<(SMILES|protein|dna|rna)>.*?</\1>", "X", text)
    found = [f"float_noise: {match[0]}" for match in _NOISE.finditer(bare)]
    return found + [f"empty_slot: {match[0]!r}" for match in _EMPTY.finditer(bare)]


def lint_values(shown: Mapping[str, Any], schema: Schema) -> list[str]:
    """Faults of the values that were read back from a text, by column name."""
    found = []
    for name, value in shown.items():
        column = schema.by_name[name]
        if not isinstance(value, Quantity):
            if column.type == "number":
                found.append(f"unit_missing: {name} is {value!r}")
            continue
        if value.unit not in (column.unit, *column.also):
            found.append(f"unit_missing: {name} is in {value.unit!r}")
        own_unit = value.unit == column.unit
        if own_unit and column.decimals is None and round_significant(value.number, column.digits) != value.number:
            found.append(f"digits: {name} is {value}")
        if own_unit and column.decimals is not None and value.number.as_tuple().exponent != -column.decimals:
            found.append(f"digits: {name} is {value}")
    return found
