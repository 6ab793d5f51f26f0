"""A hundred SIGKILLs at random moments: of the parent, of one of its processes, of the whole group."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s1pro.corpus.executors import Inline, run_stage
from s1pro.corpus.status import folder_status
from tests.corpus.corpus_runs import corpus, inputs, result
from tests.corpus.test_executors import members

KILLS = 100
SECONDS = 900


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_kills_change_nothing(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 250, bad=True, word="slow")
    run_stage(corpus(tmp_path / "clean", paths), "ingest", Inline())
    folder = corpus(tmp_path / "out", paths)
    rng = random.Random(0)
    kills, rounds, began = 0, 0, time.monotonic()
    while kills < KILLS and time.monotonic() - began < SECONDS:
        rounds += 1
        process = start(folder.root)
        ready = time.monotonic() + rng.uniform(0.1, 1.5)
        while kills < KILLS and process.poll() is None:
            time.sleep(max(ready - time.monotonic(), 0) + rng.uniform(0, 0.15))
            kills += kill(process.pid, rng)
        process.kill()
        process.wait()
        assert gone(process.pid), "a process outlived its parent"
        if folder_status(folder, check=False).finished:  # quicker than we kill: from the beginning
            assert result(folder.root) == result(tmp_path / "clean")
            for path in (folder.root / "stages" / "ingest").iterdir():
                path.unlink()
    assert kills == KILLS, f"only {kills} kills in {SECONDS} seconds"
    run_stage(folder, "ingest", Inline())
    assert folder_status(folder).finished
    assert result(folder.root) == result(tmp_path / "clean")
    assert rounds > 10


def start(root: Path) -> subprocess.Popen[bytes]:
    script = "import sys; from s1pro.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "corpus", "ingest", "--folder", str(root), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill(group: int, rng: random.Random) -> int:
    """Kills the parent, one of the others, or all; how many kills that were."""
    victims = members(group)
    if not victims:
        return 0
    way = rng.choice(["parent", "child", "child", "child", "group"])
    try:
        if way == "group":
            os.killpg(group, signal.SIGKILL)
        elif way == "parent":
            os.kill(group, signal.SIGKILL)
        else:
            os.kill(rng.choice([pid for pid in victims if pid != group] or victims), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def gone(group: int) -> bool:
    """Whether nothing of a process group runs, after a moment."""
    for _ in range(3000):
        if not members(group):
            return True
        time.sleep(0.02)
    return False
