"""Molecular formulas as text and as counts, without RDKit.

Hill order: carbon first, hydrogen second, all others by alphabet; without carbon all by alphabet. `C2H6O`, `H2O`.
Charges are written at the end as in `C2H8N+` or `O4S-2`; tasks and templates use neutral molecules only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_FORMULA_LENGTH = 60
_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn "
    "Nh Fl Mc Lv Ts Og"
)
ELEMENTS = frozenset(_SYMBOLS.split())
_UNIT = re.compile(r"([A-Z][a-z]?)(\d*)")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?(?:[1-9]\d*)?)+")


def hill(atoms: Mapping[str, int]) -> str:
    """Counts per element as a formula in Hill order; elements with the count 0 are left out."""
    present = {element: count for element, count in atoms.items() if count}
    first = [element for element in ("C", "H") if "C" in present and element in present]
    order = first + sorted(element for element in present if element not in first)
    return "".join(element + (str(present[element]) if present[element] > 1 else "") for element in order)


def parse_formula(text: str) -> dict[str, int] | None:
    """Counts per element of a neutral formula such as `C6H12O6`; None if the text is none (a count of 0 included)."""
    if len(text) > MAX_FORMULA_LENGTH or _FORMULA.fullmatch(text) is None:
        return None
    atoms: dict[str, int] = {}
    for element, count in _UNIT.findall(text):
        atoms[element] = atoms.get(element, 0) + int(count or 1)
    return atoms


def element_accuracy(answer: Mapping[str, int], truth: Mapping[str, int]) -> float:
    """Share of the elements in either formula whose count is right: the graded side of an exact match."""
    elements = set(answer) | set(truth)
    return sum(answer.get(element, 0) == truth.get(element, 0) for element in elements) / len(elements)
