from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from s1pro.corpus.leases import Lease, Seen, machine, watch
from s1pro.corpus.records import PageRow
from s1pro.corpus.units import Outcome, Table, Unit, UnitFolder, chunks

UNIT = Unit(stage="s", version=1, settings="a", inputs=("1", "2"))
ROWS = [PageRow(doc_id="d", page=n, width=1.0, height=2.0) for n in range(200)]
OUTCOME = Outcome(tables={"pages": Table(kind=PageRow, rows=ROWS)}, statuses={"2": "ok", "1": "crash"})


def test_a_key_names_what_goes_in_and_nothing_else() -> None:
    assert len(UNIT.key) == 20
    same = Unit(stage="s", version=1, settings="a", inputs=("2", "1"), work={"anything": 1})
    assert same.key == UNIT.key
    others = [
        Unit(stage="t", version=1, settings="a", inputs=("1", "2")),
        Unit(stage="s", version=2, settings="a", inputs=("1", "2")),
        Unit(stage="s", version=1, settings="b", inputs=("1", "2")),
        Unit(stage="s", version=1, settings="a", inputs=("1", "2", "3")),
    ]
    assert len({UNIT.key, *(unit.key for unit in others)}) == 5


def test_chunks_change_little_when_inputs_do() -> None:
    rng = random.Random(0)
    hashes = [f"{rng.getrandbits(256):064x}" for _ in range(2000)]
    groups = chunks(hashes, 8)
    rng.shuffle(hashes)
    assert chunks(hashes, 8) == groups
    assert sorted(item for group in groups for item in group) == sorted(hashes)
    assert 6 < len(hashes) / len(groups) < 11 and max(map(len, groups)) <= 32
    more = chunks([*hashes, f"{rng.getrandbits(256):064x}"], 8)
    assert len(set(more) - set(groups)) <= 2
    assert chunks([], 8) == []


def test_done_means_a_valid_manifest_with_its_tables(tmp_path: Path) -> None:
    folder = UnitFolder(tmp_path)
    assert folder.manifest(UNIT) is None
    folder.commit(UNIT, OUTCOME, pages=200)
    found = folder.manifest(UNIT)
    assert found is not None and found.statuses == {"1": "crash", "2": "ok"}
    assert found.files["pages"]["rows"] == 200
    assert folder.costs(UNIT)["pages"] == 200
    table, manifest = folder.table(UNIT, "pages"), tmp_path / f"{UNIT.key}.json"
    good_table, good_manifest = table.read_bytes(), manifest.read_bytes()
    changed = bytearray(good_table)
    changed[100] ^= 1
    damages = [
        (table, good_table[:-1]),
        (table, bytes(changed)),
        (manifest, good_manifest[:-20]),
        (manifest, good_manifest.replace(b"crash", b"ok")),
        (manifest, b"[]"),
        (manifest, b"\xff\xfe"),
    ]
    for path, content in damages:
        path.write_bytes(content)
        assert folder.manifest(UNIT) is None
        folder.commit(UNIT, OUTCOME, pages=200)
        assert (table.read_bytes(), manifest.read_bytes()) == (good_table, good_manifest)
    table.unlink()
    assert folder.manifest(UNIT) is None


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on file sizes stands for the disk: writing fails in the middle of a table."""
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tests.corpus.test_units import OUTCOME, UNIT\n"
        "from s1pro.corpus.units import UnitFolder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: UnitFolder(Path(sys.argv[1])).commit(UNIT, OUTCOME)\n"
        "except ValueError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"InputError {tmp_path}: no space left; make room")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a file system of 64 KiB, where the system lets us make one."""
    script = (
        "from pathlib import Path; import sys\n"
        "from tests.corpus.test_units import OUTCOME, UNIT\n"
        "from s1pro.corpus.units import UnitFolder\n"
        "folder = Path(sys.argv[1]); big = folder / 'big'\n"
        "try: big.write_bytes(bytes(1 << 17))\n"
        "except OSError: pass\n"
        "try: UnitFolder(folder).commit(UNIT, OUTCOME)\n"
        "except ValueError as error: print('refused:', error)\n"
        "print(sorted(path.name for path in folder.iterdir()))\n"
        "big.unlink(); UnitFolder(folder).commit(UNIT, OUTCOME); print(UnitFolder(folder).manifest(UNIT) is not None)\n"
    )
    mount = 'mount -t tmpfs -o size=64k none "$1" && exec "$0" -c "$2" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mount, sys.executable, str(tmp_path), script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this system lets us mount nothing")
    assert done.stderr == ""
    refused, left, again = done.stdout.splitlines()
    assert refused.startswith("refused:") and "no space left" in refused
    assert (left, again) == ("['big']", "True")


def test_leases_are_exclusive_and_released(tmp_path: Path) -> None:
    first, second = (Lease(tmp_path / "a.lease", expiry=60) for _ in range(2))
    seen: Seen = {}
    assert first.acquire(seen) and not second.acquire(seen)
    first.beat({"pages": 7}, every=0)
    assert watch(first.path) == {"pages": 7}
    assert first.held() and not second.held()
    second.release()
    assert first.held()
    first.release()
    assert second.acquire(seen)
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_of_a_dead_process_is_taken_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from s1pro.corpus.leases import Lease\n"
        "assert Lease(Path(sys.argv[1]), expiry=60).acquire({})"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.lease"], check=True)
    assert (tmp_path / "a.lease").exists()
    lease = Lease(tmp_path / "a.lease", expiry=1e9)
    assert lease.acquire({})
    lease.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_of_another_machine_expires_by_our_own_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File times are years ahead or behind (clock skew): they do not matter."""
    path = tmp_path / "a.lease"
    now = [0.0]
    monkeypatch.setattr("s1pro.corpus.leases.time.monotonic", lambda: now[0])
    seen: Seen = {}

    def other(beats: int, when: float) -> None:
        path.write_text(
            json.dumps({"machine": "elsewhere", "pid": 1, "started": "1", "beats": beats, "progress": None})
        )
        os.utime(path, (when, when))

    other(0, 4e9)
    lease = Lease(path, expiry=10)
    assert not lease.acquire(seen)
    now[0] = 9.0
    other(1, 1.0)  # a heartbeat, dated 1970
    assert not lease.acquire(seen)
    now[0] = 18.0
    assert not lease.acquire(seen)
    now[0] = 19.5
    assert lease.acquire(seen)
    lease.release()
    path.write_bytes(b"")  # its holder is writing at this moment
    assert not lease.acquire(seen)
    assert machine() != "elsewhere"


def test_a_stolen_lease_is_not_released(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "a.lease", expiry=1)
    assert lease.acquire({})
    (tmp_path / "a.lease").write_text("somebody else")
    lease.release()
    assert (tmp_path / "a.lease").read_text() == "somebody else"
