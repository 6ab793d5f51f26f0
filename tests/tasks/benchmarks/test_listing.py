"""The tables of `docs/benchmarks.md` are what the registry says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from s1pro.tasks.benchmarks.instruction_checks import CHECKS, unsupported
from s1pro.tasks.benchmarks.listing import details, overview
from s1pro.tasks.benchmarks.registry import BENCHMARKS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"


@pytest.mark.parametrize(("name", "write"), [("overview", overview), ("details", details)])
def test_the_page_is_up_to_date(name: str, write: object) -> None:
    assert callable(write)
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, name
    assert found[1] == write(), "write the part between the marks anew, with s1pro.tasks.benchmarks.listing"


def test_every_benchmark_and_defect_is_told() -> None:
    text = overview() + details()
    for benchmark in BENCHMARKS.values():
        assert f"`{benchmark.name}`" in text
        for subtask in benchmark.subtasks:
            assert all(defect in text for defect in subtask.defects)


def test_checks_that_are_said_to_be_missing_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1pro.tasks.benchmarks.instruction_checks.is_missing", lambda: True)
    assert unsupported("language:response_language") and "language:response_language" in CHECKS
