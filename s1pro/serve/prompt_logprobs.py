"""Log-probs of the tokens of a prompt: what the network thought of each, given those before.

A row of a chunk predicts the token behind it, so the last row of a prompt predicts the first token of the answer and is
left to the sampler. Logits exist for a few rows at a time: those of a long chunk would need more memory than the model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s1pro.model.network import Network
from s1pro.serve.sampler import raw_logprobs, top_logprobs
from s1pro.serve.scheduler import Share

HEAD_ROWS = 256
"""Rows whose logits exist at one time."""


def read_prompt(share: Share, hidden_SD: Tensor, network: Network) -> None:
    """Adds what the final hidden states of a chunk say to the request's `prompt_logprobs`."""
    request = share.request
    assert share.start == len(request.prompt_logprobs), "a prompt is read from its beginning"
    targets = request.prompt_ids[share.start + 1 : share.start + share.count + 1]
    wanted = request.sampling.prompt_logprobs or 0
    for start in range(0, len(targets), HEAD_ROWS):
        ids = targets[start : start + HEAD_ROWS]
        logits_NV = network.logits(hidden_SD[start : start + len(ids)])
        values = raw_logprobs(logits_NV, torch.tensor(ids, device=hidden_SD.device)).tolist()
        request.prompt_logprobs += zip(values, top_logprobs(logits_NV, [wanted] * len(ids)), strict=True)
