"""The loop of a worker: take the next unit that nobody has finished or holds, do it, commit it.

The same loop runs inline, in local processes, as a task of a Slurm array and as a Ray task; all that differs is who
starts it. Workers share the plan of the stage and agree through leases, so none needs to know of the others:

    for every unit of the plan, beginning at one's own place:
        a valid manifest?                 done by somebody
        lease held by a living process?   leave it
        take the lease, look again, do the unit, commit, release

A loop ends when every unit is done or held by others. SIGTERM ends it like Ctrl-C: the unit under way is given up, its
lease released, the worker process killed; the next run begins with that unit.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.corpus.leases import Lease, Seen
from s1pro.corpus.stages.base import CorpusFolder, Work
from s1pro.corpus.stages.registry import stage_named
from s1pro.corpus.units import Unit, UnitFolder

# A holder on another machine that says nothing for so long counts as dead.
LEASE_EXPIRY_SECONDS = 120.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a stage is: units, their inputs, and pages (or rows) done."""

    stage: str
    units: int
    units_done: int
    inputs: int
    inputs_done: int
    pages: int


@dataclass(kw_only=True)
class WorkReport:
    """What one loop did; `busy` units were held by others when it ended."""

    done: int = 0
    reused: int = 0
    busy: int = 0


def work(
    root: Path,
    stage_name: str,
    *,
    start: int = 0,
    expiry: float = LEASE_EXPIRY_SECONDS,
    check: bool = True,
    tell: Callable[[Unit, int, bool], None] | None = None,
) -> WorkReport:
    """Does what is left of the plan of a stage.

    Args:
        start: index of the unit to begin with; workers begin at different places.
        check: compare the digests of finished units; else only sizes.
        tell: called with a unit, its pages so far, and whether it is finished.
    """
    folder, stage = CorpusFolder(root), stage_named(stage_name)
    units, report, seen = folder.plan(stage_name), WorkReport(), Seen()
    tell = tell or (lambda unit, pages, finished: None)
    shelf = folder.units(stage_name)
    with stage.open(folder) as do:
        for unit in (*units[start:], *units[:start]):
            if shelf.manifest(unit, check=check) is not None:
                report.reused += 1
                tell(unit, int(shelf.costs(unit).get("pages", 0)), True)
                continue
            lease = shelf.lease(unit, expiry=expiry)
            if not lease.acquire(seen):
                report.busy += 1
                continue
            try:
                _do(unit, do, shelf, lease, report, tell)
            finally:
                lease.release()
    return report


def _do(
    unit: Unit,
    do: Work,
    shelf: UnitFolder,
    lease: Lease,
    report: WorkReport,
    tell: Callable[[Unit, int, bool], None],
) -> None:
    if shelf.manifest(unit) is not None:  # finished between our look and our lease
        report.reused += 1
        return
    shelf.sweep(unit)
    pages = 0

    def beat(now: int) -> None:
        nonlocal pages
        pages = now
        lease.beat({"pages": now})
        tell(unit, now, False)

    outcome = do(unit, beat)
    if not lease.held():  # we were away for so long that somebody took over
        report.busy += 1
        return
    shelf.commit(unit, outcome, pages=pages)
    report.done += 1
    tell(unit, pages, True)


def main() -> int:
    """Entry of a worker that another process starts: one JSON argument with `root`, `stage`, `start`, `parent`."""
    arguments = json.loads(sys.argv[1])
    _die_with(int(arguments["parent"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        work(Path(arguments["root"]), arguments["stage"], start=int(arguments["start"]), check=False)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(number: int, frame: object) -> None:
    """The first signal ends the work; later ones (Ctrl-C reaches a whole group, and the parent asks as well) must
    not end the tidying up."""
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _die_with(parent: int) -> None:
    """The kernel ends this process when the one that started it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
