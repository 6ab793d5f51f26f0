"""Engines on several ranks, each with requests of its own and a share of the experts, against one process."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Sampling
from s1pro.checkpoint.released import save_network
from s1pro.model.config import RouterConfig
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.precision import use_fp8_experts
from s1pro.model.presets import tiny
from s1pro.serve.async_engine import AsyncEngine, EngineStopped
from s1pro.serve.engine import Engine
from s1pro.serve.expert_shares import spread_experts
from s1pro.serve.lockstep import RanksLost
from tests.parallel.ranks import run_ranks
from tests.serve.test_exact import check, mixed_traffic, writes_no_media
from tests.serve.traffic import Asked

RANKS = 2
VOCAB = 96


def load(rank: int) -> tuple[list[list[int]], list[Sampling]]:
    """Much for one rank, little for the other."""
    rng = random.Random(rank)
    count = (7, 1)[rank]
    prompts = [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 40))] for _ in range(count)]
    return prompts, [Sampling(max_new_tokens=rng.randint(1, 12), temperature=i % 2, seed=i) for i in range(count)]


def on_rank(rank: int, dispatch: Any) -> list[tuple[Any, ...]]:
    group = dist.group.WORLD
    network = spread_experts(Network(tiny(vocab_size=VOCAB)).eval(), group, dispatch)
    assert network.model.language_model.layers[0].mlp.experts.down_proj.shape[0] == 8 // RANKS
    engine = Engine(network, expert_group=group, max_batch=4, step_tokens=16, cache_tokens=256, block_size=8)
    answers = engine.generate(*load(rank))
    answers += engine.generate([[5, 6, 7]] if rank else [], Sampling(max_new_tokens=3))
    return [(a.token_ids, a.logprobs, a.routing and a.routing.experts_TLK) for a in answers]


@pytest.mark.parametrize("dispatch", ["all_gather", "counted"])
def test_spread_experts_give_what_one_process_gives(dispatch: str) -> None:
    results = run_ranks(on_rank, RANKS, dispatch)
    for rank, got in enumerate(results):
        engine = Engine(Network(tiny(vocab_size=VOCAB)).eval())
        expected = engine.generate(*load(rank))
        expected += engine.generate([[5, 6, 7]] if rank else [], Sampling(max_new_tokens=3))
        assert len(got) == len(expected)
        for (tokens, logprobs, routing), answer in zip(got, expected, strict=True):
            assert tokens == answer.token_ids
            assert logprobs == pytest.approx(answer.logprobs, abs=2e-5)
            assert answer.routing is not None
            np.testing.assert_array_equal(routing, answer.routing.experts_TLK)


EXACT = [
    ("auto", torch.float32, False, False),
    ("auto", torch.bfloat16, True, True),
    ("counted", torch.float32, True, False),
    ("counted", torch.bfloat16, False, True),
]
"""Dispatch, dtype, experts in FP8, router groups."""


def exact_network(dtype: torch.dtype, fp8: bool, grouped: bool) -> Network:
    config = tiny(vocab_size=VOCAB)
    router = RouterConfig(num_experts=8, top_k=4, num_groups=4) if grouped else RouterConfig(num_experts=8, top_k=3)
    network = Network(replace(config, text=replace(config.text, router=router)), seed=4).eval().to(dtype)
    if fp8:
        use_fp8_experts(network)
    use_exact_operators(network)
    return network


def exact_on_rank(rank: int, _: Any) -> list[list[Completion]]:
    group, answers = dist.group.WORLD, []
    for dispatch, dtype, fp8, grouped in EXACT:
        network = spread_experts(exact_network(dtype, fp8, grouped), group, dispatch)  # type: ignore[arg-type]
        engine = Engine(
            network, expert_group=group, exact=True, max_batch=4, step_tokens=12, cache_tokens=96, block_size=8
        )
        answers.append(engine.generate(*load(rank)))
    return answers


@pytest.mark.slow
def test_in_exact_mode_two_ranks_have_the_bits_of_one_trainer() -> None:
    results = run_ranks(exact_on_rank, RANKS, None)
    for case, (_, *kind) in enumerate(EXACT):
        network = exact_network(*kind)
        for rank in range(RANKS):
            prompts, samplings = load(rank)
            asked = [Asked(p, s) for p, s in zip(prompts, samplings, strict=True)]
            check(network, list(zip(asked, results[rank][case], strict=True)))


def mixed_on_rank(rank: int, _: Any) -> list[tuple[int, Completion]]:
    """Pictures, videos, signals and text; guesses; a cache that is short for what rank 0 has to do."""
    group, (network, traffic) = dist.group.WORLD, mixed_traffic(16, seed=9)
    use_exact_operators(network)
    spread_experts(network, group)
    mine = [(i, asked) for i, asked in enumerate(traffic) if (i % 4 == 0) == bool(rank)]
    engine = Engine(
        network, expert_group=group, exact=True, sampleable=writes_no_media(network), max_context=128, max_batch=4,
        step_tokens=20, cache_tokens=160, block_size=4, draft_tokens=3,
    )  # fmt: skip
    requests = [engine.prepare(asked.prompt, asked.sampling, media=asked.media) for _, asked in mine]
    for request in requests:
        engine.submit(request)
    engine.step()
    while not engine.all_idle:
        engine.step()
    assert rank or engine.stats().counters.preemptions > 0
    return [(i, engine.completion(request)) for (i, _), request in zip(mine, requests, strict=True)]


@pytest.mark.slow
def test_media_on_two_ranks_have_the_bits_of_one_trainer() -> None:
    network, traffic = mixed_traffic(16, seed=9)
    assert any(asked.media is not None for asked in traffic)
    use_exact_operators(network)
    answers = [answer for results in run_ranks(mixed_on_rank, RANKS, None) for answer in results]
    assert len(answers) == 16
    check(network, [(traffic[i], answer) for i, answer in answers])


def test_exact_engines_refuse_sums_in_another_order() -> None:
    def refused(rank: int) -> str:
        group = dist.group.WORLD
        network = spread_experts(exact_network(torch.float32, False, True), group, "all_to_all")
        assert Engine(network, expert_group=group, exact=True).network.exact
        plain = Network(exact_network(torch.float32, False, True).config).eval()
        with pytest.raises(ValueError, match="spread the experts after switching to exact mode") as found:
            Engine(spread_experts(plain, group), expert_group=group, exact=True)
        return str(found.value)

    assert all("AllGatherDispatch" in message for message in run_ranks(refused, RANKS))


def callers_on_rank(rank: int, _: Any) -> list[tuple[Any, ...]]:
    """Rank 1 has its first request when rank 0 is done, and is closed first; a client of rank 0 goes away."""
    group, test = dist.group.WORLD, dist.new_group()  # the first one belongs to the thread of the engine

    def build() -> Engine:
        network = spread_experts(Network(tiny(vocab_size=VOCAB)).eval(), group)
        return Engine(network, expert_group=group, max_batch=4, step_tokens=16, cache_tokens=256, block_size=8)

    engine = AsyncEngine(build)

    async def ask() -> list[Completion]:
        prompts, samplings = load(rank)
        streams = [engine.submit(prompt, sampling) for prompt, sampling in zip(prompts, samplings, strict=True)]
        if rank == 0:
            gone = engine.submit([1, 2, 3], Sampling(max_new_tokens=200, ignore_eos=True))
            gone.cancel()
            assert (await gone.result()).finish_reason == "abort"
        return [await stream.result() for stream in streams]

    if rank == 0:
        answers = asyncio.run(ask())
        dist.barrier(test)
        with pytest.raises(InputError, match="anywhere"):  # nobody else is asked
            asyncio.run(engine.update_weights(Path("anywhere"), 1))
        time.sleep(0.2)  # rank 1 works alone meanwhile
    else:
        dist.barrier(test)
        answers = asyncio.run(ask())
    engine.close()
    assert not engine.alive
    return [(answer.token_ids, answer.logprobs) for answer in answers]


def failing_on_rank(rank: int, _: Any) -> list[str]:
    """Rank 1 fails in the middle of a pass; rank 0 has a request, then another and an attempt to close."""
    group = dist.new_group(timeout=timedelta(seconds=2))

    def build() -> Engine:
        network = spread_experts(Network(tiny(vocab_size=VOCAB)).eval(), group)
        if rank == 1:
            count = iter(range(40))

            def fail(*_: Any) -> None:
                if next(count, None) is None:
                    raise ValueError("a fault of this rank")

            network.model.language_model.layers[1].register_forward_pre_hook(fail)
        return Engine(network, expert_group=group, max_batch=4, step_tokens=16, cache_tokens=256, block_size=8)

    engine = AsyncEngine(build)

    async def ask() -> list[str]:
        said = []
        for _ in range(2):
            try:
                stream = engine.submit([1, 2, 3], Sampling(max_new_tokens=200, ignore_eos=True), stream=False)
                await stream.result()
            except EngineStopped as error:
                said.append(str(error))
        return said

    said = asyncio.run(ask())
    engine.close()
    assert isinstance(engine.failure, RanksLost) and not engine.alive and engine.engine.lockstep is not None
    assert (str(engine.failure.__cause__) == "a fault of this rank") == (rank == 1)
    with pytest.raises(RanksLost, match="lost each other"):
        engine.engine.lockstep.idle()
    return said


def test_a_rank_that_fails_in_a_pass_ends_all_within_the_time_limit() -> None:
    for rank, said in enumerate(run_ranks(failing_on_rank, RANKS, None)):
        assert len(said) == 2
        for message in said:
            assert f"the engine has stopped: rank {rank} of 2 cannot go on" in message


def weights_on_rank(rank: int, folder: Path) -> list[tuple[Any, ...]]:
    """Rank 0 reads a folder, rank 1 is given all tensors, while rank 0 is in the middle of answers."""
    group, test = dist.new_group(), dist.new_group()

    def build() -> Engine:
        network = spread_experts(Network(tiny(vocab_size=VOCAB)).eval(), group)
        return Engine(network, expert_group=group, max_batch=4, step_tokens=16, cache_tokens=512, block_size=8)

    engine = build()
    assert engine.lockstep is not None
    if rank == 0:  # alone
        with pytest.raises(InputError, match=r"version 3: not every rank was told within 0\.2 s"):
            engine.lockstep.meet(3, patience=0.2)
        dist.barrier(test)
    else:
        waiting = dist.barrier(test, async_op=True)
        while not waiting.is_completed():
            engine.lockstep.idle()
    state = Network(tiny(vocab_size=VOCAB), seed=8).state_dict()
    with pytest.raises(InputError, match="weights of version 5 and weights of version 6"):
        engine.update_weights(state, 5 + rank)
    assert engine.policy_version == 0

    served = AsyncEngine(build)

    async def ask() -> list[Completion]:
        prompts, samplings = load(rank)
        long = Sampling(max_new_tokens=60, ignore_eos=True)
        under_way = [served.submit(prompt, long) for prompt in prompts]
        await asyncio.sleep(0.3 * rank)
        await served.update_weights(folder if rank == 0 else state, 9)
        answers = [await stream.result() for stream in under_way]
        assert all(answer.policy_version == 9 for answer in answers)
        await asyncio.sleep(0.2 * (1 - rank))
        await served.sleep()
        assert served.engine.asleep and served.engine.lockstep is not None and served.engine.lockstep.cache is None
        late = served.submit([5, 6, 7], Sampling(max_new_tokens=3))
        await asyncio.sleep(0.3 * rank)
        await served.wake()
        assert len((await late.result()).token_ids) == 3
        streams = [served.submit(prompt, sampling) for prompt, sampling in zip(prompts, samplings, strict=True)]
        return [await stream.result() for stream in streams]

    answers = asyncio.run(ask())
    served.close()
    return [(answer.token_ids, answer.logprobs) for answer in answers]


def test_new_weights_and_sleep_take_effect_on_all_ranks_together(tmp_path: Path) -> None:
    new = Network(tiny(vocab_size=VOCAB), seed=8).eval()
    save_network(new, tmp_path)
    for rank, got in enumerate(run_ranks(weights_on_rank, RANKS, tmp_path)):
        expected = Engine(new).generate(*load(rank))
        assert len(got) == len(expected)
        for (tokens, logprobs), answer in zip(got, expected, strict=True):
            assert tokens == answer.token_ids
            assert logprobs == pytest.approx(answer.logprobs, abs=2e-5)


def test_callers_on_every_rank_get_what_one_process_gives() -> None:
    for rank, got in enumerate(run_ranks(callers_on_rank, RANKS, None)):
        expected = Engine(Network(tiny(vocab_size=VOCAB)).eval()).generate(*load(rank))
        assert len(got) == len(expected)
        for (tokens, logprobs), answer in zip(got, expected, strict=True):
            assert tokens == answer.token_ids
            assert logprobs == pytest.approx(answer.logprobs, abs=2e-5)
