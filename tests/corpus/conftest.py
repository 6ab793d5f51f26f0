from __future__ import annotations

import pytest

from s1pro.science.compounds import Compound, read_compounds
from s1pro.science.molecules import SMALL_MOLECULES, Molecule, load_molecules


@pytest.fixture(scope="session")
def compounds() -> list[Compound]:
    """A fixed thirtieth of the collection."""
    return [compound for i, compound in enumerate(read_compounds()) if i % 30 == 0]


@pytest.fixture(scope="session")
def molecules(compounds: list[Compound]) -> tuple[Molecule, ...]:
    return load_molecules(SMALL_MOLECULES, compounds=compounds).molecules
