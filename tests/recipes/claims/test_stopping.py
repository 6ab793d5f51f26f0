"""Claims that are stopped from outside, as a person at a terminal does it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s1pro.recipes.claims.balance import CLAIM
from s1pro.recipes.claims.runner import ClaimRun, run_claim


@pytest.mark.slow
def test_ctrl_c_keeps_finished_units_and_ends_the_workers(claims_folder: Path) -> None:
    command = ["claims", "run", "balance", "--setting", "fast", "--seeds", "7,8,9", "--workers", "2"]
    place = claims_folder / "balance" / "fast"
    process = subprocess.Popen(
        [sys.executable, "-m", "s1pro", *command, "--folder", str(claims_folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listen,
    )
    deadline = time.monotonic() + 900
    while not list(place.glob("*-7.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (130, "interrupted\n")
    kept = sorted(place.glob("*-[789].json"))
    assert 1 <= len(kept) < 12 and not list(place.glob("run-7,8,9.json"))
    deadline = time.monotonic() + 100
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children and not any(map(_alive, children))
    told: list[tuple[int, int]] = []
    run = ClaimRun(claim=CLAIM, folder=claims_folder, setting="fast", seeds=(7, 8, 9))
    record = run_claim(run, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (len(kept), 12) and record.measured == 12 - len(kept)


def _listen() -> None:
    """A test run in the background of a shell ignores Ctrl-C, and its children would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _alive(child: str) -> bool:
    status = Path(f"/proc/{child}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
