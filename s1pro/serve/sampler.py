"""From logits to tokens.

For every row of the batch, in this order (that of transformers):

1. ids that have no piece in the vocabulary are excluded (released embeddings have more rows than the tokenizer);
2. wishes of the request that depend on what is there already: structure, least length, penalties, biases (`shaping`);
3. temperature 0: the largest logit. Otherwise divide by the temperature and
4. keep the `top_k` largest, then the smallest set with mass `top_p`, then those with at least `min_p` times the largest
   probability;
5. draw by the inverse of the cumulative distribution at one uniform number.

The uniform number of output position i depends on the request's seed and i alone, and a row goes through the same
arithmetic whatever its neighbours ask for: a request's draw does not depend on the batch it is in.

The log-probabilities that are returned are those of the *unmodified* distribution, by `log_softmax`: what a trainer
computes for the same token, and on a CPU half the time of `logits - logsumexp(logits)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from s1pro.base.records import Sampling, TopLogprobs
from s1pro.serve.shaping import ShapedRow, Shaping


class Draws(Protocol):
    """The uniform number of every output position."""

    def __getitem__(self, position: int, /) -> float: ...


class Row(ShapedRow, Protocol):
    """What the sampler needs to know of a request."""

    @property
    def uniforms(self) -> Draws: ...


class Uniforms:
    """One number in [0, 1) per output position, drawn when it is asked for; none for greedy requests."""

    def __init__(self, sampling: Sampling) -> None:
        self._drawn: list[float] = []
        self._generator: np.random.Generator | None = None
        if sampling.temperature > 0:
            key = None if sampling.seed is None else sampling.seed % 2**128
            self._generator = np.random.Generator(np.random.Philox(key))

    def __getitem__(self, position: int) -> float:
        assert self._generator is not None, "greedy requests draw nothing"
        while position >= len(self._drawn):
            self._drawn += self._generator.random(64).tolist()
        return self._drawn[position]


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Rows with the same `top_k` and the same need of sorting, hence the same arithmetic."""

    rows: Tensor
    members: tuple[int, ...]
    top_k: int
    sort: bool
    temperature_N1: Tensor
    top_p_N1: Tensor
    min_p_N1: Tensor


class SamplingPlan:
    """How to sample a batch; valid until a request enters or leaves it.

    Attributes:
        top: row and number of alternatives of the requests that want them.
    """

    def __init__(self, requests: Sequence[Row], vocab_size: int, device: torch.device) -> None:
        self.requests = tuple(requests)
        self.groups = tuple(self._groups(device))
        self.shaping = Shaping.of(requests, vocab_size, device)
        self.top = [(row, r.sampling.logprobs) for row, r in enumerate(requests) if r.sampling.logprobs]

    def _groups(self, device: torch.device) -> list[_Group]:
        members: dict[tuple[int, bool], list[int]] = {}
        for row, request in enumerate(self.requests):
            s = request.sampling
            if s.temperature > 0:
                members.setdefault((s.top_k, s.top_k > 0 or s.top_p < 1 or s.min_p > 0), []).append(row)

        def column(rows: list[int], name: str) -> Tensor:
            return torch.tensor([[getattr(self.requests[row].sampling, name)] for row in rows], device=device)

        return [
            _Group(
                rows=torch.tensor(rows, device=device),
                members=tuple(rows),
                top_k=top_k,
                sort=sort,
                temperature_N1=column(rows, "temperature"),
                top_p_N1=column(rows, "top_p"),
                min_p_N1=column(rows, "min_p"),
            )
            for (top_k, sort), rows in members.items()
        ]


class Sampler:
    """See the module docstring.

    Args:
        sampleable_V: bool, which ids may be sampled; None allows all.
    """

    def __init__(self, vocab_size: int, sampleable_V: Tensor | None, device: torch.device) -> None:
        self.vocab_size = vocab_size
        self.device = device
        self._excluded_V: Tensor | None = None
        if sampleable_V is not None:
            if sampleable_V.shape != (vocab_size,) or sampleable_V.dtype != torch.bool:
                got = f"{sampleable_V.dtype} {tuple(sampleable_V.shape)}"
                raise ValueError(f"sampleable ids must be a bool mask of shape ({vocab_size},), got {got}")
            if not sampleable_V.any():
                raise ValueError("no id may be sampled: the mask of sampleable ids is empty")
            if not sampleable_V.all():
                self._excluded_V = ~sampleable_V.to(device)

    def plan(self, requests: Sequence[Row]) -> SamplingPlan:
        return SamplingPlan(requests, self.vocab_size, self.device)

    def top_logprobs(self, logits_BV: Tensor, plan: SamplingPlan) -> dict[int, TopLogprobs]:
        """The most probable tokens of the rows that want them."""
        if not plan.top:
            return {}
        rows, counts = zip(*plan.top, strict=True)
        return dict(zip(rows, top_logprobs(logits_BV[list(rows)], counts), strict=True))

    def sample(self, logits_BV: Tensor, plan: SamplingPlan) -> tuple[Tensor, Tensor]:
        """One token per row: ids (int64) and raw log-probabilities (float32). `logits_BV` stays as it is."""
        shaped_BV = logits_BV
        if self._excluded_V is not None:
            shaped_BV = logits_BV.masked_fill(self._excluded_V, -torch.inf)
        if plan.shaping is not None:
            shaped_BV = plan.shaping.apply(shaped_BV)
        tokens_B = shaped_BV.max(dim=-1).indices  # as `argmax`, in half the time
        for group in plan.groups:
            uniforms = [plan.requests[row].uniforms[len(plan.requests[row].token_ids)] for row in group.members]
            uniform_N1 = torch.tensor(uniforms, dtype=torch.float64, device=self.device)[:, None]
            tokens_B[group.rows] = _draw(shaped_BV[group.rows], group, uniform_N1)
        if plan.shaping is not None:
            plan.shaping.saw(tokens_B)
        return tokens_B, raw_logprobs(logits_BV, tokens_B)


def raw_logprobs(logits_NV: Tensor, ids_N: Tensor) -> Tensor:
    """Log-probability of one id per row."""
    return logits_NV.log_softmax(dim=-1).gather(1, ids_N[:, None])[:, 0]


def top_logprobs(logits_NV: Tensor, counts: Sequence[int]) -> list[TopLogprobs]:
    """The `counts[i]` most probable ids of row i with their raw log-probabilities, best first."""
    most = min(max(counts, default=0), logits_NV.shape[1])
    if most == 0:
        return [()] * len(counts)
    ids_NX = logits_NV.topk(most, dim=-1).indices
    logprobs_NX = logits_NV.log_softmax(dim=-1).gather(1, ids_NX)
    pairs = zip(counts, ids_NX.tolist(), logprobs_NX.tolist(), strict=True)
    return [tuple(zip(ids[:count], values[:count], strict=True)) for count, ids, values in pairs]


def _draw(logits_NV: Tensor, group: _Group, uniform_N1: Tensor) -> Tensor:
    scaled_NV = logits_NV / group.temperature_N1
    if not group.sort:
        return _invert(scaled_NV.softmax(dim=-1), uniform_N1)[:, 0]
    if 0 < group.top_k < scaled_NV.shape[1]:
        best_NX, ids_NX = scaled_NV.topk(group.top_k, dim=-1)
    else:
        best_NX, ids_NX = scaled_NV.sort(dim=-1, descending=True, stable=True)
    probs_NX = best_NX.softmax(dim=-1)
    before_NX = probs_NX.cumsum(dim=-1) - probs_NX
    kept_NX = (before_NX < group.top_p_N1) & (probs_NX >= group.min_p_N1 * probs_NX[:, :1])
    kept_NX[:, 0] = True
    return ids_NX.gather(1, _invert(probs_NX * kept_NX, uniform_N1))[:, 0]


def _invert(weights_NX: Tensor, uniform_N1: Tensor) -> Tensor:
    """Index at which the cumulative sum first exceeds `uniform` of the total; never an index of weight zero."""
    cumulative_NX = weights_NX.to(torch.float64).cumsum(dim=-1)
    total_N1 = cumulative_NX[:, -1:]
    target_N1 = torch.minimum(uniform_N1 * total_N1, total_N1.nextafter(torch.zeros_like(total_N1)))
    return torch.searchsorted(cumulative_NX, target_N1, right=True)
