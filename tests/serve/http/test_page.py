from __future__ import annotations

import re
import struct
import wave
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest

from s1pro.serve.http import page
from tests.serve.http.running import WEB, post


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


def test_pdfs_are_not_taken_yet(server: str) -> None:
    assert WEB.post(f"{server}/page/pdf", content=b"%PDF").status_code == 501
