"""Random rollouts through random engines: what was recorded is what was used, and arrives at every row of a batch.

Engines are short of cache and of step, prompts share beginnings, weights change under way: prefix hits, chunked
prompts, preemption, guessed tokens and partial rollouts come in every mixture, and answers are packed into batches with
a tail. The engine is exact, so there is a second source of truth: without replay the network routes every token itself,
and must choose the recorded experts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from s1pro.base.records import Sampling
from s1pro.kernels.attention import PackedContext
from s1pro.model.exact import use_exact_operators
from s1pro.model.router import check_replay
from s1pro.rl.batches import micro_batches
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.rollout import Question, Rollout, check_record
from s1pro.rl.system.ahead import token_versions
from s1pro.rl.system.kept import groups_from_json, groups_to_json
from s1pro.rl.system.traces import fed_tokens, pack, unpack
from s1pro.serve.client import LocalClient
from s1pro.tasks.task import Item, Score
from tests.rl.letters import VOCABULARY, Letters, policy

WEIGHTS = [policy(seed).state_dict() for seed in range(3)]
NETWORK = policy(0).eval()
use_exact_operators(NETWORK)
ROUTER = NETWORK.config.text.router
SHAPE = (len(NETWORK.config.text.moe_layers), ROUTER.top_k)
ROWS = 96


@dataclass
class Run:
    """What one engine did.

    Attributes:
        versions: weights that were there one after another.
        seen: how often which special case came.
    """

    rollouts: list[Rollout]
    under_way: str
    seen: Counter[str] = field(default_factory=Counter)


def run_engine(seed: int, count: int) -> Run:
    draw = np.random.default_rng(seed)
    under_way = ["nothing", "keep", "recompute"][seed % 3]
    max_batch, block = int(draw.integers(2, 10)), int(draw.choice([4, 8, 16]))
    step_tokens, draft = int(draw.integers(max_batch, 30)), int(draw.choice([0, 3]))
    NETWORK.load_state_dict(WEIGHTS[0])
    client = LocalClient.from_network(
        NETWORK, Letters(), exact=True, max_batch=max_batch, block_size=block, step_tokens=step_tokens,  # type: ignore[arg-type]
        draft_tokens=draft, cache_tokens=int(draw.integers(80, 260)), max_context=80,
    )  # fmt: skip
    stems = [draw.integers(0, VOCABULARY - 2, 40).tolist() for _ in range(2)]
    prompts = [
        stems[draw.integers(2)][: draw.integers(1, 40)] + draw.integers(0, VOCABULARY - 2, draw.integers(1, 9)).tolist()
        for _ in range(count)
    ]
    limits = draw.integers(1, 24, count).tolist()
    temperatures = draw.choice([0.05, 1.0], count).tolist()  # cold ones repeat themselves, so that guesses come true
    changes = sorted(draw.integers(1, 60, 2).tolist()) if under_way != "nothing" else []

    async def one(number: int) -> Rollout:
        question = Question(task="t", item=Item(id=str(number)), token_ids=tuple(prompts[number]))
        sampling = Sampling(
            max_new_tokens=limits[number], temperature=temperatures[number], seed=number, ignore_eos=True
        )
        completion = await client.generate(prompts[number], sampling)
        score = Score(value=float(number % 2))
        return Rollout(question=question, completion=completion, score=score, group=number // 2, member=number % 2)

    async def every() -> list[Rollout]:
        running = [asyncio.ensure_future(one(number)) for number in range(count)]
        for version, turns in enumerate(changes, start=1):
            for _ in range(turns):
                await asyncio.sleep(0)
            client.engine.update_weights(WEIGHTS[version], version, recompute=under_way == "recompute")
        return list(await asyncio.gather(*running))

    run = Run(rollouts=asyncio.run(every()), under_way=under_way)
    counters = client.engine.stats().counters
    run.seen.update(
        preempted=counters.preemptions,
        prefix_hits=counters.cached_tokens,
        guessed=counters.accepted_tokens,
        chunked=sum(len(prompt) > step_tokens for prompt in prompts),
        mixed=sum(len(set(token_versions(rollout))) > 1 for rollout in run.rollouts),
    )
    return run


def own_routing(version: int, tokens: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """`[T, L, K]`: what the network chooses for itself with these weights, without replay."""
    NETWORK.load_state_dict(WEIGHTS[version])
    ids = torch.tensor(tokens)
    with torch.no_grad():
        output = NETWORK(ids, torch.arange(len(ids)), PackedContext(cu_seqlens=(0, len(ids))), compute_logits=False)
    return torch.stack([router.topk_ids_TK for router in output.routers], dim=1).numpy()  # type: ignore[no-any-return]


def check_truth(run: Run) -> int:
    """Recorded experts against the network's own choice; gives the number of rows that were compared."""
    compared = 0
    for rollout in run.rollouts:
        trace = rollout.completion.routing
        assert trace is not None
        versions, fed = token_versions(rollout), fed_tokens(rollout)
        rows = len(fed)
        if run.under_way == "keep" and versions[-1] > 0:
            continue  # its prompt may have been read with earlier weights, which no single network has
        expected = own_routing(versions[-1], fed)
        assert np.array_equal(trace.experts_TLK[:rows], expected), rollout.question.item.id
        compared += rows
    return compared


def check_batches(run: Run) -> int:
    """Every row of every batch has the record of its token, and replay uses it; tails are valid for the router."""
    groups = [run.rollouts[i : i + 2] for i in range(0, len(run.rollouts), 2)]
    records: dict[tuple[int, ...], list[Any]] = {}
    for rollout in run.rollouts:
        assert rollout.completion.routing is not None
        records.setdefault(fed_tokens(rollout), []).append(rollout.completion.routing.experts_TLK)
    rows = 0
    for batch in micro_batches(groups, ObjectiveConfig(), num_rows=ROWS, replay=True, source_names=("t",)):
        assert batch.routed_experts_LTK is not None
        with torch.no_grad():
            output = NETWORK(
                batch.input_ids_T, batch.position_ids_T, PackedContext(cu_seqlens=batch.cu_seqlens),
                routed_experts_LTK=batch.routed_experts_LTK, compute_logits=False,
            )  # fmt: skip
        for layer, router in enumerate(output.routers):
            assert torch.equal(router.topk_ids_TK, batch.routed_experts_LTK[layer])
            check_replay(batch.routed_experts_LTK[layer], ROUTER, batch.num_rows)
        for i in range(batch.num_real_segments):
            part = slice(batch.cu_seqlens[i], batch.cu_seqlens[i + 1])
            got = batch.routed_experts_LTK[:, part].transpose(0, 1).numpy()
            known = records[tuple(batch.input_ids_T[part].tolist())]
            assert any(np.array_equal(got, experts) for experts in known)
            rows += got.shape[0]
    assert rows == sum(len(fed_tokens(rollout)) for rollout in run.rollouts)
    return rows


def check_transport(run: Run) -> None:
    """Through the arrays of a Ray worker, and through a checkpoint."""
    fed = [fed_tokens(rollout) for rollout in run.rollouts]
    traces = [rollout.completion.routing for rollout in run.rollouts]
    arrived = unpack(pack(traces, ROUTER, fed), ROUTER, fed)
    questions = [rollout.question for rollout in run.rollouts]
    kept = groups_from_json(groups_to_json([[rollout] for rollout in run.rollouts]), questions)
    for rollout, trace, (again,) in zip(run.rollouts, arrived, kept, strict=True):
        for copy in (trace, again.completion.routing):
            check_record(rollout.question, replace(rollout.completion, routing=copy), SHAPE)
            assert copy is not None and np.array_equal(copy.experts_TLK, rollout.completion.routing.experts_TLK)  # type: ignore[union-attr]


def check_runs(seeds: range, count: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        run = run_engine(seed, count)
        for rollout in run.rollouts:
            check_record(rollout.question, rollout.completion, SHAPE)
        seen.update(run.seen)
        seen.update(compared=check_truth(run), rows=check_batches(run), rollouts=len(run.rollouts))
        check_transport(run)
    return seen


def test_recorded_routing_is_what_was_used_and_what_is_replayed() -> None:
    seen = check_runs(range(6), 20)
    assert seen["preempted"] and seen["prefix_hits"] and seen["chunked"] and seen["mixed"]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_over_thousands_of_rollouts(part: int) -> None:
    seen = check_runs(range(100 + 20 * part, 120 + 20 * part), 40)
    assert seen["rollouts"] == 800 and seen["compared"] > 0.5 * seen["rows"] > 10_000
    assert seen["preempted"] > 20 and seen["prefix_hits"] > 1000 and seen["chunked"] > 100 and seen["mixed"] > 30
    assert seen["guessed"]
