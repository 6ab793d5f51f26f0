"""Crystals, compositions and elements as records, by pymatgen (spglib for the symmetry).

A crystal is grouped by what may not be torn apart: its reduced composition, its prototype (anonymous formula and space
group) or its chemical system, as the caller wants. A composition is grouped likewise, without the space group.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.science.facts.schema import Column, Schema

# what pymatgen's parsers raise for files that are none
_UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError, ZeroDivisionError)
Grouping = Literal["composition", "prototype", "system"]
MAX_SITES = 2000

CRYSTALS = Schema(
    name="crystals",
    domain="materials",
    noun="crystal",
    columns=(
        Column(name="name", type="text", role="entity"),
        Column(name="formula", type="formula", role="structure", words=("reduced formula", "formula")),
        Column(name="system", type="category", words=("crystal system",)),
        Column(name="spacegroup", type="text", words=("space group", "space group symbol")),
        Column(name="sites", type="count", noun="site"),
        Column(name="elements", type="count", noun="chemical element"),
        Column(name="a", unit="Å", digits=4, words=("lattice parameter a", "cell length a"), also=("nm",)),
        Column(name="b", unit="Å", digits=4, words=("lattice parameter b", "cell length b"), also=("nm",)),
        Column(name="c", unit="Å", digits=4, words=("lattice parameter c", "cell length c"), also=("nm",)),
        Column(name="volume", unit="Å^3", digits=4, words=("cell volume", "unit-cell volume"), also=("nm^3",)),
        Column(name="density", unit="g/cm^3", digits=4, words=("density", "mass density"), also=("kg/m^3",)),
    ),
)
COMPOSITION_COLUMNS: tuple[Column, ...] = (
    Column(name="molar_mass", unit="g/mol", decimals=2, words=("molar mass of the formula unit", "formula mass")),
    Column(name="num_elements", type="count", noun="chemical element"),
    Column(name="electronegativity", digits=3, words=("mean Pauling electronegativity", "average electronegativity")),
)
ELEMENTS = Schema(
    name="elements",
    domain="chemistry",
    noun="chemical element",
    columns=(
        Column(name="name", type="text", role="entity"),
        Column(name="symbol", type="category", words=("symbol",)),
        Column(name="number", decimals=0, words=("atomic number",)),
        Column(name="block", type="category", words=("block of the periodic table",)),
        Column(name="mass", unit="g/mol", digits=4, words=("molar mass", "atomic mass")),
        Column(name="electronegativity", digits=3, words=("Pauling electronegativity", "electronegativity")),
        Column(name="melting", unit="K", digits=3, words=("melting point", "melting temperature"), also=("°C",)),
        Column(name="boiling", unit="K", digits=3, words=("boiling point", "boiling temperature"), also=("°C",)),
        Column(name="density", unit="kg/m^3", digits=3, words=("density of the solid",), also=("g/cm^3",)),
        Column(name="ionization", unit="eV", digits=4, words=("first ionization energy",)),
        Column(name="conductivity", unit="W/(m*K)", digits=2, words=("thermal conductivity",)),
    ),
)


def crystal_row(structure: Any, name: str, grouping: Grouping = "composition") -> tuple[dict[str, Any], str]:
    """The row of a pymatgen structure, and its group.

    Raises:
        ValueError: more than `MAX_SITES` sites, or no symmetry is found.
    """
    if len(structure) > MAX_SITES:
        raise ValueError(f"{len(structure)} sites, more than {MAX_SITES}")
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    with _quiet():
        analyzer = SpacegroupAnalyzer(structure, symprec=0.01)
        symbol = str(analyzer.get_space_group_symbol())
        composition = structure.composition
        row = {
            "name": name,
            "formula": composition.reduced_formula,
            "system": str(analyzer.get_crystal_system()),
            "spacegroup": symbol,
            "sites": len(structure),
            "elements": len(composition.elements),
            **dict(zip("abc", structure.lattice.abc, strict=True)),
            "volume": structure.volume,
            "density": float(structure.density),
        }
        return row, _group(composition, grouping, symbol)


def composition_row(formula: str, grouping: Grouping = "composition") -> tuple[dict[str, Any], str]:
    """Computed columns of a formula, and its group. Raises `ValueError` for what is no formula."""
    pymatgen = _pymatgen()
    composition = pymatgen.Composition(formula)
    if not all(isinstance(element, pymatgen.Element) for element in composition.elements):
        raise ValueError(f"not a formula of elements: {formula!r}")
    with _quiet():
        row = {
            "molar_mass": float(composition.weight),
            "num_elements": len(composition.elements),
            "electronegativity": float(composition.average_electroneg),  # not a number with noble gases: missing
        }
        return row, _group(composition, grouping, "")


def element_rows() -> Iterator[dict[str, Any]]:
    """The elements up to lawrencium, with what pymatgen's table knows of them."""
    pymatgen = _pymatgen()
    for number in range(1, 104):
        element = pymatgen.Element.from_Z(number)
        yield {
            "name": element.long_name.lower(),
            "symbol": element.symbol,
            "number": number,
            # pymatgen puts helium into the p block
            "block": "s" if number == 2 else element.block,
            "mass": float(element.atomic_mass),
            "electronegativity": _known(element, "X"),
            "melting": _known(element, "melting_point"),
            "boiling": _known(element, "boiling_point"),
            "density": _known(element, "density_of_solid"),
            "ionization": _known(element, "ionization_energy"),
            "conductivity": _known(element, "thermal_conductivity"),
        }


def read_structure(text: str, kind: Literal["cif", "json"]) -> Any:
    """A pymatgen structure from the text of a CIF or of pymatgen's JSON. Raises `ValueError` if it is none."""
    _pymatgen()
    from pymatgen.core import Structure

    try:
        with _quiet():
            return Structure.from_str(text, fmt=kind)
    except _UNREADABLE as error:
        raise ValueError(f"no crystal structure ({error})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what pymatgen and spglib say while they repair rounded coordinates or find no value in a table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _known(element: Any, name: str) -> float | None:
    with _quiet():
        value = getattr(element, name)
    return None if value is None or math.isnan(float(value)) or float(value) <= 0 else float(value)


def _group(composition: Any, grouping: Grouping, symbol: str) -> str:
    if grouping == "system":
        return str(composition.chemical_system)
    if grouping == "prototype":
        return f"{composition.anonymized_formula} {symbol}".strip()
    if grouping != "composition":
        raise InputError(f"grouping: expected composition, prototype or system, got {grouping!r}")
    return str(composition.reduced_formula)


def _pymatgen() -> Any:
    try:
        import pymatgen.core
    except ImportError as error:
        raise MissingExtraError("pymatgen", "materials") from error
    return pymatgen.core
