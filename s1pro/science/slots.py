"""Kinds of slots that sentences about molecules are made of: how each value is written and read.

| kind | value | text |
|---|---|---|
| TEXT | "propan-2-ol" | printable ASCII without angle brackets |
| SMILES | "CCO" | `<SMILES>CCO</SMILES>`: inside the tags the tokenizer uses its SMILES vocabulary |
| FORMULA | "C2H6O" | neutral formula in any order |
| COUNT | 3 | digits |
| counted("ring") | 3 | `3 rings`, `1 ring`, `0 rings` |
| MASS | 46.069 | `46.1 g/mol`: one decimal, which is what average atomic masses of elements with many isotopes allow |
| GROUPS | ("alcohol", "ether") | `an alcohol and an ether`; names of `science.groups`, never empty |
| GROUP | "amine" | `an amine` |
| CHECKS | (("ester", True), ("amine", False)) | `ester: yes, amine: no` |
| FEATURE | "carbon" | `carbon atoms`: what can be counted, names of `FEATURES` |
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from s1pro.science.formula import parse_formula
from s1pro.science.groups import NAMES
from s1pro.science.templates import SlotKind

# What can be counted in a molecule: key, and the words for it in the plural.
FEATURES: Mapping[str, str] = {
    "carbon": "carbon atoms",
    "nitrogen": "nitrogen atoms",
    "oxygen": "oxygen atoms",
    "fluorine": "fluorine atoms",
    "chlorine": "chlorine atoms",
    "hydrogen": "hydrogen atoms",
    "heavy": "heavy atoms",
    "rings": "rings",
}


def write_mass(value: float) -> str:
    """Grams per mole with one decimal, without the unit."""
    if not 0 < value < 1e6:
        raise ValueError(f"a molar mass lies between 0 and 1,000,000 g/mol, got {value}")
    return str(Decimal(repr(float(value))).quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN))


def with_article(noun: str) -> str:
    """`an alcohol`, `a ketone`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _write_text(value: str) -> str:
    if not re.fullmatch(_TEXT, value):
        raise ValueError(f"not a text that can stand in a sentence: {value!r}")
    return value


def _write_smiles(value: str) -> str:
    if not re.fullmatch(_SMILES, value):
        raise ValueError(f"not a SMILES: {value!r}")
    return f"<SMILES>{value}</SMILES>"


def _write_formula(value: str) -> str:
    if parse_formula(value) is None:
        raise ValueError(f"not a neutral formula: {value!r}")
    return value


def _write_count(value: int) -> str:
    if isinstance(value, bool) or value < 0:
        raise ValueError(f"a count is a whole number from 0 on, got {value!r}")
    return str(int(value))


def _write_group(value: str) -> str:
    if value not in NAMES:
        raise ValueError(f"no such group: {value!r}; known: {', '.join(NAMES)}")
    return with_article(value)


def _write_groups(value: tuple[str, ...]) -> str:
    *most, last = [_write_group(name) for name in value]
    return f"{', '.join(most)} and {last}" if most else last


def _read_group(text: str) -> str:
    return text.partition(" ")[2]


def _read_groups(text: str) -> tuple[str, ...]:
    return tuple(_read_group(part) for part in re.split(r", | and ", text))


def _write_checks(value: tuple[tuple[str, bool], ...]) -> str:
    unknown = [name for name, _ in value if name not in NAMES]
    if unknown or not value:
        raise ValueError(f"checks need known groups, got {value!r}; known: {', '.join(NAMES)}")
    return ", ".join(f"{name}: {'yes' if truth else 'no'}" for name, truth in value)


def _read_checks(text: str) -> tuple[tuple[str, bool], ...]:
    pairs = (part.split(": ") for part in text.split(", "))
    return tuple((name, truth == "yes") for name, truth in pairs)


def _write_feature(value: str) -> str:
    if value not in FEATURES:
        raise ValueError(f"nothing that is counted: {value!r}; known: {', '.join(FEATURES)}")
    return FEATURES[value]


def counted(noun: str) -> SlotKind:
    """A count with its noun; the plural takes an s."""
    return SlotKind(
        pattern=rf"(?:1 {re.escape(noun)}|(?!1 )\d+ {re.escape(noun)}s)",
        write=functools.partial(_write_counted, noun),
        read=_read_counted,
    )


def _write_counted(noun: str, value: Any) -> str:
    return f"{_write_count(value)} {noun}{'' if value == 1 else 's'}"


def _read_counted(text: str) -> int:
    return int(text.partition(" ")[0])


def _read_smiles(text: str) -> str:
    return text[len("<SMILES>") : -len("</SMILES>")]


def _write_molar_mass(value: Any) -> str:
    return f"{write_mass(value)} g/mol"


def _read_molar_mass(text: str) -> float:
    return float(text.removesuffix(" g/mol"))


_TEXT = r"[!-;=?-~](?:[ -;=?-~]*?[!-;=?-~])?"
_SMILES = r"[!-;=?-~]+?"
_GROUP = "(?:" + "|".join(re.escape(with_article(name)) for name in sorted(NAMES, key=len, reverse=True)) + ")"

TEXT = SlotKind(pattern=_TEXT, write=_write_text, read=str)
SMILES = SlotKind(
    pattern=f"<SMILES>{_SMILES}</SMILES>",
    write=_write_smiles,
    read=_read_smiles,
)
FORMULA = SlotKind(pattern=r"(?:[A-Z][a-z]?\d*)+", write=_write_formula, read=str)
COUNT = SlotKind(pattern=r"\d+", write=_write_count, read=int)
MASS = SlotKind(
    pattern=r"\d+\.\d g/mol",
    write=_write_molar_mass,
    read=_read_molar_mass,
)
GROUP = SlotKind(pattern=_GROUP, write=_write_group, read=_read_group)
GROUPS = SlotKind(pattern=rf"(?:{_GROUP}, )*(?:{_GROUP} and )?{_GROUP}", write=_write_groups, read=_read_groups)
_CHECK = "(?:" + "|".join(re.escape(name) for name in sorted(NAMES, key=len, reverse=True)) + "): (?:yes|no)"
CHECKS = SlotKind(pattern=f"{_CHECK}(?:, {_CHECK})*", write=_write_checks, read=_read_checks)
FEATURE = SlotKind(
    pattern="(?:" + "|".join(map(re.escape, FEATURES.values())) + ")",
    write=_write_feature,
    read={words: key for key, words in FEATURES.items()}.__getitem__,
)
