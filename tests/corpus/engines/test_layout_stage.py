"""Scanned pages, read by an engine on a loopback port: rows, captions, counts, failures, kills."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pypdfium2")
pytest.importorskip("reportlab")

from PIL import Image

from s1pro.base.endpoint import EndpointSettings, RetrySettings
from s1pro.base.errors import InputError
from s1pro.cli import main
from s1pro.corpus.engines.settings import LayoutSettings
from s1pro.corpus.executors import Inline, Processes, run_stage
from s1pro.corpus.ledger import register
from s1pro.corpus.records import ElementRow, PageRow
from s1pro.corpus.settings import IngestSettings, PipelineSettings
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.status import CorpusStatus, folder_status
from s1pro.corpus.view.page import GallerySettings, write_gallery
from tests.corpus.corpus_runs import result
from tests.corpus.engines.scans import Truth, scanned
from tests.corpus.pdf.paper import Paper, iou
from tests.corpus.plots import plotted
from tests.fake_endpoint import Behave, FakeEndpoint, Reply, chat_answer

LATER = ["deduplicate", "route", "caption", "judge"]
FILES = (1, 5)  # pages of the scanned documents
PAGES = sum(FILES)


@pytest.fixture(scope="module")
def truths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Truth]]:
    """Two scanned documents and one with text; what is on the scanned pages, by their width."""
    folder, known, first = tmp_path_factory.mktemp("scans"), {}, 0
    for number, count in enumerate(FILES):
        data, pages = scanned(first, count)
        (folder / f"scan{number}.pdf").write_bytes(data)
        known.update({round(page.width): page for page in pages})
        first += count
    (folder / "text.pdf").write_bytes(plotted(0, figure=1))
    return folder, known


@pytest.fixture(scope="module")
def ingested(truths: tuple[Path, dict[int, Truth]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = CorpusFolder(tmp_path_factory.mktemp("ingested") / "folder")
    register(folder.root, [truths[0]])
    folder.save_settings(PipelineSettings(ingest=IngestSettings(documents_per_unit=2)))
    run_stage(folder, "ingest", Inline())
    return folder.root


def fresh(ingested: Path, root: Path) -> CorpusFolder:
    """A copy of the folder after ingest."""
    import shutil

    shutil.copytree(ingested, root)
    return CorpusFolder(root)


def with_engine(folder: CorpusFolder, url: str, **changes: Any) -> CorpusFolder:
    retries = RetrySettings(attempts=2, first_s=0.01, longest_s=0.02)
    endpoint = EndpointSettings(
        base_url=url, model="fake", concurrency=2, retries=retries, timeout_s=changes.pop("timeout_s", 100.0)
    )
    endpoint = replace(endpoint, breaker_threshold=changes.pop("breaker_threshold", 0))
    folder.save_settings(replace(folder.settings(), layout=LayoutSettings(endpoint=endpoint, **changes)))
    return folder


def knowing(known: dict[int, Truth]) -> Behave:
    """An engine that answers right."""

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        return Reply(body=known[round(body["page"]["width"])].answer())

    return behave


def layout(folder: CorpusFolder) -> CorpusStatus:
    run_stage(folder, "layout", Inline())
    return folder_status(folder)


def rows(folder: CorpusFolder) -> tuple[list[PageRow], list[ElementRow]]:
    parts = folder.parts()
    return [p for part in parts for p in folder.pages(part)], [
        e for part in parts for e in folder.elements(part, without=())
    ]


def test_scanned_pages_get_their_elements_and_captions(
    truths: tuple[Path, dict[int, Truth]], ingested: Path, tmp_path: Path
) -> None:
    known, folder = truths[1], fresh(ingested, tmp_path / "out")
    before = folder_status(folder)
    assert before.routes == {"needs_ocr": PAGES, "text": 1}
    with FakeEndpoint(knowing(known)) as server:
        status = layout(with_engine(folder, server.url))
        assert len(server.requests) == PAGES
        path, _, body = server.requests[0]
        picture = Image.open(io.BytesIO(base64.b64decode(body["image"])))
        assert path == "/v1" and body["engine"] == "fake"
        assert abs(picture.width / picture.height - body["page"]["width"] / body["page"]["height"]) < 0.01
    assert status.finished, status.problems
    assert status.routes == {"engine": PAGES, "text": 1}
    assert status.stages["layout"].statuses == {"read": PAGES}
    assert status.pages == before.pages
    pages, elements = rows(folder)
    sizes = {(page.doc_id, page.page): page.width for page in pages if page.route == "engine"}
    theirs = [row for row in elements if row.source == "http"]
    assert Counter(row.type for row in theirs) == {"chart": PAGES, "table": PAGES}
    for row in theirs:
        truth = known[round(sizes[row.doc_id, row.page])]
        number = round(truth.width) - 600
        assert iou(row.box, truth.figure if row.type == "chart" else truth.table) > 0.99
        assert row.caption_page == row.page and row.caption_box is not None
        if row.type == "chart":
            assert row.label == f"Figure {number + 1}" and row.link_method == "caption_below"
            assert row.caption == (
                f"Yield of the reaction against time at {number + 20} degrees, for all samples of the second series."
            )
            assert [mention.text for mention in row.mentions] == [f"The data of Fig. {number + 1} were measured twice."]
        else:
            assert (row.label, row.link_method) == (f"Table {number + 1}", "caption_above")
            assert row.caption == f"Conditions of run {number}."
            assert "Name 0" in row.text_layer and "1.17" in row.text_layer
        crop = Image.open(io.BytesIO(row.image))
        assert crop.size == (row.width, row.height) and hashlib.sha256(row.image).hexdigest() == row.image_id
        assert abs(crop.width - (row.box[2] - row.box[0] + 8) * row.crop_dpi / 72) < 3
        assert abs(crop.height - (row.box[3] - row.box[1] + 8) * row.crop_dpi / 72) < 3
        assert len(row.phash) == 64
    assert all(page.num_chars > 500 for page in pages if page.route == "engine")


def test_the_command_goes_the_whole_way_with_an_engine(
    truths: tuple[Path, dict[int, Truth]], ingested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fresh(ingested, tmp_path / "out")
    command = ["corpus", "caption", str(folder.root), "--executor", "inline", "--json"]
    assert main([*command, "--layout-name", "x"]) == 2
    assert "--layout-engine" in capsys.readouterr().err
    with FakeEndpoint(knowing(truths[1])) as server:
        assert main([*command, "--layout-engine", server.url, "--layout-name", "fake"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["finished"] and told["routes"] == {"engine": PAGES, "text": 1}
        assert main(command) == 0 and len(server.requests) == PAGES
    status = folder_status(folder)
    assert status.finished, status.problems
    count = len(rows(folder)[1])
    assert count >= 2 * PAGES
    assert all(sum(status.stages[stage].statuses.values()) == count for stage in LATER)
    page = tmp_path / "view.html"
    write_gallery(folder, page, GallerySettings())
    assert "Yield of the reaction against time at 25 degrees" in page.read_text(encoding="utf-8")
    # without the engine the folder is again as if it had never been there
    folder.save_settings(replace(folder.settings(), layout=LayoutSettings()))
    run_stage(folder, "layout", Inline())
    assert folder_status(folder).routes == {"needs_ocr": PAGES, "text": 1}
    assert rows(folder) == rows(CorpusFolder(ingested))
    assert "layout" not in folder_status(folder).stages


def test_without_an_engine_not_a_byte_changes(
    ingested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, asked = fresh(ingested, tmp_path / "plain"), fresh(ingested, tmp_path / "asked")
    for stage in LATER:
        run_stage(plain, stage, Inline())
    assert main(["corpus", "caption", str(asked.root), "--executor", "inline", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["routes"] == {"needs_ocr": PAGES, "text": 1}
    assert result(asked.root) == result(plain.root)
    plans = [{p.name: p.read_bytes() for p in (f.root / "plans").iterdir()} for f in (plain, asked)]
    assert plans[0] == plans[1] and "layout.json" not in plans[0] and b"engine" not in plans[0]["route.json"]
    assert not (asked.root / "calls").exists()


def test_bad_answers_leave_the_page_as_it_was_with_the_reason(
    truths: tuple[Path, dict[int, Truth]], ingested: Path, tmp_path: Path
) -> None:
    known, folder = truths[1], fresh(ingested, tmp_path / "out")
    bad: dict[int, Reply] = {
        600: Reply(body=b"<html>"),
        601: Reply(body={"elements": [{"type": "figure", "box": [0.2, 0.2, 0.1, 0.3]}]}),
        602: Reply(status=500, body=b"broken"),
        603: Reply(status=413, body=b"too large"),
        604: Reply(body={"elements": [{"type": "figure", "box": [100, 100, 300, 300]}]}),
    }
    repaired = False

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        width = round(body["page"]["width"])
        return bad[width] if width in bad and not repaired else knowing(known)(number, path, body)

    with FakeEndpoint(behave) as server:
        before = {row.element_id for row in rows(folder)[1]}
        status = layout(with_engine(folder, server.url))
        assert status.finished, status.problems
        assert status.stages["layout"].statuses == {"failed": 5, "read": 1}
        assert status.routes == {"engine": 1, "needs_ocr": 5, "text": 1}
        assert len(server.requests) == 4 * 2 + 1 + 1  # what may work later was tried twice
        pages, elements = rows(folder)
        why = {round(page.width): page.reasons[-1] for page in pages if page.route == "needs_ocr"}
        assert why[600].startswith("layout engine: malformed answer: Expecting value")
        assert "expected x0 < x1 and y0 < y1" in why[601]
        assert why[602] == "layout engine: HTTP 500" and why[603] == "layout engine: HTTP 413"
        assert "elements[0].box: expected shares of the page from 0 to 1" in why[604]
        failed = {(page.doc_id, page.page) for page in pages if page.route == "needs_ocr"}
        assert {e.element_id for e in elements if (e.doc_id, e.page) in failed} <= before
        asked = len(server.requests)
        assert layout(folder).finished and len(server.requests) == asked  # a failure is a result
        repaired = True
        folder.save_settings(replace(folder.settings(), layout=replace(folder.settings().layout, again=1)))
        assert layout(folder).stages["layout"].statuses == {"read": PAGES}
        assert len(server.requests) == asked + 5  # the page that was read is in the log


def test_a_slow_engine_is_a_failure_of_the_page(
    truths: tuple[Path, dict[int, Truth]], ingested: Path, tmp_path: Path
) -> None:
    known, folder = truths[1], fresh(ingested, tmp_path / "out")

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        slow = round(body["page"]["width"]) == 602
        return Reply(mode="hang") if slow else knowing(known)(number, path, body)

    with FakeEndpoint(behave) as server:
        status = layout(with_engine(folder, server.url, timeout_s=3.0))
    assert status.finished and status.stages["layout"].statuses["failed"] == 1
    assert [p.reasons[-1] for p in rows(folder)[0] if p.route == "needs_ocr"] == ["layout engine: timeout"]


def test_an_engine_that_fails_as_a_whole_stops_the_stage_and_keeps_the_replies(
    truths: tuple[Path, dict[int, Truth]], ingested: Path, tmp_path: Path
) -> None:
    folder, working = fresh(ingested, tmp_path / "out"), False

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        return knowing(truths[1])(number, path, body) if working or number < 2 else Reply(status=401, body=b"no key")

    with FakeEndpoint(behave) as server:
        with_engine(folder, server.url)
        with pytest.raises(InputError, match=r"401.*same command again"):
            run_stage(folder, "layout", Inline())
        status = folder_status(folder)
        assert not status.finished and status.reconciled and status.stages["layout"].pending == PAGES
        with pytest.raises(InputError, match="layout is not finished"):
            run_stage(folder, "deduplicate", Inline())
        refused = len(server.requests) - 2
        working = True
        assert layout(folder).finished
        assert len(server.requests) == refused + PAGES


def test_a_chat_model_gives_the_same_rows(
    truths: tuple[Path, dict[int, Truth]], ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, known = fresh(ingested, tmp_path / "out"), truths[1]

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        image, text = body["messages"][0]["content"]
        data = base64.b64decode(image["image_url"]["url"].partition(",")[2])
        width = 600 + round(Image.open(io.BytesIO(data)).width * 72 / 150 - 600)
        assert path == "/v1/chat/completions" and "Answer with one JSON object" in text["text"]
        if width == 605:
            return chat_answer('{"elements": [', finish_reason="length")
        return chat_answer(f"Here it is:\n```json\n{json.dumps(known[width].answer())}\n```")

    monkeypatch.setenv("ENGINE_KEY", "secret-word")
    with FakeEndpoint(behave) as server:
        status = layout(with_engine(folder, server.url, protocol="chat", api_key_variable="ENGINE_KEY"))
        assert {headers["authorization"] for _, headers, _ in server.requests} == {"Bearer secret-word"}
    assert status.stages["layout"].statuses == {"failed": 1, "read": PAGES - 1}
    pages, elements = rows(folder)
    assert [p.reasons[-1] for p in pages if p.route == "needs_ocr"] == [
        "layout engine: malformed answer: the model did not come to an end (length)"
    ]
    assert {row.label for row in elements if row.source == "http"} == {
        f"{kind} {n}" for kind in ("Figure", "Table") for n in range(1, PAGES)
    }
    assert not [path for path in folder.root.rglob("*") if path.is_file() and b"secret-word" in path.read_bytes()]


@pytest.mark.slow
def test_kills_repeat_at_most_the_calls_that_were_under_way(
    truths: tuple[Path, dict[int, Truth]], ingested: Path, tmp_path: Path
) -> None:
    clean, folder = fresh(ingested, tmp_path / "clean"), fresh(ingested, tmp_path / "out")
    with FakeEndpoint(knowing(truths[1])) as server:
        several = with_engine(fresh(ingested, tmp_path / "several"), server.url)
        run_stage(several, "layout", Processes(workers=2))
        layout(with_engine(clean, server.url))
    assert result(several.root) == result(clean.root)

    last = 0

    def until_the_kill(number: int, path: str, body: dict[str, Any]) -> Reply:
        """Answers the first calls; the others are under way when the kill comes."""
        return Reply(mode="hang") if number >= last else knowing(truths[1])(number, path, body)

    with FakeEndpoint(until_the_kill) as server:
        with_engine(folder, server.url)
        for wanted in (2, 5):
            last = wanted - 1
            process = _start(folder.root)
            while process.poll() is None and len(server.requests) < wanted:
                time.sleep(0.01)
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        last = 10**9
        assert layout(folder).finished
        names = Counter(body["image"] for _, _, body in server.requests)
        assert len(names) == PAGES and len(server.requests) <= PAGES + 2 * 2  # two kills, two calls at once
    assert result(folder.root) == result(clean.root)


def _start(root: Path) -> subprocess.Popen[bytes]:
    script = (
        "import sys; from pathlib import Path; from s1pro.corpus.executors import Inline, run_stage\n"
        "from s1pro.corpus.stages.base import CorpusFolder\n"
        "run_stage(CorpusFolder(Path(sys.argv[1])), 'layout', Inline())"
    )
    command = [sys.executable, "-c", script, str(root)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def test_a_page_with_text_keeps_what_has_a_caption(tmp_path: Path) -> None:
    """Geometry has Figure 1 and a plot without caption on the first page, a caption without figure on the second."""
    paper = Paper()
    paper.body(60, 40, 480, 6)
    paper.chart((150, 130, 420, 260))
    paper.text(60, 280, "Figure 1. A curve.")
    paper.body(60, 300, 480, 6)
    paper.chart((200, 420, 400, 520))
    paper.body(60, 560, 480, 10)
    paper.page()
    paper.body(60, 40, 480, 20)
    paper.text(60, 500, "Figure 2. Something that is too faint.", size=9)
    paper.body(60, 520, 480, 16)
    paper.page()
    (tmp_path / "a.pdf").write_bytes(paper.data())
    folder = CorpusFolder(tmp_path / "out")
    register(folder.root, [tmp_path / "a.pdf"])
    run_stage(folder, "ingest", Inline())
    assert folder_status(folder).routes == {"needs_layout_model": 2}
    before = {row.label: row for row in rows(folder)[1] if not row.parent_id}
    assert set(before) == {"Figure 1", ""}

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        first, second = (140, 120, 430, 265), (198, 418, 402, 522)
        boxes = [(100, 320, 500, 480)] if _is_plain(body["image"]) else [first, second]
        shares = [[b[0] / 600, b[1] / 800, b[2] / 600, b[3] / 800] for b in boxes]
        elements = [{"type": "figure", "box": box, "label": "Plate 7", "caption": "Its text."} for box in shares]
        low = {"type": "figure", "box": [0.1, 0.8, 0.2, 0.9], "score": 0.1}
        return Reply(body={"elements": [*elements, low, elements[-1]]})

    with FakeEndpoint(behave) as server:
        status = layout(with_engine(folder, server.url))
    assert status.finished and status.routes == {"engine": 2}
    pages, elements = rows(folder)[0], [row for row in rows(folder)[1] if not row.parent_id]
    assert all(page.reasons[-2:] == ("read by fake: 1 elements", "1 below score 0.3") for page in pages)
    assert [(row.page, row.source, row.label, row.caption, row.link_method) for row in elements] == [
        (0, "geometry", "Figure 1", "A curve.", "caption_below"),
        (0, "http", "Plate 7", "Its text.", "engine"),
        (1, "http", "Figure 2", "Something that is too faint.", "caption_below"),
    ]
    assert elements[0] == before["Figure 1"]
    assert elements[1].crop_dpi == 150 and "The drawing uses red" in elements[1].description
    assert "0.3" in elements[1].text_layer and elements[1].facts


def _is_plain(image: str) -> bool:
    """Whether the picture of a page is in shades of grey: it is sent as PNG then."""
    return base64.b64decode(image).startswith(b"\x89PNG")


def test_a_source_that_is_gone_is_not_rendered(truths: tuple[Path, dict[int, Truth]], tmp_path: Path) -> None:
    import shutil

    shutil.copy(truths[0] / "scan0.pdf", tmp_path / "scan.pdf")
    folder = CorpusFolder(tmp_path / "out")
    register(folder.root, [tmp_path / "scan.pdf"])
    run_stage(folder, "ingest", Inline())
    (tmp_path / "scan.pdf").unlink()
    with FakeEndpoint(knowing(truths[1])) as server:
        status = layout(with_engine(folder, server.url))
        assert not server.requests
    assert status.finished and status.stages["layout"].statuses == {"not rendered": 1}
    assert "not rendered: not read: scan.pdf" in rows(folder)[0][0].reasons[-1]
