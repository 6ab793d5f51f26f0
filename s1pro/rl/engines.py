"""Rollouts on a server: our own, vLLM, SGLang or LMDeploy, whose weights follow those of the trainer.

`ServedEngine` is a `ModelClient`, so rollouts (`rl.system.served`) and parity take it as they take the engine in this
process. What it adds is publication, in this order:

1. The network is written as a model folder, `folder/v<version>`: safetensors, which holds numbers and nothing that
   could be executed. Experts that train in FP8 are written as FP8: the bytes travel that the trainer multiplied.
2. The folder is read again, and the hashes of these bytes are compared with those of the trainer. Another quantiser,
   other masters or a damaged file are an error here, and not a gap in log-probabilities some steps later.
3. The server is told, and what it cached of the old weights is dropped:

| engine | calls |
|---|---|
| s1pro  | `/update_weights` |
| vllm   | `/pause?mode=wait`, `/collective_rpc` reload_weights, `/reset_prefix_cache`, `/resume` |
| sglang | `/pause_generation`, `/update_weights_from_disk`, `/continue_generation` |

The server has to see the folder under the same path; ours has to be started with `--control`, vLLM with
`VLLM_SERVER_DEV_MODE=1`. LMDeploy takes weights over HTTP as pickles only, which are not sent from here: it is started
again on the new folder, by a command of the user (`rl.restart`); so can be any other.

Servers that tell which weights answered (ours, SGLang) are held to it; the answers of others, and of those that are
started again, are marked with the version that was published last.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Completion, Message, Sampling
from s1pro.base.wire import MalformedAnswerError
from s1pro.checkpoint.fp8_digest import stored_digests, training_digests
from s1pro.checkpoint.released import save_network
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.model.precision import expert_layers
from s1pro.rl.restart import Comparison, Restarts

TELL_VERSIONS = frozenset({"s1pro", "sglang"})
KEPT = 2
"""Published folders that stay: a server that restarts loads the newest."""


class PublicationError(RuntimeError):
    """A server does not have the weights that it should have."""


class ServedEngine:
    """See the module docstring.

    Args:
        client: of the server; with `routing` in its settings answers carry the experts of their tokens.
        folder: where published folders go; None for a server whose weights never change.
        version: of the weights that it has now.
        restarts: the server gets its weights by being started again.

    Attributes:
        probe: what the last restart found.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        folder: Path | None = None,
        processor: Processor | None = None,
        version: int = 0,
        restarts: Restarts | None = None,
    ) -> None:
        self.client, self.folder, self.processor, self.version = client, folder, processor, version
        self.restarts = restarts
        self.probe: Comparison | None = None

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return await self.client.chat(messages, sampling)

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        return await self.client.complete(prompt, sampling)

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Raises `PublicationError` if other weights answered than those that were published."""
        completion = await self.client.generate(prompt_token_ids, sampling)
        if self.client.settings.engine in TELL_VERSIONS and self.restarts is None:
            if completion.policy_version != self.version:
                raise PublicationError(
                    f"{self.client.settings.base_url}: weights {completion.policy_version} answered, and "
                    f"{self.version} were published"
                )
            return completion
        trace = completion.routing
        trace = None if trace is None else replace(trace, policy_version=self.version)
        return replace(completion, policy_version=self.version, routing=trace)

    async def publish(self, network: Network, version: int) -> Path:
        """Gives the server the weights of `network` as `version`; returns the folder that it read.

        Raises:
            InputError: no folder, an engine that cannot take weights, or one that could not be started again with them.
            PublicationError: the bytes differ from the trainer's, or the server refused them.
        """
        engine = self.client.settings.engine
        if self.folder is None:
            raise InputError("folder is missing: name one that the server sees under the same path")
        if self.restarts is None and engine not in _TELL:
            raise InputError(f"engine.restart is missing: {engine} takes weights over HTTP as pickles only")
        written = write_weights(network, self.folder / f"v{version}", self.processor)
        if self.restarts is None:
            await _TELL[engine](self.client, written, version)
        else:
            self.probe = await self.restarts.load(self.client, network, written, version)
        self.version = version
        for old in sorted((f for f in self.folder.glob("v*") if _number(f) >= 0), key=_number)[:-KEPT]:
            shutil.rmtree(old)
        return written


def write_weights(network: Network, folder: Path, processor: Processor | None = None) -> Path:
    """Steps 1 and 2 of the module docstring.

    Raises:
        PublicationError: what was written are not the bytes that the trainer computes with.
    """
    engines = [experts.fp8 for experts in expert_layers(network).values()]
    formats = {engine.scale_format for engine in engines if engine is not None}
    if not formats:
        save_network(network, folder)
    elif len(formats) > 1 or None in engines:
        raise InputError("layers of several precisions cannot be published in one folder; keep_layers has to be empty")
    else:
        save_network(network, folder, fp8="experts", scale_format=formats.pop())
    if processor is not None:
        processor.save_pretrained(folder)
    check_digests(network, folder)
    return folder


def check_digests(network: Network, folder: Path) -> None:
    """Whether the FP8 experts in `folder` are, byte for byte, those that `network` multiplies.

    Raises:
        PublicationError: the name of the first that differs.
    """
    computed = training_digests(network)
    stored = stored_digests(folder, computed)
    wrong = [name for name, digest in computed.items() if stored[name] != digest]
    if wrong:
        raise PublicationError(
            f"{folder}: {len(wrong)} of {len(computed)} FP8 weights are not those of the trainer, first {wrong[0]}: "
            "another quantiser, or other master weights"
        )


async def _tell_s1pro(client: HttpClient, folder: Path, version: int) -> None:
    def read(answer: Any) -> None:
        if _field(answer, "policy_version") != version:
            raise MalformedAnswerError(f"policy_version is not {version}")

    await client.post("/update_weights", {"folder": str(folder), "version": version}, read)


async def _tell_vllm(client: HttpClient, folder: Path, version: int) -> None:
    del version  # it answers without one
    async with _paused(client, "/pause?mode=wait", {}, "/resume"):
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        await client.post("/collective_rpc", reload, lambda answer: answer)
        await client.post("/reset_prefix_cache", {}, lambda answer: answer)


@asynccontextmanager
async def _paused(client: HttpClient, pause: str, body: Mapping[str, Any], resume: str) -> AsyncIterator[None]:
    """A server that does not answer meanwhile, and answers again whatever happens."""
    await client.post(pause, body, lambda answer: answer)
    try:
        yield
    finally:
        await client.post(resume, {}, lambda answer: answer)


async def _tell_sglang(client: HttpClient, folder: Path, version: int) -> None:
    def read(answer: Any) -> tuple[bool, str]:
        return _field(answer, "success") is True, str(_field(answer, "message"))

    async with _paused(client, "/pause_generation", {"mode": "retract"}, "/continue_generation"):
        body = {"model_path": str(folder), "weight_version": str(version), "flush_cache": True}
        success, message = await client.post("/update_weights_from_disk", body, read)
        if not success:
            raise PublicationError(f"{client.settings.base_url}: weights {version} were refused: {message}")


_TELL = {"s1pro": _tell_s1pro, "vllm": _tell_vllm, "sglang": _tell_sglang}


def _field(answer: Any, name: str) -> Any:
    if not isinstance(answer, Mapping) or name not in answer:
        raise MalformedAnswerError(f"the answer has no {name}")
    return answer[name]


def _number(folder: Path) -> int:
    digits = folder.name[1:]
    return int(digits) if digits.isdecimal() else -1
