"""The engine on a network in exact mode returns the trainer's log-probabilities and routing, bit for bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from s1pro.base.records import Sampling
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import token_logprobs
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.serve.engine import Engine

VOCAB = 96


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probs_and_routing_are_those_of_training(dtype: torch.dtype) -> None:
    network = Network(tiny(vocab_size=VOCAB)).eval().to(dtype)
    use_exact_operators(network)
    rng = random.Random(0)
    prompts = [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 60))] for _ in range(16)]
    samplings = [
        Sampling(max_new_tokens=rng.randint(1, 25), temperature=float(i % 2), seed=i, ignore_eos=True)
        for i in range(16)
    ]
    engine = Engine(network, max_batch=5, cache_tokens=512, block_size=8, max_prefill_tokens=64)
    completions = engine.generate(prompts, samplings)

    sequences = [torch.tensor([*p, *c.token_ids]) for p, c in zip(prompts, completions, strict=True)]
    fed = [sequence[:-1] for sequence in sequences]  # the trainer packs all of them
    lengths = [len(ids) for ids in fed]
    positions = torch.cat([torch.arange(n) for n in lengths])
    output = network.train()(torch.cat(fed), positions, PackedContext.from_lengths(lengths), compute_logits=False)
    targets = torch.cat([sequence[1:] for sequence in sequences])
    logprobs = token_logprobs(output.hidden_TD, network.lm_head.weight, targets, exact=network.exact)
    assert logprobs.requires_grad
    parts = zip(prompts, completions, logprobs.detach().split(lengths), strict=True)
    for prompt, completion, trained in parts:
        assert torch.equal(torch.tensor(completion.logprobs), trained[len(prompt) - 1 :])
    for completion, trained in zip(completions, output.routing_LTK.split(lengths, dim=1), strict=True):
        assert completion.routing is not None
        np.testing.assert_array_equal(completion.routing.experts_TLK, trained.transpose(0, 1).numpy())
