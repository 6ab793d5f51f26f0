"""Files that break readers, among good ones: every good one is delivered, every bad one has its status."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from s1pro.base.config import config_to_json
from s1pro.corpus.child import FOLDER_PREFIX
from s1pro.corpus.children import Child, Limits
from s1pro.corpus.executors import Processes, run_stage
from s1pro.corpus.frames import Frame
from s1pro.corpus.ledger import register
from s1pro.corpus.pdf.extract import ExtractSettings
from s1pro.corpus.records import document_id
from s1pro.corpus.settings import IngestSettings, PipelineSettings
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.status import folder_status
from s1pro.corpus.workers import DocumentWorker
from tests.corpus.fake_extractor import NAME
from tests.corpus.hostile import hostile, paper

LIMITS = Limits(page_seconds=5, document_seconds=10, memory_mb=1200)
PATIENT = Limits(page_seconds=100, document_seconds=1000, memory_mb=1200)
GOOD = 20


def test_quick_hostile_files_have_their_status() -> None:
    files = hostile(bombs=False)
    assert len(files) == 13
    settings = {"max_pages": 50, "extract": config_to_json(ExtractSettings())}
    with DocumentWorker("s1pro.corpus.stages.reading:extract", settings, PATIENT) as worker:
        for name, (data, right) in files.items():
            row = worker.read(document_id(data), data).document
            assert row.status in right, name
            assert row.num_pages == row.pages_ok + len(row.pages_failed) + row.pages_skipped, name
        good = paper("good", 2)
        assert worker.read(document_id(good), good).document.status == "ok"


@pytest.mark.slow
def test_no_good_document_is_lost_among_hostile_ones(tmp_path: Path) -> None:
    before = _litter()
    bad = hostile()
    for name, (data, _) in bad.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    for n in range(GOOD):
        (tmp_path / "in" / f"good{n}.pdf").write_bytes(paper(f"good{n}", 1 + n % 3))
    folder = CorpusFolder(tmp_path / "out")
    ledger = {Path(row.source_uri).name: row.doc_id for row in register(folder.root, [tmp_path / "in"])}
    folder.save_settings(PipelineSettings(ingest=IngestSettings(limits=LIMITS)))
    run_stage(folder, "ingest", Processes(workers=2))
    rows = {row.doc_id: row for part in folder.parts() for row in folder.documents(part)}
    status = folder_status(folder)
    assert status.finished and status.inputs == GOOD + len(bad) == sum(status.statuses.values())
    for n in range(GOOD):
        row = rows[ledger[f"good{n}.pdf"]]
        assert (row.status, row.pages_ok) == ("ok", 1 + n % 3)
    for name, (_, right) in bad.items():
        assert rows[ledger[name]].status in right, name
    costs = [
        cost
        for unit in folder.plan("ingest")
        for cost in folder.units("ingest").costs(unit).values()
        if isinstance(cost, dict)
    ]
    assert len(costs) == GOOD + len(bad)
    assert max(cost.get("peak_mb", 0) for cost in costs) < LIMITS.memory_mb
    # a document ends at its deadline; the rest is what a loaded machine needs to start and end processes
    assert max(cost.get("wall_seconds", 0) for cost in costs) < LIMITS.document_seconds + 100
    assert {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()} == {".json", ".log", ".parquet"}
    assert _litter() <= before


def test_a_worker_reaches_no_network() -> None:
    child = Child(NAME, {}, PATIENT)
    child.close()
    if child.network != "none":
        pytest.skip("this system gives no namespaces to users")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with DocumentWorker(NAME, {"port": port}, PATIENT) as worker:
            data = b'%PDF-1.7\n[["connect", "ok"], ""]'
            result = worker.read("d", data)
    assert result.pages[0].status == "error"
    assert "unreachable" in result.document.error
    assert result.document.pages_ok == 1


def test_ingest_runs_where_there_is_no_network(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("needs unshare with user namespaces")
    (tmp_path / "good.pdf").write_bytes(paper("good", 2))
    script = "import sys; from s1pro.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["corpus", "ingest", str(tmp_path / "good.pdf"), "--folder", str(tmp_path / "out"), "--workers", "1"]
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", script, *command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "status: ok 1" in done.stdout and "the counts reconcile" in done.stdout


def test_frames_from_a_document_cannot_claim_what_they_like() -> None:
    """A worker that a document has taken over may send anything: the parent books only rows that fit."""
    with DocumentWorker("tests.corpus.fake_extractor:liar", {}, PATIENT) as worker:
        result = worker.read("d", b"%PDF-")
    assert result.document.status == "crash"
    assert Frame(header={"op": "x"}).op == "x"


def _litter() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*")}
