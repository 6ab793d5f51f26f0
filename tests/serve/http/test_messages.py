"""What a client is told when its request is wrong: the field, what stands there, and what the server would take."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serve.http.running import WEB, post
from tests.serve.http.test_server import CHAT, HELLO, error

TEXT, RESPONSES, GENERATE = "/v1/completions", "/v1/responses", "/generate"


@pytest.mark.parametrize(
    ("path", "changes", "param", "words"),
    [
        (CHAT, {"temperature": "hot"}, "temperature", ["temperature:", "'hot'"]),
        (CHAT, {"max_tokens": 2.5}, "max_tokens", ["2.5"]),
        (CHAT, {"messages": [{"role": "wizard"}]}, "messages[0].role", ["'wizard'", "'assistant'"]),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content", ["a list of parts", "got 5"]),
        (CHAT, {"messages": None}, "messages", ["messages", "None"]),
        (CHAT, {"stop": 3}, "stop", ["a text or a list of texts", "got 3"]),
        (CHAT, {"tool_choice": 3}, "tool_choice", ["required", "got 3"]),
        (CHAT, {"reasoning_effort": "enormous"}, "reasoning_effort", ["'high'", "'enormous'"]),
        (CHAT, {"top_logprobs": 2}, "top_logprobs", ["logprobs=true"]),
        (CHAT, {"functions": [{"name": "f"}]}, "functions", ["functions is not supported"]),
        (TEXT, {"prompt": [-1]}, "prompt", ["a list of token ids (whole numbers from 0)", "[-1]"]),
        (TEXT, {"prompt": [1.5]}, "prompt", ["token ids"]),
        (TEXT, {"prompt": ["a", [1]]}, "prompt", ["a list of texts"]),
        (TEXT, {"prompt": "x" * 5000, "n": "2"}, "n", ["'2'"]),
        (TEXT, {"prompt": "a", "best_of": 3}, "best_of", ["best_of is not supported"]),
        (TEXT, {"prompt": "a", "suffix": "z"}, "suffix", ["suffix is not supported"]),
        (TEXT, {}, "prompt", ["prompt: this field is needed"]),
        (RESPONSES, {"input": [1]}, "input", ["a list of items"]),
        (RESPONSES, {"input": []}, "input", ["nothing to answer"]),
        (RESPONSES, {"input": [{"content": "a"}]}, "input", ["message 0: role", "None"]),
        (RESPONSES, {"input": "a", "background": True}, "background", ["background is not supported"]),
        (GENERATE, {"input_ids": [3], "logit_bias": {"3": "much"}}, "logit_bias.3", ["'much'"]),
        ("/detokenize", {"tokens": [3, 99999]}, "tokens", ["[0, 384)", "99999"]),
        ("/abort_request", {"request_id": "a", "abort_all": True}, "request_id", ["either request_id or abort_all"]),
        ("/update_weights", {"folder": "a", "version": "1"}, "version", ["version:", "'1'"]),
        ("/update_weights", {"version": 1}, "folder", ["folder: this field is needed"]),
    ],
)
def test_field_and_value_are_named(server: str, path: str, changes: Any, param: str, words: list[str]) -> None:
    body = {"messages": HELLO, **changes} if path == CHAT else changes
    response = post(server + path, body)
    assert response.status_code == 400, response.text
    found = error(response)
    assert found["param"] == param and found["type"] == "invalid_request_error"
    for word in words:
        assert word in found["message"]
    assert len(found["message"]) < 400 and "\n" not in found["message"] and "pydantic" not in found["message"]


@pytest.mark.parametrize("changes", [{"functions": [], "function_call": "none"}, {"modalities": ["text"]}])
def test_what_is_switched_off_need_not_be_supported(server: str, changes: Any) -> None:
    assert post(server + CHAT, {"messages": HELLO, "max_tokens": 1, **changes}).status_code == 200


def test_bodies_that_are_no_objects(server: str) -> None:
    for content, kind, words in (
        (b'{"a": 1', "application/json", ["no JSON", "character 7"]),
        (b"[]", "application/json", ["a JSON object"]),
        (b'{"messages": []}', "text/plain", ["application/json"]),
        (b"", "application/json", ["a JSON object"]),
    ):
        response = WEB.post(server + CHAT, content=content, headers={"Content-Type": kind})
        assert response.status_code == 400
        for word in words:
            assert word in error(response)["message"]


def test_forms_that_cannot_be_used_are_named_as_such(server: str) -> None:
    def shaped(schema: Any) -> Any:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return post(server + CHAT, {"messages": HELLO, "max_tokens": 4, "response_format": form})

    for schema in (False, {"type": "strin"}):
        assert error(shaped(schema))["message"].startswith("structured output: this json_schema cannot be used")
    assert shaped(True).status_code == 200  # the schema of any JSON at all
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "strin"}}}}}
    response = post(server + CHAT, {"messages": HELLO, "tools": [tool], "tool_choice": "required"})
    assert "strin" in error(response)["message"]


def test_routes_that_are_none(server: str) -> None:
    for method, path, status in (("POST", "/v1/embeddings", 404), ("GET", CHAT, 405), ("DELETE", "/v2", 404)):
        response = WEB.request(method, server + path)
        assert response.status_code == status and f"there is no {method} {path} here" in error(response)["message"]


def test_a_watchman_may_ask_without_a_body(server: str) -> None:
    for path in ("/health", "/"):
        answer = WEB.head(server + path)
        assert answer.status_code == 200 and answer.content == b""
