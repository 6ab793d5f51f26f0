"""The compounds that the PyPI package `chemicals` carries: 76 thousand records of names, formula, mass and SMILES.

The package (MIT licence) ships them as tab-separated files:

    PubChem id · CAS number · formula · molar mass · SMILES · InChI · InChIKey · IUPAC name · common name · synonyms ...

The files are read as they are, without importing the package: a record costs microseconds. Records are raw here: what
RDKit makes of them, and what is dropped for which reason, is `science.molecules`.

Left out: the files of ions (their names belong to parts of compounds) and of mixtures.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s1pro.base.errors import InputError, MissingExtraError

FILES = (
    "chemical identifiers pubchem small.tsv",
    "chemical identifiers pubchem large.tsv",
    "chemical identifiers example user db.tsv",
    "Inorganic db.tsv",
)
_COLUMNS = 9


@dataclass(frozen=True, kw_only=True)
class Compound:
    """One record as the files have it; names are lower case there and can be empty."""

    cas: str
    formula: str
    mass: float
    smiles: str
    iupac_name: str
    common_name: str


def compounds_folder() -> Path:
    """Where the installed package keeps its files.

    Raises:
        MissingExtraError: the package `chemicals` is not installed.
    """
    found = importlib.util.find_spec("chemicals")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError("chemicals", "science")
    return Path(next(iter(found.submodule_search_locations))) / "Identifiers"


def read_compounds(folder: Path | None = None) -> Iterator[Compound]:
    """All records in file order.

    Raises:
        MissingExtraError: the package `chemicals` is not installed.
        InputError: a file is missing or a line has too few columns (another version of the package).
    """
    folder = folder or compounds_folder()
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: not there; this version of the package `chemicals` keeps its records elsewhere")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                cells = line.rstrip("\r\n").split("\t", _COLUMNS)
                if len(cells) < 8:
                    raise InputError(f"{path}, line {number}: expected at least 8 columns, got {len(cells)}")
                yield _compound(cells, path, number)


def _compound(cells: list[str], path: Path, number: int) -> Compound:
    try:
        mass = float(cells[3])
    except ValueError as error:
        raise InputError(f"{path}, line {number}: the mass {cells[3]!r} is not a number") from error
    return Compound(
        cas=cells[1],
        formula=cells[2],
        mass=mass,
        smiles=cells[4],
        iupac_name=cells[7].strip(),
        common_name=cells[8].strip() if len(cells) > 8 else "",
    )
