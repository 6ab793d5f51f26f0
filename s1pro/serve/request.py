"""One request on its way through the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from s1pro.base.media import Media
from s1pro.base.records import FinishReason, RoutingTrace, Sampling
from s1pro.serve.sampler import draw_uniforms
from s1pro.serve.text import Decode, IncrementalText, StopWatcher

OnText = Callable[[str], None]


class Request:
    """Prompt, settings and what has been generated so far.

    Args:
        prompt_ids: tokens of the prompt, at least one.
        media: images, videos and signals of the prompt.
        limit: most tokens that may be generated (the request's own limit, or what the context leaves).
        stop_ids: ids that end the generation.
        decode: tokens to text; needed for stop strings and streaming only.
        on_text: called with every new piece of text, in the thread that steps the engine.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        limit: int,
        stop_ids: frozenset[int],
        media: Media[Tensor] | None = None,
        decode: Decode | None = None,
        on_text: OnText | None = None,
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.sampling = sampling
        self.media = media
        self.limit = limit
        self.stop_ids = stop_ids
        self.uniforms = draw_uniforms(sampling, limit)
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.finish_reason: FinishReason | None = None
        self.aborted = False
        self.blocks = range(0)
        self.routing: RoutingTrace | None = None
        self.stopped_text: str | None = None
        self._on_text = on_text
        self._shown = 0
        self._watcher = StopWatcher(sampling.stop)
        self._text = IncrementalText(decode) if decode is not None and (sampling.stop or on_text) else None

    @property
    def num_slots(self) -> int:
        """Cache slots that the request can ever need: its last token is never fed back."""
        return len(self.prompt_ids) + self.limit - 1

    def push(self, token_id: int, logprob: float) -> bool:
        """Appends a sampled token; true if the request is finished now."""
        self.token_ids.append(token_id)
        self.logprobs.append(logprob)
        if token_id in self.stop_ids:
            self.finish_reason = "stop"
        elif len(self.token_ids) == self.limit:
            self.finish_reason = "length"
        if self._text is not None:
            self._follow_text(self._text, token_id)
        return self.finish_reason is not None

    def _follow_text(self, text: IncrementalText, token_id: int) -> None:
        text.push(token_id)
        if self.finish_reason is not None:
            text.flush()
        position = self._watcher.find(text.text)
        if position >= 0:
            self.finish_reason = "stop"
            self.stopped_text = text.text[:position]
        if self._on_text is not None:
            if self.stopped_text is not None:
                visible = self.stopped_text
            elif self.finish_reason is not None:
                visible = text.text
            else:
                visible = text.text[: self._watcher.safe_length(text.text)]
            if len(visible) > self._shown:
                self._on_text(visible[self._shown :])
                self._shown = len(visible)
