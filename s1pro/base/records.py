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
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Role = Literal["system", "user", "assistant", "tool"]
PromptGroup = Literal["science", "general"]
FinishReason = Literal["stop", "length", "abort"]
StructureKind = Literal["json_schema", "json_object", "regex", "grammar"]

TopLogprobs = tuple[tuple[int, float], ...]
"""The most probable tokens of one position with their log-probs, best first."""


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
    tool_call_id: str | None = None

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
class StructuredOutput:
    """A form that the generated text must have.

    `value` is the JSON text of a schema, a regular expression (the whole text must match it) or a Lark grammar; it is
    empty for `json_object`, which is any JSON object.
    """

    kind: StructureKind
    value: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(StructureKind):
            raise ValueError(f"structured output: kind must be one of {get_args(StructureKind)}, got {self.kind!r}")
        if (self.kind == "json_object") == bool(self.value):
            needs = "takes no value" if self.kind == "json_object" else "needs a value"
            raise ValueError(f"structured output of kind {self.kind} {needs}, got {self.value!r}")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw tokens. `temperature=0` is greedy; `top_k=0` and `top_p=1` switch the filters off.

    Attributes:
        max_new_tokens: 0 generates nothing, which is of use only with `prompt_logprobs`.
        min_new_tokens: until so many tokens are there, no id that would end the generation is drawn, and a stop string
            does not end it.
        repetition_penalty: on ids of prompt and output, as transformers has it.
        presence_penalty, frequency_penalty: subtracted from logits of ids of the output: once, and per occurrence.
        logit_bias: added to the logits of ids.
        seed: the same seed gives the same tokens whatever else is in the batch.
        stop: strings that end the text; `include_stop` keeps the one that was found at its end.
        logprobs: how many of the most probable tokens are returned with every generated token.
        prompt_logprobs: log-probs of the tokens of the prompt: None are not wanted; n wants them with the n most
            probable tokens of every position.
        structured: form of the text.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int = 0
    prompt_logprobs: int | None = None
    structured: StructuredOutput | None = None

    def __post_init__(self) -> None:
        least = 1 if self.prompt_logprobs is None else 0
        if self.max_new_tokens < least:
            raise ValueError(f"max_new_tokens must be at least {least}, got {self.max_new_tokens}")
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens must lie between 0 and max_new_tokens={self.max_new_tokens}, got {self.min_new_tokens}"
            )
        self._check_ranges()
        self._check_penalties()

    def _check_ranges(self) -> None:
        for name in ("temperature", "top_k", "logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be in [0, 1], got {self.min_p}")

    def _check_penalties(self) -> None:
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty must be positive, got {self.repetition_penalty}")
        for name in ("presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        for token, bias in self.logit_bias.items():
            if not math.isfinite(bias):
                raise ValueError(f"logit_bias of token {token} must be finite, got {bias}")


@dataclass(frozen=True, kw_only=True)
class RoutingTrace:
    """Experts chosen for every token that went through the network: `experts_TLK`, global ids.

    A rollout of T tokens has T - 1 rows: the last token was sampled but never fed back. `token_ids_T` are the tokens
    that the rows are about, written down where the experts were; a record that was shifted, or belongs to another
    sequence, does not agree with the tokens of the rollout. None where an engine does not tell.
    """

    experts_TLK: npt.NDArray[np.uint16]
    policy_version: int = 0
    token_ids_T: npt.NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        if self.experts_TLK.ndim != 3 or self.experts_TLK.dtype != np.uint16:
            got = f"{self.experts_TLK.dtype} {self.experts_TLK.shape}"
            raise ValueError(f"a routing trace is uint16 [T, L, K], got {got}")
        if self.token_ids_T is not None and self.token_ids_T.shape != self.experts_TLK.shape[:1]:
            raise ValueError(f"{len(self.token_ids_T)} tokens for a routing trace of {len(self.experts_TLK)} rows")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one call as the other side counted them; `num_cached` of the prompt came from its cache."""

    num_prompt_tokens: int
    num_tokens: int
    num_cached: int = 0


def encodable(text: str) -> str:
    """Without halves of surrogate pairs, which a model can write in JSON and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, kw_only=True)
class ToolRequest:
    """A call that a model wants to be made; `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered to one prompt.

    All log-probs are natural logarithms of the raw distribution of the model: before temperature, penalties, filters
    and structure.

    Attributes:
        finish_reason: "abort" if the caller took the request back; the record holds what was generated until then.
        stop_reason: the stop string or the id of `Sampling.stop_token_ids` that ended it; None otherwise.
        logprobs, top_logprobs: one entry per generated token.
        prompt_logprobs, prompt_top_logprobs: one entry per token of the prompt; the first is None, since nothing
            predicted it.
        cached_tokens: tokens of the prompt whose keys and values were in the cache already.
        policy_version: of the weights that drew the last token.
        token_versions: of the weights that drew every token, if they changed under way.
        reasoning_content, usage: come from servers that tell them; in `text` there is no reasoning then.
        tool_calls: of an answer to a chat with tools; they are not in `text`.
    """

    text: str
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    prompt_token_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[TopLogprobs, ...] | None = None
    prompt_logprobs: tuple[float | None, ...] | None = None
    prompt_top_logprobs: tuple[TopLogprobs | None, ...] | None = None
    cached_tokens: int = 0
    routing: RoutingTrace | None = None
    policy_version: int = 0
    reasoning_content: str | None = None
    usage: Usage | None = None
    token_versions: tuple[int, ...] | None = None
    tool_calls: tuple[ToolRequest, ...] = ()
