"""Servers for tests that answer as vLLM, LMDeploy and SGLang do, over a loopback port, and record what they are asked.

The answers come from this project's engine, the forms from the public HTTP interfaces of 2026: vLLM 0.21
(`/v1/completions` with `return_token_ids` and `--enable-return-routed-experts`, the routes of its development mode),
LMDeploy's `/generate` (main branch, August 2026), SGLang 0.5.9 (`/generate`, `--enable-return-routed-experts`,
`/update_weights_from_disk`). As the real ones, they fill in sampling settings that were left out; here with ones that
nobody wants, so that a request that relies on defaults shows. LMDeploy leaves the token that ended an answer out of it,
unless asked to keep it, and refuses what is out of its bounds.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from s1pro.base.records import Completion, Sampling
from s1pro.checkpoint.released import load_network
from s1pro.model.network import Network
from s1pro.serve.client import build_engine
from s1pro.serve.engine import Engine
from tests.fake_endpoint import FakeEndpoint, Reply

DEFAULTS = {"temperature": 0.6, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
"""Of a `generation_config.json`."""

_SHARED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "ignore_eos", "stop_token_ids", "stop")
_NATIVE = ("input_ids", "return_logprob", "return_routed_experts")
_ENDS = ("include_stop_str_in_output", "skip_special_tokens")
_OPENAI = ("model", "prompt", "presence_penalty", "frequency_penalty", "logprobs", "max_tokens", "seed")
KNOWN: Mapping[str, frozenset[str]] = {
    "vllm": frozenset((*_SHARED, *_OPENAI, "return_token_ids", "skip_special_tokens")),
    "lmdeploy": frozenset((*_SHARED, *_NATIVE, *_ENDS, "max_tokens")),
    "sglang": frozenset((*_NATIVE, "sampling_params")),
}
"""Fields of a request for tokens; anything else is refused, which the real ones would do, or pass over in silence."""


class RecordingServer:
    """One server; `calls` are (path, body) in order. `damage` changes an answer before it is sent."""

    def __init__(
        self, name: str, network: Network, processor: Any, damage: Callable[[Any], None] | None = None
    ) -> None:
        self.name, self.processor, self.damage = name, processor, damage
        self.engine: Engine = build_engine(network, processor, max_batch=16, cache_tokens=8192)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.version = "0"
        self.url = ""
        self.model = "tiny"  # LMDeploy's `--model-name`; the path that it was started with, without
        self.starting = 0  # how often /health says that the engine is not there yet

    def behave(self, number: int, path: str, body: dict[str, Any]) -> Reply:
        if self.name == "lmdeploy" and path in ("/health", "/v1/models"):
            return self._state_lmdeploy(path)
        self.calls.append((path, body))
        if path == "/v1/chat/completions":
            return self._chat(body)
        if path == {"vllm": "/v1/completions"}.get(self.name, "/generate"):
            return self._generate(body)
        control = {"vllm": self._control_vllm, "sglang": self._control_sglang}.get(self.name)
        return Reply(status=404, body={"detail": "Not Found"}) if control is None else control(path, body)

    def _generate(self, body: dict[str, Any]) -> Reply:
        unknown = sorted(set(body) - KNOWN[self.name])
        if unknown:
            return Reply(status=400, body={"error": {"message": f"extra fields {unknown}"}})
        if self.name == "lmdeploy" and (refused := self._refused_lmdeploy(body)):
            return Reply(status=400, body={"message": refused, "type": "invalid_request_error", "code": 400})
        how = body.get("sampling_params", body)
        completion = self._run(body.get("input_ids", body.get("prompt")), how)
        answer = {"vllm": self._vllm, "lmdeploy": self._lmdeploy, "sglang": self._sglang}[self.name](completion, body)
        if self.damage is not None:
            self.damage(answer)
        return Reply(body=answer)

    def _run(self, ids: list[int], how: Mapping[str, Any]) -> Completion:
        get = {**DEFAULTS, **how}
        sampling = Sampling(
            max_new_tokens=get.get("max_new_tokens", get.get("max_tokens", 16)),
            temperature=get["temperature"],
            top_p=get["top_p"],
            top_k=max(get["top_k"], 0),
            repetition_penalty=get["repetition_penalty"],
            seed=get.get("seed", get.get("sampling_seed", 7)),
            ignore_eos=get.get("ignore_eos", False),
        )
        request = self.engine.prepare(ids, sampling)
        self.engine.submit(request)
        while request.finish_reason is None:
            self.engine.step()
        return self.engine.completion(request)

    def _vllm(self, completion: Completion, body: Mapping[str, Any]) -> dict[str, Any]:
        assert completion.routing is not None
        file = io.BytesIO()
        np.save(file, completion.routing.experts_TLK.astype(np.uint8))
        pieces = [str(token) for token in completion.token_ids]
        choice = {
            "index": 0,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "logprobs": {"tokens": pieces, "token_logprobs": list(completion.logprobs or ()), "text_offset": []},
            "token_ids": list(completion.token_ids),
            "prompt_token_ids": list(body["prompt"]),
            "routed_experts": base64.b64encode(file.getvalue()).decode(),
        }
        return {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": [choice]}

    def _lmdeploy(self, completion: Completion, body: Mapping[str, Any]) -> dict[str, Any]:
        ended = completion.finish_reason == "stop"
        answer = self._native(completion, lambda ids: ids.tolist() if body["return_routed_experts"] else None)
        if ended and body.get("include_stop_str_in_output"):
            answer["text"] += self.processor.tokenizer.decode([completion.token_ids[-1]])
        elif ended:
            meta = answer["meta_info"]
            for place, name in ((answer, "output_ids"), (meta, "output_token_logprobs"), (meta, "routed_experts")):
                place[name] = None if place[name] is None else place[name][:-1]
            meta["completion_tokens"] -= 1
        return answer

    def _refused_lmdeploy(self, body: Mapping[str, Any]) -> str:
        if not body["input_ids"]:
            return "The input_ids must not be an empty list"
        if body["max_tokens"] <= 0:
            return f"The max_tokens {body['max_tokens']!r} must be a positive integer."
        within = {"top_p": 0 < body["top_p"] <= 1, "top_k": body["top_k"] >= 0, "temperature": body["temperature"] <= 2}
        return "".join(f"The {name} {body[name]!r} is out of bounds" for name, good in within.items() if not good)

    def _state_lmdeploy(self, path: str) -> Reply:
        if path == "/v1/models":
            return Reply(body={"object": "list", "data": [{"id": self.model, "object": "model", "root": self.model}]})
        if self.starting:
            self.starting -= 1
            return Reply(status=503, body={"status": "initializing", "message": "Engine health monitor is starting."})
        return Reply(body={"status": "healthy", "message": "Engine is healthy."})

    def _sglang(self, completion: Completion, body: Mapping[str, Any]) -> dict[str, Any]:
        def packed(ids: np.ndarray[Any, Any]) -> str:
            return base64.b64encode(ids.astype("<i4").tobytes()).decode()

        answer = self._native(completion, lambda ids: packed(ids) if body["return_routed_experts"] else None)
        answer["meta_info"]["weight_version"] = self.version
        return answer

    @staticmethod
    def _native(completion: Completion, experts: Callable[[Any], Any]) -> dict[str, Any]:
        assert completion.routing is not None and completion.logprobs is not None
        pairs = [list(pair) for pair in zip(completion.logprobs, completion.token_ids, strict=True)]
        meta = {
            "prompt_tokens": len(completion.prompt_token_ids),
            "completion_tokens": len(completion.token_ids),
            "finish_reason": {"type": completion.finish_reason},
            "output_token_logprobs": pairs,
            "routed_experts": experts(completion.routing.experts_TLK),
        }
        return {"text": completion.text, "output_ids": list(completion.token_ids), "meta_info": meta}

    def _chat(self, body: dict[str, Any]) -> Reply:
        from s1pro.base.records import Message

        turns = [Message(role=turn["role"], content=turn["content"]) for turn in body["messages"]]
        ids = self.processor.encode(turns, add_generation_prompt=True, allow_control_tokens=False).token_ids
        completion = self._run(list(ids), body)
        logprobs = {"content": [{"token": "", "logprob": value} for value in completion.logprobs or ()]}
        message = {"role": "assistant", "content": completion.text}
        choice = {"index": 0, "message": message, "finish_reason": completion.finish_reason, "logprobs": logprobs}
        return Reply(body={"id": "chat-1", "object": "chat.completion", "choices": [choice]})

    def _control_vllm(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            self.load(body["kwargs"]["weights_path"])
            return Reply(body={"results": [None]})
        if path in ("/reset_prefix_cache",):
            return Reply(body=b"")
        known = {"/pause?mode=wait": "paused", "/resume": "resumed"}
        return Reply(body={"status": known[path]}) if path in known else Reply(status=404, body={"detail": "Not Found"})

    def _control_sglang(self, path: str, body: dict[str, Any]) -> Reply:
        if path in ("/pause_generation", "/continue_generation"):
            return Reply(body={"status": "ok"})
        if path != "/update_weights_from_disk":
            return Reply(status=404, body={"detail": "Not Found"})
        if not body["model_path"].startswith("/"):
            return Reply(status=400, body={"success": False, "message": "no such folder", "num_paused_requests": 0})
        self.load(body["model_path"])
        self.version = body["weight_version"]
        return Reply(body={"success": True, "message": "Succeeded to update model weights.", "num_paused_requests": 0})

    def load(self, folder: str) -> None:
        network = load_network(folder).eval()
        self.engine.update_weights(dict(network.state_dict()), int(self.version) + 1)


@contextmanager
def serving(
    name: str, network: Network, processor: Any, *, damage: Callable[[Any], None] | None = None
) -> Iterator[RecordingServer]:
    """A running server; its engine holds `network` itself."""
    server = RecordingServer(name, network, processor, damage)
    with FakeEndpoint(server.behave) as endpoint:
        server.url = endpoint.url
        yield server
