from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from s1pro.checkpoint.released import save_network
from s1pro.model.network import Network
from s1pro.serve.http.service import Service
from tests.serve.http import running


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a server over a tiny random model with towers for all media."""
    with running.running(Service(running.engine(), running.processor(), running.SETTINGS, max_batch=8)) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model and its processor in a folder, for commands."""
    folder = tmp_path_factory.mktemp("served") / "tiny-model"
    save_network(Network(running.config(), seed=3), folder)
    running.processor().save_pretrained(folder)
    return folder
