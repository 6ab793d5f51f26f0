"""From the fields of a request to `Sampling`.

Defaults are those of OpenAI's API (temperature 1, top_p 1), not the greedy ones of the command line. A temperature
below 1e-4 is greedy: dividing logits by less overflows. `top_k=-1` and `top_p=0`, which other servers take for "off"
and "greedy", mean that here too.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from s1pro.base.records import Sampling, StructuredOutput
from s1pro.serve.answer_text import THINK_END
from s1pro.serve.http.bodies import ResponseFormat, SamplingBody
from s1pro.serve.http.errors import ApiError

GREEDY_BELOW = 1e-4
MAX_STOPS, MAX_STOP_LENGTH = 16, 1000


def sampling_of(
    body: SamplingBody,
    *,
    max_new_tokens: int,
    vocab_size: int,
    logprobs: int = 0,
    prompt_logprobs: int | None = None,
    structured: StructuredOutput | None = None,
) -> Sampling:
    """The settings of one answer.

    Raises:
        ApiError: a field out of range, named.
    """
    temperature = 1.0 if body.temperature is None else body.temperature
    if body.top_p == 0 or temperature < GREEDY_BELOW:
        temperature = 0.0
    least = body.min_tokens or body.min_new_tokens or 0
    if least > max_new_tokens:
        raise ApiError(400, f"min_tokens={least} is more than max_tokens={max_new_tokens}", param="min_tokens")
    try:
        return Sampling(
            max_new_tokens=max_new_tokens,
            min_new_tokens=least,
            temperature=temperature,
            top_k=max(body.top_k or 0, 0),
            top_p=body.top_p or 1.0,
            min_p=body.min_p or 0.0,
            repetition_penalty=body.repetition_penalty or 1.0,
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            logit_bias=_bias(body.logit_bias or {}, vocab_size),
            seed=body.seed,
            stop=_stops(body.stop),
            include_stop=bool(body.include_stop_str_in_output),
            stop_token_ids=tuple(body.stop_token_ids or ()),
            ignore_eos=bool(body.ignore_eos),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            structured=structured,
        )
    except ValueError as error:
        raise ApiError(400, str(error)) from error


def seeds_of(sampling: Sampling, count: int) -> list[Sampling]:
    """Settings of `count` answers to one prompt: the first draws as a single one would, the others differ."""
    if sampling.seed is None:
        return [sampling] * count
    return [replace(sampling, seed=_wrapped(sampling.seed + i)) for i in range(count)]


def structure_of(body: SamplingBody, response_format: ResponseFormat | None = None) -> StructuredOutput | None:
    """The form that an answer must have: `response_format`, or `regex`, `grammar`, `json_schema` at the top level."""
    if response_format is None or response_format.type == "text":
        return _extra_structure(body)
    if response_format.type == "json_object":
        return StructuredOutput(kind="json_object")
    if response_format.type == "regex_schema":
        if not response_format.regex_schema:
            raise ApiError(400, "regex_schema must be a regular expression", param="response_format.regex_schema")
        return StructuredOutput(kind="regex", value=response_format.regex_schema)
    schema = None if response_format.json_schema is None else response_format.json_schema.schema_
    if schema is None:
        raise ApiError(400, "json_schema.schema must be a JSON schema", param="response_format.json_schema")
    return schema_structure(schema)


def schema_structure(schema: Any) -> StructuredOutput:
    """A JSON schema as a form of the answer."""
    try:
        return StructuredOutput(kind="json_schema", value=json.dumps(schema))
    except RecursionError as error:
        raise ApiError(400, "the JSON schema is nested too deeply") from error


def after_thinking(wanted: StructuredOutput) -> StructuredOutput:
    """The form of a text that first reasons: anything up to `</think>` and an empty line, then what is wanted.

    Raises:
        ApiError: a grammar, which cannot be a part of another one.
    """
    if wanted.kind == "grammar":
        raise ApiError(400, "an answer by a grammar cannot think first: switch thinking off", param="grammar")
    if wanted.kind == "regex":
        answer = "/" + re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\/", wanted.value) + "/"
    else:
        schema = json.loads(wanted.value or '{"type": "object"}')
        spacing = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        answer = "%json " + json.dumps({**schema, "x-guidance": spacing} if isinstance(schema, dict) else schema)
    thought = f'thought[suffix="{THINK_END}"]: /(?s:.*)/'
    return StructuredOutput(kind="grammar", value=f'start: thought "\\n\\n" answer\n{thought}\nanswer: {answer}\n')


def _extra_structure(body: SamplingBody) -> StructuredOutput | None:
    if body.regex:
        return StructuredOutput(kind="regex", value=body.regex)
    if body.grammar:
        return StructuredOutput(kind="grammar", value=body.grammar)
    return None if body.json_schema is None else schema_structure(body.json_schema)


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MAX_STOPS or any(not 0 < len(text) <= MAX_STOP_LENGTH for text in stops):
        raise ApiError(400, f"stop must be up to {MAX_STOPS} texts of 1 to {MAX_STOP_LENGTH} characters", param="stop")
    return stops


def _bias(given: dict[str, float], vocab_size: int) -> dict[int, float]:
    bias = {}
    for key, value in given.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocab_size):
            message = f"keys of logit_bias are token ids below {vocab_size}, got {key!r:.40}"
            raise ApiError(400, message, param="logit_bias")
        bias[int(key)] = value
    return bias


def _wrapped(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63
