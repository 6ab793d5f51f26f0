"""Runs a claim: every arm with every seed, each written to its own file as soon as it is measured.

    FOLDER/shared/                           what `prepare` makes
    FOLDER/NAME/SETTING/ARM-SEED.json        one unit: measurement, seconds, identity, where it was measured
    FOLDER/NAME/SETTING/run-0,1,2.json       verdict over these seeds, with the identity of their units
    FOLDER/NAME/SETTING-without-MECHANISM/   the same with the mechanism removed: units of the arms that had it

A unit that is there is not measured again, so a stopped run goes on, and a run without a mechanism takes the arms that
never had it from the ordinary run. A unit with another identity (`identity.py`) is measured again, and the record of
the run counts these. A verdict whose units have been measured again since, by other code, is stale: reports name it and
do not show it.

Units are independent, so several processes share them; each computes with one torch thread. Ctrl-C ends them at once;
finished units stay.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from s1pro.base.errors import InputError
from s1pro.base.stamp import stamp, write_json
from s1pro.recipes.claims.claim import Claim, Difference, Measurement, Setting, Unit, Verdict
from s1pro.recipes.claims.identity import identity_of
from s1pro.report.scores import Estimate

Progress = Callable[[int, int], None]
"""Units done, of how many."""


@dataclass(frozen=True, kw_only=True)
class ClaimRun:
    """One claim at one setting.

    Attributes:
        without: mechanism to remove.
        workers: processes; 1 measures in this one.
    """

    claim: Claim
    folder: Path
    setting: Setting = "full"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    without: str | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        known = self.claim.mechanisms
        if self.without is not None and self.without not in known:
            raise InputError(f"claim {self.claim.name!r} has no mechanism {self.without!r}; known: {', '.join(known)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds must be different whole numbers from 0, got {list(self.seeds)}")
        if self.workers < 1:
            raise InputError(f"workers={self.workers} must be at least 1")

    @property
    def place(self) -> Path:
        """Folder of the verdict."""
        return self.folder / self.claim.name / _folder_name(self.setting, self.without)

    def units(self) -> list[Unit]:
        """Seed by seed, so that an early stop leaves whole comparisons."""
        settings, shared = self.claim.settings[self.setting], self.folder / "shared"
        without = {arm: self.claim.loses(arm, self.without) for arm in self.claim.arms}
        return [
            Unit(arm=arm, seed=seed, settings=settings, shared=shared, without=without[arm])
            for seed in self.seeds
            for arm in self.claim.arms
        ]

    def path(self, unit: Unit) -> Path:
        return self.place.parent / _folder_name(self.setting, unit.without) / f"{unit.arm}-{unit.seed}.json"


@dataclass(frozen=True, kw_only=True)
class ClaimRecord:
    """What a run gave.

    Attributes:
        measured: units measured now; replaced: of these, such as were there with another identity.
        seconds: of all units, whenever they were measured.
        identities: of the units, by arm.
    """

    claim: str
    setting: Setting
    without: str | None
    seeds: tuple[int, ...]
    results: dict[str, dict[int, Measurement]]
    verdict: Verdict
    measured: int
    replaced: int
    seconds: float
    stamp: dict[str, Any]
    identities: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """All but the measurements, which have their own files."""
        differences = [{**asdict(difference), "met": difference.met} for difference in self.verdict.differences]
        names = ("claim", "setting", "without", "seeds", "measured", "replaced", "seconds", "stamp", "identities")
        return {
            **{name: getattr(self, name) for name in names},
            "outcome": self.verdict.outcome,
            "text": self.verdict.text,
            "differences": differences,
        }


def run_claim(run: ClaimRun, *, progress: Progress = lambda done, total: None) -> ClaimRecord:
    """Measures what is missing and judges.

    Raises:
        InputError: a file of an earlier run is damaged.
        KeyboardInterrupt: after Ctrl-C; what was measured is kept.
    """
    identities = {arm: identity_of(run.claim, run.setting, arm, run.without) for arm in run.claim.arms}
    units = run.units()
    found = {(unit.arm, unit.seed): _read(run.path(unit)) for unit in units}
    missing = [
        unit
        for unit in units
        if (have := found[unit.arm, unit.seed]) is None or have["identity"] != identities[unit.arm]
    ]
    replaced = sum(found[unit.arm, unit.seed] is not None for unit in missing)
    progress(len(units) - len(missing), len(units))
    if missing and run.claim.prepare is not None:
        run.claim.prepare(run.claim.settings[run.setting], run.seeds, run.folder / "shared")
    where = stamp(("s1pro", "torch", "numpy"))
    for done, (unit, record) in enumerate(_measured(run, missing), start=len(units) - len(missing) + 1):
        written = {"identity": identities[unit.arm], "arm": unit.arm, "seed": unit.seed, **record, "stamp": where}
        write_json(run.path(unit), written)
        found[unit.arm, unit.seed] = written
        progress(done, len(units))
    return _judge(run, found, identities=identities, measured=len(missing), replaced=replaced)


def _folder_name(setting: str, without: str | None) -> str:
    return setting if without is None else f"{setting}-without-{without}"


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Records of all runs in `folder`, each with its `place`.

    Raises:
        InputError: there are none.
    """
    paths = sorted(folder.glob("*/*/run-*.json"))
    if not paths:
        raise InputError(f"{folder}: no claim was run there; `s1pro claims run NAME --folder {folder}`")
    return [{**json.loads(path.read_text(encoding="utf-8")), "place": path.parent} for path in paths]


def read_results(run: Mapping[str, Any], claim: Claim) -> dict[str, dict[int, Measurement]]:
    """Measurements of a finished run, one of `read_runs`.

    Raises:
        InputError: a unit is missing, damaged, or has another identity than the run says, which may say none.
    """
    results: dict[str, dict[int, Measurement]] = {}
    for arm in claim.arms:
        place = run["place"].parent / _folder_name(run["setting"], claim.loses(arm, run["without"]))
        for seed in run["seeds"]:
            path = place / f"{arm}-{seed}.json"
            if (record := _read(path)) is None:
                raise InputError(f"{path}: missing; run the claim again")
            if record["identity"] != run.get("identities", {}).get(arm):
                raise InputError(
                    f"{path}: measured by other code or with other settings than the verdict over seeds "
                    f"{', '.join(map(str, run['seeds']))}; run the claim again with these seeds"
                )
            results.setdefault(arm, {})[seed] = _measurement(record)
    return results


def differences_of(record: dict[str, Any]) -> list[Difference]:
    """The differences that a run wrote down."""
    return [
        Difference(name=row["name"], estimate=Estimate(**row["estimate"]), above=row["above"])
        for row in record["differences"]
    ]


def _judge(
    run: ClaimRun, found: dict[tuple[str, int], Any], *, identities: dict[str, str], measured: int, replaced: int
) -> ClaimRecord:
    results: dict[str, dict[int, Measurement]] = {arm: {} for arm in run.claim.arms}
    for (arm, seed), record in found.items():
        results[arm][seed] = _measurement(record)
    made = ClaimRecord(
        claim=run.claim.name,
        setting=run.setting,
        without=run.without,
        seeds=run.seeds,
        results=results,
        verdict=run.claim.verdict(results),
        measured=measured,
        replaced=replaced,
        seconds=round(sum(record["seconds"] for record in found.values()), 1),
        stamp=next(iter(found.values()))["stamp"],
        identities=identities,
    )
    write_json(run.place / f"run-{','.join(map(str, run.seeds))}.json", made.to_json())
    return made


def _measurement(record: Mapping[str, Any]) -> Measurement:
    """Equal, whether it was measured now or read from its file."""
    fields = record["measurement"]
    curves = {name: [(x, y) for x, y in points] for name, points in fields["curves"].items()}
    return Measurement(**{**fields, "curves": curves})


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _measurement(record)
        record["identity"], record["seconds"], record["stamp"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the record of a unit ({error!r}); remove it to measure it again") from error
    return record


def _measured(run: ClaimRun, units: Sequence[Unit]) -> Iterator[tuple[Unit, dict[str, Any]]]:
    """The units with their records, in the order in which they finish."""
    if run.workers == 1 or len(units) < 2:
        for unit in units:
            yield unit, _timed(run.claim.measure, unit)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(run.workers, len(units)), mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
    )
    try:
        waiting: dict[Future[dict[str, Any]], Unit] = {
            pool.submit(_timed, run.claim.measure, unit): unit for unit in units
        }
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield waiting.pop(future), future.result()
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def _timed(measure: Callable[[Unit], Measurement], unit: Unit) -> dict[str, Any]:
    started = time.process_time()
    measurement = measure(unit)
    return {"measurement": asdict(measurement), "seconds": round(time.process_time() - started, 2)}


def _start_worker(parent: int) -> None:
    """One thread; Ctrl-C is the parent's business; no worker outlives its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
