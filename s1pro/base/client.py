"""`ModelClient`: the one way in which the project talks to a model.

Three calls, asynchronous, each for one prompt (concurrency belongs to the caller):

* `chat`      messages in, text out; the chat template is applied by the other side
* `complete`  raw text in, text out
* `generate`  token ids in, token ids out, with log-probs, routing and policy version (for RL and parity)

Clients that also take media beside token ids are `TakesMedia`; those whose chats may have tools are `TakesTools`.

`serve.client.LocalClient` implements all of it in process. `base.http_client.HttpClient` asks any OpenAI-compatible
server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from s1pro.base.media import Media
from s1pro.base.records import Completion, Message, Sampling


@runtime_checkable
class ModelClient(Protocol):
    """See the module docstring. All three raise `ValueError` on prompts that the model cannot take."""

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion: ...

    async def complete(self, prompt: str, sampling: Sampling) -> Completion: ...

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion: ...


@runtime_checkable
class TakesMedia(Protocol):
    """A client whose token-level prompts may hold images, videos and signals, as `inputs` prepares them."""

    async def generate_with_media(
        self, prompt_token_ids: Sequence[int], media: Media[Any], sampling: Sampling
    ) -> Completion: ...


@runtime_checkable
class TakesTools(Protocol):
    """A client whose model may call tools: the calls come back in `Completion.tool_calls`, and are not made here."""

    async def chat_with_tools(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], sampling: Sampling
    ) -> Completion: ...
