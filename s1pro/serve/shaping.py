"""What a request's history and wishes do to its logits, before a token is drawn.

In this order, for the rows that ask for it:

1. structure: ids that cannot continue the wanted form are excluded (`serve.structure`);
2. least length: until `min_new_tokens` are there, ids that end the text are excluded (a structure ends where it ends);
3. repetition penalty on ids of prompt and output: positive logits are divided by it, negative ones multiplied (as in
   transformers);
4. frequency penalty times the occurrences of an id in the output, and presence penalty if there is one (as OpenAI
   defines them);
5. biases are added.

Counts are kept up to date from step to step, so a step costs no more for a long text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from s1pro.base.records import Sampling
from s1pro.serve.structure import Structure


class ShapedRow(Protocol):
    """What shaping needs to know of a request."""

    @property
    def sampling(self) -> Sampling: ...

    @property
    def prompt_ids(self) -> Sequence[int]: ...

    @property
    def token_ids(self) -> Sequence[int]: ...

    @property
    def stop_ids(self) -> Collection[int]: ...

    @property
    def structure(self) -> Structure | None: ...


def depends_on_history(request: ShapedRow) -> bool:
    """Whether the distribution of the next token depends on more than the network's logits."""
    s = request.sampling
    penalised = s.repetition_penalty != 1 or s.presence_penalty != 0 or s.frequency_penalty != 0
    return penalised or request.structure is not None or len(request.token_ids) < s.min_new_tokens


class Shaping:
    """Tensors of one batch; valid until a request enters or leaves it."""

    def __init__(self, requests: Sequence[ShapedRow], vocab_size: int, device: torch.device) -> None:
        self._requests, self._device = tuple(requests), device
        samplings = [request.sampling for request in requests]
        self._structured = [(i, r.structure) for i, r in enumerate(requests) if r.structure is not None]
        self._least = [i for i, r in enumerate(requests) if r.sampling.min_new_tokens and r.structure is None]

        def column(name: str) -> Tensor:
            return torch.tensor([[float(getattr(s, name))] for s in samplings], device=device)

        self._repetition_B1: Tensor | None = None
        if any(s.repetition_penalty != 1 for s in samplings):
            self._repetition_B1 = column("repetition_penalty")
            self._seen_BV = torch.zeros(len(requests), vocab_size, dtype=torch.bool, device=device)
            for row, request in enumerate(requests):
                self._seen_BV[row, self._ids([*request.prompt_ids, *request.token_ids])] = True
        self._frequency_B1: Tensor | None = None
        if any(s.frequency_penalty or s.presence_penalty for s in samplings):
            self._frequency_B1, self._presence_B1 = column("frequency_penalty"), column("presence_penalty")
            self._counts_BV = torch.zeros(len(requests), vocab_size, device=device)
            for row, request in enumerate(requests):
                ids = self._ids(request.token_ids)
                self._counts_BV[row].index_add_(0, ids, torch.ones(len(ids), device=device))
        biases = [(row, token, bias) for row, s in enumerate(samplings) for token, bias in s.logit_bias.items()]
        self._bias: tuple[Tensor, Tensor, Tensor] | None = None
        if biases:
            rows, tokens, values = zip(*biases, strict=True)
            self._bias = self._ids(rows), self._ids(tokens), torch.tensor(values, device=device)

    @classmethod
    def of(cls, requests: Sequence[ShapedRow], vocab_size: int, device: torch.device) -> Shaping | None:
        """None if no request has wishes."""
        wished = any(depends_on_history(request) or request.sampling.logit_bias for request in requests)
        return cls(requests, vocab_size, device) if wished else None

    def apply(self, logits_BV: Tensor) -> Tensor:
        """The shaped logits, a new tensor."""
        x_BV = logits_BV.clone()
        for row, structure in self._structured:
            allowed_V = torch.from_numpy(structure.allowed()).to(self._device)
            x_BV[row].masked_fill_(~allowed_V, -torch.inf)
        for row in self._least:
            request = self._requests[row]
            if len(request.token_ids) < request.sampling.min_new_tokens:
                x_BV[row, self._ids(list(request.stop_ids))] = -torch.inf
        if self._repetition_B1 is not None:
            penalised_BV = torch.where(x_BV > 0, x_BV / self._repetition_B1, x_BV * self._repetition_B1)
            x_BV = torch.where(self._seen_BV, penalised_BV, x_BV)
        if self._frequency_B1 is not None:
            x_BV -= self._frequency_B1 * self._counts_BV + self._presence_B1 * (self._counts_BV > 0)
        if self._bias is not None:
            rows, tokens, values = self._bias
            x_BV[rows, tokens] += values
        return x_BV

    def saw(self, tokens_B: Tensor) -> None:
        """Tells what was drawn."""
        if self._repetition_B1 is not None:
            self._seen_BV.scatter_(1, tokens_B[:, None], True)
        if self._frequency_B1 is not None:
            ones_B1 = torch.ones(len(tokens_B), 1, device=self._device)
            self._counts_BV.scatter_add_(1, tokens_B[:, None], ones_B1)

    def _ids(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.int64, device=self._device)
