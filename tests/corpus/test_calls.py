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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointSettings, RetrySettings
from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Usage
from s1pro.corpus.captioning.caption import PRICE_CAP
from s1pro.corpus.captioning.spending import RouteBudget, RouteSpending, spending
from s1pro.corpus.executors import Inline, Processes, run_stage
from s1pro.corpus.records import CaptionRow
from s1pro.corpus.routing import Route
from s1pro.corpus.settings import Endpoint
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.status import folder_status
from tests.corpus.corpus_runs import corpus, inputs, result
from tests.fake_endpoint import FakeEndpoint, Reply, chat_answer

CONCURRENCY = 4
KILLS = 12


def answer(number: int, path: str, body: dict[str, Any]) -> Reply:
    return chat_answer(text_for(body))


def text_for(body: dict[str, Any]) -> str:
    """A text that depends on nothing but the request."""
    digest = hashlib.sha256(repr(body["messages"]).encode()).hexdigest()
    letters = "".join(chr(97 + int(digit, 16)) for digit in digest[:12])
    return f"A plot of the temperature against time, seen as {letters}, rises slowly."


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


def priced(folder: CorpusFolder, cap: float) -> None:
    """Prices in millionths: 1 per token of the prompt and 10 per token of the answer."""
    settings = folder.settings()
    endpoint = settings.caption.endpoints[0]
    prices = replace(endpoint.settings, price_prompt=1.0, price_completion=10.0)
    routes = tuple(replace(route, price_cap=cap, max_tokens=20) for route in settings.route.routes)
    caption = replace(settings.caption, endpoints=(replace(endpoint, settings=prices),))
    folder.save_settings(replace(settings, route=replace(settings.route, routes=routes), caption=caption))


def statuses(folder: CorpusFolder) -> dict[str, int]:
    found = folder_status(folder)
    assert found.reconciled and sum(found.stages["caption"].statuses.values()) == sum(found.elements.values())
    return dict(found.stages["caption"].statuses)


def dear(number: int, path: str, body: dict[str, Any]) -> Reply:
    """The same answer, of more tokens."""
    return chat_answer(text_for(body), prompt=500, tokens=20)


COST = (500 * 1 + 20 * 10) / 1e6


def test_a_route_ends_at_its_price_cap_and_goes_on_with_a_higher_one(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 8, bad=False)
    with FakeEndpoint(dear) as server:
        folder = ready(tmp_path / "out", paths, server.url)
        priced(folder, 0.005)
        run_stage(folder, "route", Inline())
        run_stage(folder, "caption", Inline())
        first, elements = len(server.requests), sum(folder_status(folder).elements.values())
        assert 0 < first < elements
        assert statuses(folder) == {"captioned": first, "price cap: described": elements - first}
        costs = folder_status(folder).spending["scientific"]
        assert (costs.calls, costs.unknown, costs.cap) == (first, 0, 0.005)
        assert costs.spent == pytest.approx(first * COST) and costs.spent <= 0.005
        rows = list(folder.rows("caption", "captions", CaptionRow))
        assert Counter(row.model for row in rows if row.text) == {"fake": first, "embedded": elements - first}
        assert Counter(row.error for row in rows if not row.text) == {PRICE_CAP: elements - first}
        for path in (folder.root / "stages" / "caption").iterdir():  # what was spent is known after a loss too
            path.unlink()
        run_stage(folder, "caption", Inline())
        assert len(server.requests) == first and statuses(folder)["captioned"] == first
        priced(folder, 1.0)
        run_stage(folder, "route", Inline())
        run_stage(folder, "caption", Inline())
        assert len(server.requests) == elements and statuses(folder) == {"captioned": elements}
        assert folder_status(folder).spending["scientific"].spent == pytest.approx(elements * COST)


@pytest.mark.slow
def test_a_cap_is_kept_by_kills_and_several_processes(tmp_path: Path) -> None:
    """Calls that were under way in a kill count with their most, and what was begun never exceeds the cap."""
    paths = inputs(tmp_path / "in", 16, bad=False)

    def slowly(number: int, path: str, body: dict[str, Any]) -> Reply:
        return Reply(body=dear(number, path, body).body, delay_s=0.1)

    with FakeEndpoint(slowly) as server:
        folder = ready(tmp_path / "out", paths, server.url)
        priced(folder, 0.02)
        run_stage(folder, "route", Inline())
        for calls in (3, 8):
            process = start(folder.root)
            while len(server.requests) < calls:
                time.sleep(0.005)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        killed = spending(folder.root / "calls" / "spending.jsonl")["scientific"]
        run_stage(folder, "caption", Processes(workers=2))
        costs = folder_status(folder).spending["scientific"]
        elements, found = sum(folder_status(folder).elements.values()), statuses(folder)
        assert found["captioned"] + found["price cap: described"] == elements and found["price cap: described"]
        assert 1 <= killed.unknown <= 2 * CONCURRENCY and costs.unknown == killed.unknown
        assert costs.calls == len(server.requests) == found["captioned"] + costs.unknown
        assert len(server.requests) * COST < costs.spent <= 0.02
        texts = [row for row in folder.rows("caption", "captions", CaptionRow) if row.text]
        assert len(texts) == elements


def test_a_cap_that_nothing_can_reach_is_refused(tmp_path: Path) -> None:
    with FakeEndpoint(answer) as server:
        folder = ready(tmp_path / "out", inputs(tmp_path / "in", 2, bad=False), server.url)
        table = folder.settings().route
        routes = tuple(replace(route, price_cap=1.0) for route in table.routes)
        folder.save_settings(replace(folder.settings(), route=replace(table, routes=routes)))
        run_stage(folder, "route", Inline())
        with pytest.raises(InputError, match=r"has no prices; set caption\.endpoints\.0\.settings\.price"):
            run_stage(folder, "caption", Inline())
    with pytest.raises(InputError, match="needs a model behind an endpoint, not 'embedded'"):
        Route(name="r", price_cap=1.0)
    with pytest.raises(InputError, match=r"must be 0 \(no limit\) or more, got -1"):
        Route(name="r", model="m", price_cap=-1)
    with pytest.raises(InputError, match="no line of a ledger of costs"):
        (tmp_path / "bad.jsonl").write_bytes(b'{"route": "r"}\n')
        spending(tmp_path / "bad.jsonl")


def test_the_most_of_a_call_is_counted_until_its_cost_is_known(tmp_path: Path) -> None:
    prices = EndpointSettings(base_url="http://h/v1", model="m", price_prompt=1e6, price_completion=1e6)
    path = tmp_path / "spending.jsonl"
    one, two = (RouteBudget(path, "r", 1000.0, prices) for _ in range(2))
    call = one.reserve(100, 14 * 14 * 50, 100)  # 100 + 50 + 256 tokens of prompt, 100 of an answer
    assert call is not None and two.reserve(100, 14 * 14 * 50, 100) is None
    assert spending(path)["r"] == RouteSpending(spent=506.0, calls=1, unknown=1)
    one.settle(call, Completion(text="t", finish_reason="stop", usage=Usage(num_prompt_tokens=700, num_tokens=10)))
    assert spending(path)["r"] == RouteSpending(spent=710.0, calls=1, unknown=0, longest=700)
    assert two.reserve(1, 1, 1) is None  # a prompt may be as long as the longest so far
    with path.open("ab") as file:
        file.write(b'{"route":"r","most":5')  # cut in two by a kill
    cheap = RouteBudget(path, "other", 0.0, prices)
    refused = cheap.reserve(1, 1, 1)
    assert refused is not None
    cheap.settle(refused, None)
    assert spending(path) == {
        "other": RouteSpending(calls=1), "r": RouteSpending(spent=710.0, calls=1, longest=700),
    }  # fmt: skip


@pytest.mark.slow
def test_no_call_is_repeated_beyond_those_in_flight(tmp_path: Path) -> None:
    paths = inputs(tmp_path / "in", 40, bad=False)
    with FakeEndpoint(answer) as server:
        clean = ready(tmp_path / "clean", paths, server.url)
        run_stage(clean, "caption", Inline())
        calls = len(server.requests)
    rng, kills = random.Random(0), 0

    last = 10**9

    def until_the_kill(number: int, path: str, body: dict[str, Any]) -> Reply:
        return Reply(mode="hang") if number >= last else answer(number, path, body)

    with FakeEndpoint(until_the_kill) as server:
        folder = ready(tmp_path / "out", paths, server.url)
        while not folder_status(folder, check=False).finished or not kills:
            wanted = len(server.requests) + rng.randint(1, 8)
            last = wanted - 1 if kills < KILLS else 10**9
            process = start(folder.root)
            while process.poll() is None and (kills >= KILLS or len(server.requests) < wanted):
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
