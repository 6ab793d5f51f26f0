"""Typed records that travel between the rooms of the project.

A record is frozen, holds plain Python or numpy values (never tensors) and knows how to become JSON.

    corpus/ --Sample--> data/          one document or conversation to train on
    tasks/  --Message--> clients       one turn of a conversation
    clients --Completion--> eval, rl   what a model answered, with everything needed to train on it
    serve/  --RoutingTrace--> rl       which experts every token used (paper, rollout router replay)

Shape letters are those of `docs/glossary.md`: T tokens, L layers, K experts per token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Role = Literal["system", "user", "assistant", "tool"]
PromptGroup = Literal["science", "general"]
FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation.

    `content` is a string or a list of parts such as `{"type": "text", "text": ...}` or
    `{"type": "image", ...}`; the chat template in `inputs/` renders both.
    """

    role: Role
    content: str | Sequence[Mapping[str, Any]]
    reasoning_content: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] | None = None

    @property
    def text(self) -> str:
        """What is written in the turn, media left out."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")

    def as_dict(self) -> dict[str, Any]:
        """The OpenAI-style dictionary, without the fields that are not set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training example: a document (`text`) or a conversation (`messages`), never both.

    `prompt_group` implements system-prompt isolation (paper, continued pre-training): science and
    general data never share a system prompt, and packing never mixes them in one sequence.
    `entity` names what the sample is about (a scaffold, a cluster); all samples of an entity are in one split.
    """

    source: str
    prompt_group: PromptGroup
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    entity: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.text is None) == (self.messages is None):
            raise ValueError(f"sample of source {self.source!r}: give exactly one of text and messages")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw tokens. `temperature=0` is greedy; `top_k=0` and `top_p=1` switch the filters off."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be in [0, 1], got {self.min_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative, got {self.top_k}")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be positive, got {self.repetition_penalty}")


@dataclass(frozen=True, kw_only=True)
class RoutingTrace:
    """Experts chosen for every token that went through the network: `experts_TLK`, global ids.

    A rollout of T tokens has T - 1 rows: the last token was sampled but never fed back.
    """

    experts_TLK: npt.NDArray[np.uint16]
    policy_version: int = 0

    def __post_init__(self) -> None:
        if self.experts_TLK.ndim != 3 or self.experts_TLK.dtype != np.uint16:
            got = f"{self.experts_TLK.dtype} {self.experts_TLK.shape}"
            raise ValueError(f"a routing trace is uint16 [T, L, K], got {got}")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one call as the other side counted them; `num_cached` of the prompt came from its cache."""

    num_prompt_tokens: int
    num_tokens: int
    num_cached: int = 0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered to one prompt. `logprobs` are natural logarithms of the raw model distribution.

    `reasoning_content` and `usage` come from servers that tell them; in `text` there is no reasoning then.
    """

    text: str
    finish_reason: FinishReason
    prompt_token_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    routing: RoutingTrace | None = None
    policy_version: int = 0
    reasoning_content: str | None = None
    usage: Usage | None = None
