from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def claims_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all slow tests, so that the corpus is made once."""
    return tmp_path_factory.mktemp("claims")
