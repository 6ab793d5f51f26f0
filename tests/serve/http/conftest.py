from __future__ import annotations

from collections.abc import Iterator

import pytest

from s1pro.serve.http.service import Service
from tests.serve.http import running


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a server over a tiny random model with towers for all media."""
    with running.running(Service(running.engine(), running.processor(), running.SETTINGS, max_batch=8)) as url:
        yield url
