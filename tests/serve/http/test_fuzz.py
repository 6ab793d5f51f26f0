"""Thousands of bad requests: never a status of 500 or above, never a hang; afterwards the server answers as before."""

from __future__ import annotations

import gzip
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save

from s1pro.base.records import Sampling
from s1pro.checkpoint.released import save_network
from s1pro.model.network import Network
from s1pro.serve.client import build_engine
from s1pro.serve.http.service import Service
from tests.serve.http import running
from tests.serve.http.mutations import as_json, bodies, bomb, broken_bytes, media_part, mutated, npy, url
from tests.serve.http.running import SETTINGS, WEB, post

CHAT = "/v1/chat/completions"
GOOD = {"input_ids": [3, 4, 5], "max_new_tokens": 6, "temperature": 0}
GREEDY = Sampling(max_new_tokens=6)
SLOWEST = 100.0  # seconds; an answer takes milliseconds


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """A server with a small context, so that a request without limits ends soon, and open to any remote host."""
    media = replace(SETTINGS.media, domains=("*",), fetch_seconds=1.0)
    settings = replace(SETTINGS, control=False, media=media)
    engine = running.engine(max_context=700, cache_tokens=5600)
    with running.running(Service(engine, running.processor(), settings, max_batch=8)) as address:
        before = post(address + "/generate", GOOD).json()["output_ids"]
        yield address
        assert post(address + "/generate", GOOD).json()["output_ids"] == before


def send(client: httpx.Client, address: str, content: bytes) -> int:
    response = client.post(address, content=content, headers={"Content-Type": "application/json"}, timeout=SLOWEST)
    assert response.status_code < 500, (response.status_code, response.text[:500], content[:1500])
    if response.status_code >= 400:
        assert response.json()["error"]["message"], content[:500]
    elif b"internal_error" in response.content:  # in a stream
        raise AssertionError(content[:1500])
    return response.status_code


def fuzz(target: str, seed: int, count: int, make: Any) -> Counter[int]:
    rng, statuses = random.Random(seed), Counter[int]()
    with httpx.Client() as client:
        for _ in range(count):
            path, content = make(rng)
            statuses[send(client, target + path, content)] += 1
    return statuses


def wrong_body(rng: random.Random) -> tuple[str, bytes]:
    path, body = rng.choice(bodies())
    return path, as_json(mutated(rng, body))


def wrong_bytes(rng: random.Random) -> tuple[str, bytes]:
    path, body = rng.choice(bodies())
    return path, broken_bytes(rng, as_json(body))


def wrong_media(rng: random.Random) -> tuple[str, bytes]:
    parts = [media_part(rng, lambda data: broken_bytes(rng, data)) for _ in range(rng.randint(1, 2))]
    message = {"role": "user", "content": [{"type": "text", "text": "?"}, *parts]}
    return CHAT, as_json({"messages": [message], "max_tokens": 1})


def test_valid_bodies_are_valid(target: str) -> None:
    for path, body in bodies():
        if path != "/abort_request":
            response = post(target + path, body)
            assert response.status_code == 200, (path, response.text)


@pytest.mark.parametrize("make", [wrong_body, wrong_bytes, wrong_media])
def test_some_bad_requests(target: str, make: Any) -> None:
    statuses = fuzz(target, 1, 60, make)
    assert statuses[400] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("make", "count"), [(wrong_body, 2500), (wrong_bytes, 1500), (wrong_media, 1500)])
def test_thousands_of_bad_requests(target: str, make: Any, count: int) -> None:
    statuses = fuzz(target, 2, count, make)
    assert statuses[400] > count // 10 and statuses[200] > 0
    assert set(statuses) <= {200, 400, 404, 413, 429}


@pytest.mark.slow
def test_schemathesis(target: str) -> None:
    import hypothesis
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{target}/openapi.json")
    calls = Counter[str]()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/page/pdf":
            continue  # says 501 on purpose

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=25,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def check(case: Any) -> None:
            calls[case.operation.path] += 1
            response = case.call(timeout=SLOWEST)
            assert response.status_code < 500, (
                case.operation.path,
                response.status_code,
                response.text[:500],
                case.body,
            )

        check()
    assert len(calls) >= 15 and sum(calls.values()) > 300


@pytest.mark.parametrize("count", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_control_in_any_order(count: int, tmp_path: Path) -> None:
    """Sleep, wake, weights good and bad, questions: no order of them breaks the server, and nothing bad is taken."""
    network = Network(running.config(), seed=3)
    save_network(network, tmp_path / "good")
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    rng, statuses = random.Random(count), Counter[int]()
    settings = replace(SETTINGS, weights_root=tmp_path)

    def weights() -> bytes:
        changed = dict(tensors)
        name = rng.choice(sorted(changed))
        changed[name] = rng.choice(
            (lambda t: t, lambda t: t[..., :1], torch.Tensor.long, lambda t: t * torch.nan, torch.Tensor.bfloat16)
        )(changed[name]).contiguous()
        if rng.random() < 0.2:
            del changed[rng.choice(sorted(changed))]
        data = save(changed)
        return data if rng.random() < 0.7 else data[: rng.randrange(len(data))]

    def bodies_of_folders() -> Any:
        folder = rng.choice(("good", "good", "none", "..", "good/model.safetensors", "", 3, None, "good\0"))
        return {"folder": folder, "version": rng.choice((1, 2, 3, -1, "4", None, 2**70))}

    with running.running(Service(running.engine(), running.processor(), settings, max_batch=8)) as address:
        steps = (
            lambda: post(address + "/sleep", None),
            lambda: post(address + "/wakeup", None),
            lambda: WEB.get(address + "/is_sleeping"),
            lambda: post(address + "/update_weights", bodies_of_folders()),
            lambda: WEB.post(f"{address}/update_weights?version={rng.choice((1, 'x', ''))}", content=weights()),
            lambda: post(address + "/generate", GOOD),
            lambda: post(address + "/abort_request", {"abort_all": True}),
        )
        for _ in range(count):
            answer = rng.choice(steps)()
            statuses[answer.status_code] += 1
            assert answer.status_code in (200, 400) or error_code(answer) == "asleep", answer.text
        assert post(address + "/update_weights", {"folder": "good", "version": 9}).status_code == 200
        post(address + "/wakeup", None)
        expected = build_engine(network.eval(), running.processor()).generate([GOOD["input_ids"]], GREEDY)[0]
        assert tuple(post(address + "/generate", GOOD).json()["output_ids"]) == expected.token_ids
    assert set(statuses) == {200, 400, 503}


def error_code(answer: httpx.Response) -> Any:
    return answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:{port}/v1/models",
        "http://localhost:{port}/v1/models",
        "http://[::1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://192.168.0.1/x.png",
        "https://[fe80::1]/",
        "http://user@127.0.0.1/",
        "file:///etc/passwd",
        "file:///proc/self/environ",
        "/etc/passwd",
        "../../etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:{port}/_x",
    ],
)
@pytest.mark.parametrize("kind", ["image_url", "video_url", "time_series_url"])
def test_nothing_inside_the_network_is_fetched_and_no_file_read(target: str, source: str, kind: str) -> None:
    source = source.format(port=target.rpartition(":")[2])
    message = {"role": "user", "content": [{"type": kind, kind: {"url": source}}]}
    before = own_list_of_models(target)
    response = post(target + CHAT, {"messages": [message]})
    assert response.status_code == 400
    assert "root:" not in response.text and '"object": "list"' not in response.text
    assert own_list_of_models(target) == before  # the server did not ask itself


def own_list_of_models(target: str) -> list[str]:
    """How often it was asked for."""
    return [line for line in WEB.get(f"{target}/metrics").text.splitlines() if 'route="/v1/models"' in line]


def test_bombs_are_refused_before_they_unfold(target: str) -> None:
    header = b"\x93NUMPY\x01\x00"
    described = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,), }".ljust(117) + b"\n"
    claims = header + len(described).to_bytes(2, "little") + described
    objects = npy(np.array([{"a": 1}], dtype=object))
    for part in (
        {"type": "image_url", "image_url": url(bomb(50_000, 50_000))},
        {"type": "image_url", "image_url": url(bomb(6_000, 6_000))},
        {"type": "image_url", "image_url": url(gzip.compress(b"\0" * 10_000_000))},
        {"type": "time_series", "time_series": url(claims)},
        {"type": "time_series", "time_series": url(objects)},
        {"type": "time_series", "time_series": url(gzip.compress(b"1\n" * 1_000_000)), "format": "csv"},
        {"type": "video_url", "video_url": url(bomb(20_000, 20_000))},
        {"type": "time_series", "time_series": [[[[1]]]]},
    ):
        begin = time.process_time()
        response = post(target + CHAT, {"messages": [{"role": "user", "content": [part]}]})
        assert response.status_code == 400, response.text
        assert time.process_time() - begin < 2


def test_long_lists_of_wrong_things_end_at_the_first(target: str) -> None:
    begin = time.process_time()
    for path, body in (
        ("/v1/completions", {"prompt": [None] * 500_000}),
        (CHAT, {"messages": [None] * 500_000}),
        ("/generate", {"input_ids": ["x"] * 500_000}),
        (
            CHAT,
            {
                "messages": [{"role": "user", "content": "x"}],
                "logit_bias": dict.fromkeys(map(str, range(200_000)), "x"),
            },
        ),
        ("/v1/responses", {"input": [1] * 500_000}),
    ):
        assert post(target + path, body).status_code == 400
    assert time.process_time() - begin < 20  # a message of error for each took minutes
