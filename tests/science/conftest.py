from __future__ import annotations

import pytest

from s1pro.science.molecules import SMALL_MOLECULES, Loaded, Molecule, load_molecules


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    return load_molecules(SMALL_MOLECULES, limit=1200)


@pytest.fixture(scope="session")
def molecules(loaded: Loaded) -> tuple[Molecule, ...]:
    return loaded.molecules
