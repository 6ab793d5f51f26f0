"""`bench/load_test.py` in short: the same clients, judged by the same measure."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.load_test import run_load, served, write_tiny_model


@pytest.mark.slow
def test_many_clients_are_answered_or_told_to_come_back(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    with served(tmp_path / "tiny", "--max-batch", "8", "--max-waiting", "8") as (url, pid):
        result = asyncio.run(run_load(url, pid, clients=32, seconds=60))
    assert not result.problems
    assert result.answers > 50 and result.refused > 0 and result.given_up > 0
    assert (result.left_running, result.left_waiting, result.left_blocks) == (0, 0, 0)
    assert result.fewest_answers > 0  # a minute is too short to compare more than this
    assert result.memory_growth < 0.15  # two minutes must stay below 0.05
