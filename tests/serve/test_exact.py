"""Exact mode: the engine's log-probs and routing are those of the trainer's packed forward, bit for bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from s1pro.base.media import join_media
from s1pro.base.records import Completion, Sampling
from s1pro.kernels import compiled
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import token_logprobs
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.precision import use_fp8_experts
from s1pro.model.presets import tiny
from s1pro.serve.engine import Engine
from tests.serve.traffic import Asked, make_network, make_processor, run
from tests.serve.traffic import make_traffic as make_mixed_traffic

VOCAB = 320
SETTINGS: list[dict[str, Any]] = [
    {},
    {"max_batch": 6, "cache_tokens": 160, "block_size": 4, "step_tokens": 32},
    {"max_batch": 4, "cache_tokens": 256, "block_size": 8, "step_tokens": 10, "draft_tokens": 4},
]


def make_traffic(count: int, seed: int) -> list[Asked]:
    rng = random.Random(seed)
    opening = [rng.randrange(VOCAB) for _ in range(40)]
    asked = []
    for i in range(count):
        prompt = opening[: rng.randint(0, 40)] + [rng.randrange(9) for _ in range(rng.randint(1, 30))]
        sampling = Sampling(
            max_new_tokens=rng.randint(1, 30),
            temperature=rng.choice([0.0, 0.8]),
            seed=i,
            prompt_logprobs=rng.choice([None, None, 1]),
            logprobs=rng.choice([0, 2]),
        )
        asked.append(Asked(prompt, sampling, arrives=rng.randint(0, count)))
    return asked


@torch.no_grad()
def check(network: Network, answers: list[tuple[Asked, Completion]]) -> None:
    """All sequences in one packed row, as a trainer has them, with all of their media."""
    sequences = [[*asked.prompt, *answer.token_ids] for asked, answer in answers]
    fed = [ids[:-1] for ids in sequences]
    flat = torch.tensor([token for ids in fed for token in ids])
    positions = torch.cat([torch.arange(len(ids)) for ids in fed])
    media = join_media([asked.media for asked, _ in answers if asked.media is not None], np.concatenate)
    tensors = None if media is None else media.map(torch.as_tensor)
    output = network(flat, positions, PackedContext.from_lengths([len(ids) for ids in fed]), media=tensors)
    logprobs_TV = output.logits.log_softmax(-1)
    routing_TLK, start = output.routing_LTK.transpose(0, 1).numpy(), 0
    for (asked, answer), ids in zip(answers, sequences, strict=True):
        rows = slice(start, start + len(ids) - 1)
        start = rows.stop
        own_TV = logprobs_TV[rows]
        expected = own_TV.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        first = len(asked.prompt) - 1
        assert list(answer.logprobs or ()) == expected[first:]
        if answer.prompt_logprobs is not None:
            assert list(answer.prompt_logprobs[1:]) == expected[:first]
        if answer.top_logprobs is not None:
            best = own_TV[first:].topk(asked.sampling.logprobs).values.tolist()
            assert [[value for _, value in top] for top in answer.top_logprobs] == best
        assert answer.routing is not None
        np.testing.assert_array_equal(answer.routing.experts_TLK, routing_TLK[rows])


@pytest.fixture(params=["compiled", "library"])
def attention_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By compiled code, and as it is without numba."""
    if request.param == "library":
        monkeypatch.setattr(compiled, "is_available", lambda: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.usefixtures("attention_by")
def test_every_bit_is_the_trainers_whatever_the_batch_the_chunks_and_the_cache(dtype: torch.dtype, fp8: bool) -> None:
    network = Network(tiny(VOCAB), seed=3).eval().to(dtype)
    if fp8:
        use_fp8_experts(network)
    texts, preemptions = [], 0
    for settings in SETTINGS:
        engine = Engine(network, max_context=128, exact=True, **settings)
        answers = run(engine, make_traffic(14, seed=1))
        check(network, answers)
        texts.append([answer.token_ids for _, answer in answers])
        preemptions += engine.stats().counters.preemptions
    assert texts[0] == texts[1] == texts[2]
    counters = engine.stats().counters
    assert preemptions > 0 and counters.cached_tokens > 0 and counters.accepted_tokens > 0


def mixed_traffic(count: int, seed: int) -> tuple[Network, list[Asked]]:
    processor = make_processor()
    traffic = make_mixed_traffic(processor, count, seed=seed, longest_answer=30)
    return make_network(processor), traffic


def writes_no_media(network: Network) -> npt.NDArray[np.bool_]:
    """Nobody can write a picture: its placeholders are not sampled."""
    config = network.config
    return ~np.isin(np.arange(VOCAB), [config.image_token_id, config.video_token_id, config.ts_token_id])


def answered(engine: Engine, traffic: list[Asked]) -> list[tuple[Asked, Completion]]:
    return [pair for pair in run(engine, traffic) if pair[1].finish_reason != "abort"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_videos_and_signals_have_every_bit_too(dtype: torch.dtype) -> None:
    texts, preemptions, cached = [], 0, 0
    for settings in SETTINGS:
        network, traffic = mixed_traffic(20, seed=5)
        media = [asked.media for asked in traffic if asked.media is not None]
        assert all(any(getattr(m, kind) is not None for m in media) for kind in ("images", "videos", "signals"))
        mask = writes_no_media(network)
        engine = Engine(network.to(dtype), sampleable=mask, max_context=128, exact=True, **settings)
        answers = answered(engine, traffic)
        assert sum(asked.media is not None for asked, _ in answers) > 5
        check(network, answers)
        texts.append([answer.token_ids for asked, answer in answers if asked.leaves is None])
        preemptions += engine.stats().counters.preemptions
        cached += engine.stats().counters.cached_tokens
    assert texts[0] == texts[1] == texts[2]
    assert preemptions > 0 and cached > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_media_in_many_mixtures(seed: int) -> None:
    rng = random.Random(seed)
    network, traffic = mixed_traffic(60, seed=100 + seed)
    size = rng.choice([1, 4, 16])
    engine = Engine(
        network.to(rng.choice([torch.float32, torch.bfloat16])),
        sampleable=writes_no_media(network),
        max_context=128,
        exact=True,
        max_batch=rng.randint(2, 9),
        block_size=size,
        cache_tokens=max(rng.choice([160, 400, 2048]) // size * size, 128),
        step_tokens=rng.choice([9, 16, 40, 512]),
        prefix_cache=rng.random() < 0.8,
        draft_tokens=rng.choice([0, 3]),
    )
    check(network, answered(engine, traffic))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("attention_by")
def test_log_probs_and_routing_are_those_of_training(dtype: torch.dtype) -> None:
    network = Network(tiny(vocab_size=VOCAB)).eval().to(dtype)
    use_exact_operators(network)
    rng = random.Random(0)
    prompts = [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 60))] for _ in range(16)]
    samplings = [
        Sampling(max_new_tokens=rng.randint(1, 25), temperature=float(i % 2), seed=i, ignore_eos=True)
        for i in range(16)
    ]
    engine = Engine(network, max_batch=5, cache_tokens=512, block_size=8, step_tokens=64)
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
