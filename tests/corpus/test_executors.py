from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.executors import Executor, Inline, Processes, Ray, Slurm, run_stage
from s1pro.corpus.ledger import read_ledger, register
from s1pro.corpus.stages.ingest import Ingest
from s1pro.corpus.status import folder_status
from s1pro.corpus.work import Progress, work
from tests.corpus.corpus_runs import corpus, inputs, result


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Inputs, and what one undisturbed process makes of them."""
    base = tmp_path_factory.mktemp("clean")
    paths = inputs(base / "in")
    run_stage(corpus(base / "out", paths), "ingest", Inline())
    return paths, result(base / "out")


@pytest.mark.parametrize(
    "executor",
    [
        Processes(workers=1),
        Processes(workers=3),
        Slurm(tasks=2, cluster="debug"),
        pytest.param(Slurm(tasks=2, cluster="local"), marks=pytest.mark.slow),
        pytest.param(Ray(tasks=2), marks=pytest.mark.slow),
    ],
    ids=lambda executor: f"{type(executor).__name__}-{getattr(executor, 'cluster', '')}",
)
def test_shards_are_byte_identical(executor: Executor, clean: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    paths, expected = clean
    told: list[Progress] = []
    folder = corpus(tmp_path, paths)
    units = run_stage(folder, "ingest", executor, told.append)
    assert result(tmp_path) == expected
    assert len(expected) == 4 * units
    assert (told[-1].units_done, told[-1].inputs_done, told[-1].pages) == (units, 15, 34)
    assert folder_status(folder).finished


def test_every_input_has_one_status_and_the_counts_reconcile(
    clean: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder = corpus(tmp_path, clean[0])
    before = folder_status(folder)
    assert (before.inputs, before.pending, before.finished) == (16, 16, False)
    run_stage(folder, "ingest", Inline())
    status = folder_status(folder)
    assert dict(status.statuses) == {"corrupt": 1, "not_pdf": 1, "ok": 13, "partial": 1}
    assert (status.inputs, status.documents, status.duplicates, status.pending) == (16, 15, 1, 0)
    assert status.pages["read"] == 32 and status.elements == {"figure": 32}
    assert status.reconciled and status.finished


def test_damage_is_found_and_repaired_to_the_same_bytes(clean: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    paths, expected = clean
    folder = corpus(tmp_path, paths)
    run_stage(folder, "ingest", Inline())
    tables = sorted((tmp_path / "stages" / "ingest").glob("*.elements.parquet"))
    tables[0].write_bytes(tables[0].read_bytes()[:-1])
    flipped = bytearray(tables[1].read_bytes())
    flipped[50] ^= 255
    tables[1].write_bytes(flipped)
    manifest = tables[2].with_name(tables[2].name.split(".")[0] + ".json")
    manifest.write_text(manifest.read_text().replace('"rows"', '"lines"'))
    (tmp_path / "stages" / "ingest" / f".{tables[2].name}.123.tmp").write_bytes(b"litter")
    status = folder_status(folder)
    assert not status.reconciled and status.pending > 0 and "damaged" in status.problems[0]
    run_stage(folder, "ingest", Processes(workers=2))
    assert result(tmp_path) == expected
    assert folder_status(folder).finished


def test_one_more_input_and_changed_settings_redo_only_what_they_must(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 40, bad=False)
    folder = corpus(tmp_path / "out", paths)
    run_stage(folder, "ingest", Inline())
    before = result(folder.root)
    (paths / "new.pdf").write_bytes((paths / "3.pdf").read_bytes().replace(b'"3"', b'"new"'))
    register(folder.root, [paths])
    run_stage(folder, "ingest", Inline())
    after = result(folder.root)
    assert set(before) <= set(after) and len(set(after) - set(before)) in (4, 8)
    settings = folder.settings()
    folder.save_settings(type(settings)(ingest=settings.ingest.changed({"page_seconds": 19.0})))
    assert not folder_status(folder).problems
    run_stage(folder, "ingest", Inline())
    assert folder_status(folder).finished
    assert not {unit.key for unit in folder.plan("ingest")} & {name.split("/")[-1].split(".")[0] for name in after}


def test_a_source_that_vanished_or_changed_is_a_status(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 4)
    folder = corpus(tmp_path / "out", paths)
    (paths / "1.pdf").unlink()
    (paths / "2.pdf").write_bytes(b"%PDF- other")
    (paths / "0.pdf").unlink()  # its copy is still there
    run_stage(folder, "ingest", Inline())
    errors = Counter(row.error for part in folder.parts() for row in folder.documents(part) if row.status == "corrupt")
    assert errors["not read: 1.pdf: No such file or directory"] == 1
    assert errors["not read: 2.pdf: changed since it was registered"] == 1
    assert folder_status(folder).finished
    assert [row.doc_id for row in read_ledger(folder.root)].count(read_ledger(folder.root)[0].doc_id) == 2


def test_what_a_worker_cannot_do_is_reported_and_not_repeated_for_ever(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "out", inputs(tmp_path / "in", 2))
    settings = folder.settings()
    broken = type(settings.ingest)(extractor="tests.no_such_module:extract")
    folder.save_settings(type(settings)(ingest=broken))
    for executor in (Inline(), Processes(workers=2)):
        with pytest.raises(InputError, match="cannot start: ModuleNotFoundError"):
            run_stage(folder, "ingest", executor)
    assert [path.name for path in (folder.root / "stages").rglob("*.lease")] == []


def test_units_that_others_hold_are_left_to_them(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "out", inputs(tmp_path / "in", 8, bad=False))
    units = Ingest().plan(folder)
    folder.save_plan("ingest", units)
    lease = folder.units("ingest").lease(units[0], expiry=60)
    assert lease.acquire({})
    report = work(folder.root, "ingest")
    assert (report.done, report.busy) == (len(units) - 1, 1)
    lease.release()
    assert work(folder.root, "ingest").done == 1


def test_interrupting_leaves_no_process_no_lease_and_goes_on(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 60, bad=False, word="slow")
    folder = corpus(tmp_path / "out", paths)
    script = "import sys; from s1pro.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "corpus", "ingest", "--folder", str(folder.root), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while not list((folder.root / "stages").rglob("*.json")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=250)
    assert (process.returncode, errors.decode().strip()) == (130, "interrupted")
    assert members(process.pid) == []
    assert [path.name for path in (folder.root / "stages").rglob("*") if path.suffix in (".lease", ".tmp")] == []
    assert not folder_status(folder).finished
    run_stage(folder, "ingest", Inline())
    assert folder_status(folder).finished
    run_stage(corpus(tmp_path / "clean", paths), "ingest", Inline())
    assert result(folder.root) == result(tmp_path / "clean")


def members(group: int) -> list[int]:
    """Processes of a process group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in (b"Z", b"X"):
            found.append(int(path.parent.name))
    return found
