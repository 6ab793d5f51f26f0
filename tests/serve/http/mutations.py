"""Requests that are nearly right: valid ones with something broken in them, in JSON, in its bytes, or in its media."""

from __future__ import annotations

import base64
import copy
import io
import json
import random
import struct
import wave
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    -(2**63),
    2**64,
    10**40,
    0.5,
    -0.0,
    1e308,
    5e-324,
    "",
    " ",
    "0",
    "\0",
    "\ud800",
    "x" * 5000,
    "<|im_end|>",
    "<think>",
    "<tool_call>",
    "data:",
    "data:;base64,",
    "data:image/png;base64,AAAA",
    "http://127.0.0.1:1/x",
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "file://../../etc/passwd",
    "../../etc/passwd",
    [],
    [[]],
    [None],
    {},
    {"": None},
    {"url": None},
    {"type": "text"},
    {"$ref": "#"},
    [0] * 300,
    ["a"] * 30,
    [[1, 2], [3]],
    "é" * 100,
    "🧪",
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    "(a+)+$",
    "((((((((((a{99}){99}){99}",
    [1e308] * 40,
)


def png(side: int = 64) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(np.full((48, 48, 3), value, np.uint8)) for value in (0, 90, 180)]
    more: dict[str, Any] = {"save_all": True, "append_images": frames[1:]} if kind == "GIF" else {}
    frames[0].save(stream, kind, **more)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a picture of this size and whose data are zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000_000, 9))
        + chunk(b"IEND", b"")
    )


def npy(values: Any = None) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.sin(np.arange(400.0)) if values is None else values)
    return stream.getvalue()


def wav() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(1000)
        file.writeframes(np.arange(800, dtype="<i2").tobytes())
    return stream.getvalue()


def url(data: bytes, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64," + base64.b64encode(data).decode()


def media_part(rng: random.Random, data: Callable[[bytes], bytes]) -> dict[str, Any]:
    """A part with a medium whose bytes went through `data`."""
    kind = rng.choice(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "npy", "wav", "csv", "video", "array"])
    if kind == "npy":
        return {"type": "time_series", "time_series": url(data(npy())), "sampling_rate": 100}
    if kind == "wav":
        return {"type": "time_series", "time_series": url(data(wav())), "format": "wav"}
    if kind == "csv":
        return {"type": "time_series", "time_series": url(data(b"t,a\n0,1\n1,2\n2,4\n3,1\n4,0\n" * 9)), "format": "csv"}
    if kind == "video":
        return {"type": "video_url", "video_url": {"url": url(data(picture("GIF")), "image/gif")}}
    if kind == "array":
        return {"type": "time_series", "time_series": [[1, 2], [3, 4]] * 40, "sampling_rate": 10, "unit": "mV"}
    return {"type": "image_url", "image_url": {"url": url(data(picture(kind))), "detail": "auto"}}


def bodies() -> list[tuple[str, dict[str, Any]]]:
    """Valid requests with as many fields as possible."""
    sampling = {
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.01,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"5": 2.0},
        "seed": 3,
        "n": 1,
        "stop": ["zzz"],
        "stop_token_ids": [7],
        "ignore_eos": False,
        "min_tokens": 1,
        "stream": False,
        "request_id": "r",
        "return_token_ids": True,
        "return_routed_experts": True,
        "include_stop_str_in_output": False,
    }
    tool = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    image = {"type": "image_url", "image_url": {"url": url(png()), "detail": "low"}}
    signal = {
        "type": "time_series",
        "time_series": [1, 2, 3] * 30,
        "sampling_rate": 10.0,
        "unit": "V",
        "channels": ["a"],
    }
    numbers = {"type": "image", "image": [[0, 128, 255], [7, 8, 9], [1, 2, 3]]}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, image, signal, numbers]},
        {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "1"},
        {"role": "user", "content": "So?"},
    ]
    chat = {
        **sampling,
        "messages": messages,
        "max_tokens": 4,
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [{"type": "function", "function": tool}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "chat_template_kwargs": {"enable_thinking": False},
        "reasoning_effort": "none",
        "stream_options": {"include_usage": True},
    }
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    plain = [{"role": "user", "content": "hi"}]
    shaped = {
        "messages": plain,
        "max_tokens": 20,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
    }
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "r"}], "summary": []},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "7"},
    ]
    return [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", shaped),
        ("/v1/chat/completions", {"messages": plain, "max_tokens": 20, "regex": "[ab]{2}", "stream": True}),
        (
            "/v1/chat/completions",
            {**shaped, "response_format": None, "tools": chat["tools"], "tool_choice": "required"},
        ),
        ("/v1/completions", {**sampling, "prompt": [[5, 6, 7]], "max_tokens": 2, "echo": True, "logprobs": 2}),
        ("/v1/completions", {"prompt": ["The", "dog"], "max_tokens": 3, "stream": True}),
        (
            "/v1/responses",
            {
                "input": items,
                "max_output_tokens": 3,
                "tools": [{"type": "function", **tool}],
                "tool_choice": "auto",
                "text": {"format": {"type": "text"}},
                "reasoning": {"effort": "low"},
                "instructions": "i",
                "stream": False,
                "include": ["message.output_text.logprobs"],
                "metadata": {"a": "b"},
                "store": True,
            },
        ),
        (
            "/generate",
            {**sampling, "input_ids": [5, 6, 7], "max_new_tokens": 3, "return_logprob": True, "top_logprobs": 2},
        ),
        ("/tokenize", {"prompt": "hello", "add_special_tokens": False}),
        ("/tokenize", {"messages": plain, "add_generation_prompt": True}),
        ("/detokenize", {"tokens": [1, 2, 3]}),
        ("/abort_request", {"request_id": "nobody"}),
    ]


def mutated(rng: random.Random, body: Any) -> Any:
    """`body` with one to three places changed."""
    body = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        holder, key = rng.choice(_places(body))
        how = rng.random()
        if how < 0.65:
            holder[key] = copy.deepcopy(rng.choice(JUNK))
        elif how < 0.8 and isinstance(holder, dict):
            holder[str(rng.choice(JUNK))[:50]] = holder[key]
        elif how < 0.9:
            holder[key] = [holder[key]] * rng.choice([1, 2, 40])
        else:
            del holder[key]
        if not _places(body):
            return body
    return body


def broken_bytes(rng: random.Random, data: bytes) -> bytes:
    """`data` cut, with bytes changed, doubled or filled."""
    mutable = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not mutable:
            break
        place = rng.randrange(min(len(mutable), 200) if rng.random() < 0.5 else len(mutable))
        how = rng.random()
        if how < 0.6:
            mutable[place] = rng.choice([0, 1, 255, 127, rng.randrange(256), mutable[place] ^ (1 << rng.randrange(8))])
        elif how < 0.75:
            del mutable[place:]
        elif how < 0.9:
            del mutable[place : place + rng.randint(1, 30)]
        else:
            mutable[place:place] = mutable[: rng.randint(1, 60)]
    return bytes(mutable)


def as_json(body: Any) -> bytes:
    """JSON with lone surrogates as escapes."""
    return json.dumps(body).encode("ascii")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder and key in a JSON value."""
    found: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            stack.append(node[key])
    return found
