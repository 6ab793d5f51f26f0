"""Captions by a model: a fake endpoint on a loopback port, kills, and no call that is paid for twice."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointSettings, RetrySettings
from s1pro.base.errors import InputError
from s1pro.corpus.executors import Inline, run_stage
from s1pro.corpus.records import CaptionRow
from s1pro.corpus.settings import Endpoint
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.status import folder_status
from tests.corpus.corpus_runs import corpus, inputs, result
from tests.fake_endpoint import FakeEndpoint, Reply, chat_answer

CONCURRENCY = 4
KILLS = 12


def answer(number: int, path: str, body: dict[str, Any]) -> Reply:
    """A text that depends on nothing but the request."""
    digest = hashlib.sha256(repr(body["messages"]).encode()).hexdigest()
    letters = "".join(chr(97 + int(digit, 16)) for digit in digest[:12])
    return chat_answer(f"A plot of the temperature against time, seen as {letters}, rises slowly.")


def ready(root: Path, paths: Path, url: str) -> CorpusFolder:
    """A folder whose stages before captions are finished, and that sends all routes to an endpoint."""
    folder = corpus(root, paths, documents_per_unit=4)
    retries = RetrySettings(attempts=2, first_s=0.01, longest_s=0.02)
    settings = EndpointSettings(base_url=url, model="fake", concurrency=CONCURRENCY, retries=retries)
    chosen = folder.settings().with_endpoint(Endpoint(name="fake", settings=settings))
    folder.save_settings(chosen)
    for stage in ("ingest", "deduplicate", "route"):
        run_stage(folder, stage, Inline())
    return folder


def asked(server: FakeEndpoint) -> Counter[str]:
    return Counter(hashlib.sha256(repr(body["messages"]).encode()).hexdigest() for _, _, body in server.requests)


def test_a_model_writes_captions_once(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 6, bad=False)
    with FakeEndpoint(answer) as server:
        folder = ready(tmp_path / "out", paths, server.url)
        run_stage(folder, "caption", Inline())
        first = len(server.requests)
        rows = list(folder.rows("caption", "captions", CaptionRow))
        assert first == len(rows) == folder_status(folder).stages["caption"].statuses["captioned"] > 0
        assert {row.model for row in rows} == {"fake"} and all(row.text and row.prompt for row in rows)
        picture = server.requests[0][2]["messages"][0]["content"][0]["image_url"]["url"]
        assert picture.startswith("data:image/png;base64,")
        for path in (folder.root / "stages" / "caption").iterdir():  # lost, but the calls are in the log
            path.unlink()
        run_stage(folder, "caption", Inline())
        assert len(server.requests) == first
        assert list(folder.rows("caption", "captions", CaptionRow)) == rows


def test_an_endpoint_that_fails_stops_the_stage_and_keeps_the_answers(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 6, bad=False)
    working = [5]

    def sometimes(number: int, path: str, body: dict[str, Any]) -> Reply:
        return answer(number, path, body) if number < working[0] else Reply(status=401, body=b"no key")

    with FakeEndpoint(sometimes) as server:
        folder = ready(tmp_path / "out", paths, server.url)
        with pytest.raises(InputError, match="401"):
            run_stage(folder, "caption", Inline())
        assert not folder_status(folder).finished
        before = {key for key, _ in asked(server).items()}
        working[0] = 10**9
        run_stage(folder, "caption", Inline())
        assert max(asked(server).values()) <= 2  # refused once, then answered
        assert before <= set(asked(server))
    assert folder_status(folder).finished
    unknown = folder.settings().with_endpoint(
        Endpoint(name="fake", settings=EndpointSettings(base_url="http://h/v1", model="m"))
    )
    routes = tuple(type(route)(name=route.name, model="nobody") for route in unknown.route.routes)
    folder.save_settings(type(unknown)(ingest=unknown.ingest, route=type(unknown.route)(routes=routes)))
    run_stage(folder, "route", Inline())
    with pytest.raises(InputError, match="a route names the model 'nobody', which is no endpoint; known: embedded"):
        run_stage(folder, "caption", Inline())


@pytest.mark.slow
def test_no_call_is_repeated_beyond_those_in_flight(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 40, bad=False)
    with FakeEndpoint(answer) as server:
        clean = ready(tmp_path / "clean", paths, server.url)
        run_stage(clean, "caption", Inline())
        calls = len(server.requests)
    rng, kills = random.Random(0), 0

    def slowly(number: int, path: str, body: dict[str, Any]) -> Reply:
        reply = answer(number, path, body)
        return Reply(body=reply.body, delay_s=0.05)

    with FakeEndpoint(slowly) as server:
        folder = ready(tmp_path / "out", paths, server.url)
        while not folder_status(folder, check=False).finished or not kills:
            process = start(folder.root)
            before = len(server.requests)
            while process.poll() is None and (kills >= KILLS or len(server.requests) < before + rng.randint(1, 12)):
                time.sleep(0.01)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
        assert kills == KILLS
        assert len(server.requests) <= calls + KILLS * CONCURRENCY
        assert len(asked(server)) == calls
    assert _texts(folder) == _texts(clean)
    run_stage(folder, "caption", Inline())
    assert {k: v for k, v in result(folder.root).items() if "caption" in k} == {
        k: v for k, v in result(clean.root).items() if "caption" in k
    }


def start(root: Path) -> subprocess.Popen[bytes]:
    script = (
        "import sys; from pathlib import Path; from s1pro.corpus.executors import Inline, run_stage\n"
        "from s1pro.corpus.stages.base import CorpusFolder\n"
        "run_stage(CorpusFolder(Path(sys.argv[1])), 'caption', Inline())"
    )
    command = [sys.executable, "-c", script, str(root)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _texts(folder: CorpusFolder) -> dict[str, str]:
    return {row.request_id: row.text for row in folder.rows("caption", "captions", CaptionRow)}
