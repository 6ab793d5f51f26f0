"""One request on its way through the engine.

A request is a growing row of tokens: the prompt, then what was sampled. `num_computed` of them have their keys and
values in the cache, in the slots of `blocks`, which is all the engine needs to continue it, to take its blocks away and
begin again (preemption), or to begin with blocks that another request has filled (prefix cache).

Whoever streams takes what is new as a `Delta` between two steps. Text is decoded only for those who stream it or watch
for stop strings.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from s1pro.base.media import Media
from s1pro.base.records import Completion, FinishReason, RoutingTrace, Sampling, TopLogprobs
from s1pro.serve.lookup import PromptLookup
from s1pro.serve.sampler import Uniforms
from s1pro.serve.structure import Structure
from s1pro.serve.text import Decode, IncrementalText, StopWatcher

if TYPE_CHECKING:
    from s1pro.serve.media_rows import MediaRows

OnText = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a request gained: tokens with their raw log-probs, and the text that can be shown.

    Text waits for whole characters and for tails that could become a stop string, so it may lag behind the tokens; the
    texts of all deltas together are the text of the completion.
    """

    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[TopLogprobs, ...] | None = None

    def __add__(self, other: Delta) -> Delta:
        tops = None
        if self.top_logprobs is not None or other.top_logprobs is not None:
            tops = (self.top_logprobs or ()) + (other.top_logprobs or ())
        return Delta(
            token_ids=self.token_ids + other.token_ids,
            text=self.text + other.text,
            logprobs=self.logprobs + other.logprobs,
            top_logprobs=tops,
        )


@dataclass
class Timing:
    """When things happened, in seconds of `time.monotonic`; 0 is not yet."""

    arrived: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float = 0.0
    ended: float = 0.0

    @property
    def time_to_first_token(self) -> float:
        return self.first_token - self.arrived

    def time_per_token(self, tokens: int) -> float:
        """Mean seconds between two of `tokens` generated tokens."""
        return (self.ended - self.first_token) / (tokens - 1) if tokens > 1 else 0.0


class Request:
    """Prompt, settings and what has been generated so far.

    Args:
        prompt_ids: tokens of the prompt, at least one.
        media: images, videos and signals of the prompt.
        media_digests: digest of each medium by the position of its first placeholder.
        limit: most tokens that may be generated (the request's own limit, or what the context leaves).
        stop_ids: ids that end the generation.
        structure: which tokens fit the wanted form of the text.
        decode: tokens to text; needed for stop strings and streaming only.
        streamed: keep the text up to date, for `take_delta`.
        on_text: called with every new piece of text, in the thread that steps the engine.

    Attributes:
        ids: prompt and generated tokens.
        num_computed: how many of them have keys and values in `blocks`.
        num_named: blocks whose content the pool knows.
        digests: of the full blocks of `ids`, as far as they were needed.
        media_rows: embeddings of the media, made once.
    """

    _numbers = itertools.count(1)

    def __init__(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        limit: int,
        stop_ids: frozenset[int],
        media: Media[Any] | None = None,
        media_digests: Mapping[int, bytes] | None = None,
        structure: Structure | None = None,
        decode: Decode | None = None,
        streamed: bool = False,
        on_text: OnText | None = None,
    ) -> None:
        self.number = next(self._numbers)
        self.prompt_ids = tuple(prompt_ids)
        self.sampling = sampling
        self.media = media
        self.media_digests = media_digests or {}
        self.limit = limit
        self.stop_ids = stop_ids
        self.structure = structure
        self.uniforms = Uniforms(sampling)
        self.ids = list(prompt_ids)
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.top_logprobs: list[TopLogprobs] | None = [] if sampling.logprobs else None
        self.prompt_logprobs: list[tuple[float, TopLogprobs]] = []
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None
        self.submitted = self.aborted = False
        self.timing = Timing()
        self.stopped_text: str | None = None

        self.num_computed = 0
        self.num_named = 0
        self.blocks: list[int] = []
        self.in_a_row = True
        self.digests: list[bytes] = []
        self.cached_tokens = 0
        self.media_rows: MediaRows | None = None
        self.lookup: PromptLookup | None = None
        self.routing: RoutingTrace | None = None
        self.versions: list[tuple[int, int]] = []  # (index of the first token, version of the weights)

        self._on_text = on_text
        self._shown = 0
        self._taken = 0
        self._watcher = StopWatcher(sampling.stop)
        follows = decode is not None and (bool(sampling.stop) or streamed or on_text is not None)
        self._text = IncrementalText(decode) if decode is not None and follows else None

    @property
    def num_slots(self) -> int:
        """Cache slots that the request can ever need: its last token is never fed back."""
        return len(self.prompt_ids) + max(self.limit - 1, 0)

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether log-probs of the prompt are asked for and not complete."""
        return self.sampling.prompt_logprobs is not None and len(self.prompt_logprobs) < len(self.prompt_ids) - 1

    def note_version(self, version: int) -> None:
        """The weights that draw the next token."""
        if not self.versions or self.versions[-1][1] != version:
            self.versions.append((len(self.token_ids), version))

    @property
    def token_versions(self) -> tuple[int, ...]:
        """Of the weights that drew each token."""
        bounds = [start for start, _ in self.versions[1:]] + [len(self.token_ids)]
        pairs = zip(self.versions, bounds, strict=True) if self.versions else ()
        return tuple(version for (start, version), stop in pairs for _ in range(start, stop))

    def finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self.timing.ended = time.monotonic()

    def push(self, token_id: int, logprob: float, top: TopLogprobs = ()) -> bool:
        """Appends a sampled token; true if the request is finished now."""
        if not self.token_ids:
            self.timing.first_token = time.monotonic()
        self.ids.append(token_id)
        self.token_ids.append(token_id)
        self.logprobs.append(logprob)
        if self.top_logprobs is not None:
            self.top_logprobs.append(top)
        if token_id in self.stop_ids:
            self.finish_reason = "stop"
            self.stop_reason = token_id if token_id in self.sampling.stop_token_ids else None
        elif len(self.token_ids) == self.limit:
            self.finish_reason = "length"
        if self.structure is not None and self.structure.consume(token_id) and self.finish_reason is None:
            self.finish_reason = "stop"
        if self.structure is not None and self.structure.broken:
            self.finish_reason = "abort"
        if self._text is not None:
            self._follow_text(self._text, token_id)
        if self.finish_reason is not None:
            self.timing.ended = time.monotonic()
        return self.finish_reason is not None

    def take_delta(self) -> Delta:
        """What came since the last call."""
        start, self._taken = self._taken, len(self.token_ids)
        shown = self._visible()
        text, self._shown = shown[self._shown :], max(self._shown, len(shown))
        return Delta(
            token_ids=tuple(self.token_ids[start:]),
            text=text,
            logprobs=tuple(self.logprobs[start:]),
            top_logprobs=None if self.top_logprobs is None else tuple(self.top_logprobs[start:]),
        )

    def completion(self, decode: Decode | None, policy_version: int) -> Completion:
        """The record of a finished request.

        Args:
            policy_version: of the weights now, for requests that generated nothing.
        """
        assert self.finish_reason is not None
        text = self.stopped_text
        if text is None:
            text = decode(self.token_ids) if decode is not None else ""
        prompt_logprobs: tuple[float | None, ...] | None = None
        prompt_tops: tuple[TopLogprobs | None, ...] | None = None
        if self.sampling.prompt_logprobs is not None:
            prompt_logprobs = (None, *(value for value, _ in self.prompt_logprobs))
            prompt_tops = (None, *(top for _, top in self.prompt_logprobs))
        versions = self.token_versions
        return Completion(
            text=text,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            prompt_token_ids=self.prompt_ids,
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            top_logprobs=None if self.top_logprobs is None else tuple(self.top_logprobs),
            prompt_logprobs=prompt_logprobs,
            prompt_top_logprobs=prompt_tops,
            cached_tokens=self.cached_tokens,
            routing=self.routing,
            policy_version=versions[-1] if versions else policy_version,
            token_versions=versions if len(set(versions)) > 1 else None,
        )

    def _follow_text(self, text: IncrementalText, token_id: int) -> None:
        text.push(token_id)
        if self.finish_reason is not None:
            text.flush()
        position, stop = self._watcher.find(text.text)
        if stop is not None and len(self.token_ids) >= self.sampling.min_new_tokens:
            self.finish_reason, self.stop_reason = "stop", stop
            self.stopped_text = text.text[: position + (len(stop) if self.sampling.include_stop else 0)]
        if self._on_text is not None:
            visible = self._visible()
            if len(visible) > self._shown:
                self._on_text(visible[self._shown :])
                self._shown = len(visible)

    def _visible(self) -> str:
        """The text that can be shown now."""
        if self._text is None:
            return ""
        if self.stopped_text is not None:
            return self.stopped_text
        if self.finish_reason is not None:
            return self._text.text
        return self._text.text[: self._watcher.safe_length(self._text.text)]
