from __future__ import annotations

import pytest

from s1pro.science.compounds import read_compounds
from s1pro.science.molecules import SMALL_MOLECULES, Molecule, load_molecules


@pytest.fixture(scope="session")
def molecules() -> tuple[Molecule, ...]:
    compounds = [compound for i, compound in enumerate(read_compounds()) if i % 12 == 0]
    return load_molecules(SMALL_MOLECULES, compounds=compounds).molecules
