"""Tasks in other processes: judges and workers get them pickled."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest

from s1pro.science.molecules import Molecule
from s1pro.tasks import registry


@pytest.mark.parametrize("name", registry.all_names())
def test_every_task_can_be_sent_to_a_judge(name: str, molecules: tuple[Molecule, ...], tmp_path: Path) -> None:
    """In another process it asks and grades as here."""
    if name == "trend_in_recording":
        pytest.importorskip("statsmodels")
    task = registry.for_learning(name, num_items=3, folder=tmp_path, molecules=molecules)
    again = pickle.loads(pickle.dumps(task))  # noqa: S301
    for item in task.items():
        assert again.prompt(item) == task.prompt(item)
        right = task.expected(item)
        scores = [asyncio.run(one.score(item, right)) for one in (task, again)]
        assert scores[0] == scores[1] and scores[0].value == 1.0
