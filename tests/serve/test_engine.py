from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from s1pro.base.records import Completion, Sampling
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network, NetworkOutput
from s1pro.model.presets import tiny
from s1pro.serve.engine import Engine

VOCAB = 96


def network(seed: int = 0) -> Network:
    net = Network(tiny(vocab_size=VOCAB), seed=seed).eval()
    with torch.no_grad():  # larger gates and head: choices with a margin
        net.lm_head.weight *= 20
        for layer in net.model.language_model.layers:
            layer.mlp.gate.weight *= 20
    return net


NETWORK = network()


def prompts(count: int, longest: int = 30, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(VOCAB) for _ in range(rng.randint(1, longest))] for _ in range(count)]


@torch.inference_mode()
def teacher_forced(prompt: list[int], completion: Completion) -> NetworkOutput:
    """The trainer's packed forward over everything that the engine fed, logits of the answer only."""
    ids = torch.tensor([*prompt, *completion.token_ids[:-1]])
    context = PackedContext.from_lengths([len(ids)])
    index = torch.arange(len(prompt) - 1, len(ids))
    output: NetworkOutput = NETWORK(ids, torch.arange(len(ids)), context, logits_index=index)
    return output


def assert_equals_trainer(prompt: list[int], completion: Completion, *, greedy: bool = True) -> None:
    output = teacher_forced(prompt, completion)
    assert output.logits is not None and completion.routing is not None and completion.logprobs is not None
    if greedy:
        assert output.logits.argmax(-1).tolist() == list(completion.token_ids)
    raw = output.logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(completion.logprobs), raw, atol=1e-4, rtol=0)
    routing_TLK = output.routing_LTK.transpose(0, 1).numpy()
    np.testing.assert_array_equal(completion.routing.experts_TLK, routing_TLK)
    assert completion.routing.experts_TLK.dtype == np.uint16


def test_greedy_equals_the_trainers_forward_with_requests_entering_and_leaving() -> None:
    engine = Engine(NETWORK, max_batch=3, cache_tokens=256, block_size=8, step_tokens=40)
    asked = prompts(12)
    samplings = [Sampling(max_new_tokens=1 + 3 * (i % 5)) for i in range(12)]
    answers = engine.generate(asked, samplings)
    for prompt, sampling, answer in zip(asked, samplings, answers, strict=True):
        assert_equals_trainer(prompt, answer)
        assert len(answer.token_ids) == sampling.max_new_tokens
        assert answer.finish_reason == "length"
        assert answer.prompt_token_ids == tuple(prompt)
    assert not engine.has_work


def test_a_batch_gives_what_every_request_gives_alone() -> None:
    asked = prompts(6, seed=1)
    samplings = [
        Sampling(max_new_tokens=9),
        Sampling(max_new_tokens=7, temperature=1.0, seed=1),
        Sampling(max_new_tokens=12, temperature=0.8, top_k=10, seed=2),
        Sampling(max_new_tokens=5, temperature=1.5, top_p=0.8, min_p=0.01, seed=3),
        Sampling(max_new_tokens=8, repetition_penalty=1.3),
        Sampling(max_new_tokens=8, temperature=1.0, repetition_penalty=1.3, seed=4),
    ]
    together = Engine(NETWORK).generate(asked, samplings)
    alone = [Engine(NETWORK).generate([p], [s])[0] for p, s in zip(asked, samplings, strict=True)]
    assert [a.token_ids for a in together] == [a.token_ids for a in alone]
    for prompt, sampling, answer in zip(asked, samplings, together, strict=True):
        greedy = sampling.temperature == 0 and sampling.repetition_penalty == 1
        assert_equals_trainer(prompt, answer, greedy=greedy)


def test_end_of_sequence_stops_unless_ignored_and_stays_in_the_ids() -> None:
    prompt = prompts(1)[0]
    free = Engine(NETWORK).generate([prompt], Sampling(max_new_tokens=12))[0].token_ids
    eos = free[4]
    first = free.index(eos)
    engine = Engine(NETWORK, eos_token_ids=[eos])
    stopped = engine.generate([prompt], Sampling(max_new_tokens=12))[0]
    assert (stopped.token_ids, stopped.finish_reason) == (free[: first + 1], "stop")
    ignored = engine.generate([prompt], Sampling(max_new_tokens=12, ignore_eos=True))[0]
    assert (ignored.token_ids, ignored.finish_reason) == (free, "length")
    other = Engine(NETWORK).generate([prompt], Sampling(max_new_tokens=12, stop_token_ids=(eos,)))[0]
    assert other.token_ids == stopped.token_ids


def letters(ids: object) -> str:
    return "".join(chr(32 + i) for i in ids)  # type: ignore[attr-defined]


def test_a_stop_string_ends_the_text_before_it_and_streams_do_not_show_it() -> None:
    prompt = prompts(1)[0]
    engine = Engine(NETWORK, decode=letters)
    free = engine.generate([prompt], Sampling(max_new_tokens=12))[0]
    assert free.text == letters(free.token_ids)
    stop = free.text[5:7]
    cut = free.text.index(stop)
    pieces: list[str] = []
    request = engine.prepare(prompt, Sampling(max_new_tokens=12, stop=(stop, "never")), on_text=pieces.append)
    engine.submit(request)
    while engine.has_work:
        engine.step()
    answer = engine.completion(request)
    assert (answer.text, answer.finish_reason) == (free.text[:cut], "stop")
    assert answer.token_ids == free.token_ids[: cut + 2]
    assert "".join(pieces) == answer.text


def test_excluded_ids_are_never_sampled() -> None:
    allowed = np.zeros(VOCAB, dtype=bool)
    allowed[5:9] = True
    engine = Engine(NETWORK, sampleable=allowed)
    for sampling in (Sampling(max_new_tokens=20), Sampling(max_new_tokens=20, temperature=5.0, seed=0)):
        answer = engine.generate(prompts(2), sampling)[0]
        assert set(answer.token_ids) <= {5, 6, 7, 8}


def test_aborted_requests_leave_and_free_their_place() -> None:
    engine = Engine(NETWORK, max_batch=2, cache_tokens=64, block_size=8)
    requests = [engine.prepare(p, Sampling(max_new_tokens=20)) for p in prompts(4, longest=8)]
    for request in requests:
        engine.submit(request)
    engine.step()
    engine.abort(requests[0])
    engine.abort(requests[3])
    finished = []
    while engine.has_work:
        finished += engine.step()
    assert [r.finish_reason for r in requests] == ["abort", "length", "length", "abort"]
    assert sorted(map(id, finished)) == sorted(map(id, requests))
    answer = engine.completion(requests[1])
    assert_equals_trainer(list(requests[1].prompt_ids), answer)


def test_the_context_limits_the_answer() -> None:
    engine = Engine(NETWORK, max_context=20)
    answer = engine.generate([[1] * 15], Sampling(max_new_tokens=50))[0]
    assert (len(answer.token_ids), answer.finish_reason) == (5, "length")


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ([], Sampling(), "empty"),
        ([VOCAB], Sampling(), "prompt ids"),
        ([-1], Sampling(), "prompt ids"),
        ([1] * 64, Sampling(), "context holds 64"),
        ([1], Sampling(stop=("x",)), "stop strings"),
    ],
)
def test_bad_requests_are_refused_before_anything_runs(prompt: list[int], sampling: Sampling, message: str) -> None:
    engine = Engine(NETWORK, cache_tokens=64)
    with pytest.raises(ValueError, match=message):
        engine.generate([[1, 2], prompt], sampling)
    assert not engine.has_work


def test_logits_that_are_not_numbers_are_an_error() -> None:
    broken = network()
    with torch.no_grad():
        broken.lm_head.weight[0] = torch.nan
    with pytest.raises(ValueError, match="not numbers"):
        Engine(broken).generate([[1, 2]], Sampling())


def test_sixteen_bit_networks_generate() -> None:
    answer = Engine(network().to(torch.bfloat16)).generate([[1, 2, 3]], Sampling(max_new_tokens=4))[0]
    assert len(answer.token_ids) == 4


def test_a_context_larger_than_the_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="64 slots"):
        Engine(NETWORK, max_context=65, cache_tokens=64)
