"""How other engines are asked for tokens, and what they answer: vLLM, LMDeploy, SGLang.

All take token ids and give token ids with log-probabilities and, where the server was started for it, the experts of
every fed token. What differs is the form:

| engine   | request           | log-probabilities                    | experts                                       |
|----------|-------------------|--------------------------------------|-----------------------------------------------|
| vllm     | `/v1/completions` | `choices[0].logprobs.token_logprobs` | `choices[0].routed_experts`: base64 of .npy   |
| lmdeploy | `/generate`       | `meta_info.output_token_logprobs`    | `meta_info.routed_experts`: lists `[T, L, K]` |
| sglang   | `/generate`       | `meta_info.output_token_logprobs`    | `meta_info.routed_experts`: base64 of int32   |

Servers fill what a request leaves out with the defaults of the model's `generation_config.json`, so everything that
shapes the distribution is sent, also where it is off: a top-p of 0.8 that nobody asked for is a policy that nobody
trains.

The log-probabilities have to be those of the raw distribution, at any temperature. vLLM gives these by default
(`--logprobs-mode raw_logprobs`), LMDeploy when started with `--logprobs-mode raw_logprobs`; SGLang gives those after
the temperature, which is the same at temperature 1 and only there.

LMDeploy leaves the token that ended an answer out of tokens, log-probabilities and experts, unless it is asked to keep
it: a policy that never learns to stop. It is asked to; the name of the token at the end of the text is taken off again.

SGLang's experts are numbers without a shape; layers and experts per token come from the settings of the client. Objects
that would have to be unpickled (references to objects of a Ray cluster) are refused.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.base.endpoint import EngineName
from s1pro.base.records import Completion, RoutingTrace, Sampling, Usage
from s1pro.base.wire import MalformedAnswerError, finish_reason, floats, generation, tokens

Body = Callable[[Sequence[int], Sampling, str, bool], dict[str, Any]]
Read = Callable[[Any, Sequence[int], "tuple[int, int] | None"], Completion]

MAX_SEED = 2**31
"""Some servers hold seeds in 32 bits with a sign."""

_END_TOKEN = re.compile(r"(<\|[^<>|]+\|>|</s>|<eos>)\Z")


@dataclass(frozen=True, kw_only=True)
class EngineForm:
    """One line of the table above.

    Attributes:
        path: from the root of the server.
        body: of the request for ids, with sampling, name of the model, and whether experts are wanted.
        read: makes a completion of the answer to these ids; the shape is layers with experts and experts per token.
    """

    path: str
    body: Body
    read: Read


def _vllm_body(ids: Sequence[int], sampling: Sampling, model: str, routing: bool) -> dict[str, Any]:
    del routing  # an option of the server, not of the request
    body = {"model": model, "prompt": list(ids), **distribution(sampling, "vllm"), "logprobs": 1}
    body |= {"max_tokens": sampling.max_new_tokens, "return_token_ids": True, "skip_special_tokens": True}
    return body | _ends(sampling) | _seed("seed", sampling)


def _lmdeploy_body(ids: Sequence[int], sampling: Sampling, model: str, routing: bool) -> dict[str, Any]:
    del model  # the server has one
    body = {"input_ids": list(ids), **distribution(sampling, "lmdeploy"), "return_logprob": True}
    for name in ("presence_penalty", "frequency_penalty"):
        body.pop(name)  # `/generate` of LMDeploy has no such fields
    body |= {"max_tokens": sampling.max_new_tokens, "return_routed_experts": routing}
    body |= {"include_stop_str_in_output": True, "skip_special_tokens": True}
    return body | _ends(sampling)


def _sglang_body(ids: Sequence[int], sampling: Sampling, model: str, routing: bool) -> dict[str, Any]:
    del model
    how = {**distribution(sampling, "sglang"), "max_new_tokens": sampling.max_new_tokens}
    how |= _ends(sampling) | _seed("sampling_seed", sampling)
    return {
        "input_ids": list(ids),
        "sampling_params": how,
        "return_logprob": True,
        "return_routed_experts": routing,
    }


def distribution(sampling: Sampling, engine: EngineName) -> dict[str, Any]:
    """All that shapes the distribution, in the names that the engines share; of chats and raw texts too."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or (0 if engine == "lmdeploy" else -1),
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }


def _ends(sampling: Sampling) -> dict[str, Any]:
    ends: dict[str, Any] = {"ignore_eos": sampling.ignore_eos}
    if sampling.stop_token_ids:
        ends["stop_token_ids"] = list(sampling.stop_token_ids)
    if sampling.stop:
        ends["stop"] = list(sampling.stop)
    return ends


def _seed(name: str, sampling: Sampling) -> dict[str, Any]:
    return {} if sampling.seed is None else {name: sampling.seed % MAX_SEED}


def _read_vllm(answer: Any, ids: Sequence[int], shape: tuple[int, int] | None) -> Completion:
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise MalformedAnswerError("the answer has no choices")
    choice = choices[0]
    sampled = tokens(choice.get("token_ids"), "choices[0].token_ids (vLLM before 0.10.2 has none)")
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, Mapping) else None
    prompt = choice.get("prompt_token_ids", answer.get("prompt_token_ids"))
    experts = choice.get("routed_experts")
    return Completion(
        text=str(choice.get("text", "")),
        finish_reason=finish_reason(choice.get("finish_reason")),
        prompt_token_ids=tuple(ids) if prompt is None else tokens(prompt, "prompt_token_ids"),
        token_ids=sampled,
        logprobs=None if values is None else floats(values),
        routing=None if experts is None else _trace(_from_npy(experts), shape),
        usage=Usage(num_prompt_tokens=len(ids), num_tokens=len(sampled)),
    )


def _read_lmdeploy(answer: Any, ids: Sequence[int], shape: tuple[int, int] | None) -> Completion:
    completion, meta = generation(answer, ids), answer["meta_info"]
    if completion.finish_reason == "stop":
        completion = replace(completion, text=_END_TOKEN.sub("", completion.text))
    experts = meta.get("routed_experts")
    if experts is None:
        return completion
    if isinstance(experts, str):
        raise MalformedAnswerError(
            "routed_experts is a reference into a Ray cluster, which only pickle can read; start LMDeploy without "
            "transfer of object references"
        )
    return _with_routing(completion, _trace(_array(experts), shape))


def _read_sglang(answer: Any, ids: Sequence[int], shape: tuple[int, int] | None) -> Completion:
    completion, meta = generation(answer, ids), answer["meta_info"]
    version = str(meta.get("weight_version") or "")
    if version.isdecimal():
        completion = replace(completion, policy_version=int(version))
    experts = meta.get("routed_experts")
    if experts is None:
        return completion
    if shape is None:
        raise MalformedAnswerError(
            "SGLang's experts come without a shape; set routing_shape to layers with experts and experts per token"
        )
    data, row = _decoded(experts), 4 * shape[0] * shape[1]
    if len(data) % row:
        raise MalformedAnswerError(f"routed_experts has {len(data)} bytes, no whole number of tokens of {row}")
    return _with_routing(completion, _trace(np.frombuffer(data, dtype="<i4").reshape(-1, *shape), shape))


def _with_routing(completion: Completion, trace: RoutingTrace) -> Completion:
    return replace(completion, routing=replace(trace, policy_version=completion.policy_version))


def _trace(experts: npt.NDArray[Any], shape: tuple[int, int] | None) -> RoutingTrace:
    """Integer ids `[T, L, K]` as a trace."""
    if experts.ndim != 3 or not np.issubdtype(experts.dtype, np.integer):
        raise MalformedAnswerError(f"routed_experts is {experts.dtype} {experts.shape}, not integers [T, L, K]")
    if shape is not None and experts.shape[1:] != shape:
        raise MalformedAnswerError(f"routed_experts has {experts.shape[1:]} layers and experts, expected {shape}")
    if experts.size and (experts.min() < 0 or experts.max() >= 2**16):
        raise MalformedAnswerError("routed_experts holds ids that are no experts")
    return RoutingTrace(experts_TLK=experts.astype(np.uint16))


def _array(lists: Any) -> npt.NDArray[Any]:
    try:
        return np.array(lists)
    except ValueError as error:
        raise MalformedAnswerError(f"routed_experts is ragged ({error})") from error


def _from_npy(text: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.load(io.BytesIO(_decoded(text)), allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise MalformedAnswerError(f"routed_experts is no .npy file ({error})") from error


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise MalformedAnswerError(f"routed_experts is {type(text).__name__}, not base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise MalformedAnswerError(f"routed_experts is no base64 ({error})") from error


FORMS: Mapping[EngineName, EngineForm] = {
    "vllm": EngineForm(path="/v1/completions", body=_vllm_body, read=_read_vllm),
    "lmdeploy": EngineForm(path="/generate", body=_lmdeploy_body, read=_read_lmdeploy),
    "sglang": EngineForm(path="/generate", body=_sglang_body, read=_read_sglang),
}
"""Engines of others; our own server has a form that fetches experts by reference (`base.http_client`)."""
