"""Stamp of a run: versions and commit, nothing private."""

from __future__ import annotations

import getpass
import json
import subprocess
from pathlib import Path

from s1pro.base.stamp import commit, stamp, write_json


def test_stamp_names_versions_and_is_json() -> None:
    text = json.dumps(stamp())
    assert json.loads(text)["versions"]["torch"].startswith("2.")
    user = getpass.getuser()
    assert "/home" not in text and (user == "root" or user not in text)


def test_commit_of_a_repository_and_outside(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    run = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run([*run, "init", "-q"], check=True)
    assert commit(tmp_path) is None
    (tmp_path / "a").write_text("1")
    subprocess.run([*run, "add", "a"], check=True)
    subprocess.run([*run, "commit", "-qm", "first"], check=True)
    head = commit(tmp_path)
    assert head is not None and len(head) == 40
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == f"{head}-dirty"


def test_write_json_replaces_atomically(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.json"
    write_json(target, {"a": None})
    write_json(target, {"a": 1})
    assert json.loads(target.read_text()) == {"a": 1}
    assert [p.name for p in target.parent.iterdir()] == ["x.json"]
