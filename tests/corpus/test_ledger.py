from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.executors import Inline, run_stage
from s1pro.corpus.ledger import read_ledger, read_source, register, sources
from s1pro.corpus.records import ElementRow
from s1pro.corpus.status import documents_with, folder_status
from tests.corpus.corpus_runs import corpus, inputs, result

MIDDLE = {
    "_backend": "pipeline",
    "_version_name": "3.4.0",
    "pdf_info": [
        {
            "page_idx": 0,
            "page_size": [612, 792],
            "para_blocks": [
                {
                    "type": "image",
                    "bbox": [72, 90, 300, 250],
                    "blocks": [
                        {"type": "image_body", "bbox": [72, 90, 300, 250], "lines": []},
                        {
                            "type": "image_caption",
                            "bbox": [72, 255, 300, 275],
                            "lines": [{"spans": [{"type": "text", "content": "Figure 1. Yield against time."}]}],
                        },
                    ],
                }
            ],
            "discarded_blocks": [],
        }
    ],
}


def test_the_ledger_depends_on_the_inputs_alone(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 5)
    register(tmp_path / "a", [paths], licence="CC0")
    for path in sorted(paths.iterdir(), reverse=True):
        if path.suffix.lower() == ".pdf":
            register(tmp_path / "b", [path], licence="CC0")
    assert (tmp_path / "a" / "inputs.parquet").read_bytes() == (tmp_path / "b" / "inputs.parquet").read_bytes()
    rows = read_ledger(tmp_path / "a")
    assert len(rows) == 9 and {row.licence for row in rows} == {"CC0"}
    copies = [found for found in sources(rows).values() if len(found) > 1]
    assert [[Path(row.source_uri).name for row in found] for found in copies] == [["0.pdf", "copy.PDF"]]
    assert read_source(copies[0]) == (paths / "0.pdf").read_bytes()


def test_files_that_are_named_count_whatever_their_name(tmp_path: Path) -> None:
    (tmp_path / "paper").write_bytes(b"%PDF-")
    (tmp_path / ".hidden.pdf").write_bytes(b"%PDF-")
    assert len(register(tmp_path / "a", [tmp_path / "paper"])) == 1
    with pytest.raises(InputError, match=r"no \.pdf file in this folder"):
        register(tmp_path / "b", [tmp_path])
    with pytest.raises(InputError, match="there is no such file or folder"):
        register(tmp_path / "b", [tmp_path / "none"])
    assert read_ledger(tmp_path / "b") == []


def test_pipes_and_large_files_are_not_read(tmp_path: Path) -> None:
    """A pipe would block for ever, a file beyond the limit would fill the memory; both have a status."""
    folder = corpus(tmp_path / "out", inputs(tmp_path / "in", 1, bad=False))
    os.mkfifo(tmp_path / "in" / "pipe.pdf")
    with (tmp_path / "in" / "large.pdf").open("wb") as file:
        file.truncate(3 << 20)
    register(folder.root, [tmp_path / "in"])
    settings = folder.settings()
    folder.save_settings(replace(settings, ingest=settings.ingest.changed({"max_bytes": 1 << 20})))
    run_stage(folder, "ingest", Inline())
    errors = {row.status: row.error for part in folder.parts() for row in folder.documents(part)}
    assert errors["too_large"] == "3,145,728 bytes; the limit is 1,048,576"
    assert "pipe.pdf" in errors["corrupt"]
    assert folder_status(folder).finished


def test_layouts_of_other_programs_are_inputs(tmp_path: Path) -> None:
    """They have their statuses beside the PDFs, and a layout that cannot be read says why."""
    folder = corpus(tmp_path / "out", inputs(tmp_path / "in", 2, bad=False))
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "paper_middle.json").write_text(json.dumps(MIDDLE))
    (tmp_path / "broken_middle.json").write_text(json.dumps({"pdf_info": [{"page_idx": 7}]}))
    register(folder.root, [tmp_path / "paper", tmp_path / "broken_middle.json"], kind="layout")
    run_stage(folder, "ingest", Inline())
    status = folder_status(folder)
    assert status.finished and dict(status.statuses) == {"corrupt": 1, "ok": 3}
    rows: list[ElementRow] = [row for part in folder.parts() for row in folder.elements(part) if row.source == "mineru"]
    assert [(row.label, row.box) for row in rows] == [("Figure 1", (72.5, 90.5, 300.5, 250.5))]
    (broken,) = documents_with(folder, frozenset({"corrupt"}))
    assert broken.error.startswith("broken_middle.json: pdf_info[0].") and str(tmp_path) not in broken.error


def test_a_full_disk_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    """On a file system of a megabyte, nearly full at first: after making room the result is that of a clean run."""
    paths = inputs(tmp_path / "in", 12)
    clean = corpus(tmp_path / "clean", paths)
    run_stage(clean, "ingest", Inline())
    (tmp_path / "small").mkdir()
    script = (
        "import sys; from pathlib import Path\n"
        "from s1pro.corpus.executors import Inline, run_stage\n"
        "from tests.corpus.corpus_runs import corpus, result\n"
        "root, paths = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "folder = corpus(root / 'out', paths)\n"
        "ballast = root / 'ballast'\n"
        "ballast.write_bytes(bytes(900 << 10))\n"
        "for attempt in range(2):\n"
        "    try: run_stage(folder, 'ingest', Inline()); print('done')\n"
        "    except (ValueError, OSError) as error: print('stopped:', error)\n"
        "    ballast.unlink(missing_ok=True)\n"
        "print(result(root / 'out'))\n"
    )
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$0" -c "$3" "$1" "$2"'
    command = ["unshare", "-rm", "sh", "-c", mount, sys.executable, str(tmp_path / "small"), str(paths), script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this system lets us mount nothing")
    assert done.stderr == ""
    first, second, files = done.stdout.strip().splitlines()
    assert first.startswith("stopped:") and "o space left" in first
    assert (second, files) == ("done", str(result(clean.root)))
