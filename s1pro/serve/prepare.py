"""From what a caller asks for to a `Request`: everything that can be wrong is found here, before anything runs.

Any thread may prepare requests, for nothing here computes with tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.base.media import Media
from s1pro.base.records import Sampling
from s1pro.model.config import ModelConfig
from s1pro.model.placeholders import check_media
from s1pro.serve.lookup import PromptLookup
from s1pro.serve.prefix import media_digests
from s1pro.serve.request import OnText, Request
from s1pro.serve.structure import Grammars, Structure
from s1pro.serve.text import Decode


class Preparation:
    """What requests of one engine have in common.

    Args:
        config: of the network.
        max_context: most tokens of prompt and output together.
        eos_token_ids: ids that end a generation unless the request says `ignore_eos`.
        decode: tokens to text; None refuses stop strings.
        grammars: for structured output; None refuses it.
        draft_tokens: longest guess; 0 does not guess.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        max_context: int,
        eos_token_ids: Collection[int],
        decode: Decode | None,
        grammars: Grammars | None,
        draft_tokens: int,
    ) -> None:
        self._config = config
        self._vocab_size = config.text.vocab_size
        self._max_context = max_context
        self._eos = frozenset(eos_token_ids)
        self._decode = decode
        self._grammars = grammars
        self._draft_tokens = draft_tokens

    def request(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        media: Media[Any] | None = None,
        streamed: bool = False,
        on_text: OnText | None = None,
    ) -> Request:
        """See `Engine.prepare`."""
        room = self._room(prompt, sampling)
        self._check_sampling(sampling)
        digests = None
        if media is not None:
            check_media(np.asarray(prompt), media, self._config)
            digests = media_digests(prompt, media, self._config)
        request = Request(
            prompt,
            sampling,
            limit=min(sampling.max_new_tokens, room),
            stop_ids=frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_eos else self._eos),
            media=media,
            media_digests=digests,
            structure=self._structure(sampling),
            decode=self._decode,
            streamed=streamed,
            on_text=on_text,
        )
        if self._draft_tokens:
            request.lookup = PromptLookup(self._draft_tokens)
        return request

    def _room(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """Tokens that the context leaves for the answer."""
        if not prompt:
            raise InputError("the prompt is empty; give at least one token")
        if min(prompt) < 0 or max(prompt) >= self._vocab_size:
            raise InputError(f"prompt ids must lie in [0, {self._vocab_size}), got {min(prompt)} to {max(prompt)}")
        room = self._max_context - len(prompt)
        if room < min(1, sampling.max_new_tokens):
            raise InputError(f"the prompt has {len(prompt)} tokens, the context holds {self._max_context}")
        return room

    def _check_sampling(self, sampling: Sampling) -> None:
        for token in sampling.logit_bias:
            if not 0 <= token < self._vocab_size:
                raise InputError(f"logit_bias: ids must lie in [0, {self._vocab_size}), got {token}")
        for name in ("logprobs", "prompt_logprobs"):
            if (getattr(sampling, name) or 0) > self._vocab_size:
                raise InputError(f"{name}={getattr(sampling, name)}: there are {self._vocab_size} tokens")
        if sampling.stop and self._decode is None:
            raise InputError("stop strings need an engine with a tokenizer (`decode`)")
        if any(not stop for stop in sampling.stop):
            raise InputError("a stop string must not be empty")

    def _structure(self, sampling: Sampling) -> Structure | None:
        if sampling.structured is None:
            return None
        if self._grammars is None:
            raise InputError("structured output needs an engine with a tokenizer (`grammars`)")
        return self._grammars.structure(sampling.structured)


def check_sizes(max_batch: int, cache_tokens: int, block_size: int, step_tokens: int, draft_tokens: int) -> None:
    """Of an engine. Raises `ValueError` for what it cannot work with."""
    for name, value in (("max_batch", max_batch), ("cache_tokens", cache_tokens), ("block_size", block_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if step_tokens < max_batch:
        raise ValueError(f"step_tokens={step_tokens} must be at least max_batch={max_batch}")
    if draft_tokens < 0:
        raise ValueError(f"draft_tokens must not be negative, got {draft_tokens}")


def context_limit(config: ModelConfig, wanted: int | None, num_slots: int) -> int:
    """Most tokens of prompt and output together; None takes what positions and the cache allow.

    Raises:
        ValueError: more than the cache holds, or too few for an answer.
    """
    limit = min(config.text.rope.max_position_embeddings, num_slots) if wanted is None else wanted
    if not 2 <= limit <= num_slots:
        raise ValueError(f"max_context={limit} must lie between 2 and the {num_slots} slots of the cache")
    return limit
