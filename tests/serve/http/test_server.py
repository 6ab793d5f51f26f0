"""The server as a neighbour: who may ask, how much, and what happens when somebody leaves or it must stop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from s1pro.model.network import Network
from s1pro.serve.http.app import create_app
from s1pro.serve.http.server import make_server
from s1pro.serve.http.service import Service
from s1pro.serve.http.settings import RequestLimits
from s1pro.serve.lockstep import RanksLost
from tests.serve.http import running
from tests.serve.http.running import SETTINGS, WEB, config, post, processor, scripted

HELLO = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"


def service(**changes: Any) -> Service:
    engine = changes.pop("engine", {})
    batch = engine.get("max_batch", 8)
    return Service(running.engine(**engine), processor(), replace(SETTINGS, **changes), max_batch=batch)


def head(length: int) -> bytes:
    """The beginning of a chat request by hand."""
    lines = (f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def error(response: httpx.Response) -> dict[str, Any]:
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def test_api_keys() -> None:
    with running.running(service(api_keys=("secret", "other"))) as url:
        assert WEB.get(f"{url}/health").status_code == 200
        assert WEB.get(f"{url}/").status_code == 200
        for path in ("/v1/models", "/metrics", "/openapi.json", "/page/molecule?smiles=C"):
            assert WEB.get(url + path).status_code == 401
        for key in ("secrets", "s", "Bearer secret", "sécret"):
            headers = {"Authorization": f"Bearer {key}".encode("latin-1")}
            refused = post(url + CHAT, {"messages": HELLO}, headers=headers)
            assert refused.status_code == 401 and error(refused)["type"] == "authentication_error"
        for key in ("secret", "other"):
            good = post(url + CHAT, {"messages": HELLO, "max_tokens": 1}, headers={"Authorization": f"Bearer {key}"})
            assert good.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "evil.example.org"}, 403),
        ({"Host": "127.0.0.1.evil.example.org"}, 403),
        ({"Origin": "https://evil.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
        ({"Host": "localhost:9", "Origin": "http://localhost:8"}, 403),
    ],
)
def test_pages_of_the_web_cannot_use_it(server: str, headers: dict[str, str], status: int) -> None:
    assert WEB.get(f"{server}/v1/models", headers=headers).status_code == status


def test_bodies_are_bounded_announced_or_not() -> None:
    limits = replace(SETTINGS.requests, max_body_bytes=2000, body_seconds=0.3)
    with running.running(service(requests=limits)) as url:
        body = json.dumps({"messages": [{"role": "user", "content": "x" * 3000}]}).encode()
        headers = {"Content-Type": "application/json"}
        assert WEB.post(url + CHAT, content=body, headers=headers).status_code == 413

        def pieces() -> Any:
            for start in range(0, len(body), 100):
                yield body[start : start + 100]

        chunked = WEB.post(url + CHAT, content=pieces(), headers=headers)
        assert chunked.status_code == 413 and "2000 bytes" in error(chunked)["message"]
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:  # announces a body and falls silent
            connection.settimeout(200)
            connection.sendall(head(50) + b"{")
            assert connection.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"\xff\xfe",
        b'{"messages": NaN}',
        b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "x"}], "seed": 1' + b"0" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": [{"type": "\\ud800"}]}]}',
    ],
)
def test_bodies_that_are_none(server: str, content: bytes) -> None:
    for path in (CHAT, "/v1/completions", "/v1/responses", "/generate"):
        response = WEB.post(server + path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 400, response.text
        assert error(response)["type"] == "invalid_request_error"


def test_only_json_is_taken_for_json(server: str) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    assert WEB.post(server + CHAT, content=body, headers={"Content-Type": "text/plain"}).status_code == 400


def test_unknown_fields_and_nulls_are_ignored_wrong_types_are_not(server: str) -> None:
    body = {"messages": HELLO, "max_tokens": 2}
    fine = post(server + CHAT, {**body, "stop": None, "top_p": None, "user": {"a": 1}, "n": None, "unheard_of": [1]})
    assert fine.status_code == 200
    for name, value in (
        ("temperature", "1"),
        ("max_tokens", 2.5),
        ("max_tokens", True),
        ("n", 0),
        ("n", 129),
        ("stop", [1]),
        ("stop", ""),
        ("stop", ["x"] * 17),
        ("top_p", 2),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"9999": 1}),
        ("logit_bias", {"1": 101}),
        ("seed", 2**64),
        ("presence_penalty", 3),
        ("repetition_penalty", 0),
        ("tools", [{"type": "function"}]),
        ("tools", [{"type": "function", "function": {"name": "a b"}}]),
        ("response_format", "json"),
        ("stream", "yes"),
        ("min_tokens", 3),
        ("regex", "("),
        ("grammar", "no grammar"),
        ("chat_template_kwargs", {"enable_thinking": 3}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "x"}),
        ("top_logprobs", 21),
    ):
        response = post(server + CHAT, {**body, name: value})
        assert response.status_code == 400, (name, value, response.text)
        error(response)


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": ""}]])
def test_empty_content_is_a_message(server: str, content: Any) -> None:
    messages = [{"role": "user", "content": content}, {"role": "assistant", "tool_calls": []}, {"role": "user"}]
    assert post(server + CHAT, {"messages": messages, "max_tokens": 1}).status_code == 200


def test_the_history_that_litellm_sends(server: str) -> None:
    call = {"id": "1", "name": "f", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "1"},
    ]
    assert post(server + CHAT, {"messages": messages, "max_tokens": 1}).status_code == 200


def test_placeholders_without_media_are_refused(server: str) -> None:
    token = config().image_token_id
    refused = post(server + "/generate", {"input_ids": [3, token, 4], "max_tokens": 1})
    assert refused.status_code == 400 and "placeholders" in error(refused)["message"]
    typed = post(
        server + CHAT, {"messages": [{"role": "user", "content": "<|image_pad|><TS_CONTEXT>"}], "max_tokens": 1}
    )
    assert typed.status_code == 200  # in a message they are characters


def blocks_used(url: str) -> float:
    found = re.search(r"^s1pro_cache_blocks_used (\S+)", WEB.get(f"{url}/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_blocks(stream: bool) -> None:
    with running.running(service(engine={"cache_tokens": 8192})) as url:
        body = {"messages": HELLO, "max_tokens": 4000, "ignore_eos": True, "stream": stream, "n": 2}
        port = int(url.rpartition(":")[2])
        data = json.dumps(body).encode()
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(head(len(data)) + data)
        wait_until(lambda: blocks_used(url) > 0)
        connection.close()
        wait_until(lambda: blocks_used(url) == 0)
        metrics = WEB.get(f"{url}/metrics").text
        assert "s1pro_running_sequences 0.0" in metrics
        assert 's1pro_sequences_total{reason="length"}' not in metrics  # they did not come to their end


def wait_until(holds: Any, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_full_server_says_when_to_come_back() -> None:
    limits = RequestLimits(max_waiting=2, patience_seconds=0.02)
    with running.running(service(requests=limits, engine={"max_batch": 2})) as url:
        statuses: list[int] = []

        async def flood() -> None:
            async with httpx.AsyncClient(timeout=200) as client:
                body = {"messages": HELLO, "max_tokens": 60, "ignore_eos": True}
                for response in await asyncio.gather(*(client.post(url + CHAT, json=body) for _ in range(12))):
                    statuses.append(response.status_code)
                    if response.status_code == 429:
                        assert 1 <= int(response.headers["Retry-After"]) <= 30
                        assert error(response)["code"] == "server_full"

        asyncio.run(flood())
        assert set(statuses) == {200, 429} and statuses.count(200) >= 4
        assert post(url + CHAT, {"messages": HELLO, "max_tokens": 1}).status_code == 200
        alone = post(
            url + CHAT, {"messages": HELLO, "max_tokens": 1, "n": 10}
        )  # more than fits, but nobody else is here
        assert alone.status_code == 200


def test_generate_gives_tokens_logprobs_and_routing(server: str) -> None:
    body = {"input_ids": [3, 4, 5, 6], "max_new_tokens": 5, "temperature": 0, "return_logprob": True}
    plain = post(server + "/generate", body).json()
    pairs = plain["meta_info"]["output_token_logprobs"]
    assert [token for _, token in pairs] == plain["output_ids"] and len(pairs) == 5 and all(lp < 0 for lp, _ in pairs)
    traced = post(server + "/generate", {**body, "return_routed_experts": True, "return_prompt_logprob": True}).json()
    assert traced["output_ids"] == plain["output_ids"]
    assert [token for _, token in traced["meta_info"]["input_token_logprobs"]] == [3, 4, 5, 6]
    described = traced["meta_info"]["routed_experts"]
    assert described["shape"] == [8, 2, 2] and described["dtype"] == "uint16"  # 4 + 5 tokens, the last never fed
    got = WEB.get(f"{server}/routed_experts/{described['ref']}")
    assert got.headers["content-type"] == "application/octet-stream"
    import io

    trace = np.load(io.BytesIO(got.content), allow_pickle=False)
    assert trace.shape == (8, 2, 2) and trace.dtype == np.uint16 and trace.max() < 8
    shown = WEB.get(f"{server}/page/routing/{described['ref']}?token=6").json()
    assert [layer["experts"] for layer in shown["layers"]] == trace[6].tolist()
    assert WEB.get(f"{server}/page/routing/{described['ref']}?token=8").status_code == 400
    assert WEB.delete(f"{server}/routed_experts/{described['ref']}").json() == {"deleted": True}
    assert WEB.get(f"{server}/routed_experts/{described['ref']}").status_code == 404
    everything = {**body, "top_logprobs": 2, "return_prompt_logprob": True}
    whole = post(server + "/generate", everything).json()["meta_info"]
    with httpx.stream("POST", server + "/generate", json={**everything, "stream": True}) as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    assert [token for event in events for token in event.get("output_ids", [])] == plain["output_ids"]
    assert events[-1]["meta_info"]["finish_reason"] == "length"
    for name in ("output_token_logprobs", "output_top_logprobs"):
        assert [entry for event in events for entry in event["meta_info"].get(name, [])] == whole[name]
    assert events[-1]["meta_info"]["input_token_logprobs"] == whole["input_token_logprobs"]


def test_tokenizer_routes(server: str) -> None:
    ids = post(server + "/tokenize", {"prompt": "What is <|im_end|>", "add_special_tokens": False}).json()["tokens"]
    assert ids == processor().tokenizer.encode("What is <|im_end|>")
    assert post(server + "/detokenize", {"tokens": ids}).json() == {"prompt": "What is <|im_end|>"}
    info = WEB.get(f"{server}/tokenizer_info").json()
    assert info["eos_token"] == "<|im_end|>" and info["eos_token_id"] == ids[-1] and "<think>" in info["chat_template"]
    chat = post(server + "/tokenize", {"messages": HELLO}).json()["tokens"]
    expected = processor().encode(HELLO, add_generation_prompt=True, enable_thinking=False)
    assert chat == list(expected.token_ids)


def test_a_request_can_be_aborted_by_name(server: str) -> None:
    answers: list[dict[str, Any]] = []
    body = {"input_ids": [3, 4], "max_new_tokens": 3500, "ignore_eos": True, "request_id": "mine"}
    thread = threading.Thread(target=lambda: answers.append(post(server + "/generate", body).json()))
    thread.start()
    wait_until(lambda: post(server + "/abort_request", {"request_id": "mine"}).json()["aborted"])
    thread.join(200)
    assert answers[0]["meta_info"]["finish_reason"] == "abort"
    assert post(server + "/abort_request", {}).status_code == 400
    assert post(server + "/abort_request", {"abort_all": True}).json() == {"aborted": []}


def test_weights_are_replaced_and_stamped(tmp_path: Path) -> None:
    from safetensors.torch import save

    from s1pro.checkpoint.released import save_network

    body = {"input_ids": [3, 4, 5], "max_new_tokens": 8, "temperature": 0}
    other = Network(config(), seed=9).eval()
    save_network(other, tmp_path / "models" / "step-2")
    with running.running(service(weights_root=tmp_path / "models")) as url:
        before = post(url + "/generate", body).json()
        assert before["meta_info"]["policy_version"] == 0
        tensors = {name: value.contiguous() for name, value in other.state_dict().items()}
        sent = WEB.post(f"{url}/update_weights?version=1", content=save(tensors))
        assert sent.json() == {"policy_version": 1}
        after = post(url + "/generate", body).json()
        assert after["meta_info"]["policy_version"] == 1 and after["output_ids"] != before["output_ids"]
        named = post(url + "/update_weights", {"folder": "step-2", "version": 2})
        assert named.json() == {"policy_version": 2}, named.text
        assert post(url + "/generate", body).json()["output_ids"] == after["output_ids"]
        for folder in ("../models/step-2/../..", "/etc", "..", "none", "step-2/\0", ""):
            assert post(url + "/update_weights", {"folder": folder, "version": 3}).status_code == 400, folder
        for content in (
            b"",
            b"\x80\x04pickle",
            save({"lm_head.weight": torch.zeros(2, 2)}),
            save({"x": torch.zeros(1)}),
        ):
            bad = WEB.post(f"{url}/update_weights?version=3", content=content)
            assert bad.status_code == 400, bad.text
        assert WEB.post(f"{url}/update_weights", content=save(tensors)).status_code == 400
        name = "model.language_model.norm.weight"
        for dtype in (torch.int32, torch.float8_e4m3fn):  # numbers that mean something else than a weight
            other_kind = save({**tensors, name: tensors[name].to(dtype)})
            bad = WEB.post(f"{url}/update_weights?version=3", content=other_kind)
            assert bad.status_code == 400 and name in error(bad)["message"] and "float32" in error(bad)["message"]
        assert post(url + "/generate", body).json()["meta_info"]["policy_version"] == 2


def test_sleep_refuses_and_wakeup_answers_again() -> None:
    with running.running(service()) as url:
        body = {"input_ids": [3, 4, 5], "max_new_tokens": 4, "temperature": 0}
        before = post(url + "/generate", body).json()["output_ids"]
        assert post(url + "/sleep", None).json() == {"is_sleeping": True}
        asleep = post(url + "/generate", body)
        assert asleep.status_code == 503 and error(asleep)["code"] == "asleep" and "Retry-After" in asleep.headers
        assert WEB.get(f"{url}/is_sleeping").json() == {"is_sleeping": True}
        assert post(url + "/sleep", None).json() == {"is_sleeping": True}  # as deeply as before
        for _ in range(2):
            assert post(url + "/wakeup", None).json() == {"is_sleeping": False}
        assert post(url + "/generate", body).json()["output_ids"] == before


def test_without_control_there_is_none() -> None:
    with running.running(service(control=False)) as url:
        for path in ("/update_weights?version=1", "/sleep", "/wakeup"):
            assert WEB.post(url + path, content=b"x").status_code == 404


def test_metrics_count_what_happened() -> None:
    with running.running(service()) as url:
        post(url + CHAT, {"messages": HELLO, "max_tokens": 5, "ignore_eos": True})
        post(url + CHAT, {"messages": 5})
        text = WEB.get(f"{url}/metrics").text
        assert 's1pro_http_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
        assert 's1pro_http_requests_total{route="/v1/chat/completions",status="400"} 1.0' in text
        assert 's1pro_sequences_total{reason="length"} 1.0' in text
        assert "s1pro_generated_tokens_total 5.0" in text
        assert "s1pro_time_to_first_token_seconds_count 1.0" in text


def test_an_error_of_the_engine_is_a_500_without_details_and_in_a_stream_an_event() -> None:
    def write(prompt: str) -> str:
        raise RuntimeError("secret detail")

    with scripted(write) as (url, _):
        broken = post(url + CHAT, {"messages": HELLO})
        assert broken.status_code == 500 and "secret" not in broken.text and error(broken)["code"] == "internal_error"


def test_a_grammar_that_explodes_hurts_nobody_else(server: str) -> None:
    others: list[int] = []
    thread = threading.Thread(
        target=lambda: others.append(
            post(server + CHAT, {"messages": HELLO, "max_tokens": 400, "ignore_eos": True}).status_code
        )
    )
    thread.start()
    for body in ({"regex": "(a{9999}){9999}"}, {"grammar": "start: /(a{999}){999}/"}):
        answer = post(server + CHAT, {"messages": HELLO, "max_tokens": 5, **body})
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            assert answer.json()["choices"][0]["finish_reason"] in ("abort", "length")
    thread.join(200)
    assert others == [200]
    deep: Any = {"type": "integer"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    for schema in (deep, {"not": {}}, {"type": "string", "pattern": "("}, {"minimum": 10**300, "type": "integer"}):
        shaped = {"type": "json_schema", "json_schema": {"schema": schema}}
        refused = post(server + CHAT, {"messages": HELLO, "max_tokens": 5, "response_format": shaped})
        assert refused.status_code == 400, refused.text


def test_a_server_without_its_engine_says_so_and_ends() -> None:
    """Other ranks are lost in the middle of an answer."""
    served = service()
    engine = served.engine.engine
    steps = iter(range(5))

    def step() -> Any:
        if next(steps, None) is None:
            raise RanksLost("the others are gone")
        return type(engine).step(engine)

    engine.step = step  # type: ignore[method-assign]
    app = create_app(served)
    server, listening = make_server(app, host="127.0.0.1", port=0, failed=lambda: served.failure is not None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    wait_until(lambda: reachable(url))
    for _ in range(2):  # one that is under way, and one that comes later
        answer = post(url + CHAT, {"messages": HELLO, "max_tokens": 50, "ignore_eos": True})
        assert answer.status_code == 503 and "the others are gone" in error(answer)["message"]
    health = WEB.get(f"{url}/health")
    assert (health.status_code, health.json()) == (503, {"status": "failed"})
    thread.join(60)
    assert not thread.is_alive() and not served.engine.alive


@pytest.mark.slow
def test_the_command_serves_and_ends_in_good_order(folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k1\n")
    command = [sys.executable, "-m", "s1pro", "serve", str(folder), "--port", "0", "--api-key-file", str(keys)]
    command += ["--drain", "200"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"tiny-model at (http://127\.0\.0\.1:\d+)/", line)
        assert found is not None, line
        url, headers = found[1], {"Authorization": "Bearer k1"}
        wait_until(lambda: reachable(url))
        body = {"messages": HELLO, "max_tokens": 200, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", url + CHAT, json=body, headers=headers) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert first.startswith("data: {") and rest[-2] == "data: [DONE]"  # the answer came to its end
        assert '"finish_reason":"length"' in "".join(rest)
        assert process.wait(200) == 0
        assert process.stderr is not None and "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()


def reachable(url: str) -> bool:
    try:
        return WEB.get(f"{url}/health").status_code == 200
    except httpx.ConnectError:
        return False
