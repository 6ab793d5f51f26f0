from __future__ import annotations

import base64
import hashlib
import re
import struct
import threading
import time
import wave
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from PIL import Image

from s1pro.serve.http import page
from s1pro.serve.http.paper_figures import MAX_FIGURE_BYTES, MAX_FIGURES, PaperFigure, PaperFigures, as_record
from tests.serve.http.running import WEB, post, scripted


def signal(server: str, data: bytes, **query: Any) -> httpx.Response:
    return WEB.post(f"{server}/page/signal", params=query, content=data)


def test_a_signal_becomes_points_and_a_part_that_the_model_takes(server: str) -> None:
    rows = "\n".join(f"{i / 100},{np.sin(i / 9):.5f},{i % 7}" for i in range(5000))
    got = signal(server, f"time,a,b\n{rows}\n".encode(), name="rec.csv", unit="mV").json()
    assert (got["length"], got["num_channels"], got["unit"]) == (5000, 2, "mV")
    assert got["sampling_rate"] == pytest.approx(100)
    x, (a, b) = got["plot"]["x"], got["plot"]["y"]
    assert len(x) == len(a) == len(b) <= page.MAX_PLOT_POINTS and x == sorted(x) and x[-1] <= 4999
    assert max(a) == pytest.approx(1, abs=1e-3) and max(b) == 6 and min(b) == 0  # peaks survive
    message = {"role": "user", "content": [{"type": "text", "text": "?"}, got["part"]]}
    answer = post(server + "/v1/chat/completions", {"messages": [message], "max_tokens": 1})
    assert answer.status_code == 200, answer.text


def test_other_kinds_of_signals(server: str) -> None:
    stream = BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<100h", *range(0, 1000, 10)))
    got = signal(server, stream.getvalue(), name="a.wav").json()
    assert (got["length"], got["sampling_rate"]) == (100, 8000)
    gappy = signal(server, b"1\nnan\n3\n", sampling_rate=10).json()
    assert gappy["plot"]["y"] == [[1.0, None, 3.0]] and gappy["part"]["missing"] == "interpolate"
    for data in (b"", b"words only", b"\x93NUMPY\x01\x00", b"RIFF1234WAVE"):
        assert signal(server, data).status_code == 400


def test_miniseed(server: str) -> None:
    obspy = pytest.importorskip("obspy")
    trace = obspy.Trace(np.arange(200, dtype=np.int32), {"sampling_rate": 20.0})
    stream = BytesIO()
    trace.write(stream, format="MSEED")
    got = signal(server, stream.getvalue(), name="a.mseed").json()
    assert (got["length"], got["sampling_rate"]) == (200, 20.0)


def test_molecules_are_drawn_as_shapes_only(server: str) -> None:
    pytest.importorskip("rdkit")
    drawn = WEB.get(f"{server}/page/molecule", params={"smiles": "CC(=O)Oc1ccccc1C(=O)O"})
    assert drawn.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in drawn.headers["content-security-policy"]
    tags = {re.sub(r"\{.*\}", "", element.tag) for element in ElementTree.fromstring(drawn.text).iter()}
    assert "path" in tags and tags <= {"svg", "path", "rect", "text", "tspan", "ellipse", "polygon", "g", "line"}
    for smiles in ("", "not a molecule", "C" * 401, "<script>", "C1CC", "[Xx]", "C(C)(C)(C)(C)C"):
        assert WEB.get(f"{server}/page/molecule", params={"smiles": smiles}).status_code == 400, smiles
    assert WEB.get(f"{server}/page/molecule", params={"smiles": "C", "side": 5000}).status_code == 400


def test_files_of_the_page_and_nothing_else(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    static, secret = tmp_path / "static", tmp_path / "secret.txt"
    static.mkdir()
    secret.write_text("secret")
    (static / "index.html").write_text("<!doctype html><p>page</p>")
    (static / "app.js").write_text("1")
    (static / ".hidden").write_text("h")
    (static / "link.js").symlink_to(secret)
    monkeypatch.setattr(page, "STATIC", static)
    index = WEB.get(f"{server}/")
    assert index.text.endswith("<p>page</p>") and "script-src 'self'" in index.headers["content-security-policy"]
    assert index.headers["x-content-type-options"] == "nosniff"
    assert "javascript" in WEB.get(f"{server}/static/app.js").headers["content-type"]
    for path in (
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        ".hidden",
        "link.js",
        "",
        "none.js",
        "/etc/passwd",
        "a//b",
        "%00",
    ):
        assert WEB.get(f"{server}/static/{path}").status_code == 404, path


def test_a_server_without_a_reader_of_pdfs_says_so(server: str) -> None:
    refused = WEB.post(f"{server}/page/pdf", content=b"%PDF")
    assert refused.status_code == 501 and "papers" in refused.json()["error"]["message"]


def test_figures_of_a_pdf() -> None:
    pytest.importorskip("pypdfium2")
    pytest.importorskip("reportlab")
    from s1pro.cli.paper_figures import figures_of_pdf
    from tests.corpus.pdf.paper import Paper

    paper = Paper()
    paper.body(60, 60, 220, 10)
    paper.chart((60, 220, 280, 380))
    paper.text(60, 400, "Figure 1. Heating curve of the sample.")
    with scripted(str.upper, figures_of_pdf=figures_of_pdf) as (url, _):
        got = WEB.post(f"{url}/page/pdf", content=paper.data()).json()
        assert got["num_pages"] == 1 and got["note"] == ""
        (figure,) = got["figures"]
        assert (figure["page"], figure["label"], figure["caption"]) == (1, "Figure 1", "Heating curve of the sample.")
        image = Image.open(BytesIO(base64.b64decode(figure["image"].partition(",")[2])))
        assert image.size == (figure["width"], figure["height"]) and min(image.size) > 200
        for data, why in ((b"", "empty"), (b"words", "not_pdf"), (b"%PDF-1.7\nrubbish", "corrupt")):
            refused = WEB.post(f"{url}/page/pdf", content=data)
            assert refused.status_code == 400 and why in refused.json()["error"]["message"]


def test_reading_a_pdf_ends_when_nobody_waits() -> None:
    began, ended = threading.Event(), threading.Event()

    def endless(data: bytes, wanted: Callable[[], bool]) -> PaperFigures:
        began.set()
        while wanted():
            time.sleep(0.01)
        ended.set()
        return PaperFigures(num_pages=0, figures=())

    with scripted(str.upper, figures_of_pdf=endless) as (url, _):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/page/pdf", content=b"%PDF", timeout=httpx.Timeout(100, read=0.5))
        assert began.wait(100) and ended.wait(100)


def test_the_worker_ends_when_nobody_waits_and_is_left_out_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pypdfium2")
    pytest.importorskip("reportlab")
    from s1pro.cli import paper_figures
    from tests.corpus.pdf.paper import Paper

    paper = Paper()
    paper.body(60, 60, 220, 10)
    data = paper.data()
    with pytest.raises(paper_figures.GivenUp):
        paper_figures.figures_of_pdf(data, lambda: False)
    assert paper_figures.figures_of_pdf(data, lambda: True).num_pages == 1
    assert paper_figures.figures_reader() is paper_figures.figures_of_pdf
    monkeypatch.setattr(paper_figures.importlib.util, "find_spec", lambda name: None)
    assert paper_figures.figures_reader() is None


def test_an_answer_holds_only_so_many_figures() -> None:
    one = PaperFigure(
        page=1, type="figure", label="", caption="", mime="image/png", image=b"1" * 1000, width=1, height=1
    )
    many = as_record(PaperFigures(num_pages=9, figures=(one,) * (MAX_FIGURES + 5), note="page 3: timeout"))
    assert len(many["figures"]) == MAX_FIGURES and many["note"] == "page 3: timeout; 5 more figures are not shown"
    large = replace(one, image=bytes(MAX_FIGURE_BYTES))
    assert [len(as_record(PaperFigures(num_pages=1, figures=(large, one)))["figures"])] == [1]


def test_every_file_that_the_page_carries_is_the_published_one() -> None:
    vendor = page.STATIC / "vendor"
    table = (vendor / "VENDOR.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (\S+) \| `([0-9a-f]{64})` \|$", table, flags=re.MULTILINE))
    files = [path for path in vendor.rglob("*") if path.is_file() and path.name != "VENDOR.md"]
    assert listed == {
        path.relative_to(vendor).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    for package in ("marked", "dompurify", "katex", "uplot"):
        assert re.search(rf"^\| {package} \| [\d.]+ \| (MIT|Apache-2\.0)", table, flags=re.MULTILINE)
        assert (vendor / package / "LICENSE.txt").stat().st_size > 500


def test_the_page_loads_nothing_from_elsewhere(server: str) -> None:
    index = WEB.get(f"{server}/")
    sources = re.findall(r'(?:src|href)="([^"#]+)"', index.text)
    assert len(sources) > 5
    for source in sources:
        assert source.startswith("/static/") and WEB.get(server + source).status_code == 200, source
    assert re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", index.text) is None
    for path in page.STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert (
            re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://(?!www\.w3\.org)", text
            )
            is None
        )
        for module in re.findall(r'from "\./([^"]+)"', text):
            assert (page.STATIC / module).is_file(), (path.name, module)
