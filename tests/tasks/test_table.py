"""The table in the documentation is the table of the registry."""

from __future__ import annotations

import re
from pathlib import Path

from s1pro.recipes.demo_training import DemoSettings
from s1pro.tasks import registry

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (yes)? ?\|$", re.MULTILINE)


def test_the_documented_table_is_the_real_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    rows = {name: (domain, modality, bool(demo)) for name, domain, modality, demo in ROW.findall(page)}
    trained = DemoSettings().tasks
    assert rows == {e.name: (e.domain, e.modality, e.name in trained) for e in registry.table()}


def test_the_joint_run_of_the_demo_has_every_domain_and_modality() -> None:
    entries = {entry.name: entry for entry in registry.table()}
    trained = [entries[name] for name in DemoSettings().tasks]
    assert {entry.modality for entry in trained} == {"text", "image", "video", "signal"}
    assert {"chemistry", "materials", "life", "earth", "physics"} <= {entry.domain for entry in trained}
