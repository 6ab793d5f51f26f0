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
from s1pro.corpus.children import Child, Limits, describe_end
from s1pro.corpus.frames import Frame, encode, take
from s1pro.corpus.records import document_id
from s1pro.corpus.workers import DocumentResult, DocumentWorker
from tests.corpus.fake_extractor import NAME, document

# Whatever ends by itself has the time that a loaded machine may need; only what hangs is given up soon.
LIMITS = Limits(page_seconds=100, document_seconds=1000, memory_mb=600)
SOON = Limits(page_seconds=5, document_seconds=1000, memory_mb=600)


def read(*documents: bytes, limits: Limits = LIMITS) -> list[DocumentResult]:
    with DocumentWorker(NAME, {}, limits) as worker:
        return [worker.read(document_id(data), data) for data in documents]


def test_frames_survive_any_split() -> None:
    frames = [Frame(header={"op": "page", "n": n}, parts=(b"", bytes(n), b"abc")) for n in range(4)]
    stream, buffer, got = b"".join(encode(frame) for frame in frames), bytearray(), []
    for byte in stream:
        buffer.append(byte)
        while (frame := take(buffer)) is not None:
            got.append(frame)
    assert [(dict(f.header), tuple(f.parts)) for f in got] == [(dict(f.header), tuple(f.parts)) for f in frames]
    with pytest.raises(InputError, match="longer than allowed"):
        take(bytearray(b"\xff" * 8))
    with pytest.raises(InputError, match="not a frame"):
        take(bytearray(b"\0\0\0\2\0\0\0\0[]"))


def test_every_way_to_die_has_its_status_and_costs_one_page() -> None:
    """The pages before and after are delivered, from one worker and its successors."""
    words = ["crash", "oom", "raise", "exit", "garble", "hang"]
    documents = [document("ok", word, "ok") for word in words]
    results = [*read(*documents[:-1]), *read(documents[-1], limits=SOON)]
    assert [r.document.status for r in results] == ["partial"] * len(words)
    assert [r.pages[1].status for r in results] == ["crash", "oom", "error", "error", "crash", "timeout"]
    for result in results:
        assert (result.document.pages_ok, result.document.pages_failed) == (2, (1,))
        assert [element.page for element in result.elements] == [0, 2]
        assert result.elements[0].image.startswith(b"\x89PNG")
    assert "a page that cannot be read" in results[2].document.error


def test_memory_is_that_of_the_worker_and_not_of_its_parent() -> None:
    """The kernel's own maximum of a process begins with that of its parent: here half a gigabyte, above the limit."""
    held = bytearray(500 << 20)
    held[:: 1 << 12] = bytes(len(held[:: 1 << 12]))
    (result,) = read(document("ok", "crash", "slow"))
    assert result.pages[1].status == "crash"
    assert 10 < result.costs["peak_mb"] < 200
    del held


def test_documents_that_never_open() -> None:
    locked, dead = read(b"%PDF-1.7\nlocked", b"%PDF-1.7\ndie")
    assert (locked.document.status, dead.document.status) == ("encrypted", "crash")
    assert "SIGSEGV" in dead.document.error
    before = read(b"", b"<html>", document("ok"), limits=Limits(max_bytes=10))
    assert [r.document.status for r in before] == ["empty", "not_pdf", "too_large"]
    assert read(document())[0].document.status == "empty"


def test_a_document_is_given_up_after_three_deaths() -> None:
    good, bad = read(document("ok", *["crash"] * 5, "ok"), document("crash"))
    assert (good.document.status, good.document.pages_ok) == ("partial", 1)
    assert Counter(page.status for page in good.pages) == {"ok": 1, "crash": 3, "skipped": 3}
    assert bad.document.status == "crash"
    for row in (good.document, bad.document):
        assert row.num_pages == row.pages_ok + len(row.pages_failed) + row.pages_skipped


def test_deadlines_hold() -> None:
    """The page has a time that this test does not have."""
    result = read(document("ok", "hang", "hang", "ok"), limits=Limits(page_seconds=999, document_seconds=3))[0]
    assert result.document.status == "partial"
    assert [page.status for page in result.pages] == ["ok", "timeout", "skipped", "skipped"]
    cpu = read(document("spin"), limits=Limits(page_seconds=100, cpu_seconds=1))[0]
    assert (cpu.document.status, "CPU time" in cpu.document.error) == ("timeout", True)


def test_a_worker_that_talks_for_ever_or_falls_silent_is_ended() -> None:
    limits = Limits(page_seconds=100, document_seconds=1.5)
    with DocumentWorker("tests.corpus.fake_extractor:flood", {}, limits) as worker:
        row = worker.read("d", document("ok", "ok")).document
    assert (row.status, "took longer than allowed" in row.error) == ("timeout", True)
    result = read(document("ok", "mute", "ok"))[0]
    assert [page.status for page in result.pages] == ["ok", "crash", "ok"]
    assert "closed its answers and did not end" in result.document.error


def test_pages_beyond_the_limit_are_counted() -> None:
    limits = Limits(max_pages=2)
    with DocumentWorker(NAME, {"max_pages": 2}, limits) as worker:
        row = worker.read("d", document("ok", "ok", "ok")).document
    assert (row.status, row.pages_ok, row.pages_skipped) == ("partial", 2, 1)
    assert "1 pages lie beyond the limit of 2" in row.error


def test_workers_are_replaced_and_cannot_write_files() -> None:
    seen = set()
    with DocumentWorker(NAME, {}, Limits(documents_per_worker=2)) as worker:
        for n in range(5):
            worker.read(str(n), document("ok", salt=str(n)))
            seen.add(worker._child.pid if worker._child else None)
        result = worker.read("w", document("write", "ok"))
    assert len(seen - {None}) == 3
    assert result.pages[0].status == "error"
    assert result.document.pages_ok == 1


def test_a_worker_has_nothing_of_ours() -> None:
    os.environ["S1PRO_TEST_SECRET"] = "secret"
    try:
        child = Child(NAME, {}, LIMITS)
    finally:
        del os.environ["S1PRO_TEST_SECRET"]
    try:
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
        folder = os.readlink(f"/proc/{child.pid}/cwd")
        limits = Path(f"/proc/{child.pid}/limits").read_text(encoding="ascii")
    finally:
        child.close()
    assert b"secret" not in environment and b"HOME" not in environment
    assert folder.endswith("(deleted)")
    assert [line.split()[4] for line in limits.splitlines() if line.startswith(("Max core", "Max file size"))] == [
        "0",
        "0",
    ]


def test_children_do_not_outlive_their_parent() -> None:
    script = (
        "import sys, time\n"
        "from s1pro.corpus.children import Child, Limits\n"
        "from s1pro.corpus.frames import Frame\n"
        "from tests.corpus.fake_extractor import NAME, document\n"
        "child = Child(NAME, {}, Limits())\n"
        "child.send(Frame(header={'op': 'document', 'first_page': 0}, parts=(document('spin'),)))\n"
        "child.receive(time.monotonic() + 100)\n"
        "print(child.pid, flush=True)\n"
        "child.receive(time.monotonic() + 1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(2000):
        if not _runs(pid):
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the child outlived its parent")


def test_a_kill_from_outside_does_not_count_until_it_comes_again_and_again() -> None:
    killed = []

    def strike(pages: int) -> None:
        """Kills the worker whenever it has read one page, so many times."""
        child = worker._child
        if pages == 1 and child is not None and child.pid not in killed and len(killed) < strikes:
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    for strikes, status in ((3, "ok"), (99, "partial")):
        killed.clear()
        with DocumentWorker(NAME, {}, LIMITS, strike) as worker:
            result = worker.read("d", document("ok", "pause", "ok"))  # time to strike in
        assert result.document.status == status
        assert len(killed) == min(strikes, 5)
    assert [page.status for page in result.pages] == ["ok", "oom", "ok"]


def test_how_an_end_is_described() -> None:
    assert describe_end(-signal.SIGKILL, "", False)[0] == "oom"
    assert describe_end(-signal.SIGXCPU, "", False)[0] == "timeout"
    assert describe_end(-signal.SIGABRT, "", True)[0] == "oom"
    assert describe_end(-signal.SIGABRT, "", False)[0] == "crash"
    assert describe_end(1, "MemoryError", False)[0] == "oom"
    assert describe_end(1, "ValueError: no", False) == ("error", "ValueError: no")


def test_a_worker_that_cannot_start_is_the_users_error() -> None:
    with pytest.raises(InputError, match="cannot start: ModuleNotFoundError"):
        Child("s1pro.corpus.no_such_module:extract", {}, LIMITS)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
