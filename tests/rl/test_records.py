"""Replay over random rollouts: recorded routing is replayed routing for every token, and a wrong record is noticed."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.records import Completion, RoutingTrace, Sampling
from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.rl.batches import micro_batches
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.rollout import Question, RecordError, Rollout, check_record
from s1pro.serve.client import LocalClient
from s1pro.tasks.task import Item, Score
from tests.rl.letters import VOCABULARY, Letters, policy

NETWORK = policy(seed=5).eval()
SHAPE = (len(NETWORK.config.text.moe_layers), NETWORK.config.text.router.top_k)


def rollouts(count: int, seed: int, **engine: Any) -> list[Rollout]:
    """Prompts that share beginnings, in an engine that is short of cache: prefix hits, chunks and preemption."""
    draw = np.random.default_rng(seed)
    client = LocalClient.from_network(NETWORK, Letters(), **engine)  # type: ignore[arg-type]
    stems = [draw.integers(0, VOCABULARY - 2, 40).tolist() for _ in range(3)]

    async def one(number: int) -> Rollout:
        ids = (
            stems[draw.integers(3)][: draw.integers(1, 40)]
            + draw.integers(0, VOCABULARY - 2, draw.integers(1, 9)).tolist()
        )
        question = Question(task="t", item=Item(id=str(number)), token_ids=tuple(ids))
        sampling = Sampling(max_new_tokens=int(draw.integers(1, 16)), temperature=1.0, seed=number, ignore_eos=True)
        completion = await client.generate(ids, sampling)
        return Rollout(question=question, completion=completion, score=Score(value=number % 2), group=0, member=number)

    async def every() -> list[Rollout]:
        return list(await asyncio.gather(*(one(number) for number in range(count))))

    return asyncio.run(every())


def packed(found: list[Rollout]) -> list[PackedBatch]:
    groups = [found[i : i + 2] for i in range(0, len(found), 2)]
    return micro_batches(groups, ObjectiveConfig(), num_rows=128, replay=True, source_names=("t",))


@pytest.mark.parametrize("seed", range(3))
def test_replayed_routing_is_recorded_routing(seed: int) -> None:
    """Through packing too: every row of a batch holds the experts that its token used in the engine."""
    found = rollouts(40, seed, cache_tokens=512, max_batch=8, step_tokens=24, block_size=8)
    for rollout in found:
        check_record(rollout.question, rollout.completion, SHAPE)
        assert rollout.completion.routing is not None
    by_tokens = {
        (*r.question.token_ids, *r.completion.token_ids): r.completion.routing.experts_TLK  # type: ignore[union-attr]
        for r in found
    }
    rows = 0
    for batch in packed(found):
        assert batch.routed_experts_LTK is not None
        output = NETWORK(
            batch.input_ids_T,
            batch.position_ids_T,
            PackedContext(cu_seqlens=batch.cu_seqlens),
            routed_experts_LTK=batch.routed_experts_LTK,
            compute_logits=False,
        )
        used_LTK = torch.stack([router.topk_ids_TK for router in output.routers])
        assert torch.equal(used_LTK, batch.routed_experts_LTK)
        for i in range(batch.num_real_segments):
            start, stop = batch.cu_seqlens[i], batch.cu_seqlens[i + 1]
            fed = batch.input_ids_T[start:stop].tolist()
            (expected,) = [t for ids, t in by_tokens.items() if list(ids[:-1]) == fed][:1]
            got_TLK = batch.routed_experts_LTK[:, start:stop].transpose(0, 1).numpy()
            assert (np.sort(got_TLK, axis=-1) == np.sort(expected.astype(np.int64), axis=-1)).all()
            rows += stop - start
    assert rows == sum(len(r.question.token_ids) + r.num_tokens - 1 for r in found)


def damaged(completion: Completion, kind: str, other: Completion) -> Completion:
    trace = completion.routing
    assert trace is not None and trace.token_ids_T is not None and other.routing is not None
    experts, tokens = trace.experts_TLK, trace.token_ids_T
    if kind == "dropped":
        return dataclasses.replace(completion, routing=None)
    if kind == "short":
        return dataclasses.replace(completion, routing=RoutingTrace(experts_TLK=experts[:-1], token_ids_T=tokens[:-1]))
    if kind == "long":
        longer = RoutingTrace(experts_TLK=np.repeat(experts, 2, axis=0), token_ids_T=np.repeat(tokens, 2))
        return dataclasses.replace(completion, routing=longer)
    if kind == "a layer less":
        return dataclasses.replace(completion, routing=dataclasses.replace(trace, experts_TLK=experts[:, 1:]))
    if kind == "a slot less":
        return dataclasses.replace(completion, routing=dataclasses.replace(trace, experts_TLK=experts[..., 1:]))
    if kind == "backwards":
        turned = RoutingTrace(experts_TLK=experts[::-1], token_ids_T=tokens[::-1])
        return dataclasses.replace(completion, routing=turned)
    if kind == "shifted":
        moved = RoutingTrace(experts_TLK=np.roll(experts, 1, axis=0), token_ids_T=np.roll(tokens, 1))
        return dataclasses.replace(completion, routing=moved)
    if kind == "stale":
        return dataclasses.replace(completion, routing=dataclasses.replace(trace, policy_version=7))
    if kind == "logprobs":
        return dataclasses.replace(completion, logprobs=completion.logprobs[1:])  # type: ignore[index]
    assert kind == "of another"
    length = len(experts)
    taken = RoutingTrace(
        experts_TLK=np.resize(other.routing.experts_TLK, experts.shape),
        token_ids_T=np.resize(other.routing.token_ids_T, (length,)),  # type: ignore[arg-type]
    )
    return dataclasses.replace(completion, routing=taken)


@pytest.mark.parametrize(
    "kind",
    [
        "dropped",
        "short",
        "long",
        "a layer less",
        "a slot less",
        "backwards",
        "shifted",
        "stale",
        "logprobs",
        "of another",
    ],
)  # fmt: skip
def test_a_wrong_record_is_always_noticed(kind: str) -> None:
    found = rollouts(200, 9, cache_tokens=4096, max_batch=32)
    noticed = 0
    for rollout, other in itertools.pairwise(found):
        fed = [*rollout.question.token_ids, *rollout.completion.token_ids[:-1]]
        if len(set(fed)) < 2 or fed == fed[::-1]:
            continue  # what looks the same when it is moved or turned
        with pytest.raises(RecordError):
            check_record(rollout.question, damaged(rollout.completion, kind, other.completion), SHAPE)
        noticed += 1
    assert noticed > 150
