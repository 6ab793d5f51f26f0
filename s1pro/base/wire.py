"""Our records as the JSON of OpenAI-compatible servers, and back.

    Message   --> {"role", "content"}; media parts become data URLs:
                  image       {"type": "image_url",       "image_url":       {"url": "data:image/png;base64,..."}}
                  video       {"type": "video_url",       "video_url":       {"url": ..., "fps": ...}}
                  time_series {"type": "time_series_url", "time_series_url": {"url": ..., "sampling_rate", "unit", ...}}
    Sampling  --> max_tokens, temperature, and what differs from its default of the rest
    answer    --> Completion; anything that is not an answer raises `MalformedAnswerError`

Files are read here, because the server cannot; addresses (`https://...`) are passed on as they are.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, FinishReason, Message, Sampling, ToolRequest, Usage
from s1pro.base.routing_file import reference_of

_MEDIA = {"image": "image_url", "video": "video_url", "time_series": "time_series_url"}
_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\x93NUMPY", "application/x-npy"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_SUFFIXES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".mp4": "video/mp4",
    ".mseed": "application/octet-stream",
}
_FINISH: Mapping[str, FinishReason] = {"stop": "stop", "tool_calls": "stop", "eos": "stop", "length": "length"}
_RARE = ("top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop", "stop_token_ids", "ignore_eos")


class MalformedAnswerError(ValueError):
    """The server answered 200 with something that is no completion."""


def message_json(message: Message) -> dict[str, Any]:
    """One turn; media are embedded. Raises `InputError` for a medium that cannot be read."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if not isinstance(message.content, str):
        turn["content"] = [part_json(part) for part in message.content]
    if message.reasoning_content is not None:
        turn["reasoning_content"] = message.reasoning_content
    if message.tool_calls is not None:
        turn["tool_calls"] = [dict(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def part_json(part: Mapping[str, Any]) -> dict[str, Any]:
    """One part of a turn."""
    for kind, name in _MEDIA.items():
        if kind in part or name in part:
            source = part.get(kind, part.get(name))
            options = {key: value for key, value in part.items() if key not in ("type", kind, name)}
            if isinstance(source, Mapping):
                options = {**{key: value for key, value in source.items() if key != "url"}, **options}
                source = source.get("url")
            return {"type": name, name: {"url": media_url(source), **options}}
    return dict(part)


def media_url(source: Any) -> str:
    """A data URL of a path, bytes, an array (NPY; pictures as PNG) or a picture of Pillow; URLs as they are."""
    if isinstance(source, str) and (source[:5].lower() == "data:" or "://" in source[:12]):
        return source
    data, suffix = _bytes_of(source)
    return f"data:{_mime(data, suffix)};base64,{base64.b64encode(data).decode()}"


def _bytes_of(source: Any) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, ""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            return path.read_bytes(), path.suffix.lower()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    buffer = io.BytesIO()
    if isinstance(source, np.ndarray):
        if source.dtype == np.uint8 and source.ndim in (2, 3):
            from PIL import Image

            source = Image.fromarray(source)
        else:
            np.save(buffer, source, allow_pickle=False)
            return buffer.getvalue(), ".npy"
    if not hasattr(source, "save"):
        raise InputError(f"a medium is a path, bytes, a URL, an array or a picture, got {type(source).__name__}")
    source.save(buffer, format="PNG")
    return buffer.getvalue(), ".png"


def _mime(data: bytes, suffix: str) -> str:
    for magic, mime in _MAGIC:
        if data.startswith(magic):
            return mime
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12], "application/octet-stream")
    if data[4:8] == b"ftyp":
        return "video/mp4"
    return _SUFFIXES.get(suffix, "application/octet-stream")


def sampling_json(sampling: Sampling, max_tokens_field: str = "max_tokens") -> dict[str, Any]:
    """How to draw; fields that not every server knows are sent only when they differ from their default."""
    body: dict[str, Any] = {max_tokens_field: sampling.max_new_tokens, "temperature": sampling.temperature}
    default = Sampling()
    for name in _RARE:
        value = getattr(sampling, name)
        if value != getattr(default, name):
            body[name] = list(value) if isinstance(value, tuple) else value
    return body


def chat_completion(answer: Any) -> Completion:
    """The first choice of `/v1/chat/completions`."""
    choice = _choice(answer)
    message = _field(choice, "message", Mapping)
    text, reasoning = message.get("content"), message.get("reasoning_content", message.get("reasoning"))
    if text is None and (reasoning is not None or message.get("tool_calls")):
        text = ""
    if not isinstance(text, str):
        raise MalformedAnswerError(f"message.content is {type(text).__name__}, not text")
    return Completion(
        text=text,
        finish_reason=finish_reason(choice.get("finish_reason")),
        logprobs=_chat_logprobs(choice),
        reasoning_content=reasoning if isinstance(reasoning, str) else None,
        usage=_usage(answer),
        tool_calls=tuple(_tool_request(call) for call in message.get("tool_calls") or ()),
    )


def _tool_request(call: Any) -> ToolRequest:
    function = _field(call, "function", Mapping) if isinstance(call, Mapping) else None
    if function is None:
        raise MalformedAnswerError(f"message.tool_calls holds {call!r:.80}, which is no call")
    name, arguments = _field(function, "name", str), _field(function, "arguments", str)
    return ToolRequest(id=str(call.get("id", "")), name=name, arguments=arguments)


def text_completion(answer: Any) -> Completion:
    """The first choice of `/v1/completions`."""
    choice = _choice(answer)
    found = choice.get("logprobs")
    logprobs = found.get("token_logprobs") if isinstance(found, Mapping) else None
    return Completion(
        text=_field(choice, "text", str),
        finish_reason=finish_reason(choice.get("finish_reason")),
        logprobs=None if logprobs is None else floats(logprobs),
        usage=_usage(answer),
    )


def generation(answer: Any, prompt_token_ids: Sequence[int]) -> Completion:
    """The answer of `/generate`: text, `output_ids`, and in `meta_info` finish reason, log-probs and version."""
    if not isinstance(answer, Mapping):
        raise MalformedAnswerError(f"the answer is {type(answer).__name__}, not an object")
    meta = _field(answer, "meta_info", Mapping)
    ids = tokens(answer.get("output_ids", meta.get("output_ids")), "output_ids")
    pairs = meta.get("output_token_logprobs")
    finish = meta.get("finish_reason")
    return Completion(
        text=_field(answer, "text", str),
        finish_reason=finish_reason(finish.get("type") if isinstance(finish, Mapping) else finish),
        prompt_token_ids=tuple(prompt_token_ids),
        token_ids=ids,
        logprobs=None if pairs is None else floats([_first(pair) for pair in pairs]),
        policy_version=_count(meta, "policy_version"),
        usage=Usage(num_prompt_tokens=len(prompt_token_ids), num_tokens=len(ids)),
    )


def routing_reference(answer: Any) -> tuple[str, tuple[int, int, int]] | None:
    """The routing trace that an answer of `/generate` announces; None without one."""
    meta = answer.get("meta_info") if isinstance(answer, Mapping) else None
    return reference_of(meta.get("routed_experts")) if isinstance(meta, Mapping) else None


def _choice(answer: Any) -> Mapping[str, Any]:
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise MalformedAnswerError("the answer has no choices")
    return choices[0]


def _field(record: Mapping[str, Any], name: str, wanted: type) -> Any:
    value = record.get(name)
    if not isinstance(value, wanted):
        raise MalformedAnswerError(f"{name} is {type(value).__name__}, not {wanted.__name__}")
    return value


def finish_reason(reason: Any) -> FinishReason:
    """Our word for a server's."""
    return _FINISH.get(str(reason), "abort")


def _chat_logprobs(choice: Mapping[str, Any]) -> tuple[float, ...] | None:
    found = choice.get("logprobs")
    content = found.get("content") if isinstance(found, Mapping) else None
    if content is None:
        return None
    return floats([entry.get("logprob") if isinstance(entry, Mapping) else None for entry in content])


def floats(values: Any) -> tuple[float, ...]:
    """Log-probs of an answer."""
    if not isinstance(values, list) or not all(isinstance(v, (int, float)) for v in values):
        raise MalformedAnswerError("log-probs are not a list of numbers")
    return tuple(float(value) for value in values)


def tokens(values: Any, name: str) -> tuple[int, ...]:
    """Token ids of an answer, from the field `name`."""
    if not isinstance(values, list) or not all(type(token) is int for token in values):
        raise MalformedAnswerError(f"{name} is not a list of token ids")
    return tuple(values)


def _first(pair: Any) -> Any:
    return pair[0] if isinstance(pair, (list, tuple)) and pair else pair


def _usage(answer: Mapping[str, Any]) -> Usage | None:
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("prompt_tokens_details")
    return Usage(
        num_prompt_tokens=_count(usage, "prompt_tokens"),
        num_tokens=_count(usage, "completion_tokens"),
        num_cached=_count(details, "cached_tokens") if isinstance(details, Mapping) else 0,
    )


def _count(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name)
    return value if type(value) is int and value >= 0 else 0
